"""Gymnasium's MuJoCo tasks, version 5 (Towers et al. 2024, arXiv 2407.17032).

Needs the extra ``gym``.
"""

from typing import Any

import numpy as np

from sparse_rl.simulators.actions import from_unit
from sparse_rl.simulators.contract import Frame, Simulator

TASKS = {
    "ant": "Ant-v5",
    "half_cheetah": "HalfCheetah-v5",
    "hopper": "Hopper-v5",
    "humanoid": "Humanoid-v5",
    "humanoid_standup": "HumanoidStandup-v5",
    "inverted_double_pendulum": "InvertedDoublePendulum-v5",
    "inverted_pendulum": "InvertedPendulum-v5",
    "pusher": "Pusher-v5",
    "reacher": "Reacher-v5",
    "swimmer": "Swimmer-v5",
    "walker2d": "Walker2d-v5",
}


def _say_nothing(message: str) -> None:
    """MuJoCo's warnings, about the tasks' own models, would go to a file in the working directory."""


class _Task(Simulator):
    """One task."""

    def __init__(self, name: str) -> None:
        try:
            import mujoco
            from gymnasium import make as make_task
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "env=gymnasium/… needs MuJoCo; install it with: pip install 'sparse_rl[gym]'"
            ) from error
        mujoco.set_mju_user_warning(_say_nothing)
        self._env = make_task(name)
        task: Any = self._env.unwrapped
        self._physics, warnings = task.data, mujoco.mjtWarning
        broken = (warnings.mjWARN_BADQPOS, warnings.mjWARN_BADQVEL, warnings.mjWARN_BADQACC)
        self._breaking = [int(warning) for warning in broken]
        space: Any = self._env.action_space
        self._action, self._dtype = from_unit(space.low, space.high), space.dtype
        self._seed: int | None = None
        self.action_size = int(space.shape[0])
        self.observation_size = int(np.prod(self._env.observation_space.shape))
        self._last = np.zeros(self.observation_size, np.float32)
        limit = self._env.spec.max_episode_steps if self._env.spec else None
        if limit is None:
            raise ValueError(f"{name} has no time limit")
        self.episode_length = int(limit)

    def seed(self, seed: int) -> None:
        self._seed = seed

    def reset(self) -> np.ndarray:
        observation, _ = self._env.reset(seed=self._seed)
        self._seed = None
        self._last = np.ravel(observation).astype(np.float32)
        return self._last

    def frame(self, action: np.ndarray) -> Frame:
        """One frame; physics that breaks is a termination without a reward, as in :mod:`.dm_control`.

        MuJoCo starts again from the model's first state when positions, velocities or accelerations are
        not finite or too large; Gymnasium goes on from there as if nothing had been.
        """
        given = self._action(action).astype(self._dtype)
        observation, reward, terminated, truncated, _ = self._env.step(given)
        if self._physics.warning.number[self._breaking].any():
            return Frame(0.0, True, False)
        self._last = np.ravel(observation).astype(np.float32)
        return Frame(float(reward), bool(terminated), bool(truncated and not terminated))

    def observe(self) -> np.ndarray:
        return self._last


def make(task: str) -> Simulator:
    """One of :data:`TASKS`.

    Raises:
        ValueError: there is no such task; the message lists them.
        ModuleNotFoundError: the extra ``gym`` is not installed.
    """
    if task not in TASKS:
        raise ValueError(f"gymnasium task {task!r} is unknown; choose one of {', '.join(TASKS)}")
    return _Task(TASKS[task])
