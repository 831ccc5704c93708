"""Convolutions as matrix products, beside XLA's; Atari's networks beside the published ones."""

import functools
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from numpy_networks import drawn_like

from sparse_rl.kernels import native
from sparse_rl.networks.convolutions import (
    FOLD,
    SLICE_BYTES,
    AtariKind,
    AtariTrunk,
    Picture,
    atari_parameters,
    by_slices,
    convolve,
    drq_patch_bytes,
    fold,
    layers,
    patches,
    positions,
    slice_size,
)
from sparse_rl.networks.dense import Critic, applications
from sparse_rl.pruning import parameter_counts

KEY = jax.random.key(0)
PICTURE = (21, 21, 64)


def convolved(x: Array, kernel: Array, stride: int = 1) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    strides = (stride, stride)
    return jax.lax.conv_general_dilated(x, kernel, strides, "VALID", dimension_numbers=layout)


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


@pytest.mark.parametrize("our_own", [pytest.param(True, marks=needs_compiler), False])
@pytest.mark.parametrize(
    ("picture", "units", "size", "stride"),
    [
        ((48, 48, 3), 16, 3, 2),  # DrQ's first and second layer
        ((23, 23, 16), 16, 3, 2),
        ((10, 9, 4), 6, 3, 1),  # units, runs and places that fill no vector and no tile
        ((11, 7, 5), 50, 4, 3),  # more units than a tile is wide; windows that leave edges out
        ((21, 21, 64), 17, 2, 1),  # Atari's blocks
    ],
)
def test_a_convolution_and_its_gradients_are_those_of_xla(
    monkeypatch: pytest.MonkeyPatch,
    picture: Picture,
    units: int,
    size: int,
    stride: int,
    our_own: bool,
) -> None:
    if not our_own:
        monkeypatch.setattr(native, "load", lambda: (0, "XLA"))
    x = jax.random.normal(KEY, (5, *picture))
    kernel = jax.random.normal(KEY, (size * size * picture[2], units))

    def ours(x: Array, kernel: Array) -> Array:
        return jnp.sin(convolve(x, kernel, size, stride))

    def theirs(x: Array, kernel: Array) -> Array:
        return jnp.sin(convolved(x, kernel.reshape(size, size, picture[2], units), stride))

    assert ("by_platform[" in str(jax.make_jaxpr(ours)(x, kernel))) == our_own
    (found, pull), (expected, pull_theirs) = jax.vjp(ours, x, kernel), jax.vjp(theirs, x, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    d = jax.random.normal(KEY, expected.shape)
    for one, other in zip(pull(d), pull_theirs(d), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-3)


@needs_compiler
def test_convolutions_side_by_side_are_those_one_by_one() -> None:
    """Two encoders under ``vmap``, with pictures of their own and with the same: the same bits."""
    x = jax.random.normal(KEY, (2, 4, 9, 9, 3))
    both = jax.random.normal(KEY, (2, 27, 20))

    def gradients(x: Array, kernel: Array) -> tuple[Array, Array]:
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(convolve(x, k, 3, 2))), (0, 1))(x, kernel)

    apart, same = jax.vmap(gradients)(x, both), jax.vmap(gradients, (None, 0))(x[0], both)
    for i in range(2):
        for one, found in zip(gradients(x[i], both[i]), apart, strict=True):
            np.testing.assert_array_equal(found[i], one)
        for one, found in zip(gradients(x[0], both[i]), same, strict=True):
            np.testing.assert_array_equal(found[i], one)


def test_a_pixel_that_is_not_a_number_is_seen_in_its_windows_only() -> None:
    x = jnp.zeros((2, 9, 9, 3)).at[1, 4, 4, 0].set(jnp.nan)
    y = convolve(x, jnp.ones((27, 5)), 3, 2)
    assert jnp.isnan(y[1, 1:3, 1:3]).all()
    assert jnp.isnan(y).sum() == 4 * 5


