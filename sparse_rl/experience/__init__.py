"""What agents learn from: transitions, ring buffers, pictures, episodes, advantages, running statistics,
augmentation.

Not here: who acts to get it (:mod:`sparse_rl.loops`), what is learned from it (:mod:`sparse_rl.agents`).
"""

from sparse_rl.experience import means, normaliser
from sparse_rl.experience.advantage import advantages
from sparse_rl.experience.augmentation import random_shift
from sparse_rl.experience.episodes import Happened, Steps, episode_buffer
from sparse_rl.experience.frames import NStep, frame_buffer
from sparse_rl.experience.replay import Buffer, Transition, transition_buffer

__all__ = [
    "Buffer",
    "Happened",
    "NStep",
    "Steps",
    "Transition",
    "advantages",
    "episode_buffer",
    "frame_buffer",
    "means",
    "normaliser",
    "random_shift",
    "transition_buffer",
]
