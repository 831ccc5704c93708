"""What agents learn from: transitions, ring buffers, pictures, advantages, running statistics,
augmentation.

Not here: who acts to get it (:mod:`sparse_rl.loops`), what is learned from it (:mod:`sparse_rl.agents`).
"""

from sparse_rl.experience import means, normaliser
from sparse_rl.experience.advantage import advantages
from sparse_rl.experience.augmentation import random_shift
from sparse_rl.experience.frames import NStep, frame_buffer
from sparse_rl.experience.replay import Buffer, Transition, transition_buffer

__all__ = [
    "Buffer",
    "NStep",
    "Transition",
    "advantages",
    "frame_buffer",
    "means",
    "normaliser",
    "random_shift",
    "transition_buffer",
]