def test_slices_give_the_function_of_the_whole_and_its_gradients() -> None:
    x, kernel = jax.random.normal(KEY, (6, 9, 9, 2)), jax.random.normal(KEY, (18, 5))

    def loss(kernel: Array, x: Array, size: int) -> Array:
        made = by_slices(lambda x: jnp.tanh(patches(x, 3) @ kernel).reshape(len(x), -1), x, size)
        assert made.shape == (6, 7 * 7 * 5)
        return jnp.mean(jnp.sin(3.0 * made))

    both = jax.value_and_grad(loss, argnums=(0, 1))
    whole = both(kernel, x, 6)
    for size in (1, 2, 3):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
            both(kernel, x, size),
            whole,
        )


def test_slices_divide_the_batch_and_their_patches_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    # 48×48, strides 2, 2, 1: 23² places of 27 numbers, 11² and 9² of 9 · 16
    assert drq_patch_bytes("drq_strided", 16, (48, 48, 3)) == 4 * 11 * 11 * 9 * 16
    assert drq_patch_bytes("drq_strided", 8, (48, 48, 3)) == 4 * 23 * 23 * 27
    assert slice_size(64, SLICE_BYTES // 7) == 4
    assert slice_size(21, SLICE_BYTES // 7) == 7
    assert slice_size(3, SLICE_BYTES // 7) == 3
    assert slice_size(13, SLICE_BYTES // 7) == 1
    assert slice_size(64, 2 * SLICE_BYTES) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert slice_size(64, 2 * SLICE_BYTES) == 64


def strided(kernel: Array, size: int, stride: int, channels: int) -> Array:
    """Rows (block row, block column, row, column, channel) of a kernel as ``[k, k, C, F]``."""
    blocks = size // stride
    shape = (blocks, blocks, stride, stride, channels, -1)
    return kernel.reshape(shape).transpose(0, 2, 1, 3, 4, 5).reshape(size, size, channels, -1)


@pytest.mark.parametrize("kind", ["nips", "nature"])
def test_atari_networks_are_the_published_convolutions_with_strides(kind: AtariKind) -> None:
    x = jax.random.uniform(KEY, (3, 84, 84, 4))
    network = AtariTrunk(kind, 32, PICTURE)
    folded = fold(x, FOLD).reshape(3, -1)
    params = drawn_like(jax.eval_shape(network.init, KEY, folded)["params"], scale=0.1)
    y = x
    for name, layer in zip(("conv", "conv_2", "conv_3"), layers(kind, 32), strict=False):
        kernel = strided(params[name]["kernel"], layer.size, layer.stride, y.shape[-1])
        y = nn.relu(convolved(y, kernel, layer.stride) + params[name]["bias"])
        assert positions(kind, PICTURE)[name] == y.shape[1] * y.shape[2]
    # the published code lays the last pictures out as they are
    expected = nn.relu(y.reshape(3, -1) @ params["dense"]["kernel"] + params["dense"]["bias"])
    found = network.apply({"params": params}, folded)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_published_sizes() -> None:
    """16 of 8×8, 32 of 4×4 and 256 units; 32, 64, 64 and 512 units."""
    assert atari_parameters("nips", 256, PICTURE) == 4112 + 8224 + 256 * (81 * 32 + 1)
    assert atari_parameters("nature", 512, PICTURE) == 8224 + 32832 + 36928 + 512 * (49 * 64 + 1)


def test_kernels_are_applied_once_per_position() -> None:
    shapes = {"trunk/conv/kernel": 400, "trunk/conv_2/kernel": 81, "trunk/conv_3/kernel": 49}
    for path, count in (shapes | {"trunk/dense/kernel": 1, "value/kernel": 1}).items():
        assert applications("nature", path, PICTURE) == count
    assert applications("mlp", "trunk/dense_0/kernel", PICTURE) == 1
    assert applications("minatar", "trunk/conv/kernel", (10, 10, 4)) == 64


def test_bytes_are_shares_of_255_only_inside_the_network() -> None:
    network = Critic("nips", 16, 1, picture=PICTURE)
    seen = jax.random.randint(KEY, (2, 28224), 0, 256).astype(jnp.uint8)
    params = drawn_like(jax.eval_shape(network.init, KEY, seen)["params"], scale=0.1)
    assert parameter_counts({}, params).total == atari_parameters("nips", 16, PICTURE) + 17
    found = network.apply({"params": params}, seen)
    expected = network.apply({"params": params}, seen.astype(jnp.float32) / 255)
    np.testing.assert_array_equal(found, expected)
