"""The workers of a master on the real clock: where they run, and what they have sent."""

import contextlib
import json
import multiprocessing
import multiprocessing.connection as mpc
import os
import queue
import secrets
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

import numpy as np

from sparse_rl.simulators.plant_worker import ADDRESS, Address, Job

PATIENCE_SECONDS = 600.0
"""So long may workers take to come up while there are none, or at first while some are missing."""
PROOF_SECONDS = 10.0
"""So long may a connection take to prove that it knows the key."""
RENEW_SECONDS = 1.0
"""Between looks for workers that have gone."""
GLANCE_SECONDS = 0.05
"""Between looks for workers that come up."""


class Hired(Protocol):
    """Workers that were asked for."""

    def renew(self) -> int:
        """Ask again for those that have gone; how many these were."""

    def dismiss(self) -> None:
        """End them all, and wait for their end."""


Hire = Callable[[Address, int], Hired]
"""``(the master's address, how many) → workers``, on their way."""


class Processes:
    """Workers on this machine."""

    def __init__(self, address: Address, count: int) -> None:
        self._address = json.dumps(address._replace(host="127.0.0.1"))
        self.processes = [self._start() for _ in range(count)]

    def _start(self) -> subprocess.Popen[bytes]:
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "sparse_rl.simulators.plant_worker"],
            env={**os.environ, **threads, ADDRESS: self._address},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the master, and its end ends them
        )

    def renew(self) -> int:
        gone = [i for i, process in enumerate(self.processes) if process.poll() is not None]
        for i in gone:
            self.processes[i] = self._start()
        return len(gone)

    def dismiss(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


def _accept(listener: mpc.Listener, key: bytes, came: "queue.SimpleQueue[mpc.Connection]") -> None:
    """Take connections until the listener is closed. Each proves in a thread of its own that it has the
    key: one that says nothing keeps nobody waiting."""
    while True:
        try:
            connection = listener.accept()
        except ConnectionError:
            continue
        except OSError:
            return
        threading.Thread(target=_prove, args=(connection, key, came), daemon=True).start()


def _prove(connection: "mpc.Connection", key: bytes, came: "queue.SimpleQueue[mpc.Connection]") -> None:
    """Let in who knows the key, within :data:`PROOF_SECONDS`."""
    watched = socket.socket(fileno=os.dup(connection.fileno()))

    def give_up() -> None:
        with contextlib.suppress(OSError):
            watched.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(PROOF_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    try:
        mpc.deliver_challenge(connection, key)
        mpc.answer_challenge(connection, key)
    except (multiprocessing.AuthenticationError, EOFError, OSError, ValueError):
        connection.close()
    else:
        came.put(connection)
    finally:
        timer.cancel()
        watched.close()


def _close(
    listener: mpc.Listener, connections: dict[mpc.Connection, int], hired: Hired, port: int
) -> None:
    """End the workers."""
    for connection in connections:
        connection.close()
    with contextlib.suppress(OSError):  # wakes the thread that accepts
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    listener.close()
    hired.dismiss()


class Crew:
    """M workers, some of them maybe on their way. Used by one thread."""

    def __init__(self, job: Job, count: int, hire: Hire) -> None:
        key = secrets.token_bytes(32)
        # Only workers that are jobs come from other machines.
        host = "127.0.0.1" if hire is Processes else "0.0.0.0"
        self._listener = mpc.Listener((host, 0), backlog=max(count, 16))
        port = self._listener.address[1]
        self._job, self._count, self._joined = job, count, 0
        self._looked, self._vain, self._heard = time.monotonic(), 0, time.monotonic()
        self._came: queue.SimpleQueue[mpc.Connection] = queue.SimpleQueue()
        arguments = (self._listener, key, self._came)
        threading.Thread(target=_accept, args=arguments, daemon=True).start()
        self.given: dict[mpc.Connection, int] = {}
        """Worker → number of the gain that it works on; −1: it waits for one."""
        self.lost = 0
        """Workers that went away with an estimate."""
        self.began = time.monotonic()
        self.hired = hire(Address(socket.gethostname(), port, key.hex()), count)
        self.close = weakref.finalize(self, _close, self._listener, self.given, self.hired, port)

    def _greet(self) -> None:
        """Take in who has come up, and ask for those who have gone.

        Raises:
            RuntimeError: workers end before they come up.
            TimeoutError: none is left, and none comes.
        """
        while not self._came.empty():
            connection = self._came.get()
            job = self._job._replace(seed=[*self._job.seed, self._joined])
            self._joined, self._vain = self._joined + 1, 0
            with contextlib.suppress(OSError):
                connection.send_bytes(job.to_bytes())
                self.given[connection] = -1
        now = time.monotonic()
        self._heard = now if self.given else self._heard
        if now - self._heard > PATIENCE_SECONDS:
            raise TimeoutError(f"no worker came up in {PATIENCE_SECONDS:g} s")
        if len(self.given) < self._count and now - self._looked > RENEW_SECONDS:
            self._looked, self._vain = now, self._vain + self.hired.renew()
            if self._vain > 3 * self._count:
                raise RuntimeError(f"{self._vain} workers ended before they came up")

    def gather(self) -> None:
        """Wait until all workers have come up."""
        while len(self.given) < self._count:
            time.sleep(GLANCE_SECONDS)
            self._greet()
        self.began = time.monotonic()

    def _drop(self, worker: mpc.Connection) -> None:
        self.lost += self.given.pop(worker) >= 0
        worker.close()

    @property
    def idle(self) -> list[mpc.Connection]:
        """Workers that wait for a gain."""
        return [worker for worker, number in self.given.items() if number < 0]

    def give(self, gain: np.ndarray, number: int) -> None:
        """Give all who wait the gain, float64 ``[m, n]``, the master's number ``number``."""
        for worker in self.idle:
            try:
                worker.send_bytes(gain.tobytes())
                self.given[worker] = number
            except OSError:
                self._drop(worker)

    def receive(self, most: int) -> list[tuple[np.ndarray, int]]:
        """Up to ``most`` estimates that are in, float64 ``[m · n]`` each, and the number of the gain of
        each; none if nothing came for a moment."""
        self._greet()
        found = []
        busy = [worker for worker, number in self.given.items() if number >= 0]
        for ready in mpc.wait(busy, GLANCE_SECONDS)[:most]:
            assert isinstance(ready, mpc.Connection)
            try:
                estimate = np.frombuffer(ready.recv_bytes())
            except (EOFError, OSError):
                self._drop(ready)
                continue
            found.append((estimate, self.given[ready]))
            self.given[ready] = -1
        return found
