"""Environments of users: ``env=my_package:make_env``, a function that takes nothing and returns one."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sparse_rl.envs.contract import Env, HostEnv, TeamEnv
from sparse_rl.extensions import CodeError, load
from sparse_rl.kernels.keys import key_of


def make(task: str) -> Env | HostEnv:
    """Build the environment that a pinned name makes, named ``own/<task>``.

    Args:
        task: ``my_package:make_env@<hash>``.

    Raises:
        CodeError: there is none, or it is not what the contract says.
    """
    function = load(task)
    if not callable(function):
        raise CodeError(f"{task} is no function")
    env = function()
    if not isinstance(env, Env | HostEnv):
        raise CodeError(
            f"{task} made a {type(env).__name__}, and no Env, TeamEnv or HostEnv of sparse_rl.envs"
        )
    env = dataclasses.replace(env, name=f"own/{task}")
    if isinstance(env, Env) and not isinstance(env, TeamEnv) and env.draw is None:
        _check(env)
    return env


def _form(tree: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)


def _check(env: Env) -> None:
    """Raise :class:`CodeError` where shapes or types are not the contract's; nothing is computed."""
    key = jax.eval_shape(lambda: key_of(0))
    action = jax.ShapeDtypeStruct((), jnp.int32) if env.discrete else _floats(env.action_size)
    try:
        state, seen = jax.eval_shape(env.reset, key)
        after, step = jax.eval_shape(env.step, key, state, action)
    except Exception as error:  # of any kind: it is a user's function
        raise CodeError(f"{env.name} cannot be traced: {type(error).__name__}: {error}") from error
    parts = {
        "what reset observes": (seen, _floats(env.observation_size)),
        "what step observes": (step.observation, _floats(env.observation_size)),
        "a reward": (step.reward, jax.ShapeDtypeStruct((), jnp.float32)),
        "terminated": (step.terminated, jax.ShapeDtypeStruct((), jnp.bool_)),
        "the state after a step": (after, state),
    }
    for what, (found, wanted) in parts.items():
        if _form(found) != _form(wanted):
            raise CodeError(f"{env.name}: {what} is {_form(found)}, and must be {_form(wanted)}")


def _floats(size: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((size,), jnp.float32)
