"""How actions are drawn: a choice among a few, or a Gaussian with a deviation of its own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.envs import Spec

ILLEGAL = -1e9
"""Logit of an action that is not allowed: its probability is 0 in float32, and no gradient is NaN."""


class Actions(NamedTuple):
    """Functions of ``policy``, what the actor's network makes of n observations."""

    sample: Callable[[Any, Array], Array]
    """``(policy, key) → n actions``."""
    mode: Callable[[Any], Array]
    """``policy → the n most likely actions``."""
    log_prob: Callable[[Any, Array], Array]
    """``(policy, n actions) → float32 [n]``."""
    entropy: Callable[[Any], Array]
    """``policy → float32 [n]``."""
    to_env: Callable[[Array], Array]
    """What the environment is given: the action, within its range."""


def mask_illegal(policy: Any, legal: Array | None) -> Any:
    """Logits ``[n, a]`` without the actions that are not legal: bool ``[n, a]``, or ``None``: all."""
    return policy if legal is None else jnp.where(legal, policy, ILLEGAL)


def _choice_log_prob(logits: Array, action: Array) -> Array:
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


def _choice_entropy(logits: Array) -> Array:
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def _gaussian_sample(policy: tuple[Array, Array], key: Array) -> Array:
    mean, log_std = policy
    return mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)


def _gaussian_log_prob(policy: tuple[Array, Array], action: Array) -> Array:
    mean, log_std = policy
    scaled = (action - mean) * jnp.exp(-log_std)
    return jnp.sum(-0.5 * jnp.square(scaled) - log_std - 0.5 * jnp.log(2.0 * jnp.pi), axis=-1)


def _gaussian_entropy(policy: tuple[Array, Array]) -> Array:
    mean, log_std = policy
    each = log_std + 0.5 * jnp.log(2.0 * jnp.pi * jnp.e)
    return jnp.sum(jnp.broadcast_to(each, mean.shape), axis=-1)


CHOICE = Actions(
    sample=lambda logits, key: jax.random.categorical(key, logits),
    mode=lambda logits: jnp.argmax(logits, axis=-1),
    log_prob=_choice_log_prob,
    entropy=_choice_entropy,
    to_env=lambda action: action,
)
"""Discrete actions: the policy is logits, float32 ``[n, a]``; actions are int32 ``[n]``."""

GAUSSIAN = Actions(
    sample=_gaussian_sample,
    mode=lambda policy: policy[0],
    log_prob=_gaussian_log_prob,
    entropy=_gaussian_entropy,
    to_env=lambda action: jnp.clip(action, -1.0, 1.0),
)
"""Continuous actions: the policy is mean ``[n, a]`` and log standard deviation ``[a]``; actions are
float32 ``[n, a]``. They are cut off at the range only on their way to the environment, so that densities
are those of what was drawn."""


def actions_of(env: Spec) -> Actions:
    """How actions are drawn in this environment."""
    return CHOICE if env.discrete else GAUSSIAN
