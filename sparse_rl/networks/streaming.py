"""Networks that learn from one sample at a time (Elsayed et al. 2024, arXiv 2410.14606, §3): layer norm
without scale or shift before each LeakyReLU."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.networks.convolutions import Convolution, Picture
from sparse_rl.networks.dense import (
    ACTIVATION,
    CONV_SIZE,
    MLP_LAYERS,
    Dense,
    conv_channels,
    conv_positions,
)

StreamKind = Literal["stream_mlp", "stream_minatar"]
LEAK = 0.01
"""Slope of the LeakyReLU below 0, PyTorch's."""
EPSILON = 1e-5
"""Added to the variance by the layer norm, PyTorch's."""


def normed(x: Array) -> tuple[Array, Array]:
    """Layer norm of each sample over all of its numbers, without parameters: ``[n, …]`` → the same, and
    by what each sample was multiplied, ``[n, 1, …]``."""
    axes = tuple(range(1, x.ndim))
    centred = x - jnp.mean(x, axis=axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=axes, keepdims=True)
    scale = jax.lax.rsqrt(variance + EPSILON)
    return centred * scale, scale


def leaky(x: Array) -> Array:
    """LeakyReLU."""
    return jnp.where(x > 0, x, LEAK * x)


def activation(x: Array) -> Array:
    """What follows each hidden layer: :func:`normed`, then :func:`leaky`."""
    return leaky(normed(x)[0])


class StreamTrunk(nn.Module):
    """Two hidden layers of width W; where there are pictures, the first is a convolution of 3×3 with W/8
    channels. Maps float32 ``[n, d]`` to ``[n, W]``."""

    kind: StreamKind
    width: int
    picture: Picture | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        layers = [f"dense_{i}" for i in range(MLP_LAYERS)]
        if self.kind == "stream_minatar":
            if self.picture is None:
                raise ValueError("network=stream_minatar reads pictures; this environment shows none")
            x = x.reshape(-1, *self.picture)
            x = activation(Convolution(conv_channels(self.width), size=CONV_SIZE, name="conv")(x))
            # A unit of a convolution is a channel: each position is a sample of it.
            self.sow("activations", "conv" + ACTIVATION, x.reshape(-1, x.shape[-1]))
            x, layers = x.reshape(x.shape[0], -1), ["dense"]
        for layer in layers:
            x = activation(Dense(self.width, name=layer)(x))
            self.sow("activations", layer + ACTIVATION, x)
        self.sow("features", "trunk", x)
        return x


class StreamNetwork(nn.Module):
    """A trunk and linear heads: float32 ``[n, d]`` → name → ``[n, units]``."""

    kind: StreamKind
    width: int
    heads: tuple[tuple[str, int], ...]
    """Name and units of each."""
    picture: Picture | None = None

    @nn.compact
    def __call__(self, observation: Array) -> dict[str, Array]:
        x = StreamTrunk(self.kind, self.width, self.picture, name="trunk")(observation)
        return {name: Dense(units, name=name)(x) for name, units in self.heads}


def stream_parameters(
    kind: StreamKind, width: int, inputs: int, outputs: int, picture: Picture | None = None
) -> int:
    """Parameters of a :class:`StreamNetwork` whose heads have so many units together.

    MLP: W(d + 1) + W(W + 1) + a(W + 1); with pictures of C channels, F = W/8 channels at P positions:
    F(9C + 1) + W(PF + 1) + a(W + 1).
    """
    heads = outputs * (width + 1)
    if kind == "stream_mlp":
        return width * (inputs + 1) + width * (width + 1) + heads
    if picture is None:
        raise ValueError(f"network={kind} reads pictures")
    channels = conv_channels(width)
    conv = channels * (CONV_SIZE**2 * picture[2] + 1)
    return conv + width * (conv_positions(picture) * channels + 1) + heads
