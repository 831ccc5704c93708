"""Networks with one width parameter each; :mod:`~sparse_rl.networks.counts` counts their parameters.

Every network sows two collections that diagnostics read: ``activations`` (each nonlinearity's output,
named after the dense layer that feeds it) and ``features`` (what the heads see), float32 ``[n, units]``.

A trunk computes on ``[n, units]``, or, ``feature_major``, on ``[units, n]``: the same function with the
same parameters, in the layout that products with blocks want. ``products`` says in which format the
trunks' dense layers multiply (:mod:`sparse_rl.kernels.products`); heads, of few units, multiply in
float32.
"""

import functools
import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.extensions import OwnCode
from sparse_rl.kernels.products import Products, product
from sparse_rl.networks.convolutions import (
    ATARI_PICTURE,
    AtariTrunk,
    Convolution,
    DrqKind,
    Picture,
    drq_positions,
    positions,
)
from sparse_rl.networks.observing import make_trunk

Kind = Literal["simba", "mlp", "minatar", "minigrid", "nips", "nature"] | OwnCode
Reader = Kind | DrqKind | Literal["linear", "stream_mlp", "stream_minatar"]
"""What an agent may read observations with; a linear one has no hidden layers."""
ROUNDING: tuple[Reader, ...] = ("simba", "mlp")
"""Those whose products can be of bfloat16."""
CONVOLVING: tuple[Reader, ...] = (
    "minatar", "minigrid", "nips", "nature", "drq", "drq_strided", "stream_minatar",
)  # fmt: skip
"""Those that read pictures, with convolutions."""

ROWS_AT_ONCE = 64
LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0
MLP_LAYERS = 2
CONV_SIZE = 3
BESIDE_UNITS = 5
"""What the numbers beside a picture become."""
ACTIVATION = "_activation"
"""Suffix of a sown activation: a name that flax does not already use for the dense layer."""


class Dense(nn.Dense):
    """A dense layer on ``[n, inputs]`` → ``[n, units]``, or on ``[inputs, n]`` → ``[units, n]``.

    With ``relu``, rectified: part of the layer, for products with blocks that do both at once.
    """

    feature_major: bool = False
    products: Products = "float32"
    relu: bool = False
    multiplies_stored = True  # its product may be made with what is stored of its kernel

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if not self.feature_major and self.products == "float32":
            y = super().__call__(x)
        else:
            y = self._affine(x)
        return nn.relu(y) if self.relu else y

    def _affine(self, x: Array) -> Array:
        inputs = x.shape[0 if self.feature_major else -1]
        kernel = self.param("kernel", self.kernel_init, (inputs, self.features))
        bias = self.param("bias", self.bias_init, (self.features,))
        if self.feature_major:
            return product(kernel.T, x, self.products) + bias[:, None]
        return product(x, kernel, self.products) + bias


