"""A layer's own rules, other collections, derivatives of both kinds, and what goes with parameters."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import serialization

from sparse_rl.pruning import (
    PassedOverWarning,
    apply,
    decay_mask,
    prune,
    random_masks,
    restore,
    support_masks,
)

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
X = jnp.float32(RNG.standard_normal((16, 12)))


@functools.cache
def blocks(dtype: Any = jnp.float32, bias: bool = True) -> tuple[Any, Any]:
    """A dense layer 12 → 20 with blocks: parameters and supports."""
    dense = {"kernel": jnp.asarray(RNG.standard_normal((12, 20)), dtype)}
    dense |= {"bias": jnp.asarray(RNG.standard_normal(20), dtype)} if bias else {}
    return prune(KEY, dense, 0.75, pattern="block", storage="block")


def both(layer: nn.Module, x: Any, params: Any, supports: Any) -> tuple[Any, Any]:
    """By blocks, and by the layer itself with the dense kernel."""
    whole = {"params": restore(supports, params)}
    return apply(layer, params, supports, x), layer.apply(whole, x)


@pytest.mark.parametrize(
    ("layer", "held", "read"),
    [
        (nn.Dense(20, dtype=jnp.bfloat16), jnp.float32, X),
        (nn.Dense(20, param_dtype=jnp.bfloat16), jnp.bfloat16, X.astype(jnp.bfloat16)),
        (nn.Dense(20, param_dtype=jnp.float16), jnp.float16, X),
        (nn.Dense(20), jnp.float32, jnp.asarray(RNG.integers(0, 255, (16, 12)), jnp.uint8)),
        (nn.Dense(20), jnp.bfloat16, jnp.asarray(RNG.integers(0, 9, (16, 12)), jnp.uint8)),
        (nn.Dense(20, use_bias=False), jnp.float32, X),
        (nn.Dense(20, precision="highest"), jnp.float32, X),
        (nn.Dense(20), jnp.float32, X.reshape(2, 8, 12)),
    ],
)
def test_blocks_obey_what_a_dense_layer_is_told(layer: nn.Dense, held: Any, read: Any) -> None:
    """Sixteen samples, which our kernels take; they take float32 alone."""
    made, expected = jax.jit(functools.partial(both, layer))(read, *blocks(held, layer.use_bias))
    assert made.dtype == expected.dtype
    assert made.shape == expected.shape
    tolerance = 1e-5 if made.dtype == jnp.float32 else 0.1
    made, expected = (np.asarray(y, np.float32) for y in (made, expected))
    np.testing.assert_allclose(made, expected, rtol=tolerance, atol=tolerance)


class Doubled(nn.Dense):
    @nn.compact
    def __call__(self, inputs: Any) -> Any:
        return 2.0 * super().__call__(inputs)


class Renamed(nn.Dense):
    """A dense layer by another name."""


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (Doubled(20), "is a Doubled with a __call__ of its own"),
        (nn.Dense(20, dot_general=jax.lax.dot_general), "has a dot_general of its own"),
        (Renamed(20), None),
    ],
)
def test_other_dense_layers_are_honoured_or_refused(layer: nn.Dense, why: str | None) -> None:
    if why is None:
        made, expected = jax.jit(functools.partial(both, layer))(X, *blocks())
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
    else:
        with pytest.raises(TypeError, match=f"{why}.*can be stored masked"):
            jax.eval_shape(functools.partial(both, layer), X, *blocks())


class CrossQ(nn.Module):
    """A critic that normalises over the batch, with dropout."""

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(20)(x))
        return nn.Dense(1)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x)))


@pytest.mark.parametrize("storage", ["masked", "block"])
def test_running_statistics_go_on_from_call_to_call(storage: str) -> None:
    """Two updates with a momentum of 0.9, by hand; evaluation reads them; forgetting them is refused."""
    network = CrossQ()
    variables = jax.tree.map(
        lambda leaf: jnp.float32(RNG.standard_normal(leaf.shape)),
        jax.eval_shape(network.init, KEY, X)["params"],
    )
    params, supports = prune(KEY, variables, 0.5, pattern="block", storage=storage)
    stats: Any = {"BatchNorm_0": {"mean": jnp.zeros(20), "var": jnp.ones(20)}}

    @jax.jit
    def step(stats: Any) -> Any:
        changed = apply(
            network,
            params,
            supports,
            X,
            collections={"batch_stats": stats},
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": KEY},
        )[1]
        return changed["batch_stats"]

    first = restore(supports, params)["Dense_0"]
    mean = np.asarray(X @ first["kernel"] + first["bias"]).mean(axis=0)
    found = step(step(stats))
    np.testing.assert_allclose(found["BatchNorm_0"]["mean"], 0.19 * mean, rtol=1e-3, atol=1e-5)
    value = apply(network, params, supports, X, collections={"batch_stats": found})
    whole = {"params": restore(supports, params), "batch_stats": found}
    np.testing.assert_allclose(value, network.apply(whole, X), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"begin anew.*collections="):
        apply(
            network,
            params,
            supports,
            X,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": KEY},
        )
    with pytest.raises(ValueError, match="params are given apart"):
        apply(network, params, supports, X, collections={"params": params})


class Small(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.tanh(nn.Dense(20, name="hidden")(x))
        return nn.Dense(1, name="head")(x)[:, 0]


def small(storage: str) -> tuple[Any, Any]:
    dense = {
        "hidden": {"kernel": jnp.float32(RNG.standard_normal((12, 20))), "bias": jnp.ones(20)},
        "head": {"kernel": jnp.float32(RNG.standard_normal((20, 1))), "bias": jnp.ones(1)},
    }
    return prune(KEY, dense, 0.5, pattern="block", storage=storage)


@pytest.mark.parametrize("by_xla", [False, True])
@pytest.mark.parametrize("storage", ["masked", "compact"])
def test_hessian_vector_products_are_the_dense_ones(
    storage: str, by_xla: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward over reverse, along the surviving ones, beside the dense network's."""
    if by_xla:
        monkeypatch.setattr("sparse_rl.kernels.native.load", lambda: (0, "XLA"))
    params, supports = small(storage)
    ones = jax.tree.map(jnp.ones_like, params)

    def sparse(params: Any) -> Any:
        return jnp.square(apply(Small(), params, supports, X)).mean()

    def dense(params: Any) -> Any:
        return jnp.square(Small().apply({"params": params}, X)).mean()

    def product(f: Any, params: Any, along: Any) -> Any:
        return jax.jvp(jax.grad(f), (params,), (along,))[1]

    found = jax.jit(lambda p: restore(supports, product(sparse, p, ones)))(params)
    whole, along = (restore(supports, tree) for tree in (params, ones))
    masks = support_masks(supports)
    along = jax.tree.map(
        lambda mask, leaf: leaf if mask is None else jnp.where(mask, leaf, 0.0),
        masks,
        along,
        is_leaf=lambda node: node is None,
    )
    expected = jax.jit(lambda p, a: product(dense, p, a))(whole, along)
    kernel = jnp.where(masks["hidden"]["kernel"], expected["hidden"]["kernel"], 0.0)
    np.testing.assert_allclose(found["hidden"]["kernel"], kernel, rtol=1e-3, atol=1e-5)


