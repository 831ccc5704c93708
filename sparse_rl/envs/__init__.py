"""Tensorised environments: one contract, one file per source.

An :class:`Env` is two pure functions over one environment. Batches, action repeat, time limits and
automatic resets are written once, in :mod:`sparse_rl.envs.vector`, for every source alike.
"""

from sparse_rl.envs.contract import Env, Step
from sparse_rl.envs.registry import make

__all__ = ["Env", "Step", "make"]
