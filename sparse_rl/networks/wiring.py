"""What each layer of a network reads, as data: which units a kernel's rows are.

Diagnostics follow it to find inputs that nothing reads and units that lead nowhere; pruning learns from
it which layers read the network's inputs, and the shapes of kernels that are held as matrices.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import numpy as np

from sparse_rl.extensions import OwnCode
from sparse_rl.networks.convolutions import DRQ_SIZE, DRQ_STRIDES, Picture, layer_name, layers
from sparse_rl.networks.dense import (
    CONV_SIZE,
    MLP_LAYERS,
    Critic,
    DeterministicActor,
    GaussianActor,
    Kind,
    Policy,
    conv_positions,
)
from sparse_rl.networks.drq import HEADS, Encoder, PixelActor, TwinCritic
from sparse_rl.networks.mixers import HIDDEN, Mixer
from sparse_rl.networks.observing import READ, observed
from sparse_rl.networks.recurrent import KERNELS, LAYERS, Recurrent, RecurrentCritic, RecurrentPolicy
from sparse_rl.networks.streaming import StreamNetwork


class Wire(NamedTuple):
    """One layer. Its kernel is ``<layer>/kernel``, ``[inputs, units]``."""

    layer: str
    """``trunk/embed``."""
    reads: tuple[tuple[str, ...], ...]
    """What its rows are, one group after the other: the layers whose units are added up there, or the
    name of an input of the network. A group of n units that is laid out at several places, or under a
    window, has its rows in the order (place, unit)."""
    window: tuple[int, int] | None = None
    """Of a convolution: height and width of its kernel."""
    places: tuple[int, ...] = ()
    """Where there are several groups: at how many places each is laid out; none said: once each."""
    drawn: Literal["orthogonal", "fan_in"] = "orthogonal"
    """How its kernel is drawn: an orthogonal matrix, or numbers whose variance is as 1/inputs."""

    @property
    def kernel(self) -> str:
        return f"{self.layer}/kernel"


class Wiring(NamedTuple):
    """The layers of one network; those that no other one reads are its heads."""

    layers: tuple[Wire, ...]

    @property
    def names(self) -> set[str]:
        return {wire.layer for wire in self.layers}

    @property
    def heads(self) -> tuple[str, ...]:
        """Layers whose units are what the network puts out."""
        read = {name for wire in self.layers for group in wire.reads for name in group}
        return tuple(wire.layer for wire in self.layers if wire.layer not in read)

    @property
    def first(self) -> tuple[str, ...]:
        """Kernels of the layers that read an input of the network."""
        names = self.names
        reads = {wire.kernel: (name for group in wire.reads for name in group) for wire in self.layers}
        return tuple(kernel for kernel, read in reads.items() if not names.issuperset(read))


def chain(*layers: str, inputs: str = "inputs") -> tuple[Wire, ...]:
    """Layers that each read the one before."""
    return tuple(
        Wire(layer, ((before,),)) for before, layer in zip((inputs, *layers), layers, strict=False)
    )


def heads(*layers: str, of: Iterable[str]) -> tuple[Wire, ...]:
    """Layers that all read the sum of the same ones."""
    return tuple(Wire(layer, (tuple(of),)) for layer in layers)


class Trunk(NamedTuple):
    """The layers of a trunk, and what it puts out."""

    layers: tuple[Wire, ...]
    out: tuple[tuple[str, ...], ...]
    """As :attr:`Wire.reads` of who reads it."""
    places: tuple[int, ...] = ()

    def read_by(self, *layers: str) -> tuple[Wire, ...]:
        """Layers that all read what it puts out."""
        return tuple(Wire(layer, self.out, places=self.places) for layer in layers)


def kernel_shapes(wiring: Wiring, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """path → shape, of convolutions that of their kernels: ``(height, width, channels, units)``.

    Args:
        wiring: of the network.
        shapes: path → shape as held, that of a matrix.
    """
    found = dict(shapes)
    for wire in wiring.layers:
        if wire.window and wire.kernel in shapes:
            rows, units = shapes[wire.kernel]
            found[wire.kernel] = (*wire.window, rows // math.prod(wire.window), units)
    return found


class Reached(NamedTuple):
    """Of each input and unit of a network, whether it is of no use: 0 or 1, or a probability."""

    unread: dict[str, Any]
    """name of an input → ``[entries]``: no layer reads it."""
    cut_off: dict[str, Any]
    """layer → ``[units]``: it has no input, or no layer reads it."""


def follow(
    wiring: Wiring,
    shapes: Mapping[str, tuple[int, ...]],
    unread: Callable[[str, np.ndarray], Any],
    without_input: Callable[[str], Any],
) -> Reached:
    """Put together, over all layers, what each leaves unread.

    Where several layers' units are added up, who reads the sum reads each.

    Args:
        wiring: of the network.
        shapes: kernel's path → inputs and units, as a matrix.
        unread: ``(kernel, rows [n, r]) → [n]``: whether the kernel reads none of each one's rows.
        without_input: ``kernel → [units]``.
    """
    names = wiring.names
    not_read: dict[str, Any] = {}
    for wire in wiring.layers:
        rows, first = shapes[wire.kernel][0], 0
        sizes = [shapes[f"{group[0]}/kernel"][1] if group[0] in names else 0 for group in wire.reads]
        places = wire.places or (1,) * len(sizes)
        for group, size, often in zip(wire.reads, sizes, places, strict=True):
            # what is no layer's lies under a window, or is what the other groups leave
            entries = size or (rows - sum(sizes)) // math.prod(wire.window or (1,))
            end = rows if len(sizes) == 1 else first + often * entries
            missed = unread(wire.kernel, np.arange(first, end).reshape(-1, entries).T)
            first = end
            for name in group:
                not_read[name] = not_read.get(name, 1) * missed
    cut_off = {
        wire.layer: 1 - (1 - without_input(wire.kernel)) * (1 - not_read.get(wire.layer, 0))
        for wire in wiring.layers
    }
    return Reached({name: x for name, x in not_read.items() if name not in names}, cut_off)


def ensemble(wiring: Wiring, labels: Iterable[str]) -> Wiring:
    """Networks of the same wiring, each with inputs and layers of its own, named ``label/…``."""

    def labelled(label: str, wire: Wire) -> Wire:
        reads = tuple(tuple(f"{label}/{name}" for name in group) for group in wire.reads)
        return wire._replace(layer=f"{label}/{wire.layer}", reads=reads)

    return Wiring(tuple(labelled(label, wire) for label in labels for wire in wiring.layers))


def _simba(blocks: int) -> Trunk:
    """Its heads read a sum: each block adds to what was before."""
    wires, stream = [*chain("trunk/embed")], ["trunk/embed"]
    for name in (f"trunk/block_{b}" for b in range(blocks)):
        block = (*heads(f"{name}_expand", of=stream), *chain(f"{name}_project", inputs=f"{name}_expand"))
        wires += (wire._replace(drawn="fan_in") for wire in block)
        stream.append(f"{name}_project")
    return Trunk(tuple(wires), (tuple(stream),))


def _convolving(windows: Iterable[tuple[int, int]], inputs: str = "inputs") -> tuple[Wire, ...]:
    """Convolutions one after the other."""
    windows = list(windows)
    names = [f"trunk/{layer_name(i)}" for i in range(len(windows))]
    return tuple(
        wire._replace(window=window)
        for wire, window in zip(chain(*names, inputs=inputs), windows, strict=True)
    )


def _minigrid(picture: Picture, dense: Sequence[str]) -> Trunk:
    """A convolution of the picture, the numbers beside it, and dense layers that read both."""
    wires = _convolving([(CONV_SIZE, CONV_SIZE)], "picture")
    wires += chain("trunk/beside", inputs="beside")
    both = Trunk(wires, tuple((wire.layer,) for wire in wires), (conv_positions(picture), 1))
    if not dense:
        return both
    rest = chain(*dense[1:], inputs=dense[0])
    return Trunk((*wires, *both.read_by(dense[0]), *rest), ((dense[-1],),))


def _own(kind: str) -> Trunk:
    """What was observed of a user's trunk."""
    found = observed(kind)

    def named(groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(n if n == READ else f"trunk/{n}" for n in group) for group in groups)

    layers = tuple(Wire(f"trunk/{name}", named(reads)) for name, reads in found.layers.items())
    return Trunk(layers, named(found.out))


