"""DeepMind's control suite on MuJoCo's own C engine (Tassa et al. 2018, arXiv 1801.00690).

Needs the extra ``dmc``. Tasks are named domain first in snake case: ``humanoid_run``, ``dog_trot``,
``ball_in_cup_catch``.
"""

import warnings
from typing import Any

import numpy as np

from sparse_rl.simulators.actions import from_unit
from sparse_rl.simulators.contract import Frame, Simulator

EPISODE_LENGTH = 1000
"""Frames: the suite's own limit in every task but LQR, which has none."""
MISSING = "env={} needs dm_control; install it with: pip install 'sparse_rl[dmc]'"


def _suite() -> Any:
    """The library, quiet about its own models and about screens: nothing is drawn here."""
    try:
        from absl import logging

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from dm_control import suite
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING.format("dm_control/…")) from error
    logging.set_verbosity(logging.ERROR)
    return suite


def tasks() -> dict[str, tuple[str, str]]:
    """Name → domain and task as the library calls them: every task of the suite."""
    return {"_".join(pair).lower(): pair for pair in _suite().ALL_TASKS}


class Task(Simulator):
    """One task."""

    def __init__(self, domain: str, task: str) -> None:
        from dm_control.rl.control import PhysicsError

        # LQR draws its plant when it is loaded: the same one for every run.
        self._env = _suite().load(domain, task, task_kwargs={"random": 0})
        self._error = PhysicsError
        spec, seen = self._env.action_spec(), self._env.observation_spec()
        self._action = from_unit(
            np.broadcast_to(spec.minimum, spec.shape), np.broadcast_to(spec.maximum, spec.shape)
        )
        self.action_size = int(spec.shape[0])
        self.observation_size = sum(int(np.prod(part.shape)) for part in seen.values())
        self.episode_length = EPISODE_LENGTH
        self._time = 0
        self._last = np.zeros(self.observation_size, np.float32)
        self.broken = False
        """Whether its physics is no longer finite."""

    @property
    def physics(self) -> Any:
        """The library's own: the model, and the state it is in."""
        return self._env.physics

    def seed(self, seed: int) -> None:
        self._env.task.random.seed(seed)

    def _see(self, parts: Any) -> None:
        self._last = np.concatenate([np.ravel(part) for part in parts.values()]).astype(np.float32)

    def reset(self) -> np.ndarray:
        self._time, self.broken = 0, False
        self._see(self._env.reset().observation)
        return self._last

    def frame(self, action: np.ndarray) -> Frame:
        """One frame. Physics that is no longer finite is a termination without a reward, and what is
        seen stays the last that was finite, so that no NaN can reach a replay buffer."""
        self._time += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy's, on the way to the same error
                seen = self._env.step(self._action(action))
        except self._error:
            self.broken = True
            return Frame(0.0, True, False)
        terminated = bool(seen.last() and seen.discount == 0.0)
        truncated = (seen.last() or self._time >= EPISODE_LENGTH) and not terminated
        self._see(seen.observation)
        return Frame(float(seen.reward), terminated, truncated)

    def observe(self) -> np.ndarray:
        return self._last


def make(task: str) -> Task:
    """A task of the suite.

    Raises:
        ValueError: there is no such task; the message lists them.
        ModuleNotFoundError: the extra ``dmc`` is not installed.
    """
    known = tasks()
    if task not in known:
        raise ValueError(f"DM Control task {task!r} is unknown; choose one of {', '.join(known)}")
    return Task(*known[task])
