"""Find an environment by source and task."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, overload

from sparse_rl.envs import atari, classic, gymnax, lqr, maze, own, pixels, playground, probe
from sparse_rl.envs.contract import Env, HostEnv, TeamEnv
from sparse_rl.envs.hiding import without
from sparse_rl.envs.sticky import sticky
from sparse_rl.envs.teams import jaxmarl, jumanji
from sparse_rl.envs.workers import drawn_in_workers, in_workers

SOURCES: dict[str, Callable[..., Env | HostEnv]] = {
    "atari": atari.make,
    "classic": classic.make,
    "dm_control": functools.partial(in_workers, "dm_control"),
    "dm_control_pixels": functools.partial(drawn_in_workers, "dm_control_pixels"),
    "gymnasium": functools.partial(in_workers, "gymnasium"),
    "gymnax": gymnax.make,
    "jaxmarl": jaxmarl.make,
    "jumanji": jumanji.make,
    "lqr": lqr.make,
    "maze": maze.make,
    "own": own.make,
    "pixels": pixels.make,
    "playground": playground.make,
    "probe": probe.make,
}


@overload
def make(source: Literal["dm_control", "gymnasium"], task: str) -> HostEnv: ...
@overload
def make(source: Literal["atari", "dm_control_pixels"], task: str, **options: Any) -> HostEnv: ...
@overload
def make(
    source: Literal[
        "classic", "gymnax", "jaxmarl", "jumanji", "lqr", "maze", "pixels", "playground", "probe"
    ],
    task: str,
    **options: Any,
) -> Env: ...
@overload
def make(source: str, task: str, **options: Any) -> Env | HostEnv: ...
def make(source: str, task: str, **options: Any) -> Env | HostEnv:
    """Build the environment ``task`` of ``source``, with the source's own options.

    ``sticky_actions`` is an option of every compiled one (:func:`~sparse_rl.envs.sticky.sticky`);
    ``hidden`` (:func:`~sparse_rl.envs.hiding.without`) and ``stacked``, how many of the last
    observations are seen together, of those that show no pictures. Teams have none of these.

    Raises:
        ValueError: the source, the task or an option's value is unknown; the message lists the valid
            ones. Or it is drawn, and no renderer works here.
        ModuleNotFoundError: the source's optional package is missing; the message says how to get it.
    """
    if source not in SOURCES:
        raise ValueError(f"env.source={source!r} is unknown; choose one of {', '.join(SOURCES)}")
    repeats, hidden = options.pop("sticky_actions", 0.0), options.pop("hidden", "nothing")
    stacked = options.pop("stacked", 1)
    env = SOURCES[source](task, **options)
    if isinstance(env, TeamEnv):
        asked = {"sticky_actions": repeats, "hidden": hidden != "nothing", "frames": stacked > 1}
        unread = [f"env.{name}" for name, said in asked.items() if said]
        if unread:
            raise ValueError(f"{' and '.join(unread)} are for one agent, and {env.name} is of a team")
        return env
    if isinstance(env, Env):
        return sticky(_stack(without(env, hidden), stacked), repeats)
    if repeats:
        raise ValueError(f"sticky_actions is for compiled environments; {env.name} runs on the host")
    return env


def _stack(env: Env, frames: int) -> Env:
    """The environment whose last so many observations are seen together.

    Raises:
        ValueError: it shows pictures.
    """
    if frames == 1:
        return env
    if env.picture:
        raise ValueError(f"env.frames={frames} is of vectors, and {env.name} shows pictures")
    return dataclasses.replace(env, observation_size=frames * env.observation_size, frames=frames)
