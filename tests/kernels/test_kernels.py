"""Our kernels: what they compute, and what happens where they cannot be built."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from sparse_rl.kernels import native
from sparse_rl.pruning import restore, store, support_masks
from sparse_rl.pruning.blocks import BlockGrid, Blocks, block_layer, draw_blocks
from sparse_rl.pruning.compact import compact, expand

KEY = jax.random.key(3)
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


def layer(grid: BlockGrid, n: int, seed: int = 0) -> tuple[Any, Blocks, Any, Any]:
    keys = jax.random.split(jax.random.key(seed), 4)
    blocks = draw_blocks(keys[0], grid)
    values = store(blocks, jax.random.normal(keys[1], (grid.inputs, grid.units)))
    x, bias = jax.random.normal(keys[2], (grid.inputs, n)), jax.random.normal(keys[3], (grid.units,))
    return values, blocks, x, bias


def calls(function: Any, *arguments: Any) -> int:
    """Of our kernels, in what is traced: where they are chosen if it is lowered for a CPU."""
    return str(jax.make_jaxpr(function)(*arguments)).count("by_platform[")


@needs_compiler
@pytest.mark.parametrize("n", [16, 64, 112])
@pytest.mark.parametrize(
    "grid", [BlockGrid(64, 64, 10, 1), BlockGrid(103, 50, 10, 3), BlockGrid(40, 230, 3, 2)]
)
@pytest.mark.parametrize("relu", [False, True])
def test_a_layer_and_its_gradients_are_the_dense_ones(grid: BlockGrid, n: int, relu: bool) -> None:
    """Whole and partial panels, rows that are no multiple of a tile's, groups of unequal size."""
    values, blocks, x, bias = layer(grid, n)

    def by_blocks(values: Any, x: Any, bias: Any) -> Any:
        return block_layer(values, blocks, x, bias, relu)

    def by_dense(kernel: Any, x: Any, bias: Any) -> Any:
        y = jnp.where(support_masks(blocks), kernel, 0.0).T @ x + bias[:, None]
        return jax.nn.relu(y) if relu else y

    dense = restore(blocks, values)
    assert calls(by_blocks, values, x, bias) == 1
    np.testing.assert_allclose(
        by_blocks(values, x, bias), by_dense(dense, x, bias), rtol=1e-4, atol=1e-5
    )
    d = jax.random.normal(KEY, (grid.units, n))
    dvalues, *others = jax.vjp(by_blocks, values, x, bias)[1](d)
    dkernel, *expected = jax.vjp(by_dense, dense, x, bias)[1](d)
    np.testing.assert_allclose(restore(blocks, dvalues), dkernel, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(jnp.sum(dvalues**2), jnp.sum(dkernel**2), rtol=1e-4)  # nothing at padding
    for one, other in zip(others, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_layers_side_by_side_are_the_layers_one_by_one() -> None:
    """Two critics under ``vmap`` that read the same input: one call of each kernel, the same bits."""
    values, blocks, x, bias = layer(BlockGrid(40, 70, 4, 1), 32)
    other = layer(BlockGrid(40, 70, 4, 1), 32, seed=1)
    both = jax.tree.map(lambda *parts: jnp.stack(parts), (values, blocks, bias), (*other[:2], other[3]))

    def loss(values: Any, blocks: Blocks, bias: Any, x: Any) -> Any:
        return jnp.sum(jnp.sin(block_layer(values, blocks, x, bias, relu=True)))

    gradient = jax.grad(loss, (0, 2, 3))
    together = jax.vmap(gradient, (0, 0, 0, None))
    assert calls(together, *both, x) == 3
    for i, (v, b, c) in enumerate([(values, blocks, bias), (*other[:2], other[3])]):
        for one, found in zip(gradient(v, b, c, x), together(*both, x), strict=True):
            np.testing.assert_array_equal(found[i], one)


@needs_compiler
@pytest.mark.parametrize("shape", [(7, 3), (300, 700), (3, 3, 16, 24)])
def test_surviving_values_are_made_dense_as_xla_does(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    """Less than a piece of work, several, and a convolution's; alone and side by side under ``vmap``."""
    one = jax.random.bernoulli(KEY, 0.3, shape)
    masks, count = jnp.stack([one, one[::-1]]), int(one.sum())
    values = jax.random.normal(KEY, (2, count))

    def dense(mask: Any, values: Any) -> Any:
        return expand(compact(mask, count), values)

    def gradient(mask: Any, values: Any) -> Any:
        return jax.grad(
            lambda v: jnp.sum(jnp.sin(dense(mask, v)) * jnp.arange(mask.size).reshape(shape))
        )(values)

    def found() -> list[Array]:
        return [
            dense(masks[0], values[0]),
            jax.vmap(dense)(masks, values),
            jax.vmap(gradient)(masks, values),
        ]

    assert calls(lambda: dense(masks[0], values[0])) == 1
    ours = found()
    monkeypatch.setattr(native, "load", lambda: (0, "XLA"))
    assert calls(lambda: dense(masks[0], values[0])) == 0
    xla = found()
    for one, other in zip(ours, xla, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_compiler
def test_what_is_not_a_number_stays_so() -> None:
    """A run that diverges is seen to: a ReLU in a kernel hides nothing."""
    values, blocks, x, bias = layer(BlockGrid(40, 70, 4, 1), 32)
    y = block_layer(values, blocks, x.at[3, 5].set(jnp.nan), bias, relu=True)
    reads = np.asarray(support_masks(blocks))[3]
    assert jnp.isnan(y[reads, 5]).all()
    assert jnp.isnan(y).sum() == reads.sum()


@pytest.mark.parametrize(
    ("grid", "n"), [(BlockGrid(40, 70, 4, 1), 17), (BlockGrid(1024, 1024, 2, 1), 16)]
)
def test_odd_numbers_of_samples_and_large_blocks_are_left_to_xla(grid: BlockGrid, n: int) -> None:
    inputs = jnp.zeros(grid.stored_shape), jnp.zeros((grid.inputs, n)), jnp.zeros(grid.units)

    def multiply(values: Any, x: Any, bias: Any) -> Any:
        return block_layer(values, draw_blocks(KEY, grid), x, bias)

    assert calls(multiply, *inputs) == 0  # traced: nothing is drawn or multiplied
    one_more = jnp.zeros((grid.inputs, 16))
    assert calls(multiply, inputs[0], one_more, inputs[2]) == (
        grid.inputs == 40 and native.load()[0] > 0
    )


@pytest.fixture
def unbuilt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which nothing was built yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_without_a_compiler_xla_multiplies(monkeypatch: pytest.MonkeyPatch, unbuilt: Path) -> None:
    monkeypatch.setenv("PATH", str(unbuilt))
    assert native.load.__wrapped__() == (0, "XLA (there is no g++ or clang++ to build our kernels)")
    monkeypatch.setattr(native, "load", lambda: (0, "XLA"))
    values, blocks, x, bias = layer(BlockGrid(40, 70, 4, 1), 32)
    assert calls(lambda: block_layer(values, blocks, x, bias)) == 0
    y = restore(blocks, values).T @ x + bias[:, None]
    np.testing.assert_allclose(block_layer(values, blocks, x, bias), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("machine", "flag"), [("x86_64", "-march=native"), ("arm64", "-mcpu=native")])
def test_clang_is_asked_where_there_is_no_gcc(
    monkeypatch: pytest.MonkeyPatch, unbuilt: Path, machine: str, flag: str
) -> None:
    """With the flag that it knows; this one only tells what it was asked."""
    clang = unbuilt / "clang++"
    clang.write_text('#!/bin/sh\n[ "$1" = --version ] && exit\necho "asked for: $*" >&2\nexit 1\n')
    clang.chmod(0o755)
    monkeypatch.setenv("PATH", str(unbuilt))
    monkeypatch.setattr("platform.machine", lambda: machine)
    lanes, words = native.load.__wrapped__()
    assert lanes == 0
    assert "clang++ could not build our kernels: asked for: -std=c++17" in words
    assert flag in words


@needs_compiler
def test_a_source_that_does_not_compile_is_told_of(
    monkeypatch: pytest.MonkeyPatch, unbuilt: Path
) -> None:
    broken = unbuilt / "broken.cc"
    broken.write_text("no C++\n")
    monkeypatch.setattr(native, "SOURCES", [broken])
    lanes, words = native.load.__wrapped__()
    assert lanes == 0
    assert "g++ could not build our kernels" in words
    assert "broken.cc" in words
    assert not list((unbuilt / "sparse_rl" / "kernels").iterdir())  # nothing half done is left


@needs_compiler
def test_kernels_are_built_once_and_whole(monkeypatch: pytest.MonkeyPatch, unbuilt: Path) -> None:
    small = unbuilt / "small.cc"  # our own take half a minute, and every other test here has them
    small.write_text('extern "C" const int lanes = 4;\n')
    monkeypatch.setattr(native, "SOURCES", [small])
    library = native.built()
    assert list((unbuilt / "sparse_rl" / "kernels").iterdir()) == [library]

    build = native._build

    def again(*_: Any) -> None:
        raise subprocess.SubprocessError("built again")

    monkeypatch.setattr(native, "_build", again)
    assert native.built() == library
    # one that is cut off would end the process that loads it
    whole = library.read_bytes()
    library.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(native.NoKernelsError, match="built again"):
        native.built()
    monkeypatch.setattr(native, "_build", build)
    assert native.built().read_bytes() == whole
    assert list(library.parent.iterdir()) == [library]
