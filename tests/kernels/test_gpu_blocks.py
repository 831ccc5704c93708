"""Products with blocks as kernels for GPUs: interpreted, and lowered for a GPU that is not there."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig

from sparse_rl.kernels import gpu_blocks, native
from sparse_rl.pruning import restore, store, support_masks
from sparse_rl.pruning.blocks import BlockGrid, Blocks, block_layer, draw_blocks
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.schema import ConfigError

GRIDS = (BlockGrid(47, 67, 3, 2), BlockGrid(43, 29, 4, 3), BlockGrid(19, 23, 5, 1))
"""Groups of several tiles and of one, of unequal size; inputs read by several groups of units or one."""


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tiles: each layer has whole and partial ones in all directions."""
    monkeypatch.setenv(native.VARIABLE, native.INTERPRETED)
    monkeypatch.setattr(gpu_blocks, "TILE", 16)
    monkeypatch.setattr(gpu_blocks, "STEP", 16)


def layer(grid: BlockGrid, n: int, seed: int = 0) -> tuple[Any, Blocks, Any, Any, Any]:
    """Values, where they are, inputs, bias, and a gradient of the outputs."""
    keys = jax.random.split(jax.random.key(seed), 5)
    blocks = draw_blocks(keys[0], grid)
    values = store(blocks, jax.random.normal(keys[1], (grid.inputs, grid.units)))
    x, bias = jax.random.normal(keys[2], (grid.inputs, n)), jax.random.normal(keys[3], (grid.units,))
    return values, blocks, x, bias, jax.random.normal(keys[4], (grid.units, n))


def rounded(x: Any, products: str) -> Any:
    """float64, of what enters a product."""
    return np.asarray(x.astype(jnp.bfloat16) if products == "bfloat16" else x, np.float64)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("products", ["float32", "bfloat16"])
@pytest.mark.parametrize(("grid", "n"), list(zip(GRIDS, (37, 16, 5), strict=True)))
def test_a_layer_and_its_gradients_are_those_of_the_dense_matrix(
    grid: BlockGrid, n: int, products: Any
) -> None:
    values, blocks, x, bias, d = layer(grid, n)

    def multiply(values: Any, x: Any, bias: Any) -> Any:
        return block_layer(values, blocks, x, bias, True, products)

    y, pull = jax.vjp(jax.jit(multiply), values, x, bias)
    dense, seen = rounded(restore(blocks, values), products), rounded(x, products)
    made = dense.T @ seen + np.asarray(bias, np.float64)[:, None]
    np.testing.assert_allclose(y, np.maximum(made, 0.0), rtol=1e-4, atol=1e-5)

    through = np.where(made > 0.0, d, 0.0)
    dvalues, dx, dbias = pull(d)
    back = rounded(jnp.asarray(through), products)
    np.testing.assert_allclose(dx, dense @ back, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dbias, through.sum(axis=1), rtol=1e-4, atol=1e-5)
    kernel = np.where(support_masks(blocks), seen @ back.T, 0.0)
    np.testing.assert_allclose(restore(blocks, dvalues), kernel, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.sum(np.square(dvalues)), np.sum(kernel**2), rtol=1e-4)  # 0 at padding


@pytest.mark.usefixtures("interpreted")
def test_layers_side_by_side_are_the_layers_one_by_one() -> None:
    """Runs of a pack whose two critics read the same input."""
    grid, n = BlockGrid(19, 23, 5, 2), 7
    given = [layer(grid, n, seed) for seed in range(4)]
    values, rows, back = (
        jnp.stack([f(g) for g in given]).reshape(2, 2, *f(given[0]).shape)
        for f in (lambda g: g[0], lambda g: g[1].rows, lambda g: g[1].back)
    )
    x, d = jnp.stack([given[0][2], given[2][2]]), given[0][4]

    def gradients(values: Any, rows: Any, back: Any, x: Any) -> Any:
        blocks = Blocks(rows, back, grid)
        return jax.vjp(lambda values, x: block_layer(values, blocks, x), values, x)[1](d)

    critics = jax.vmap(gradients, (0, 0, 0, None))
    together = jax.jit(jax.vmap(critics))(values, rows, back, x)
    for i in range(4):
        alone = jax.jit(gradients)(given[i][0], given[i][1].rows, given[i][1].back, x[i // 2])
        for one, found in zip(alone, together, strict=True):
            np.testing.assert_allclose(found[i // 2, i % 2], one, rtol=1e-5, atol=1e-5)


def calls(platform: str, products: Any = "float32", precision: Any = None) -> list[str]:
    """Targets of custom calls in a layer and its gradients, two side by side, lowered for a platform."""
    values, blocks, x, bias, d = layer(GRIDS[0], 32)

    def multiply(values: Any, x: Any, d: Any) -> Any:
        y, pull = jax.vjp(
            lambda v, x: block_layer(v, blocks, x, bias, True, products, precision), values, x
        )
        return y, pull(d)

    two = [jnp.stack([one, one]) for one in (values, x, d)]
    low = jax.jit(jax.vmap(multiply)).trace(*two).lower(lowering_platforms=(platform,))
    return re.findall(r"custom_call @([\w.$]+)", low.as_text())


@pytest.mark.parametrize(
    ("products", "precision"), [("float32", None), ("float32", "highest"), ("bfloat16", None)]
)
def test_programs_for_gpus_hold_three_kernels_and_others_none(
    monkeypatch: pytest.MonkeyPatch, products: Any, precision: Any
) -> None:
    """Triton's compiler takes what is lowered for it; off, there is nothing of it."""
    assert not calls("cuda", products, precision)
    monkeypatch.setenv(native.VARIABLE, native.PALLAS)
    found = calls("cuda", products, precision)
    assert len(found) == 3
    assert set(found) <= {"__gpu$xla.gpu.triton", "triton_kernel_call_ffi"}
    assert not {"__gpu$xla.gpu.triton", "triton_kernel_call_ffi"} & {*calls("cpu"), *calls("tpu")}


def test_a_program_for_this_cpu_computes_though_gpu_kernels_were_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the half of a comparison that runs on the CPU of a machine with a GPU."""
    monkeypatch.setenv(native.VARIABLE, native.PALLAS)
    values, blocks, x, bias, d = layer(GRIDS[1], 16)
    y, pull = jax.vjp(jax.jit(lambda v, x: block_layer(v, blocks, x, bias)), values, x)
    dense = np.asarray(restore(blocks, values))
    np.testing.assert_allclose(y, dense.T @ x + bias[:, None], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pull(d)[1], dense @ d, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("palas", "SPARSE_RL_KERNELS=palas is not allowed; give one of 1, 0, pallas, pallas-interpret"),
        (native.PALLAS, "SPARSE_RL_KERNELS=pallas is for GPUs, and this is a cpu"),
    ],
)
def test_kernels_of_another_device_are_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, make_config: MakeConfig, told: str, said: str
) -> None:
    monkeypatch.setenv(native.VARIABLE, told)
    with pytest.raises(ConfigError, match=re.escape(said)) as error:
        prepare_pack([make_config()])
    assert "\n" not in str(error.value)


def test_what_multiplies_is_said_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for told, words in (("1", "XLA (this is a gpu)"), (native.PALLAS, "Pallas kernels"),
                        (native.INTERPRETED, "Pallas kernels, interpreted")):  # fmt: skip
        monkeypatch.setenv(native.VARIABLE, told)
        assert native.multiplier_of_blocks() == words
        assert native.refusal() is None
