"""What computes is chosen where a program is lowered, whatever this process runs on."""

import re
import shutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from sparse_rl.kernels import native
from sparse_rl.kernels.platforms import by_platform
from sparse_rl.kernels.products import product
from sparse_rl.networks.convolutions import convolve
from sparse_rl.pruning.blocks import BlockGrid, block_layer, draw_blocks
from sparse_rl.pruning.compact import compact, compact_product, expand

KEY = jax.random.key(2)
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


def calls(function: Any, *arguments: Any, platform: str) -> set[str]:
    """Targets of custom calls in a program for this platform."""
    text = jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    return set(re.findall(r"custom_call @(\w+)", text))


def blocks() -> tuple[Callable[..., Array], tuple[Array, ...]]:
    """Groups of unequal size, each input read twice."""
    grid = BlockGrid(23, 31, 5, 2)
    held, keys = draw_blocks(KEY, grid), jax.random.split(KEY, 3)
    values = jax.random.normal(keys[0], grid.stored_shape)
    values = jnp.where(held.places[0] < grid.inputs, values, 0.0)
    x, bias = jax.random.normal(keys[1], (23, 16)), jax.random.normal(keys[2], (31,))
    return lambda values, x, bias: block_layer(values, held, x, bias, relu=True), (values, x, bias)


def convolutions() -> tuple[Callable[..., Array], tuple[Array, ...]]:
    x, kernel = jax.random.normal(KEY, (3, 9, 8, 5)), jax.random.normal(KEY, (45, 7))
    return lambda x, kernel: convolve(x, kernel, 3, 2), (x, kernel)


def whole_tensors() -> tuple[Callable[..., Array], tuple[Array, ...]]:
    mask = jax.random.bernoulli(KEY, 0.3, (13, 21))
    held = compact(mask, int(mask.sum()))
    return lambda stored: expand(held, stored), (jax.random.normal(KEY, (len(held.place),)),)


def tiles() -> tuple[Callable[..., Array], tuple[Array, ...]]:
    """A matrix that is taken in two parts."""
    mask = jax.random.bernoulli(KEY, 0.1, (26, 38))
    with pytest.MonkeyPatch.context() as aside:
        aside.setattr("sparse_rl.pruning.compact.TILE_BYTES", 2048)
        held = compact(mask, int(mask.sum()))
    assert held.tiles == 2
    x, stored = jax.random.normal(KEY, (3, 26)), jax.random.normal(KEY, (len(held.place),))
    return lambda x, stored: compact_product(x, stored, held), (x, stored)


OURS = {
    blocks: {"block_outputs", "block_inputs", "block_gradients"},
    convolutions: {"convolution_outputs", "convolution_inputs", "convolution_gradients"},
    whole_tensors: {"compact_tile"},
    tiles: {"compact_tile"},
}


def values_and_gradients(function: Callable[..., Array], given: tuple[Array, ...]) -> Any:
    """What a layer makes and the gradients of all that it is given, as a program."""

    def loss(*given: Array) -> tuple[Array, Array]:
        y = function(*given)
        return jnp.sum(jnp.sin(y)), y

    return jax.value_and_grad(loss, tuple(range(len(given))), has_aux=True)


@needs_compiler
@pytest.mark.parametrize("layer", OURS)
def test_programs_hold_our_kernels_where_they_are_for_cpus(
    monkeypatch: pytest.MonkeyPatch, layer: Any
) -> None:
    """Also on a machine whose default is another."""
    function, given = layer()
    program = values_and_gradients(function, given)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert calls(program, *given, platform="cpu") == OURS[layer]
    assert not calls(program, *given, platform="cuda")
    assert not calls(program, *given, platform="tpu")
    assert native.multiplier() == "XLA (this is a gpu)"
    monkeypatch.undo()
    assert native.multiplier() == native.load()[1] == "our kernels"


def _other(cpu: Any, other: Any, *arrays: Array, **options: Any) -> Any:
    """In place of the choice, what accelerators get."""
    return other(*arrays, **options)


@needs_compiler
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("layer", OURS)
def test_the_form_for_accelerators_computes_the_same(
    monkeypatch: pytest.MonkeyPatch, layer: Any, mapped: bool
) -> None:
    """Run here, beside our kernels: a layer and all gradients, alone and two side by side."""
    function, given = layer()

    def program(*given: Array) -> Any:
        return values_and_gradients(function, given)(*given)

    if mapped:
        given = tuple(jnp.stack([x, 0.5 * x[::-1]]) for x in given)
        program = jax.vmap(program)
    expected = jax.jit(program)(*given)
    for module in ("networks.convolutions", "pruning.blocks", "pruning.compact"):
        monkeypatch.setattr(f"sparse_rl.{module}.by_platform", _other)
    found = jax.jit(lambda *given: program(*given))(*given)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def _twice(x: Array, add: int) -> list[Array]:
    return [2.0 * x + add]


def _thrice(x: Array, add: int) -> list[Array]:
    return [3.0 * x + add]


def test_outside_of_programs_and_without_jit_a_cpu_has_its_own() -> None:
    x = jnp.arange(6.0).reshape(2, 3)
    for aside in (False, True):
        with jax.disable_jit(aside):
            np.testing.assert_array_equal(by_platform(_twice, _thrice, x, add=5)[0], 2 * x + 5)
            mapped = jax.vmap(lambda x: by_platform(_twice, _thrice, x, add=5)[0], 1, 1)
            np.testing.assert_array_equal(mapped(x), 2 * x + 5)


def test_mapped_twice_the_outer_map_is_the_outer_one() -> None:
    """Over the last axis, and inside of that over the middle one."""
    x = jnp.arange(24.0).reshape(2, 3, 4)
    inner = jax.vmap(lambda x: by_platform(_twice, _thrice, x, add=5)[0], 1)
    np.testing.assert_array_equal(jax.vmap(inner, 2)(x), (2 * x + 5).transpose(2, 1, 0))


def test_operands_are_laid_out_for_cpus_only() -> None:
    a, b = jnp.ones((3, 4, 5)), jnp.ones((3, 5, 7))

    def loss(a: Array, b: Array) -> Array:
        return jnp.sum(jnp.sin(product(a, b, "bfloat16")))

    gradients = jax.vmap(jax.grad(loss, (0, 1)), in_axes=(1, None))
    given = jnp.stack([a, a], axis=1), b
    assert calls(gradients, *given, platform="cpu") == {"LayoutConstraint"}
    assert not calls(gradients, *given, platform="cuda")
