"""Actions in [−1, 1], in a task's own range."""

from collections.abc import Callable

import numpy as np

UNBOUNDED = 1e6
"""Bounds beyond this are none: such an action is taken as it is."""


def from_unit(low: np.ndarray, high: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """``[a]`` in [−1, 1] → ``[a]`` in [low, high], float64; actions beyond are cut off first."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    bounded = (np.abs(low) < UNBOUNDED) & (np.abs(high) < UNBOUNDED)
    half = np.where(bounded, 0.5 * (high - low), 1.0)
    middle = np.where(bounded, low + half, 0.0)
    return lambda action: middle + half * np.clip(np.asarray(action, np.float64), -1.0, 1.0)
