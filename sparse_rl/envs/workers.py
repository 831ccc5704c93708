"""Environments in worker processes: physics that runs beside the learner, and may break without it.

Threads were measured beside them and were neither faster nor slower for sure (docs/dm_control.md), but
with them a crash of the physics would be the learner's.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rl import simulators
from sparse_rl.envs.contract import ActorsLostError, HostActors, HostEnv, HostStep
from sparse_rl.settings.envs import EnvConfig
from sparse_rl.simulators import renderers
from sparse_rl.simulators.worker import ACT, DONE, SEED, row, shared

PATIENCE_SECONDS = 5.0
"""How long a worker may take to end when it is no longer wanted."""


def _close(processes: list[subprocess.Popen[bytes]]) -> None:
    """End the processes: each ends at the end of its input."""
    for process in processes:
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
    for process in processes:
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Workers:
    """N environments in at most so many processes; meets :class:`~sparse_rl.envs.contract.HostActors`.

    Raises :class:`~sparse_rl.envs.contract.ActorsLostError`, at any call, when a process has ended.

    Args:
        env: what they are.
        settings: of the run.
        num_envs: N.
        workers: processes at most.
        variables: the environment variables of the processes.
    """

    def __init__(
        self,
        env: HostEnv,
        settings: EnvConfig,
        num_envs: int,
        workers: int,
        variables: Mapping[str, str],
    ) -> None:
        kind = row(env.observation_size, env.observation_dtype, env.action_size)
        workers = min(workers, num_envs)
        memory = Path("/dev/shm")
        with tempfile.TemporaryFile(dir=memory if memory.is_dir() else None) as file:
            file.truncate(num_envs * kind.itemsize)
            self._rows = shared(file.fileno(), num_envs, kind)
            bounds = [num_envs * i // workers for i in range(workers + 1)]
            options = json.dumps(settings.options)
            what = [settings.source, settings.task, options, settings.action_repeat, num_envs]
            self._processes: list[subprocess.Popen[bytes]] = []
            weakref.finalize(self, _close, self._processes)
            for first, last in itertools.pairwise(bounds):
                numbers = map(str, [*what, first, last, file.fileno()])
                command = [sys.executable, "-m", "sparse_rl.simulators.worker", *numbers]
                self._processes.append(_start(command, file.fileno(), variables))
        self._wait()

    def _tell(self, command: bytes) -> None:
        for process in self._processes:
            assert process.stdin
            try:
                os.write(process.stdin.fileno(), command)
            except BrokenPipeError:
                raise self._lost(process) from None

    def _wait(self) -> None:
        for process in self._processes:
            assert process.stdout
            if os.read(process.stdout.fileno(), 1) != DONE:
                raise self._lost(process)

    @staticmethod
    def _lost(process: subprocess.Popen[bytes]) -> ActorsLostError:
        code = process.wait()
        return ActorsLostError(f"a worker of the environments ended with {code}")

    def seed(self, seeds: np.ndarray, where: np.ndarray) -> np.ndarray:
        self._rows["seed"], self._rows["to_seed"] = seeds, where
        self._tell(SEED)
        self._wait()
        return self._rows["observation"].copy()

    def send(self, action: np.ndarray) -> None:
        self._rows["action"] = action
        self._tell(ACT)

    def receive(self) -> HostStep:
        self._wait()
        return HostStep(*(self._rows[name].copy() for name in HostStep._fields))


def _start(command: list[str], fd: int, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process that finds this package where this one did."""
    here = str(Path(simulators.__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [here, variables.get("PYTHONPATH")]))
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[fd],
        process_group=0,  # Ctrl-C is the learner's: it goes on to its next log point
        env={**variables, "PYTHONPATH": paths},
    )


def in_workers(
    source: str, task: str, variables: Mapping[str, str] | None = None, **options: Any
) -> HostEnv:
    """A task whose environments step in worker processes.

    Args:
        source: of the simulator.
        task: one of its tasks.
        variables: the environment variables of the processes; by default this one's, and nothing is
            drawn unless they say how.
        options: the source's own.

    Raises:
        ValueError: the source has no such task, or an option does not fit it; the message lists what
            there is.
        ModuleNotFoundError: its optional package is missing; the message says how to get it.
    """
    simulator = simulators.make(source, task, **options)

    def open_actors(settings: EnvConfig, num_envs: int, threads: int) -> HostActors:
        own = {renderers.VARIABLE: "disabled", **os.environ} if variables is None else variables
        return Workers(env, settings, num_envs, threads, own)

    env = HostEnv(
        name=f"{source}/{task}",
        observation_size=simulator.observation_size,
        action_size=simulator.action_size,
        episode_length=simulator.episode_length,
        picture=simulator.picture,
        frames=simulator.frames,
        observation_dtype=simulator.observation_dtype,
        open=open_actors,
        seed_every=1,  # to seed one costs as little as to start an episode: a resume repeats one at most
    )
    return env


def drawn_in_workers(source: str, task: str, **options: Any) -> HostEnv:
    """The same, where what is seen are pictures, drawn by a renderer that works.

    Raises:
        ConfigError: there is none; the message says what was tried, and what to install.
    """
    renderer = renderers.choose(f"{source}/{task}")
    return in_workers(source, task, renderers.variables(renderer), **options)
