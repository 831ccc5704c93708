"""Our kernels for one sample beside the same in plain products, on sizes that fill no vector evenly."""

import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.agents import stream_layers
from sparse_rl.agents.stream_layers import Layer
from sparse_rl.kernels import native

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no compiler")
INPUTS, UNITS, HEADS = 7, 37, (3, 18)
DECAY: Any = np.float32(0.8)


def layers_of(rng: np.random.Generator, kept: float | None) -> list[Layer]:
    """Two hidden layers and two heads, dense or of so many values; some rows keep none."""
    found = []
    for inputs, units in ((INPUTS, UNITS), (UNITS, UNITS), *((UNITS, n) for n in HEADS)):
        values, place = rng.normal(size=(inputs, units)), np.zeros(0, np.int32)
        if kept is not None:
            mask = (rng.random((inputs, units)) < kept) & (np.arange(inputs) % 6 != 2)[:, None]
            place = np.flatnonzero(mask).astype(np.int32)
            values = values[mask]
        bias = rng.normal(size=units).astype(np.float32)
        found.append(Layer(jnp.float32(values), jnp.asarray(place), jnp.asarray(bias)))
    return found


def flat(layers: list[Layer]) -> list[Any]:
    return [each for layer in layers for each in layer]


@pytest.mark.parametrize("kept", [None, 0.3])
def test_kernels_are_plain_products(kept: float | None) -> None:
    assert native.load()[0]
    rng = np.random.default_rng(3)
    layers, traces = layers_of(rng, kept), layers_of(np.random.default_rng(4), kept)
    traces = [
        z._replace(values=z.values[: layer.values.shape[0]])
        if kept is None
        else z._replace(values=jnp.float32(rng.normal(size=layer.values.shape)))
        for z, layer in zip(traces, layers, strict=True)
    ]
    x = jnp.float32(rng.normal(size=(2, INPUTS)) * 3)
    for rows in (1, 2):
        found, wanted = (
            stream_layers.look(x[:rows], layers),
            stream_layers._look(x[:rows], *flat(layers)),
        )
        for ours, plain in zip(found, wanted, strict=True):
            np.testing.assert_allclose(ours, plain, rtol=2e-4, atol=2e-5)
    by_heads = jnp.float32(rng.normal(size=sum(HEADS)))
    made, sums = stream_layers.trace(x[:1], found[1], by_heads, DECAY, layers, traces)
    given = [
        each
        for layer, z in zip(layers, traces, strict=True)
        for each in (layer.values, layer.place, z.values, z.bias)
    ]
    *plain_made, plain_sums = stream_layers._trace(x[:1], found[1], by_heads, DECAY, *given)
    for ours, plain in zip(made, plain_made, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=2e-4, atol=5e-5)
    np.testing.assert_allclose(sums, plain_sums, rtol=1e-4)
    total = sum(float(jnp.abs(z).sum()) for z in made)
    assert float(sums[0]) == pytest.approx(total, rel=1e-4)


def test_plain_products_are_autograds() -> None:
    """Of a sum of the heads, weighted: the gradient is what traces of nothing become."""
    rng = np.random.default_rng(5)
    layers, x = layers_of(rng, 0.5), jnp.float32(rng.normal(size=(1, INPUTS)))
    by_heads = jnp.float32(rng.normal(size=sum(HEADS)))

    def weighted(values: Any) -> Any:
        changed = [
            layer._replace(values=v, bias=b) for layer, (v, b) in zip(layers, values, strict=True)
        ]
        return jnp.sum(stream_layers._look(x, *flat(changed))[0][0] * by_heads)

    grads = jax.grad(weighted)([(layer.values, layer.bias) for layer in layers])
    kept = stream_layers._look(x, *flat(layers))[1]
    given = [
        each
        for layer in layers
        for each in (layer.values, layer.place, 0 * layer.values, 0 * layer.bias)
    ]
    *made, sums = stream_layers._trace(x, kept, by_heads, DECAY, *given)
    for ours, wanted in zip(made, jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=2e-4, atol=2e-5)
    squares = sum(float(jnp.sum(jnp.square(g))) for g in jax.tree.leaves(grads))
    assert float(sums[2]) == pytest.approx(squares, rel=1e-4)


def test_runs_that_are_batched_call_a_kernel_each() -> None:
    rng = np.random.default_rng(6)
    layers = layers_of(rng, 0.5)
    x = jnp.float32(rng.normal(size=(3, 2, INPUTS)))
    together = jax.vmap(lambda x: stream_layers.look(x, layers)[0])(x)
    for one, of in zip(together, x, strict=True):
        np.testing.assert_array_equal(one, stream_layers.look(of, layers)[0])
