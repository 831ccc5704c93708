"""Find an environment by source and task."""

from collections.abc import Callable
from typing import Literal, overload

from sparse_rl.env_configs import EnvConfig, LqrConfig
from sparse_rl.envs import atari, gymnax, lqr, playground, probe
from sparse_rl.envs.contract import Env, HostEnv

SOURCES: dict[str, Callable[[str], Env | HostEnv]] = {
    "atari": atari.make,
    "gymnax": gymnax.make,
    "lqr": lqr.make,
    "playground": playground.make,
    "probe": probe.make,
}


@overload
def make(source: Literal["atari"], task: str) -> HostEnv: ...
@overload
def make(source: Literal["gymnax", "lqr", "playground", "probe"], task: str) -> Env: ...
@overload
def make(source: str, task: str) -> Env | HostEnv: ...
def make(source: str, task: str) -> Env | HostEnv:
    """Build the environment ``task`` of ``source``.

    Raises:
        ValueError: the source or the task is unknown; the message lists the valid ones.
        ModuleNotFoundError: the source's optional package is missing; the message says how to get it.
    """
    if source not in SOURCES:
        raise ValueError(f"env.source={source!r} is unknown; choose one of {', '.join(SOURCES)}")
    return SOURCES[source](task)


def from_config(settings: EnvConfig) -> Env | HostEnv:
    """Build the environment of a run.

    Raises:
        ValueError: as of :func:`make`.
        ModuleNotFoundError: as of :func:`make`.
    """
    if isinstance(settings, LqrConfig) and settings.masses is not None:
        return lqr.make(settings.task, settings.masses)
    return make(settings.source, settings.task)
