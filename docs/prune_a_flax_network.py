"""Prune a plain flax network that knows nothing of sparse_rl, hold it in each storage, train it.

python docs/prune_a_flax_network.py
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.pruning import apply, prune


class Regressor(nn.Module):
    """Somebody's network."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for width in (200, 200):
            x = nn.gelu(nn.Dense(width)(x))
        return nn.Dense(1)(x)[:, 0]


def train(storage: str, steps: int = 500) -> tuple[float, int]:
    """Mean squared error after training, and how many numbers AdamW's first moment holds."""
    network = Regressor()
    x = jax.random.uniform(jax.random.key(0), (512, 4), minval=-1.0)
    y = jnp.sin(3.0 * x).sum(axis=1)
    dense = network.init(jax.random.key(1), x)["params"]
    mask_key = jax.random.key(2)
    params, supports = prune(mask_key, dense, sparsity=0.9, pattern="block", storage=storage)
    optimiser = optax.adamw(3e-3)

    def loss(params: Any) -> Array:
        return jnp.mean(jnp.square(apply(network, params, supports, x) - y))

    @jax.jit
    def step(params: Any, state: optax.OptState) -> tuple[Any, optax.OptState]:
        updates, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = optimiser.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return float(loss(params)), sum(leaf.size for leaf in jax.tree.leaves(params))


if __name__ == "__main__":
    for storage in ("masked", "compact", "block"):
        error, held = train(storage)
        print(f"{storage:8s} error {error:.4f}   parameters held {held}")
