"""Networks that remember: a trunk, a recurrent cell, and the heads of an actor or a critic.

``x → Dense(W)·ReLU → cell → heads`` for numbers; pictures and SimBa have their own trunk in place of the
dense layer (MiniGrid's is its convolution alone, as published). The cell is flax's own, each of whose
kernels is a matrix, so that any storage can hold it.

A network has three parts, so that a sequence takes one step of the cell after the other and all else at
once: :meth:`Recurrent.seen`, :meth:`Recurrent.remembered` and :meth:`Recurrent.said`.
"""

import abc
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.kernels.products import Products
from sparse_rl.networks.convolutions import Picture
from sparse_rl.networks.counts import trunk_parameters, trunk_units
from sparse_rl.networks.dense import Kind, as_float, trunk_of

LAYERS = 1
"""Of an MLP before the cell, or of MiniGrid's network: its convolution is the first."""
Cell = Literal["gru", "lstm"]
Memory = Any
"""What a network carries from step to step: float32 ``[n, M]`` of a GRU, two of an LSTM."""
KERNELS: dict[Cell, tuple[str, ...]] = {
    "gru": ("ir", "iz", "in", "hr", "hz", "hn"),
    "lstm": ("ii", "if", "ig", "io", "hi", "hf", "hg", "ho"),
}
"""A cell's kernels, as flax calls them: those in ``i`` read the trunk, those in ``h`` the memory."""


class Recurrent(nn.Module, metaclass=abc.ABCMeta):
    """What actors and critics that remember share; :meth:`said` is theirs."""

    kind: Kind
    width: int
    blocks: int
    cell_kind: Cell
    memory_width: int
    feature_major: bool = False
    picture: Picture | None = None
    products: Products = "float32"

    def setup(self) -> None:
        settings = (self.feature_major, self.products, self.picture, LAYERS)
        self.trunk = trunk_of(self.kind, self.width, self.blocks, *settings, name=None)
        cell = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}[self.cell_kind]
        self.cell = cell(self.memory_width)

    def seen(self, observation: Array) -> Array:
        """What the trunk makes of n observations: float32 ``[n, W]``, or as many as its units are."""
        return self.trunk(as_float(observation))

    def remembered(self, memory: Memory, seen: Array) -> tuple[Memory, Array]:
        """The memory after a step, and what the heads see of it, float32 ``[n, M]``."""
        memory, hidden = self.cell(memory, seen)
        self.sow("features", "memory", hidden)
        self.sow("squashed", "memory", hidden if self.cell_kind == "gru" else jnp.tanh(memory[0]))
        return memory, hidden

    @abc.abstractmethod
    def said(self, hidden: Array) -> Any:
        """What the heads make of it."""

    def __call__(self, memory: Memory, observation: Array) -> tuple[Any, Memory]:
        memory, hidden = self.remembered(memory, self.seen(observation))
        return self.said(hidden), memory


class RecurrentCritic(Recurrent):
    """V(s), float32 ``[n]``, or with ``actions`` Q(s, ·), ``[n, actions]``, and the memory after it."""

    actions: int | None = None

    def setup(self) -> None:
        super().setup()
        self.value = nn.Dense(self.actions or 1, kernel_init=nn.initializers.orthogonal(1.0))

    def said(self, hidden: Array) -> Array:
        return self.value(hidden) if self.actions else self.value(hidden)[..., 0]


class RecurrentPolicy(Recurrent):
    """As :class:`~sparse_rl.networks.dense.Policy`, and the memory after it."""

    action_size: int = 1
    gaussian: bool = False

    def setup(self) -> None:
        super().setup()
        init = nn.initializers.orthogonal(0.01)
        if self.gaussian:
            self.mean = nn.Dense(self.action_size, kernel_init=init)
            self.log_std = self.param("log_std", nn.initializers.zeros, (self.action_size,))
        else:
            self.logits = nn.Dense(self.action_size, kernel_init=init)

    def said(self, hidden: Array) -> Array | tuple[Array, Array]:
        return (self.mean(hidden), self.log_std) if self.gaussian else self.logits(hidden)


