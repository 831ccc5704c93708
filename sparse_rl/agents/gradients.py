"""Gradients of a whole network, looked at beside training: taken, projected, compared."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents.contract import OffPolicyAgent
from sparse_rl.agents.stepping import emptied
from sparse_rl.experience import Transition
from sparse_rl.pruning import path_name

SKETCH = 4096
"""Numbers that a network's gradient is projected to: cosines are off by about 1/√4096."""


def of_batch(agent: OffPolicyAgent, learner: Any, batch: Transition, key: Array) -> dict[str, Any]:
    """network → gradient, up to one factor, as its optimiser would see it.

    The first moment after an update that began with none is the gradient times 1 − β₁.

    Args:
        agent: with Adam or AdamW.
        learner: its state, with ``optimisers``.
        batch, key: of the update.
    """
    empty = learner._replace(optimisers=emptied(learner.optimisers))
    after, _ = agent.update(empty, batch, key)
    return {
        name: optax.tree_utils.tree_get(after.optimisers[name], "mu")
        for name in agent.parameters(learner)
    }


def sketch(tree: Any, key: Array) -> Array:
    """A random projection that keeps inner products on average (count sketch, Charikar et al. 2002).

    Memory is bounded by the largest tensor, whatever the network's size.

    Args:
        tree: float32 arrays.
        key: the projection's: trees with the same key are projected alike.

    Returns:
        float32 ``[SKETCH]``.
    """
    total = jnp.zeros(SKETCH)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        own = jax.random.fold_in(key, zlib.crc32(path_name(path).encode()))
        draws = jax.random.bits(own, (leaf.size,))
        signs = 1.0 - 2.0 * (draws >> 31).astype(jnp.float32)
        total = total.at[draws % SKETCH].add(signs * leaf.reshape(-1))
    return total


def cosines(rows: Array) -> Array:
    """Cosine of the angle between each two of float32 ``[n, k]``: ``[n, n]`` in [−1, 1]; 0 for zeros."""
    norms = jnp.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / jnp.maximum(norms, jnp.finfo(jnp.float32).tiny)
    return jnp.clip(unit @ unit.T, -1.0, 1.0)
