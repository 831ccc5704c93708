"""What pruning as a library makes of small networks, on standard output as JSON: digests of what is
exact, sums of what is not. Run in processes with other flags, and in the tests' own."""

import hashlib
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl import pruning

SIZES = {"first": (7, 12), "second": (12, 10)}
CASES = {
    "unstructured": "compact",
    "constant_fan_in": "masked",
    "block": "block",
}


class Two(nn.Module):
    """Two layers and a ReLU."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(10, name="second")(nn.relu(nn.Dense(12, name="first")(x)))


def digest(tree: Any) -> str:
    """Of all bytes, dtypes and shapes."""
    made = hashlib.sha256()
    for leaf in map(np.asarray, jax.tree.leaves(tree)):
        made.update(f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes())
    return made.hexdigest()[:12]


def drawn_values(*shape: int) -> Any:
    """float32, the same everywhere: numpy's."""
    return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32))


def parameters() -> Any:
    return {
        name: {"kernel": drawn_values(*size), "bias": drawn_values(size[1])}
        for name, size in SIZES.items()
    }


def numbers(key: Any) -> dict[str, Any]:
    """Pattern → digest of what is drawn and held, and two sums: an output and its gradients."""
    params, x = parameters(), drawn_values(16, 7)
    told: dict[str, Any] = {}
    for pattern, storage in CASES.items():
        stored, supports = pruning.prune(key, params, 0.6, pattern=pattern, storage=storage)

        def loss(stored: Any, supports: Any = supports) -> Any:
            return jnp.sum(jnp.sin(pruning.apply(Two(), stored, supports, x)))

        value, grads = jax.value_and_grad(loss)(stored)
        held = stored, supports, pruning.support_masks(supports), pruning.restore(supports, stored)
        told[pattern] = [digest(held), float(value), sum(float(g.sum()) for g in jax.tree.leaves(grads))]
    return told


def torch_masks() -> str:
    """Digest of a torch layer's masks; nothing without torch."""
    try:
        from torch import nn as torch_nn

        from sparse_rl.torch_modules import module_masks
    except ImportError:
        return ""
    masks = module_masks(torch_nn.Linear(12, 10), 2**32 + 3, 0.6)
    return digest({name: mask.numpy() for name, mask in masks.items()})


if __name__ == "__main__":
    print(json.dumps({"numbers": numbers(jax.random.key(3)), "torch": torch_masks()}))