def _trunk(
    kind: Kind, width: int, blocks: int, picture: Picture | None, mlp_layers: int = MLP_LAYERS
) -> Trunk:
    """What a trunk's layers read, and what is read of it."""
    names = [f"trunk/dense_{i}" for i in range(mlp_layers)]
    if kind == "simba":
        return _simba(blocks)
    if isinstance(kind, OwnCode):
        return _own(kind)
    if kind == "mlp":
        return Trunk(chain(*names), ((names[-1],),))
    if kind == "minigrid":
        assert picture is not None
        return _minigrid(picture, names[:-1])
    sizes = [CONV_SIZE] if kind == "minatar" else [layer.size for layer in layers(kind, width)]
    wires = _convolving((size, size) for size in sizes)
    return Trunk((*wires, *chain("trunk/dense", inputs=wires[-1].layer)), (("trunk/dense",),))


def _twin() -> Wiring:
    wires = chain("trunk/feature", inputs="seen")
    for head in HEADS:
        hidden = f"trunk/{head}_dense_0", f"trunk/{head}_dense_1"
        wires += (Wire(hidden[0], (("trunk/feature",), ("action",))),)
        wires += chain(hidden[1], f"{head}_value", inputs=hidden[0])
    return Wiring(wires)


def _recurrent(network: Recurrent, last: str) -> Wiring:
    """A unit of the memory comes from all kernels of the cell, so who reads it reads a unit of each."""
    trunk = _trunk(network.kind, network.width, network.blocks, network.picture, LAYERS)
    names = {kernel: f"cell/{kernel}" for kernel in KERNELS[network.cell_kind]}
    memory = tuple(names.values())
    cell = [
        heads(name, of=memory) if kernel.startswith("h") else trunk.read_by(name)
        for kernel, name in names.items()
    ]
    gates = (wire._replace(drawn="fan_in") for wire in sum(cell, ()))  # as flax has them
    return Wiring((*trunk.layers, *gates, *heads(last, of=memory)))


