"""gymnax's classic control and MinAtar (Lange 2022; Young and Tian 2019), through the library."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.envs.contract import Env, Step
from sparse_rl.kernels.keys import key_of

CONTINUOUS = ("Pendulum-v1", "MountainCarContinuous-v0")
DISCRETE = ("CartPole-v1", "Acrobot-v1")
# Not Seaquest: its compiled step is twenty times slower than the others'.
MINATAR = ("Breakout-MinAtar", "SpaceInvaders-MinAtar", "Asterix-MinAtar", "Freeway-MinAtar")
# bsuite's (Osband et al. 2020, arXiv 1908.03568): a bit shown at the start and asked for at the end, and
# a first action that is paid at the end, under random rewards. The second shows at every step what it
# asks for: it needs no memory, only credit.
DELAYED = {"MemoryChain-bsuite": "memory_length", "UmbrellaChain-bsuite": "chain_length"}
TASKS = (*CONTINUOUS, *DISCRETE, *MINATAR, *DELAYED)


def _continuous(source: Any, params: Any) -> tuple[int, Callable[[Array], Array]]:
    """Size of an action, and its rescaling from ``[-1, 1]`` to the task's own range."""
    actions = source.action_space(params)
    low = jnp.broadcast_to(jnp.asarray(actions.low, jnp.float32), actions.shape)
    high = jnp.broadcast_to(jnp.asarray(actions.high, jnp.float32), actions.shape)
    return actions.shape[0], lambda action: low + (action + 1.0) * 0.5 * (high - low)


def _delayed(task: str, params: Any, delay: int | None) -> Any:
    """The task's settings with another number of steps between what is shown and what is asked.

    Raises:
        ValueError: the task has none.
    """
    if task in DELAYED:
        steps = getattr(params, DELAYED[task]) if delay is None else delay
        # both end by themselves, after one more step at the latest
        return params.replace(**{DELAYED[task]: steps}, max_steps_in_episode=steps + 1)
    if delay is not None:
        raise ValueError(f"env.delay={delay} is of {', '.join(DELAYED)}, and not of {task}")
    return params


def make(task: str, delay: int | None = None) -> Env:
    """Build a gymnax task; continuous actions are rescaled to ``[-1, 1]``, pictures laid out as vectors.

    Args:
        task: one of :data:`TASKS`.
        delay: of those in :data:`DELAYED`, steps between what is shown and what is asked; ``None``: the
            library's.

    Raises:
        ValueError: ``task`` is not one of :data:`TASKS`, or has no delay.
    """
    import gymnax

    if task not in TASKS:
        raise ValueError(f"gymnax task {task!r} is unknown; choose one of {', '.join(TASKS)}")
    source, params = gymnax.make(task)
    params = _delayed(task, params, delay)
    discrete = task not in CONTINUOUS
    if discrete:
        action_size, to_task = int(source.action_space(params).n), lambda action: action
    else:
        action_size, to_task = _continuous(source, params)

    def reset(key: Array) -> tuple[object, Array]:
        observation, state = source.reset_env(key, params)
        return state, jnp.asarray(observation, jnp.float32).reshape(-1)

    def step(key: Array, state: object, action: Array) -> tuple[object, Step]:
        observation, state, reward, _, _ = source.step_env(key, state, to_task(action), params)
        terminated = jnp.asarray(source.is_terminated(state, params), bool)
        observation = jnp.asarray(observation, jnp.float32).reshape(-1)
        return state, Step(observation, jnp.asarray(reward, jnp.float32), terminated)

    shape = jax.eval_shape(lambda key: source.reset_env(key, params)[0], key_of(0)).shape
    return Env(
        name=f"gymnax/{task}",
        observation_size=math.prod(shape),
        action_size=action_size,
        episode_length=int(params.max_steps_in_episode),
        reset=reset,
        step=step,
        discrete=discrete,
        picture=shape if len(shape) == 3 else None,
    )
