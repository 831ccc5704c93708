"""Find an environment by source and task."""

from collections.abc import Callable

from sparse_rl.envs import gymnax, playground, probe
from sparse_rl.envs.contract import Env

SOURCES: dict[str, Callable[[str], Env]] = {
    "gymnax": gymnax.make,
    "playground": playground.make,
    "probe": probe.make,
}


def make(source: str, task: str) -> Env:
    """Build the environment ``task`` of ``source``.

    Raises:
        ValueError: the source or the task is unknown; the message lists the valid ones.
        ModuleNotFoundError: the source's optional package is missing; the message says how to get it.
    """
    if source not in SOURCES:
        raise ValueError(f"env.source={source!r} is unknown; choose one of {', '.join(SOURCES)}")
    return SOURCES[source](task)
