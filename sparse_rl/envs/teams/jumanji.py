"""Jumanji's environments of many agents (Bonnet et al. 2024, arXiv 2306.09884), through the library:
they tell what is legal, and some a time limit from a termination. The limits are taken out of all."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.envs.contract import TeamEnv, TeamStep
from sparse_rl.envs.teams.shapes import NEVER, all_see, find, needing, settled
from sparse_rl.kernels.keys import key_of


@dataclass(frozen=True, kw_only=True)
class Task:
    """One of the library's."""

    library: str
    generator: Mapping[str, Any]
    """What its levels are drawn by."""
    length: int
    """Frames before time runs out."""
    shared: bool
    """Whether all agents have one reward."""
    wins: bool
    """Whether an episode that ends by itself is won."""


def _foraging(side: int, agents: int, food: int, coop: bool) -> Task:
    """Agents pick up food that is too heavy for one (where ``coop``, all of it)."""
    generator = {
        "grid_size": side, "fov": side, "num_agents": agents, "num_food": food, "force_coop": coop,
    }  # fmt: skip
    return Task(library="LevelBasedForaging", generator=generator, length=100, shared=False, wins=True)


def _warehouse(agents: int) -> Task:
    """A small one in which shelves are brought that were asked for; who collides ends the episode."""
    generator = {
        "column_height": 8, "shelf_rows": 2, "shelf_columns": 3, "num_agents": agents,
        "sensor_range": 1, "request_queue_size": 8,
    }  # fmt: skip
    return Task(library="RobotWarehouse", generator=generator, length=500, shared=True, wins=False)


TASKS: dict[str, Task] = {
    "lbf_8x8_2p_2f_coop": _foraging(8, 2, 2, True),
    "lbf_15x15_4p_5f": _foraging(15, 4, 5, False),
    "rware_2ag": _warehouse(2),
    "rware_4ag": _warehouse(4),
}
"""By the names that they have here."""


def _source(task: Task) -> Any:
    """The library's environment.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to get it.
    """
    with needing("jumanji"):
        import jumanji.environments as library
        from jumanji.environments.routing.lbf.generator import RandomGenerator as Forage
        from jumanji.environments.routing.robot_warehouse.generator import RandomGenerator as Shelves
    generator: Callable[..., Any] = Forage if task.library == "LevelBasedForaging" else Shelves
    made = getattr(library, task.library)
    return made(generator=generator(**task.generator), time_limit=NEVER)


def make(name: str) -> TeamEnv:
    """Build one of :data:`TASKS`.

    Raises:
        ValueError: ``name`` is not one of them.
        ModuleNotFoundError: the library is not installed.
    """
    task = find("jumanji", name, TASKS)
    source = _source(task)
    agents = int(source.num_agents)
    _, first = jax.eval_shape(source.reset, key_of(0))
    shape, choices = first.observation.agents_view.shape, first.observation.action_mask.shape[1]

    def shown(timestep: Any) -> Array:
        return jnp.asarray(timestep.observation.agents_view, jnp.float32).reshape(agents, -1)

    def raw(state: Any, action: Array) -> Any:
        state, timestep = source.step(state[0], action)
        return (state, timestep.observation.action_mask), timestep

    def begun(key: Array) -> Any:
        state, timestep = source.reset(key)
        return (state, timestep.observation.action_mask), timestep

    nothing = jnp.zeros(agents, jnp.int32)
    like = jax.eval_shape(lambda key: raw(begun(key)[0], nothing)[0], key_of(0))

    def reset(key: Array) -> tuple[Any, Array]:
        state, timestep = begun(key)
        return settled(state, like), shown(timestep)

    def step(key: Array, state: Any, action: Array) -> tuple[Any, TeamStep]:
        state, timestep = raw(state, action)
        reward = jnp.broadcast_to(jnp.asarray(timestep.reward, jnp.float32), (agents,))
        over = timestep.last() & jnp.all(timestep.discount == 0)
        outcome = over.astype(jnp.float32) if task.wins else jnp.float32(0.0)
        seen = TeamStep(shown(timestep), reward, over, jnp.zeros(agents), outcome)
        return settled(state, like), seen

    size = math.prod(shape[1:])
    return TeamEnv(
        name=f"jumanji/{name}",
        observation_size=size,
        action_size=choices,
        episode_length=task.length,
        discrete=True,
        kinds=(0,) * agents,
        critic_size=agents * size,
        reset=reset,
        step=step,
        legal_actions=lambda state: state[1],
        state=lambda state, observation: all_see(observation),
        shared_reward=task.shared,
        wins=task.wins,
    )
