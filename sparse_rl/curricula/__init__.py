"""Which levels come next: the buffer of levels, their scores, and a file for each method.

Pure functions that play nothing; :mod:`sparse_rl.loops.curriculum` does."""

from collections.abc import Callable
from typing import Any

from sparse_rl.curricula import accel, dr, plr, sfl
from sparse_rl.curricula.buffer import LevelBuffer, hashes
from sparse_rl.curricula.contract import KINDS, NEW, Method, Outcome, Proposal
from sparse_rl.curricula.gallery import Exhibits, exhibits, gallery
from sparse_rl.curricula.paired import Shown, design_env, estimated_regret
from sparse_rl.curricula.scores import Played, highest_return, over_episodes, score
from sparse_rl.envs import Levels

METHODS: dict[str, Callable[[Any, Levels, int], Method]] = {
    "dr": dr.make,
    "plr": plr.make,
    "plr_robust": plr.make,
    "plr_parallel": plr.make_parallel,
    "accel": accel.make,
    "accel_parallel": accel.make_parallel,
    "sfl": sfl.make,
}
"""``curriculum.method`` → what builds it: ``(settings, levels, environments of the agent)``."""

__all__ = [
    "KINDS", "METHODS", "NEW", "Exhibits", "LevelBuffer", "Method", "Outcome", "Played", "Proposal",
    "Shown", "design_env", "estimated_regret", "exhibits", "gallery", "hashes", "highest_return",
    "over_episodes", "score",
]  # fmt: skip