def he_normal(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """He et al. 2015 (arXiv 1502.01852), truncated normal: ``[inputs, units]``.

    Each row from its own child of the key, and some rows at a time: drawing a wide layer at once takes
    four times its memory.
    """
    inputs, units = shape
    row = nn.initializers.variance_scaling(2.0 / inputs, "fan_in", "truncated_normal")
    keys = jax.random.split(key, inputs)
    return jax.lax.map(lambda key: row(key, (1, units), dtype)[0], keys, batch_size=ROWS_AT_ONCE)


class SimbaTrunk(nn.Module):
    """SimBa (Lee et al. 2024, arXiv 2410.09754, §4): pre-norm residual blocks of width W.

    ``x → Dense(W) → B × [x + Dense(W)·ReLU·Dense(4W)·LayerNorm(x)] → LayerNorm``. Orthogonal(1) first
    layer, He-normal inside the blocks. Maps float32 ``[n, d]`` to ``[n, W]``.
    """

    width: int
    blocks: int
    feature_major: bool = False
    products: Products = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        units = 0 if self.feature_major else -1  # the axis of the units
        dense = functools.partial(Dense, feature_major=self.feature_major, products=self.products)
        norm = functools.partial(nn.LayerNorm, reduction_axes=units, feature_axes=units)
        x = jnp.moveaxis(x, -1, units)
        x = dense(self.width, kernel_init=nn.initializers.orthogonal(1.0), name="embed")(x)
        for b in range(self.blocks):
            h = norm(name=f"block_{b}_norm")(x)
            h = dense(4 * self.width, kernel_init=he_normal, relu=True, name=f"block_{b}_expand")(h)
            self.sow("activations", f"block_{b}_expand" + ACTIVATION, jnp.moveaxis(h, units, -1))
            x = x + dense(self.width, kernel_init=he_normal, name=f"block_{b}_project")(h)
        x = jnp.moveaxis(norm(name="norm")(x), units, -1)
        self.sow("features", "trunk", x)
        return x


class MlpTrunk(nn.Module):
    """Hidden ReLU layers of width W, orthogonal(√2). Maps float32 ``[n, d]`` to ``[n, W]``."""

    width: int
    feature_major: bool = False
    products: Products = "float32"
    layers: int = MLP_LAYERS

    @nn.compact
    def __call__(self, x: Array) -> Array:
        units = 0 if self.feature_major else -1  # the axis of the units
        dense = functools.partial(Dense, feature_major=self.feature_major, products=self.products)
        init = nn.initializers.orthogonal(jnp.sqrt(2.0))
        x = jnp.moveaxis(x, -1, units)
        for i in range(self.layers):
            x = dense(self.width, kernel_init=init, relu=True, name=f"dense_{i}")(x)
            self.sow("activations", f"dense_{i}" + ACTIVATION, jnp.moveaxis(x, units, -1))
        x = jnp.moveaxis(x, units, -1)
        self.sow("features", "trunk", x)
        return x


def conv_channels(width: int) -> int:
    """Channels of the convolution beside a dense layer of this width: 16 beside 128, as published."""
    return max(1, width // 8)


def conv_positions(picture: Picture) -> int:
    """Places of the picture at which the convolution's kernel is applied."""
    return (picture[0] - CONV_SIZE + 1) * (picture[1] - CONV_SIZE + 1)


def applications(kind: Reader, path: str, picture: Picture | None) -> int:
    """How often the kernel at this path is applied to one sample: a convolution's once per position."""
    layer = path.split("/")[-2]
    if picture is None or isinstance(kind, OwnCode) or not layer.startswith("conv"):
        return 1
    if kind == "nips" or kind == "nature":
        return positions(kind, picture)[layer]
    if kind == "drq" or kind == "drq_strided":
        return drq_positions(kind, picture)[layer]
    return conv_positions(picture)


def misread(kind: Reader, picture: Picture | None, beside: int = 0) -> str | None:
    """What stands in the way of reading such pictures with so many numbers beside them, with a place for
    ``env``; ``None``: nothing."""
    if kind not in CONVOLVING:
        return None
    if kind == "stream_minatar":
        fits = picture is not None and picture != ATARI_PICTURE and not beside
        return None if fits else "reads small pictures and nothing beside them; choose stream_mlp"
    if picture is None:
        return "reads pictures, and env={env} shows none; choose mlp or simba"
    if kind != "minigrid" and beside:
        return (
            "reads nothing but pictures, and env={env} shows numbers beside its own; "
            "choose minigrid, mlp or simba"
        )
    if kind == "minigrid":
        others = "nips or nature" if picture == ATARI_PICTURE else "minatar, mlp or simba"
        alone = "reads numbers beside a picture, and env={env} shows none; choose "
        return None if beside else alone + others
    if kind == "drq" or kind == "drq_strided":
        blocks = picture == ATARI_PICTURE
        return "reads pictures as they are, and env={env} shows blocks" if blocks else None
    if kind != "minatar" and picture != ATARI_PICTURE:
        return "reads Atari's pictures, and env={env} shows others; choose minatar, mlp or simba"
    if kind == "minatar" and picture == ATARI_PICTURE:
        return "reads small pictures, and env={env} shows Atari's; choose nips or nature"
    return None


def as_float(x: Array) -> Array:
    """float32 of what the network reads; pictures in bytes become shares of 255 here and no earlier."""
    return x.astype(jnp.float32) / 255.0 if x.dtype == jnp.uint8 else x


class MinAtarTrunk(nn.Module):
    """MinAtar's network (Young and Tian 2019, arXiv 1903.03176, app. B): one convolution of 3×3, W/8
    channels, one dense layer of width W; ReLU, orthogonal(√2). Maps float32 ``[n, d]`` to ``[n, W]``.

    The convolution's kernel is a matrix, so that it can be stored in any way.
    """

    width: int
    picture: Picture

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x.reshape(-1, *self.picture)
        x = nn.relu(Convolution(conv_channels(self.width), size=CONV_SIZE, name="conv")(x))
        # A unit of a convolution is a channel: each position is a sample of it.
        self.sow("activations", "conv" + ACTIVATION, x.reshape(-1, x.shape[-1]))
        init = nn.initializers.orthogonal(jnp.sqrt(2.0))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(self.width, kernel_init=init, name="dense")(x))
        self.sow("activations", "dense" + ACTIVATION, x)
        self.sow("features", "trunk", x)
        return x


class MiniGridTrunk(nn.Module):
    """What minimax reads mazes with (Jiang et al. 2023, arXiv 2311.12716; ``gridworld_models.py``): of a
    picture one convolution of 3×3, W/8 channels, ReLU, orthogonal(√2); of the numbers beside it (which
    way the agent looks) five units, linear, orthogonal(1).

    Both go on together, through ``layers`` − 1 dense layers of width W, ReLU, orthogonal(√2): before a
    cell there are none, as published. Maps float32 ``[n, h·w·c + b]`` to ``[n, W]``, or without such a
    layer to ``[n, positions · W/8 + 5]``.
    """

    width: int
    picture: Picture
    layers: int = MLP_LAYERS

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init, size = nn.initializers.orthogonal(jnp.sqrt(2.0)), math.prod(self.picture)
        seen = x[:, :size].reshape(-1, *self.picture)
        seen = nn.relu(Convolution(conv_channels(self.width), size=CONV_SIZE, name="conv")(seen))
        # A unit of a convolution is a channel: each position is a sample of it.
        self.sow("activations", "conv" + ACTIVATION, seen.reshape(-1, seen.shape[-1]))
        beside = nn.Dense(BESIDE_UNITS, kernel_init=nn.initializers.orthogonal(1.0), name="beside")
        x = jnp.concatenate([seen.reshape(x.shape[0], -1), beside(x[:, size:])], axis=1)
        for i in range(self.layers - 1):
            x = nn.relu(nn.Dense(self.width, kernel_init=init, name=f"dense_{i}")(x))
            self.sow("activations", f"dense_{i}" + ACTIVATION, x)
        self.sow("features", "trunk", x)
        return x


def trunk_of(
    kind: Kind,
    width: int,
    blocks: int,
    feature_major: bool,
    products: Products,
    picture: Picture | None = None,
    layers: int = MLP_LAYERS,
    name: str | None = "trunk",
) -> nn.Module:
    """What reads observations, with so many ``layers`` of an MLP or MiniGrid's; ``name=None`` where an
    attribute names it.

    Raises:
        ValueError: it reads pictures and there are none, or its products cannot be of that format.
    """
    if isinstance(kind, OwnCode):
        return make_trunk(kind, width)
    if kind == "simba":
        return SimbaTrunk(width, blocks, feature_major, products, name=name)
    if kind == "mlp":
        return MlpTrunk(width, feature_major, products, layers, name=name)
    if products != "float32":
        raise ValueError(f"network={kind} multiplies in float32 only")
    if picture is None:
        raise ValueError(f"network={kind} reads pictures; this environment shows none")
    if kind == "minatar":
        return MinAtarTrunk(width, picture, name=name)
    if kind == "minigrid":
        return MiniGridTrunk(width, picture, layers, name=name)
    return AtariTrunk(kind, width, picture, name=name)


class Critic(nn.Module):
    """Q(s, a), or V(s) without an action: float32 ``[n, o]`` and maybe ``[n, a]`` → ``[n]``.

    With ``actions``, Q(s, ·) of so many discrete ones: ``[n, o]`` → ``[n, actions]``.
    """

    kind: Kind
    width: int
    blocks: int
    feature_major: bool = False
    picture: Picture | None = None
    actions: int | None = None
    products: Products = "float32"

    @nn.compact
    def __call__(self, *inputs: Array) -> Array:
        x = jnp.concatenate([as_float(x) for x in inputs], axis=-1)
        settings = (self.feature_major, self.products, self.picture)
        x = trunk_of(self.kind, self.width, self.blocks, *settings)(x)
        head = nn.Dense(self.actions or 1, kernel_init=nn.initializers.orthogonal(1.0), name="value")
        return head(x) if self.actions else head(x)[..., 0]


class Policy(nn.Module):
    """Logits of discrete actions, or mean and log standard deviation of a Gaussian.

    Maps float32 ``[n, o]`` to ``[n, a]``, for a Gaussian to that and ``[a]``: its deviation does not
    depend on the observation. The head starts small, orthogonal(0.01), so that the first policy hardly
    prefers an action (Andrychowicz et al. 2021, arXiv 2006.05990, §3.2).
    """

    kind: Kind
    width: int
    blocks: int
    action_size: int
    gaussian: bool
    feature_major: bool = False
    picture: Picture | None = None
    products: Products = "float32"

    @nn.compact
    def __call__(self, observation: Array) -> Array | tuple[Array, Array]:
        settings = (self.feature_major, self.products, self.picture)
        trunk = trunk_of(self.kind, self.width, self.blocks, *settings)
        init, seen = nn.initializers.orthogonal(0.01), as_float(observation)
        if not self.gaussian:
            return nn.Dense(self.action_size, kernel_init=init, name="logits")(trunk(seen))
        mean = nn.Dense(self.action_size, kernel_init=init, name="mean")(trunk(seen))
        return mean, self.param("log_std", nn.initializers.zeros, (self.action_size,))


class GaussianActor(nn.Module):
    """Mean and log standard deviation of a Gaussian before tanh: float32 ``[n, o]`` → 2 × ``[n, a]``.

    The log standard deviation is squashed into [−10, 2] by a tanh, as in SimBa's public SAC.
    """

    kind: Kind
    width: int
    blocks: int
    action_size: int
    feature_major: bool = False
    products: Products = "float32"

    @nn.compact
    def __call__(self, observation: Array) -> tuple[Array, Array]:
        settings = (self.feature_major, self.products)
        x = trunk_of(self.kind, self.width, self.blocks, *settings)(observation)
        init = nn.initializers.orthogonal(1.0)
        mean = nn.Dense(self.action_size, kernel_init=init, name="mean")(x)
        raw = nn.Dense(self.action_size, kernel_init=init, name="log_std")(x)
        return mean, LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (1.0 + jnp.tanh(raw))


class DeterministicActor(nn.Module):
    """One action per observation, through a tanh: float32 ``[n, o]`` → ``[n, a]`` in [−1, 1]."""

    kind: Kind
    width: int
    blocks: int
    action_size: int
    feature_major: bool = False
    products: Products = "float32"

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        settings = (self.feature_major, self.products)
        x = trunk_of(self.kind, self.width, self.blocks, *settings)(observation)
        init = nn.initializers.orthogonal(1.0)
        return jnp.tanh(nn.Dense(self.action_size, kernel_init=init, name="mean")(x))
