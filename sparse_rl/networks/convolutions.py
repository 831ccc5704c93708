"""Convolutions whose kernels are matrices, and the networks that read Atari's pictures.

A kernel is a matrix ``[size² · channels, units]``, its rows in the order (row, column, channel): it is
pruned and stored like every other. Pictures are NHWC.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.kernels import native
from sparse_rl.kernels.platforms import by_platform

Picture = tuple[int, int, int]
"""Height, width and channels of an observation that is laid out as a vector."""
AtariKind = Literal["nips", "nature"]
DrqKind = Literal["drq", "drq_strided"]

FOLD = 4
"""Atari's pictures come with blocks of 4×4 pixels as channels: the first stride of both networks."""
ATARI_PICTURE = (84 // FOLD, 84 // FOLD, 4 * FOLD**2)
"""84×84 and four pictures, in blocks."""


class Layer(NamedTuple):
    """One convolution of an Atari network."""

    channels: int
    size: int
    stride: int


def layers(kind: AtariKind, width: int) -> tuple[Layer, ...]:
    """The convolutions beside a dense layer of this width, on 84×84×4.

    ``nips`` (Mnih et al. 2013, arXiv 1312.5602): 16 of 8×8 by 4, 32 of 4×4 by 2, beside 256 units;
    ``nature`` (Mnih et al. 2015): 32 of 8×8 by 4, 64 of 4×4 by 2, 64 of 3×3 by 1, beside 512.
    """
    few, many = max(1, width // 16), max(1, width // 8)
    both = (Layer(few, 8, 4), Layer(many, 4, 2))
    return both if kind == "nips" else (*both, Layer(many, 3, 1))


def fold(x: Array, block: int) -> Array:
    """Blocks of pixels as channels: ``[n, h, w, c]`` → ``[n, h / block, w / block, block² · c]``."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // block, block, w // block, block, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // block, w // block, -1)


@jax.custom_vjp
def thin_product(x: Array, kernel: Array) -> Array:
    """``[..., k] @ [k, u]`` for many rows and few units, as convolutions have them.

    The kernel's gradient is ``(dᵀ x)ᵀ``: XLA's CPU backend takes two to five times as long over the
    usual ``xᵀ d``, the same sum over all rows, and would make the one of the other but for the barrier.
    """
    return x @ kernel


def _thin_gradients(held: tuple[Array, Array], d: Array) -> tuple[Array, Array]:
    x, kernel = held
    return d @ kernel.T, _thin_gradient(x, d)


def _thin_gradient(x: Array, d: Array) -> Array:
    across = d.reshape(-1, d.shape[-1]).T @ x.reshape(-1, x.shape[-1])
    return jax.lax.optimization_barrier(across).T


thin_product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _thin_gradients)


def patches(x: Array, size: int, stride: int = 1) -> Array:
    """Every patch of ``[n, height, width, channels]``, or every ``stride``-th one in both directions:
    ``[n, rows, columns, size² · channels]``."""
    rows, columns = (side - size + 1 for side in x.shape[1:3])
    places = [
        x[:, i : i + rows : stride, j : j + columns : stride] for i in range(size) for j in range(size)
    ]
    return jnp.concatenate(places, axis=-1)


def _our_outputs(x: Array, kernel: Array, size: int, stride: int) -> Sequence[Array]:
    rows, columns = ((side - size) // stride + 1 for side in x.shape[1:3])
    shape = (len(x), rows, columns, kernel.shape[1])
    return native.call("convolution_outputs", [shape], x, kernel, **_options(size, stride))


def _outputs(x: Array, kernel: Array, size: int, stride: int) -> Sequence[Array]:
    return [thin_product(patches(x, size, stride), kernel)]


def _our_inputs(
    kernel: Array, d: Array, shape: tuple[int, ...], size: int, stride: int
) -> Sequence[Array]:
    return native.call("convolution_inputs", [shape], kernel, d, **_options(size, stride))


def _inputs(kernel: Array, d: Array, shape: tuple[int, ...], size: int, stride: int) -> Sequence[Array]:
    read = functools.partial(patches, size=size, stride=stride)
    (dx,) = jax.linear_transpose(read, jax.ShapeDtypeStruct(shape, d.dtype))(d @ kernel.T)
    return [dx]


def _our_gradients(
    x: Array, d: Array, shape: tuple[int, ...], size: int, stride: int
) -> Sequence[Array]:
    return native.call("convolution_gradients", [shape], x, d, **_options(size, stride))


def _gradients(x: Array, d: Array, shape: tuple[int, ...], size: int, stride: int) -> Sequence[Array]:
    return [_thin_gradient(patches(x, size, stride), d)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _by_kernels(x: Array, kernel: Array, size: int, stride: int) -> Array:
    return _by_kernels_forward(x, kernel, size, stride)[0]


def _by_kernels_forward(
    x: Array, kernel: Array, size: int, stride: int
) -> tuple[Array, tuple[Array, Array]]:
    (y,) = by_platform(_our_outputs, _outputs, x, kernel, size=size, stride=stride)
    return y, (x, kernel)


def _by_kernels_backward(
    size: int, stride: int, held: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, kernel = held
    windows = {"size": size, "stride": stride}
    (dx,) = by_platform(_our_inputs, _inputs, kernel, gradient, shape=x.shape, **windows)
    (dkernel,) = by_platform(_our_gradients, _gradients, x, gradient, shape=kernel.shape, **windows)
    return dx, dkernel


def _options(size: int, stride: int) -> dict[str, np.int64]:
    return {"size": np.int64(size), "stride": np.int64(stride)}


_by_kernels.defvjp(_by_kernels_forward, _by_kernels_backward)


def convolve(x: Array, kernel: Array, size: int, stride: int = 1) -> Array:
    """The convolution without padding: ``[n, height, width, channels]`` → ``[n, rows, columns, units]``.

    In programs for CPUs by a kernel of our own, which reads windows where they lie; without it as a
    product with patches, which inside of XLA's loops takes a seventh of the time of XLA's (docs/drq.md).

    Args:
        x: float32 pictures.
        kernel: float32 ``[size² · channels, units]``.
        size, stride: of the windows, in both directions.
    """
    if native.load()[0]:
        return _by_kernels(x, kernel, size, stride)
    return thin_product(patches(x, size, stride), kernel)


class Convolution(nn.Dense):
    """:func:`convolve` and a bias; orthogonal(√2). Its kernel is a dense layer's for :meth:`read`."""

    kernel_init: nn.initializers.Initializer = nn.initializers.orthogonal(2.0**0.5)
    size: int = 3
    stride: int = 1
    multiplies_stored = True  # its product may be made with what is stored of its kernel

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (self.size**2 * x.shape[-1], self.features))
        bias = self.param("bias", self.bias_init, (self.features,))
        return convolve(x, kernel, self.size, self.stride) + bias

    def read(self, x: Array) -> Array:
        """What the kernel is multiplied with, for products with what is stored of it."""
        return patches(x, self.size, self.stride)


SLICE_BYTES = 2**19
"""Patches of the pictures taken at a time on a CPU: they, or what convolutions make, stay in a core's
second cache, beside kernels and gradients."""


def slice_size(n: int, patch_bytes: int) -> int:
    """Pictures of ``n`` to take at a time, the most that divide ``n`` and whose patches fit."""
    if jax.default_backend() != "cpu":
        return n
    most = max(1, SLICE_BYTES // patch_bytes)
    return next(size for size in range(min(n, most), 0, -1) if n % size == 0)


def by_slices(network: Callable[[Array], Array], pictures: Array, size: int) -> Array:
    """``network(pictures)``, ``size`` of the ``n`` pictures at a time.

    Gradients compute what lies between again instead of keeping it of all pictures: what is in the
    cache costs less to compute twice than to fetch from memory. The function and its gradients are the
    same but for the order in which kernels' gradients are summed.
    """
    n = len(pictures)
    if size == n:
        return network(pictures)
    slices = pictures.reshape(n // size, size, *pictures.shape[1:])
    made = jax.lax.map(jax.checkpoint(network), slices)
    return made.reshape(n, *made.shape[2:])


def layer_name(i: int) -> str:
    """Convolutions are ``conv``, ``conv_2``, ``conv_3``."""
    return "conv" if i == 0 else f"conv_{i + 1}"


class AtariTrunk(nn.Module):
    """DQN's networks (:func:`layers`): convolutions and a dense layer of width W; ReLU, orthogonal(√2).

    Maps ``[n, d]``, pictures of 84×84×4 in blocks (:data:`FOLD`), to ``[n, W]``. In blocks a convolution
    of 8×8 by 4 is one of 2×2 by 1: the same function.
    """

    kind: AtariKind
    width: int
    picture: Picture

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = nn.initializers.orthogonal(jnp.sqrt(2.0))
        x = x.reshape(-1, *self.picture)
        for i, (units, size, stride) in enumerate(layers(self.kind, self.width)):
            x = x if i == 0 else fold(x, stride)
            name = layer_name(i)
            x = nn.relu(Convolution(units, size=size // stride, name=name)(x))
            # A unit of a convolution is a channel: each position is a sample of it.
            self.sow("activations", f"{name}_activation", x.reshape(-1, units))
        x = nn.relu(nn.Dense(self.width, kernel_init=init, name="dense")(x.reshape(x.shape[0], -1)))
        self.sow("activations", "dense_activation", x)
        self.sow("features", "trunk", x)
        return x


def positions(kind: AtariKind, picture: Picture) -> dict[str, int]:
    """Layer → places of a picture in blocks at which its kernel is applied."""
    side, found = picture[0], {}
    for i, (_, size, stride) in enumerate(layers(kind, 1)):
        side = (side if i == 0 else side // stride) - size // stride + 1
        found[layer_name(i)] = side**2
    return found


def atari_parameters(kind: AtariKind, width: int, picture: Picture) -> int:
    """Parameters of an :class:`AtariTrunk`: Σ F(k²C + 1) over the convolutions, C channels in, F out,
    kernels of k×k, and W(PF + 1) for P positions of the last."""
    total, channels = 0, picture[2] // FOLD**2
    for units, size, _ in layers(kind, width):
        total += units * (size**2 * channels + 1)
        channels = units
    return total + width * (list(positions(kind, picture).values())[-1] * channels + 1)


DRQ_SIZE = 3
DRQ_STRIDES: dict[DrqKind, tuple[int, ...]] = {"drq": (2, 1, 1, 1), "drq_strided": (2, 2, 1)}
"""Of DrQ-v2's convolutions of 3×3 (:mod:`sparse_rl.networks.drq`), and of fewer for small pictures."""


def drq_patch_bytes(kind: DrqKind, channels: int, picture: Picture) -> int:
    """Bytes of a picture's float32 patches at the layer with most of them."""
    places = list(drq_positions(kind, picture).values())
    inputs = (picture[2], *(channels for _ in places[1:]))
    return max(4 * DRQ_SIZE**2 * c * n for c, n in zip(inputs, places, strict=True))


def drq_positions(kind: DrqKind, picture: Picture) -> dict[str, int]:
    """Layer → places of the picture at which its kernel is applied."""
    (rows, columns, _), found = picture, {}
    for i, stride in enumerate(DRQ_STRIDES[kind]):
        rows, columns = ((side - DRQ_SIZE) // stride + 1 for side in (rows, columns))
        found[layer_name(i)] = rows * columns
    return found
