"""Parameters of trunks and of the networks on them, in closed form: known before any network is made."""

import math

from sparse_rl.extensions import OwnCode
from sparse_rl.networks.convolutions import Picture, atari_parameters
from sparse_rl.networks.dense import (
    BESIDE_UNITS,
    CONV_SIZE,
    MLP_LAYERS,
    Kind,
    conv_channels,
    conv_positions,
)


def trunk_parameters(
    kind: Kind,
    width: int,
    blocks: int,
    inputs: int,
    picture: Picture | None = None,
    layers: int = MLP_LAYERS,
) -> int:
    """Parameters of a trunk that reads ``inputs`` numbers.

    SimBa: 8BW² + W(d + 7B + 3); MLP of L layers: (L − 1)W² + W(d + L);
    MinAtar, C channels in, F = W/8 out, P positions:
    F(9C + 1) + W(PF + 1); Atari's: :func:`~sparse_rl.networks.convolutions.atari_parameters`;
    MiniGrid, b numbers beside the picture: F(9C + 1) + 5(b + 1), and W(PF + 6) for a first dense layer,
    W(W + 1) for each after it.

    Raises:
        ValueError: it reads pictures and there are none, or it is a user's.
    """
    if isinstance(kind, OwnCode):
        raise ValueError(f"network={kind}: its author knows how many parameters it has")
    if kind == "simba":
        return 8 * blocks * width**2 + width * (inputs + 7 * blocks + 3)
    if kind == "mlp":
        return (layers - 1) * width**2 + width * (inputs + layers)
    if picture is None:
        raise ValueError(f"network={kind} reads pictures")
    if kind == "nips" or kind == "nature":
        return atari_parameters(kind, width, picture)
    channels = conv_channels(width)
    conv = channels * (CONV_SIZE**2 * picture[2] + 1)
    if kind == "minatar":
        return conv + width * (conv_positions(picture) * channels + 1)
    total, read = conv + BESIDE_UNITS * (inputs - math.prod(picture) + 1), _read(width, picture)
    for _ in range(layers - 1):
        total, read = total + width * (read + 1), width
    return total


def _read(width: int, picture: Picture) -> int:
    """What MiniGrid's convolution and the numbers beside it make."""
    return conv_positions(picture) * conv_channels(width) + BESIDE_UNITS


def trunk_units(kind: Kind, width: int, picture: Picture | None, layers: int) -> int:
    """Numbers that a trunk puts out: W, but for MiniGrid's without a dense layer."""
    if kind != "minigrid" or layers > 1:
        return width
    assert picture is not None
    return _read(width, picture)


def critic_parameters(kind: Kind, width: int, blocks: int, observation: int, action: int) -> int:
    """Parameters of one ``Critic``; SimBa: 8BW² + W(o + a + 7B + 4) + 1."""
    return trunk_parameters(kind, width, blocks, observation + action) + width + 1


def actor_parameters(kind: Kind, width: int, blocks: int, observation: int, action: int) -> int:
    """Parameters of a ``GaussianActor``; SimBa: 8BW² + W(o + 7B + 3 + 2a) + 2a."""
    return trunk_parameters(kind, width, blocks, observation) + 2 * action * (width + 1)


def value_parameters(
    kind: Kind,
    width: int,
    blocks: int,
    observation: int,
    picture: Picture | None = None,
    actions: int = 1,
) -> int:
    """Parameters of a ``Critic`` that reads no action: its trunk's, and W + 1 per value."""
    return trunk_parameters(kind, width, blocks, observation, picture) + actions * (width + 1)


def policy_parameters(
    kind: Kind,
    width: int,
    blocks: int,
    observation: int,
    action: int,
    gaussian: bool,
    picture: Picture | None = None,
) -> int:
    """Parameters of a ``Policy``: its trunk's, a(W + 1), and a more for a Gaussian; without these,
    of a ``DeterministicActor``."""
    trunk = trunk_parameters(kind, width, blocks, observation, picture)
    return trunk + action * (width + 1 + gaussian)
