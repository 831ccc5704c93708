"""gymnax's classic control (Lange 2022), through the library."""

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.envs.contract import Env, Step

TASKS = ("Pendulum-v1", "MountainCarContinuous-v0")


def make(task: str) -> Env:
    """Build a gymnax task with continuous actions, rescaled to ``[-1, 1]``.

    Raises:
        ValueError: ``task`` is not one of :data:`TASKS`.
    """
    import gymnax

    if task not in TASKS:
        raise ValueError(f"gymnax task {task!r} is unknown; choose one of {', '.join(TASKS)}")
    source, params = gymnax.make(task)
    actions = source.action_space(params)
    low = jnp.broadcast_to(jnp.asarray(actions.low, jnp.float32), actions.shape)
    high = jnp.broadcast_to(jnp.asarray(actions.high, jnp.float32), actions.shape)

    def reset(key: Array) -> tuple[object, Array]:
        observation, state = source.reset_env(key, params)
        return state, jnp.asarray(observation, jnp.float32)

    def step(key: Array, state: object, action: Array) -> tuple[object, Step]:
        scaled = low + (action + 1.0) * 0.5 * (high - low)
        observation, state, reward, _, _ = source.step_env(key, state, scaled, params)
        terminated = jnp.asarray(source.is_terminated(state, params), bool)
        return state, Step(
            jnp.asarray(observation, jnp.float32), jnp.asarray(reward, jnp.float32), terminated
        )

    observation_shape = jax.eval_shape(reset, jax.random.key(0))[1].shape
    return Env(
        name=f"gymnax/{task}",
        observation_size=observation_shape[0],
        action_size=actions.shape[0],
        episode_length=int(params.max_steps_in_episode),
        reset=reset,
        step=step,
    )
