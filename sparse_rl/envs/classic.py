"""Classic control whose physics are a level: gymnax's cart-pole and pendulum with other masses, lengths,
gravity and torque. What an agent sees does not say which they are.

A level also says where an episode begins, so that nothing is left to chance in it.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.envs.contract import Env, HeldOut, Levels, Step
from sparse_rl.kernels.keys import key_of

SEED = 20261
"""Of where held-out episodes begin."""
JITTER = 0.25
"""Deviation of an edit, as a share of the range's half."""
BEYOND = 1.5
"""How far outside of its range a held-out parameter lies, in halves of it."""


class Physics(NamedTuple):
    """A level."""

    powers: Array
    """float32 ``[P]``: each parameter is the library's times two to this power."""
    start: Array
    """float32 ``[S]``: what of the state differs between episodes."""


class Task(NamedTuple):
    """One of gymnax's, and what of it is free."""

    library: str
    parameters: tuple[str, ...]
    half: float
    """Of the range of powers, which is uniform around 0."""
    state: tuple[str, ...]
    """Of :attr:`Physics.start`."""
    starts: tuple[float, ...]
    """Each number of it is uniform in plus or minus this: the library's own."""
    bound: float
    """No return is larger: none is lost (cart-pole), or there is no cost (pendulum)."""
    solved: float
    """Returns from here on are a solution."""
    discrete: bool


TASKS = {
    "cartpole": Task(
        "CartPole-v1", ("gravity", "masscart", "masspole", "length"), 1.0,
        ("x", "x_dot", "theta", "theta_dot"), (0.05,) * 4, 500.0, 475.0, True,
    ),
    "pendulum": Task(
        "Pendulum-v1", ("g", "m", "l", "max_torque"), 0.5,
        ("theta", "theta_dot"), (float(np.pi), 1.0), 0.0, -300.0, False,
    ),
}  # fmt: skip
"""Cart-pole: 475 of 500 is Gym's own threshold. Pendulum: one swing up costs 100 to 300."""


def sample(key: Array, task: Task) -> Physics:
    """Powers uniform in the task's range, and a start as the library draws it."""
    physics, begun = jax.random.split(key)
    powers = jax.random.uniform(physics, (len(task.parameters),), minval=-task.half, maxval=task.half)
    starts = jnp.asarray(task.starts)
    return Physics(powers, jax.random.uniform(begun, starts.shape, minval=-starts, maxval=starts))


def mutate(key: Array, level: Physics, task: Task) -> Physics:
    """The level with one parameter a little smaller or larger, within the range."""
    which, how = jax.random.split(key)
    changed = jnp.arange(len(task.parameters)) == jax.random.randint(which, (), 0, len(task.parameters))
    powers = level.powers + jnp.where(changed, JITTER * task.half * jax.random.normal(how), 0.0)
    return level._replace(powers=jnp.clip(powers, -task.half, task.half))


SETS = ("corners", "outside")


def held_out(task: Task, length: int, name: str) -> HeldOut:
    """Physics at the corners of the range, or with one parameter outside of it."""
    count, which = len(task.parameters), SETS.index(name)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=count)))
    powers = (signs, np.concatenate([-BEYOND * np.eye(count), BEYOND * np.eye(count)]))[which]
    uniform = np.random.default_rng([SEED, which]).uniform(-1.0, 1.0, (len(powers), len(task.starts)))
    level = Physics(np.float32(task.half * powers), np.float32(uniform * task.starts))  # type: ignore[arg-type]
    return HeldOut(tuple(f"{name}{j}" for j in range(len(powers))), level, (length,))


def _physics(params: Any, task: Task, level: Physics) -> Any:
    """The library's parameters, with those of the level."""
    factors = {name: 2.0 ** level.powers[i] for i, name in enumerate(task.parameters)}
    params = params.replace(**{name: getattr(params, name) * x for name, x in factors.items()})
    if task.library == "CartPole-v1":
        params = params.replace(
            total_mass=params.masscart + params.masspole,
            polemass_length=params.masspole * params.length,
        )
    return params


def _levels(task: Task, params: Any, begin: Callable[[Physics], Any]) -> Levels:
    def describe(level: Physics) -> dict[str, Array]:
        physics = _physics(params, task, level)
        named = {name: getattr(physics, name) for name in task.parameters}
        return {**named, "solvable": jnp.ones(())}

    return Levels(
        sample=functools.partial(sample, task=task),
        begin=begin,
        mutate=functools.partial(mutate, task=task),
        describe=describe,
        best=lambda level: jnp.float32(task.bound),
        solved=lambda episode_return: episode_return >= task.solved,
        sets={
            name: functools.partial(held_out, task, int(params.max_steps_in_episode), name)
            for name in SETS
        },
        watched=SETS,
    )


def make(name: str) -> Env:
    """Build a task; continuous actions are rescaled to ``[-1, 1]``.

    Raises:
        ValueError: ``name`` is not one of :data:`TASKS`.
    """
    import gymnax

    if name not in TASKS:
        raise ValueError(f"classic task {name!r} is unknown; choose one of {', '.join(TASKS)}")
    task = TASKS[name]
    source, params = gymnax.make(task.library)
    still = source.reset_env(key_of(0), params)[1].replace(time=jnp.int32(0))

    def begin(level: Physics) -> tuple[Any, Array]:
        state = still.replace(**{of: level.start[i] for i, of in enumerate(task.state)})
        return (state, level), jnp.asarray(source.get_obs(state), jnp.float32)

    def step(key: Array, state: Any, action: Array) -> tuple[Any, Step]:
        inner, level = state
        physics = _physics(params, task, level)
        done = action if task.discrete else action * physics.max_torque
        observation, inner, reward, _, _ = source.step_env(key, inner, done, physics)
        terminated = jnp.asarray(source.is_terminated(inner, physics), bool)
        seen = Step(jnp.asarray(observation, jnp.float32), jnp.asarray(reward, jnp.float32), terminated)
        return (inner, level), seen

    draw = functools.partial(sample, task=task)
    return Env(
        name=f"classic/{name}",
        observation_size=len(source.get_obs(still)),
        action_size=2 if task.discrete else 1,
        episode_length=int(params.max_steps_in_episode),
        reset=lambda key: begin(draw(key)),
        step=step,
        discrete=task.discrete,
        levels=_levels(task, params, begin),
    )
