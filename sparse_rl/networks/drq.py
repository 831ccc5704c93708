"""DrQ-v2's networks (Yarats et al. 2021, arXiv 2107.09645, app. B) and their parameters in closed form.

An encoder of convolutions, shared; an actor and a critic that each reduce what it sees to a few numbers
before two hidden layers. ``width`` W is the size of these; the encoder's channels C and the few numbers
F are in proportion to it (32 and 50 beside 1024, as published).
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from sparse_rl.networks.convolutions import (
    DRQ_SIZE,
    DRQ_STRIDES,
    Convolution,
    DrqKind,
    Picture,
    drq_positions,
    layer_name,
)
from sparse_rl.networks.dense import ACTIVATION, as_float

HEADS = ("first", "second")
"""The critics, of which the smaller value counts (clipped double Q, Fujimoto et al. 2018)."""


class EncoderTrunk(nn.Module):
    """Convolutions of 3×3, ReLU, orthogonal(√2): ``[n, h, w, c]`` → ``[n, positions · C]``.

    Each kernel is a matrix, which can be stored in any way.
    """

    kind: DrqKind
    channels: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i, stride in enumerate(DRQ_STRIDES[self.kind]):
            name = layer_name(i)
            x = nn.relu(Convolution(self.channels, size=DRQ_SIZE, stride=stride, name=name)(x))
            # A unit of a convolution is a channel: each position is a sample of it.
            self.sow("activations", name + ACTIVATION, x.reshape(-1, self.channels))
        return x.reshape(x.shape[0], -1)


class Encoder(nn.Module):
    """What pictures show: uint8 ``[n, h · w · c]`` or ``[n, h, w, c]`` → ``[n, positions · C]``."""

    kind: DrqKind
    channels: int
    picture: Picture

    @nn.compact
    def __call__(self, pictures: Array) -> Array:
        x = as_float(pictures).reshape(-1, *self.picture) - 0.5
        return EncoderTrunk(self.kind, self.channels, name="trunk")(x)


def _few(x: Array, features: int) -> Array:
    """Reduce what the encoder sees to a few numbers in [−1, 1]."""
    x = nn.Dense(features, kernel_init=nn.initializers.orthogonal(1.0), name="feature")(x)
    return nn.tanh(nn.LayerNorm(epsilon=1e-5, name="norm")(x))


class ActorTrunk(nn.Module):
    """F numbers and two hidden layers, ReLU, orthogonal(1): ``[n, d]`` → ``[n, W]``."""

    width: int
    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = nn.initializers.orthogonal(1.0)
        x = _few(x, self.features)
        self.sow("activations", "feature" + ACTIVATION, x)
        for name in ("dense_0", "dense_1"):
            x = nn.relu(nn.Dense(self.width, kernel_init=init, name=name)(x))
            self.sow("activations", name + ACTIVATION, x)
        self.sow("features", "trunk", x)
        return x


class PixelActor(nn.Module):
    """One action for what the encoder sees, through a tanh: ``[n, d]`` → ``[n, a]`` in [−1, 1]."""

    width: int
    features: int
    action_size: int

    @nn.compact
    def __call__(self, seen: Array) -> Array:
        x = ActorTrunk(self.width, self.features, name="trunk")(seen)
        init = nn.initializers.orthogonal(1.0)
        return jnp.tanh(nn.Dense(self.action_size, kernel_init=init, name="mean")(x))


class TwinTrunk(nn.Module):
    """F numbers for both critics, and two hidden layers of each, ReLU, orthogonal(1):
    ``[n, d]`` and ``[n, a]`` → 2 × ``[n, W]``."""

    width: int
    features: int

    @nn.compact
    def __call__(self, seen: Array, action: Array) -> list[Array]:
        init = nn.initializers.orthogonal(1.0)
        few = _few(seen, self.features)
        self.sow("activations", "feature" + ACTIVATION, few)
        branches = []
        for head in HEADS:
            x = jnp.concatenate([few, action], axis=-1)
            for name in (f"{head}_dense_0", f"{head}_dense_1"):
                x = nn.relu(nn.Dense(self.width, kernel_init=init, name=name)(x))
                self.sow("activations", name + ACTIVATION, x)
            self.sow("features", "trunk", x)
            branches.append(x)
        return branches


class TwinCritic(nn.Module):
    """Q(s, a) of both critics: ``[n, d]`` and ``[n, a]`` → ``[2, n]``."""

    width: int
    features: int

    @nn.compact
    def __call__(self, seen: Array, action: Array) -> Array:
        init = nn.initializers.orthogonal(1.0)
        branches = TwinTrunk(self.width, self.features, name="trunk")(seen, action)
        heads = [nn.Dense(1, kernel_init=init, name=f"{head}_value") for head in HEADS]
        return jnp.stack([head(x)[..., 0] for head, x in zip(heads, branches, strict=True)])


def encoder_parameters(kind: DrqKind, channels: int, picture: Picture) -> int:
    """C(9c + 1) of the first convolution, which reads c channels, and C(9C + 1) of each other."""
    later = len(DRQ_STRIDES[kind]) - 1
    area = DRQ_SIZE**2
    return channels * (area * picture[2] + 1) + later * channels * (area * channels + 1)


def encoded_size(kind: DrqKind, channels: int, picture: Picture) -> int:
    """Numbers that the encoder makes of an observation."""
    return list(drq_positions(kind, picture).values())[-1] * channels


def pixel_actor_parameters(seen: int, width: int, features: int, action: int) -> int:
    """F(d + 3) up to the few numbers, W(F + 1) + W(W + 1) of the hidden layers, a(W + 1) of the head."""
    return features * (seen + 3) + width * (features + width + 2) + action * (width + 1)


def twin_critic_parameters(seen: int, width: int, features: int, action: int) -> int:
    """F(d + 3), and twice W(F + a + 1) + W(W + 1) + W + 1."""
    return features * (seen + 3) + 2 * (width * (features + action + width + 3) + 1)
