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


def _suite() -> Any:
    """The library, quiet about its own models and about screens: nothing is drawn here."""
    try:
        from absl import logging

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from dm_control import suite
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "env=dm_control/… needs dm_control; install it with: pip install 'sparse_rl[dmc]'"
        ) from error
    logging.set_verbosity(logging.ERROR)
    return suite


def tasks() -> dict[str, tuple[str, str]]:
    """Name → domain and task as the library calls them: every task of the suite."""
    return {"_".join(pair).lower(): pair for pair in _suite().ALL_TASKS}


class _Task:
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

    def seed(self, seed: int) -> None:
        self._env.task.random.seed(seed)

    def _flat(self, parts: Any) -> np.ndarray:
        self._last = np.concatenate([np.ravel(part) for part in parts.values()]).astype(np.float32)
        return self._last

    def reset(self) -> np.ndarray:
        self._time = 0
        return self._flat(self._env.reset().observation)

    def frame(self, action: np.ndarray) -> Frame:
        """One frame. Physics that is no longer finite is a termination, without a reward and with the
        last observation that was finite, so that it cannot reach a replay buffer as NaN."""
        self._time += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy's, on the way to the same error
                seen = self._env.step(self._action(action))
        except self._error:
            return Frame(self._last, 0.0, True, False)
        terminated = bool(seen.last() and seen.discount == 0.0)
        truncated = (seen.last() or self._time >= EPISODE_LENGTH) and not terminated
        return Frame(self._flat(seen.observation), float(seen.reward), terminated, truncated)


def make(task: str) -> Simulator:
    """A task of the suite.

    Raises:
        ValueError: there is no such task; the message lists them.
        ModuleNotFoundError: the extra ``dmc`` is not installed.
    """
    known = tasks()
    if task not in known:
        raise ValueError(f"DM Control task {task!r} is unknown; choose one of {', '.join(known)}")
    return _Task(*known[task])
