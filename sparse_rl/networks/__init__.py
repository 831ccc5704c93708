"""Networks with one width each, and how each counts its parameters in closed form: dense trunks and
heads (:mod:`~sparse_rl.networks.dense`, :mod:`~sparse_rl.networks.counts`), convolutions
(:mod:`~sparse_rl.networks.convolutions`), DrQ's encoder and heads (:mod:`~sparse_rl.networks.drq`),
networks that remember (:mod:`~sparse_rl.networks.recurrent`, over many steps at once
:mod:`~sparse_rl.networks.sequences`), those that learn from one sample at a time
(:mod:`~sparse_rl.networks.streaming`), mixers of teams' values (:mod:`~sparse_rl.networks.mixers`);
which layer reads which (:mod:`~sparse_rl.networks.wiring`), and how they follow width and density
(:mod:`~sparse_rl.networks.parametrisation`).

Not here: which of their weights survive (:mod:`sparse_rl.pruning`), and what they learn
(:mod:`sparse_rl.agents`).
"""

from sparse_rl.networks.convolutions import Picture, by_slices, drq_patch_bytes, slice_size
from sparse_rl.networks.dense import (
    ACTIVATION,
    CONVOLVING,
    MLP_LAYERS,
    ROUNDING,
    Critic,
    DeterministicActor,
    GaussianActor,
    Policy,
    applications,
    misread,
)
from sparse_rl.networks.drq import Encoder, PixelActor, TwinCritic
from sparse_rl.networks.mixers import Mixer, mixer_parameters
from sparse_rl.networks.parametrisation import (
    Layer,
    Parametrisation,
    Scale,
    kept_scales,
    scales,
    times,
)
from sparse_rl.networks.recurrent import (
    Cell,
    Memory,
    Recurrent,
    RecurrentCritic,
    RecurrentPolicy,
    before,
    empty,
    forget,
    initial_params,
    inputs_of,
)
from sparse_rl.networks.sequences import remembered
from sparse_rl.networks.streaming import LEAK, StreamNetwork, leaky, normed, stream_parameters
from sparse_rl.networks.wiring import Reached, Wiring, chain, ensemble, follow, kernel_shapes, wiring_of

__all__ = [
    "ACTIVATION",
    "CONVOLVING",
    "LEAK",
    "MLP_LAYERS",
    "ROUNDING",
    "Cell",
    "Critic",
    "DeterministicActor",
    "Encoder",
    "GaussianActor",
    "Layer",
    "Memory",
    "Mixer",
    "Parametrisation",
    "Picture",
    "PixelActor",
    "Policy",
    "Reached",
    "Recurrent",
    "RecurrentCritic",
    "RecurrentPolicy",
    "Scale",
    "StreamNetwork",
    "TwinCritic",
    "Wiring",
    "applications",
    "before",
    "by_slices",
    "chain",
    "drq_patch_bytes",
    "empty",
    "ensemble",
    "follow",
    "forget",
    "initial_params",
    "inputs_of",
    "kept_scales",
    "kernel_shapes",
    "leaky",
    "misread",
    "mixer_parameters",
    "normed",
    "remembered",
    "scales",
    "slice_size",
    "stream_parameters",
    "times",
    "wiring_of",
]
