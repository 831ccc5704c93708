"""Who may join a master's workers: who has the key, and nobody keeps the others waiting."""

import socket
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client

import numpy as np
import pytest

from sparse_rl.loops.zero_order import crew
from sparse_rl.loops.zero_order.crew import Crew
from sparse_rl.simulators.plant_worker import Address, Job

JOB = Job(
    np.eye(2), np.ones((2, 1)), 0.1, np.ones((1, 2), bool), 1e-3, True, "latency", "constant", 0.1, [3]
)


class Nobody:
    """Workers that come by themselves."""

    def renew(self) -> int:
        return 0

    def dismiss(self) -> None:
        pass


def test_a_connection_that_says_nothing_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PROOF_SECONDS", 20.0)
    told: list[Address] = []

    def hire(address: Address, count: int) -> Nobody:
        told.append(address)
        return Nobody()

    made = Crew(JOB, 1, hire)
    try:
        place, key = ("127.0.0.1", told[0].port), bytes.fromhex(told[0].key)
        silent = socket.create_connection(place)
        with pytest.raises((AuthenticationError, EOFError, ConnectionError)):
            Client(place, authkey=b"another key")
        worker = Client(place, authkey=key)
        made.gather()
        assert list(made.given.values()) == [-1]
        job = Job.from_bytes(worker.recv_bytes())
        assert (job.radius, job.seed) == (1e-3, [3, 0])
        silent.setblocking(False)
        assert silent.recv(1024)  # the challenge, and no end yet: nobody has given it up
        with pytest.raises(BlockingIOError):
            silent.recv(1024)
        monkeypatch.setattr(crew, "PROOF_SECONDS", 0.3)
        another = socket.create_connection(place, timeout=60.0)
        while another.recv(1024):  # the challenge, and then the end
            pass
        silent.close()
        another.close()
        worker.close()
    finally:
        made.close()


def test_workers_of_this_machine_are_heard_on_this_machine_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew, "Processes", lambda address, count: Nobody())
    here = Crew(JOB, 1, crew.Processes)
    anywhere = Crew(JOB, 1, lambda address, count: Nobody())
    assert here._listener.address[0] == "127.0.0.1"
    assert anywhere._listener.address[0] == "0.0.0.0"
    here.close()
    anywhere.close()