def _stream(network: StreamNetwork) -> Wiring:
    alike: Kind = "mlp" if network.kind == "stream_mlp" else "minatar"
    trunk = _trunk(alike, network.width, 1, network.picture)
    return Wiring((*trunk.layers, *trunk.read_by(*(name for name, _ in network.heads))))


def wiring_of(network: nn.Module) -> Wiring:
    """The wiring of one of our networks.

    Raises:
        TypeError: it is none of ours.
    """
    match network:
        case RecurrentCritic():
            return _recurrent(network, "value")
        case RecurrentPolicy():
            return _recurrent(network, "mean" if network.gaussian else "logits")
        case Critic():
            last: tuple[str, ...] = ("value",)
        case Policy():
            last = ("mean",) if network.gaussian else ("logits",)
        case GaussianActor():
            last = ("mean", "log_std")
        case DeterministicActor():
            last = ("mean",)
        case Encoder():
            return Wiring(_convolving((DRQ_SIZE, DRQ_SIZE) for _ in DRQ_STRIDES[network.kind]))
        case Mixer():
            ways = [chain(f"trunk/{name}", name, inputs="state") for name in HIDDEN]
            return Wiring((*sum(ways, ()), *chain("bias_in", inputs="state")))
        case PixelActor():
            hidden = ("trunk/feature", "trunk/dense_0", "trunk/dense_1")
            return Wiring(chain(*hidden, "mean", inputs="seen"))
        case TwinCritic():
            return _twin()
        case StreamNetwork():
            return _stream(network)
        case _:
            raise TypeError(f"nothing is known of what the layers of a {type(network).__name__} read")
    seen = None if isinstance(network, GaussianActor | DeterministicActor) else network.picture
    trunk = _trunk(network.kind, network.width, network.blocks, seen)
    return Wiring((*trunk.layers, *trunk.read_by(*last)))
