"""Environments: one contract, one file per source.

An :class:`Env` is two pure functions over one environment. Batches, action repeat, time limits and
automatic resets are written once, in :mod:`sparse_rl.envs.vector`, for every source alike. A
:class:`HostEnv` runs outside of compiled programs and brings its own. To an agent both are a
:class:`Spec`.
"""

from sparse_rl.envs import lqr, vector
from sparse_rl.envs.contract import (
    ActorsLostError,
    Design,
    Env,
    HeldOut,
    HostActors,
    HostEnv,
    HostStep,
    Levels,
    Spec,
    Step,
    Symmetries,
    TeamEnv,
    TeamStep,
)
from sparse_rl.envs.registry import make
from sparse_rl.envs.teams import named, relabelled, with_names

__all__ = [
    "ActorsLostError",
    "Design",
    "Env",
    "HeldOut",
    "HostActors",
    "HostEnv",
    "HostStep",
    "Levels",
    "Spec",
    "Step",
    "Symmetries",
    "TeamEnv",
    "TeamStep",
    "lqr",
    "make",
    "named",
    "relabelled",
    "vector",
    "with_names",
]
