"""Every storage beside float64 numpy with the same masks: outputs, and gradients of all that is stored
and of what is read."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy_networks as by_numpy
import pytest

from sparse_rl.diagnostics import global_norm
from sparse_rl.kernels import native
from sparse_rl.networks import Critic
from sparse_rl.pruning import Storage, apply, path_name, prune, restore, store, support_masks
from sparse_rl.pruning.storage import support_of

KEY = jax.random.key(31)
OBSERVATION, ACTION = 5, 3
SPARSITY = 0.55


class Way(NamedTuple):
    """One way to hold a network and to multiply with it."""

    blocks: bool
    storage: Storage
    samples: int
    """16 fill the vectors of our kernels, 5 are left to XLA."""
    tile_bytes: int | None = None
    kernels: bool = True
    feature_major: bool = False


WAYS = {
    "masked": Way(False, "masked", 5),
    "compact": Way(False, "compact", 5),
    "compact, by XLA": Way(False, "compact", 5, kernels=False),
    "tiles": Way(False, "compact", 5, tile_bytes=200),
    "tiles, by XLA": Way(False, "compact", 5, tile_bytes=200, kernels=False),
    "blocks": Way(True, "block", 16),
    "blocks, features first": Way(True, "block", 16, feature_major=True),
    "blocks, by XLA": Way(True, "block", 5),
    "masked blocks": Way(True, "masked", 5),
}


def held(params: Any, way: Way) -> tuple[Any, Any]:
    """Pruned parameters and their supports: of hidden layers, so that heads stay what they are. Blocks
    are drawn; other masks are numpy's, for ours take a second each to compile."""
    if way.blocks:
        options: dict[str, Any] = {"pattern": "block", "distribution": "uniform", "prunable": hidden}
        return prune(KEY, params, SPARSITY, storage=way.storage, **options)
    rng = np.random.default_rng(8)
    density = 0.4 if way.tile_bytes else 0.45  # so that no support is traced for another size of tiles

    def support(path: Any, leaf: Any) -> Any:
        if not hidden(path_name(path), leaf):
            return None
        mask = rng.random(leaf.shape) < density
        return support_of(jnp.asarray(mask), way.storage, int(mask.sum()))

    supports = jax.tree_util.tree_map_with_path(support, params)
    return store(supports, params), supports


def hidden(path: str, leaf: Any) -> bool:
    return path.startswith("trunk") and path.endswith("kernel")


def as_pruned(masks: Any, tree: Any) -> Any:
    """Zeros where masks say so."""
    return jax.tree.map(
        lambda mask, leaf: leaf if mask is None else np.where(mask, leaf, 0),
        masks,
        tree,
        is_leaf=lambda node: node is None,
    )


def value_of(kind: str, params: Any, inputs: Any) -> np.ndarray:
    x, trunk = np.concatenate(inputs, axis=1), params["trunk"]
    seen = by_numpy.mlp(trunk, x)[0] if kind == "mlp" else by_numpy.simba(trunk, x, 1)[0]
    return by_numpy.dense(seen, params["value"])[:, 0]


class Found(NamedTuple):
    values: Any
    to_stored: Any
    to_params: Any
    to_inputs: Any


def found_by(network: Critic, stored: Any, supports: Any, inputs: Any, wanted: np.ndarray) -> Found:
    """Values, and gradients of their squared errors' sum."""

    @jax.jit
    def all_of(stored: Any, inputs: Any, supports: Any) -> Any:
        def loss(stored: Any, inputs: Any) -> Any:
            values = apply(network, stored, supports, *inputs)
            return jnp.sum(jnp.square(values - wanted)), values

        grads, values = jax.grad(loss, (0, 1), has_aux=True)(stored, inputs)
        return Found(values, grads[0], restore(supports, grads[0]), grads[1])

    return Found(*all_of(stored, inputs, supports))


CASES = [("mlp", name) for name in WAYS] + [("simba", "compact"), ("simba", "blocks, features first")]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_outputs_and_gradients_are_those_of_numpy(
    kind: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = WAYS[name]
    if not way.kernels:
        monkeypatch.setattr(native, "load", lambda: (0, "XLA"))
    if way.tile_bytes:
        monkeypatch.setattr("sparse_rl.pruning.compact.TILE_BYTES", way.tile_bytes)
        monkeypatch.setattr("sparse_rl.pruning.compact.TILED_BELOW_DENSITY", 1.0)
    rng = np.random.default_rng(way.samples)
    inputs = [np.float32(rng.standard_normal((way.samples, n))) for n in (OBSERVATION, ACTION)]
    wanted = rng.standard_normal(way.samples)
    network = Critic(kind, 12 if kind == "mlp" else 6, 1, feature_major=way.feature_major)
    shapes = jax.eval_shape(network.init, KEY, *inputs)["params"]
    params = jax.tree.map(jnp.asarray, by_numpy.drawn_like(shapes))
    stored, supports = held(params, way)
    masks = support_masks(supports)
    whole = as_pruned(masks, params)
    jax.tree.map(np.testing.assert_array_equal, restore(supports, stored), whole)
    found = found_by(network, stored, supports, inputs, wanted)

    exact = by_numpy.as_float64((whole, inputs))
    np.testing.assert_allclose(found.values, value_of(kind, *exact), rtol=2e-5, atol=2e-5)
    expected = by_numpy.gradients(lambda both: np.sum((value_of(kind, *both) - wanted) ** 2), exact)
    largest = max(abs(leaf).max() for leaf in jax.tree.leaves(expected))
    jax.tree.map(
        lambda one, right: np.testing.assert_allclose(one, right, rtol=1e-4, atol=1e-6 * largest),
        (found.to_params, found.to_inputs),
        (as_pruned(masks, expected[0]), expected[1]),
    )
    # no gradient for what is pruned, none at padding
    assert global_norm(found.to_stored) == pytest.approx(float(global_norm(found.to_params)), rel=1e-5)
    if way.tile_bytes:
        assert supports["trunk"]["dense_1"]["kernel"].tiles > 1