def empty(network: nn.Module, n: int) -> Memory:
    """The memory of n episodes that begin; ``()`` for a network that has none."""
    if not isinstance(network, Recurrent):
        return ()
    zeros = jnp.zeros((n, network.memory_width))
    return zeros if network.cell_kind == "gru" else (zeros, zeros)


def inputs_of(network: nn.Module, memory: Memory, observation: Array) -> tuple[Any, ...]:
    """What a network is applied to: its memory, if it has one, and observations."""
    return (memory, observation) if isinstance(network, Recurrent) else (observation,)


def first_inputs(network: nn.Module, observation: Array) -> tuple[Any, ...]:
    """The same where episodes begin."""
    return inputs_of(network, empty(network, observation.shape[0]), observation)


SPAN_STREAM = 0x7370616E
"""Child of a network's key: of the biases that say how long it remembers."""


def initial_params(network: nn.Module, key: Array, observation: Array, span: int | None) -> Any:
    """Parameters of a network before it has learned anything.

    Args:
        network: of ours.
        key: of the draws.
        observation: ``[n, observation_size]``, whatever it says.
        span: steps that its memory lasts at first (:func:`spanned`); ``None``: as flax has it, a step
            or two.
    """
    params = network.init(key, *first_inputs(network, observation))["params"]
    if span is None or not isinstance(network, Recurrent):
        return params
    return spanned(params, network.cell_kind, span, jax.random.fold_in(key, SPAN_STREAM))


def spanned(params: Any, cell: Cell, span: int, key: Array) -> Any:
    """The same parameters with biases of the gates so that units remember from 1 to ``span`` steps
    (chrono initialisation: Tallec and Ollivier 2018, arXiv 1804.11188, eq. 16).

    A gate of σ(b) keeps e^b of what it lets go, so b = log U[1, span − 1]; an LSTM's input gate has −b.

    Args:
        params: flax parameters with a ``cell``.
        cell: which.
        span: at least 2.
        key: of the draw.
    """
    keeps, takes = {"gru": ("iz", None), "lstm": ("hf", "hi")}[cell]
    old = params["cell"]
    shape = old[keeps]["bias"].shape
    bias = jnp.log(jax.random.uniform(key, shape, minval=1.0, maxval=max(span - 1.0, 1.0 + 1e-6)))
    new = {keeps: {**old[keeps], "bias": bias}}
    if takes is not None:
        new[takes] = {**old[takes], "bias": -bias}
    return {**params, "cell": {**old, **new}}


def forget(memory: Memory, ended: Array) -> Memory:
    """The memory, ``[…, M]``, with zeros where an episode ended, bool ``[…]``."""
    return jax.tree.map(lambda x: jnp.where(ended[..., None], 0.0, x), memory)


def before(memory: Memory, after: Memory, first: Array) -> Memory:
    """The memory with which each step began, ``[T, n, M]``, from that after each.

    Args:
        memory: before the first step, ``[n, M]``.
        after: ``[T, n, M]``.
        first: bool ``[T, n]``: where an episode begins, without memory.
    """
    earlier = jax.tree.map(lambda start, x: jnp.concatenate([start[None], x[:-1]]), memory, after)
    return forget(earlier, first)


def cell_parameters(cell: Cell, inputs: int, units: int) -> int:
    """Parameters of a cell of M units that reads W numbers: GRU 3M(W + M) + 4M, LSTM 4M(W + M) + 4M."""
    gates = {"gru": 3, "lstm": 4}[cell]
    return gates * units * (inputs + units) + 4 * units


def recurrent_parameters(
    kind: Kind,
    width: int,
    blocks: int,
    cell: Cell,
    memory_width: int,
    inputs: int,
    outputs: int,
    picture: Picture | None = None,
    gaussian: bool = False,
) -> int:
    """Parameters of a network that remembers: trunk, cell, M + 1 for each output, and one more for each
    of a Gaussian."""
    units = trunk_units(kind, width, picture, LAYERS)
    trunk = trunk_parameters(kind, width, blocks, inputs, picture, LAYERS)
    heads = outputs * (memory_width + 1 + gaussian)
    return trunk + cell_parameters(cell, units, memory_width) + heads
