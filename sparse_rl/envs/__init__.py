"""Environments: one contract, one file per source.

An :class:`Env` is two pure functions over one environment. Batches, action repeat, time limits and
automatic resets are written once, in :mod:`sparse_rl.envs.vector`, for every source alike. A
:class:`HostEnv` runs outside of compiled programs and brings its own. To an agent both are a
:class:`Spec`.
"""

from sparse_rl.envs.contract import Env, HostActors, HostEnv, HostStep, Spec, Step
from sparse_rl.envs.registry import from_config, make

__all__ = ["Env", "HostActors", "HostEnv", "HostStep", "Spec", "Step", "from_config", "make"]
