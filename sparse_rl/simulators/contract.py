"""What a worker process asks of a simulator."""

from typing import NamedTuple, Protocol

import numpy as np

BOUND = 1e10
"""Beyond it, and where it is not finite, a number shows that the simulation broke: MuJoCo's own limit
(``mjMAXVAL``), which dm_control goes by too."""


class Frame(NamedTuple):
    """What one simulated frame brought."""

    reward: float
    terminated: bool
    """The task ended by itself; do not bootstrap."""
    truncated: bool
    """Time ran out."""


class Simulator(Protocol):
    """One environment. What it does follows from its last seed and the actions since."""

    observation_size: int
    action_size: int
    episode_length: int
    """Frames before truncation."""
    observation_dtype: type = np.float32
    picture: tuple[int, int, int] | None = None
    """Height, width and channels, where an observation is a picture laid out as a vector."""
    frames: int = 1
    """Pictures that an observation stacks as channels, the newest last."""

    def seed(self, seed: int) -> None:
        """Have all randomness from now on follow from a seed in [0, 2³¹)."""

    def reset(self) -> np.ndarray:
        """Begin an episode: its first observation, ``[observation_size]``."""

    def frame(self, action: np.ndarray) -> Frame:
        """Simulate one frame; float32 ``[action_size]`` in [−1, 1]."""

    def observe(self) -> np.ndarray:
        """What is seen after the frames of an interaction, once: ``[observation_size]``. Only then is a
        picture drawn."""
