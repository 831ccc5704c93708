"""The network that joins the values of a team's agents to one (Rashid et al. 2018, QMIX, arXiv
1803.11485, §4): larger values of its agents never make the team's smaller.

Its weights come from the team's state, through networks of their own, so width, sparsity and health are
theirs.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from sparse_rl.networks.dense import ACTIVATION

HIDDEN = ("weights_in", "weights_out", "bias_out")
"""What has a hidden layer of its own."""


dense = functools.partial(nn.Dense, kernel_init=nn.initializers.orthogonal(0.1))
"""Small, so that a team's value begins near nothing. Public code has 0.001; with 0.1 three seeds of
spread learned faster, and with flax's own draws two of three did not (docs/teams.md)."""


class MixerTrunk(nn.Module):
    """The hidden layers, each ``Dense·ReLU`` of the state: float32 ``[n, units]`` by name."""

    width: int
    """Units under the weights."""
    bias_width: int
    """Units under the last bias."""

    @nn.compact
    def __call__(self, state: Array) -> dict[str, Array]:
        found = {}
        for name in HIDDEN:
            units = self.bias_width if name == "bias_out" else self.width
            found[name] = nn.relu(dense(units, name=name)(state))
            self.sow("activations", name + ACTIVATION, found[name])
        return found


class Mixer(nn.Module):
    """``(values [n, A], state [n, s]) → [n]``: ``|W₂(s)|ᵀ · elu(|W₁(s)|ᵀ q + b₁(s)) + b₂(s)``."""

    agents: int
    width: int
    """Units of the layer that mixes."""
    hidden_width: int
    """Units of the layers under its weights."""

    @nn.compact
    def __call__(self, values: Array, state: Array) -> Array:
        hidden = MixerTrunk(self.hidden_width, self.width, name="trunk")(state)
        first = dense(self.agents * self.width, name="weights_in")(hidden["weights_in"])
        bias = dense(self.width, name="bias_in")(state)
        first = jnp.abs(first).reshape(-1, self.agents, self.width)
        mixed = nn.elu(jnp.einsum("na,naw->nw", values, first) + bias)
        self.sow("features", "mixed", mixed)
        last = jnp.abs(dense(self.width, name="weights_out")(hidden["weights_out"]))
        bias = dense(1, name="bias_out")(hidden["bias_out"])[:, 0]
        return jnp.sum(mixed * last, axis=1) + bias


def mixer_parameters(agents: int, state: int, width: int, hidden_width: int) -> int:
    """Parameters of a mixer of width E, H units under its weights, for A agents and s numbers of state:
    two hidden layers of H and one of E, and what is made of them, A·E, E and 1, and E of the state."""
    hidden = (2 * hidden_width + 2 * width) * (state + 1)
    return hidden + (hidden_width + 1) * (agents + 1) * width + width + 1
