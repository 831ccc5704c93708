"""Tasks of DeepMind's control suite seen through their cameras, drawn offscreen by MuJoCo.

As in DrQ-v2's public code (Yarats et al. 2021): a picture is drawn once per interaction, an observation
is the last ones, and at first the first one over and over.
"""

from typing import Any

import numpy as np

from sparse_rl.settings.envs import Colour, Quality
from sparse_rl.simulators import dm_control
from sparse_rl.simulators.contract import Frame, Simulator

LUMA = np.array([77, 150, 29], np.uint16)
"""Parts of 256 of red, green and blue in grey (ITU-R BT.601)."""


def grey(picture: np.ndarray) -> np.ndarray:
    """uint8 ``[h, w, 3]`` → ``[h, w, 1]``."""
    return ((picture @ LUMA) >> 8).astype(np.uint8)[..., None]


class Rendered(Simulator):
    """One task. Nothing is drawn, and no renderer needed, before its first episode."""

    observation_dtype = np.uint8

    def __init__(
        self,
        task: dm_control.Task,
        size: int,
        colour: Colour,
        frames: int,
        camera: int,
        quality: Quality,
    ) -> None:
        self._task, self._size, self._colour = task, size, colour
        self._camera: Any = None
        self._camera_id = camera
        channels = (1 if colour == "grey" else 3) * frames
        self.picture, self.frames = (size, size, channels), frames
        self.observation_size = size * size * channels
        self.action_size, self.episode_length = task.action_size, task.episode_length
        self._stack = np.zeros(self.picture, np.uint8)
        visual, self._flags = task.physics.model.vis, {}
        # What is drawn is read back whole: a larger buffer only takes time.
        visual.global_.offwidth = visual.global_.offheight = size
        if quality == "fast":
            visual.quality.offsamples = visual.quality.shadowsize = 0
            self._flags = {"reflection": False}

    def _open(self) -> Any:
        from dm_control.mujoco.engine import Camera

        return Camera(self._task.physics, self._size, self._size, self._camera_id)

    def _draw(self) -> np.ndarray:
        """uint8 ``[size, size, channels]``: the state as the camera shows it."""
        self._camera = self._camera or self._open()
        picture = self._camera.render(render_flag_overrides=self._flags)
        return grey(picture) if self._colour == "grey" else picture

    def seed(self, seed: int) -> None:
        self._task.seed(seed)

    def reset(self) -> np.ndarray:
        self._task.reset()
        self._stack = np.tile(self._draw(), (1, 1, self.frames))
        return self._stack.ravel()

    def frame(self, action: np.ndarray) -> Frame:
        return self._task.frame(action)

    def observe(self) -> np.ndarray:
        """The last pictures; those before, where physics broke and nothing can be drawn."""
        if not self._task.broken:
            new = self._draw()
            self._stack = np.concatenate([self._stack[..., new.shape[-1] :], new], axis=-1)
        return self._stack.ravel()


def make(task: str, *, camera: int, **options: Any) -> Simulator:
    """A task of the suite through one of its cameras.

    Args:
        task: by its name in :mod:`.dm_control`.
        camera: of the model.
        options: of :class:`Rendered`.

    Raises:
        ValueError: there is no such task, or it has no such camera; the message lists them.
        ModuleNotFoundError: the extra ``dmc`` is not installed.
    """
    made = dm_control.make(task)
    model = made.physics.model
    if camera >= model.ncam:
        names = (model.id2name(i, "camera") or "unnamed" for i in range(model.ncam))
        known = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
        raise ValueError(f"env.camera={camera} is none of {task}; choose one of {known}")
    return Rendered(made, camera=camera, **options)
