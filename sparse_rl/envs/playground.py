"""MuJoCo Playground's DM Control suite on MJX (Zakka et al. 2025, arXiv 2502.08844).

Needs the extra ``mjx``. Only the DM Control suite is used: the locomotion and manipulation sets
download their models when they are loaded.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from sparse_rl.envs.contract import Env, Step


def _suite() -> Any:
    try:
        from mujoco_playground import dm_control_suite
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "env=playground/… needs MuJoCo Playground; install it with: pip install 'sparse_rl[mjx]'"
        ) from error
    return dm_control_suite


def make(task: str) -> Env:
    """Build a DM Control suite task, e.g. ``CheetahRun``.

    MJX's pure-JAX implementation is used on every device (the library's default, Warp, needs an
    NVIDIA GPU). The suite ends an episode only when the physics is NaN; infinite and huge numbers, which
    MuJoCo itself would stop at, end it in :mod:`~sparse_rl.envs.vector`.

    Raises:
        ValueError: ``task`` is not in the suite; the message lists the tasks.
        ModuleNotFoundError: the extra ``mjx`` is not installed.
    """
    suite = _suite()
    if task not in suite.ALL_ENVS:
        raise ValueError(
            f"Playground task {task!r} is unknown; choose one of {', '.join(suite.ALL_ENVS)}"
        )
    source = suite.load(task, config_overrides={"impl": "jax"})
    observation_size = int(source.observation_size)

    def reset(key: Array) -> tuple[Any, Array]:
        state = source.reset(key)
        return state, jnp.asarray(state.obs, jnp.float32)

    def step(key: Array, state: Any, action: Array) -> tuple[Any, Step]:
        del key  # the suite is deterministic between resets
        state = source.step(state, action)
        return state, Step(
            jnp.asarray(state.obs, jnp.float32),
            jnp.asarray(state.reward, jnp.float32),
            state.done > 0.5,
        )

    def physics(state: Any) -> Array:
        """What MuJoCo checks."""
        return jnp.concatenate([state.data.qpos, state.data.qvel, state.data.qacc])

    return Env(
        name=f"playground/{task}",
        observation_size=observation_size,
        action_size=int(source.action_size),
        episode_length=int(suite.get_default_config(task).episode_length),
        reset=reset,
        step=step,
        physics=physics,
    )
