"""Networks with one width parameter each, and their parameter counts in closed form.

Every network sows two collections that diagnostics read: ``activations`` (each nonlinearity's output,
named after the dense layer that feeds it) and ``features`` (what the heads see), float32 ``[n, units]``.

A trunk computes on ``[n, units]``, or, ``feature_major``, on ``[units, n]``: the same function with the
same parameters, in the layout that products with blocks want.
"""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

Kind = Literal["simba", "mlp"]

ROWS_AT_ONCE = 64
LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0
MLP_LAYERS = 2
ACTIVATION = "_activation"
"""Suffix of a sown activation: a name that flax does not already use for the dense layer."""


class Dense(nn.Dense):
    """A dense layer that may compute on ``[inputs, n]`` → ``[units, n]``."""

    feature_major: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if not self.feature_major:
            return super().__call__(x)
        kernel = self.param("kernel", self.kernel_init, (x.shape[0], self.features))
        bias = self.param("bias", self.bias_init, (self.features,))
        return kernel.T @ x + bias[:, None]


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

    @nn.compact
    def __call__(self, x: Array) -> Array:
        units = 0 if self.feature_major else -1  # the axis of the units
        dense = functools.partial(Dense, feature_major=self.feature_major)
        norm = functools.partial(nn.LayerNorm, reduction_axes=units, feature_axes=units)
        x = jnp.moveaxis(x, -1, units)
        x = dense(self.width, kernel_init=nn.initializers.orthogonal(1.0), name="embed")(x)
        for b in range(self.blocks):
            h = norm(name=f"block_{b}_norm")(x)
            h = nn.relu(dense(4 * self.width, kernel_init=he_normal, name=f"block_{b}_expand")(h))
            self.sow("activations", f"block_{b}_expand" + ACTIVATION, jnp.moveaxis(h, units, -1))
            x = x + dense(self.width, kernel_init=he_normal, name=f"block_{b}_project")(h)
        x = jnp.moveaxis(norm(name="norm")(x), units, -1)
        self.sow("features", "trunk", x)
        return x


class MlpTrunk(nn.Module):
    """Two hidden ReLU layers of width W, orthogonal(√2). Maps float32 ``[n, d]`` to ``[n, W]``."""

    width: int
    feature_major: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        units = 0 if self.feature_major else -1  # the axis of the units
        init = nn.initializers.orthogonal(jnp.sqrt(2.0))
        x = jnp.moveaxis(x, -1, units)
        for i in range(MLP_LAYERS):
            dense = Dense(
                self.width, kernel_init=init, name=f"dense_{i}", feature_major=self.feature_major
            )
            x = nn.relu(dense(x))
            self.sow("activations", f"dense_{i}" + ACTIVATION, jnp.moveaxis(x, units, -1))
        x = jnp.moveaxis(x, units, -1)
        self.sow("features", "trunk", x)
        return x


def _trunk(kind: Kind, width: int, blocks: int, feature_major: bool) -> nn.Module:
    if kind == "simba":
        return SimbaTrunk(width, blocks, feature_major, name="trunk")
    return MlpTrunk(width, feature_major, name="trunk")


class Critic(nn.Module):
    """Q(s, a): float32 ``[n, o]``, ``[n, a]`` → ``[n]``."""

    kind: Kind
    width: int
    blocks: int
    feature_major: bool = False

    @nn.compact
    def __call__(self, observation: Array, action: Array) -> Array:
        x = jnp.concatenate([observation, action], axis=-1)
        x = _trunk(self.kind, self.width, self.blocks, self.feature_major)(x)
        return nn.Dense(1, kernel_init=nn.initializers.orthogonal(1.0), name="value")(x)[..., 0]


class GaussianActor(nn.Module):
    """Mean and log standard deviation of a Gaussian before tanh: float32 ``[n, o]`` → 2 × ``[n, a]``.

    The log standard deviation is squashed into [−10, 2] by a tanh, as in SimBa's public SAC.
    """

    kind: Kind
    width: int
    blocks: int
    action_size: int
    feature_major: bool = False

    @nn.compact
    def __call__(self, observation: Array) -> tuple[Array, Array]:
        x = _trunk(self.kind, self.width, self.blocks, self.feature_major)(observation)
        init = nn.initializers.orthogonal(1.0)
        mean = nn.Dense(self.action_size, kernel_init=init, name="mean")(x)
        raw = nn.Dense(self.action_size, kernel_init=init, name="log_std")(x)
        return mean, LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (1.0 + jnp.tanh(raw))


def trunk_parameters(kind: Kind, width: int, blocks: int, inputs: int) -> int:
    """Parameters of a trunk that reads ``inputs`` numbers: 8BW² + W(d + 7B + 3), or W² + W(d + 2)."""
    if kind == "simba":
        return 8 * blocks * width**2 + width * (inputs + 7 * blocks + 3)
    return (MLP_LAYERS - 1) * width**2 + width * (inputs + MLP_LAYERS)


def critic_parameters(kind: Kind, width: int, blocks: int, observation: int, action: int) -> int:
    """Parameters of one :class:`Critic`; SimBa: 8BW² + W(o + a + 7B + 4) + 1."""
    return trunk_parameters(kind, width, blocks, observation + action) + width + 1


def actor_parameters(kind: Kind, width: int, blocks: int, observation: int, action: int) -> int:
    """Parameters of a :class:`GaussianActor`; SimBa: 8BW² + W(o + 7B + 3 + 2a) + 2a."""
    return trunk_parameters(kind, width, blocks, observation) + 2 * action * (width + 1)