def test_forward_mode_through_blocks_says_what_to_do() -> None:
    params, supports = small("block")
    with pytest.raises(TypeError, match=r"no forward mode.*restore\(supports, params\)"):
        jax.jvp(lambda p: apply(Small(), p, supports, X), (params,), (params,))
    whole = jax.jit(
        lambda p: jax.jvp(lambda p: Small().apply({"params": restore(supports, p)}, X), (p,), (p,))
    )(params)
    assert np.isfinite(whole[1]).all()


@pytest.mark.parametrize("storage", ["masked", "compact", "block"])
def test_decay_reaches_kernels_and_supports_survive_a_file(storage: str) -> None:
    params, supports = small(storage)
    mask = decay_mask(supports, params)
    assert mask["hidden"] == {"kernel": True, "bias": False}
    updates, _ = optax.add_decayed_weights(0.1, mask=mask).update(
        jax.tree.map(jnp.zeros_like, params),
        optax.add_decayed_weights(0.1, mask=mask).init(params),
        params,
    )
    np.testing.assert_allclose(updates["hidden"]["kernel"], 0.1 * params["hidden"]["kernel"], rtol=1e-6)
    assert not updates["hidden"]["bias"].any()

    written = serialization.to_bytes((params, supports))
    others = prune(jax.random.key(8), restore(supports, params), 0.5, pattern="block", storage=storage)
    read = serialization.from_bytes(others, written)
    jax.tree.map(np.testing.assert_array_equal, read, (params, supports))
    less = prune(KEY, restore(supports, params), 0.8, pattern="block", storage=storage)
    if storage != "masked":
        with pytest.raises(ValueError, match=r"support of .* was to be read, and the file has another"):
            serialization.from_bytes(less, written)


def test_nothing_to_prune_is_an_error_and_what_is_passed_over_is_named() -> None:
    tree = {"layer": {"weights": jnp.ones((4, 6))}, "table": {"embedding": jnp.ones((9, 4))}}
    with pytest.raises(
        ValueError, match=r"sparsity=0\.5 but nothing to prune among layer/weights, table"
    ):
        random_masks(KEY, tree, 0.5)
    with pytest.raises(ValueError, match="nothing to prune"):
        random_masks(KEY, tree, 0.5, prunable=lambda path, leaf: False)
    assert jax.tree.leaves(random_masks(KEY, tree, 0.0)) == []
    known = tree | {"head": {"kernel": jnp.ones((4, 6)), "bias": jnp.ones(6), "scale": jnp.ones((3, 6))}}
    with pytest.warns(
        PassedOverWarning, match=r"layer/weights \(4, 6\), table/embedding \(9, 4\);"
    ) as seen:
        masks = random_masks(KEY, known, 0.5)
    assert len(seen) == 1
    assert "bias" not in str(seen[0].message)
    assert [int(mask.sum()) for mask in jax.tree.leaves(masks)] == [12]
    own = random_masks(KEY, known, 0.5, prunable=lambda path, leaf: path.startswith("table"))
    assert own["head"]["kernel"] is None
    assert int(own["table"]["embedding"].sum()) == 18
