"""What a run's masks leave without use, before they are drawn: the mean over all masks of its counts."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sparse_rl.loops import Loop
from sparse_rl.networks import Wiring, follow
from sparse_rl.pruning import expected, prunable_shapes, survivors
from sparse_rl.runs.lockstep import Run
from sparse_rl.settings.pruning import PruningConfig


class Connections(NamedTuple):
    """Of one network."""

    unread: float
    """Inputs that no weight reads."""
    inputs: int
    cut_off: float
    """Units without an input, or that no weight reads."""
    units: int


def connections(
    wiring: Wiring, shapes: Mapping[str, tuple[int, ...]], budget: Mapping[str, Any], how: PruningConfig
) -> Connections:
    """Means over all masks; exact.

    Args:
        wiring: of the network.
        shapes: kernel's path → shape, all of the network's kernels.
        budget: path → what is kept; a kernel that is not named is dense.
        how: masks are drawn.
    """
    matrices = {path: (math.prod(shape[:-1]), shape[-1]) for path, shape in shapes.items()}
    first = wiring.first

    def layer(path: str) -> expected.Layer:
        open_ = path in budget and how.pattern != "block"
        return expected.Layer(
            *matrices[path],
            survivors(budget[path]) if open_ else None,
            how.pattern,
            how.min_fan_in,
            how.fan_out if path in first else 0,
        )

    layers = {path: layer(path) for path in matrices}
    found = follow(
        wiring,
        matrices,
        lambda path, rows: expected.unread(layers[path], rows),
        lambda path: expected.without_input(layers[path]),
    )
    unread, cut_off = (np.concatenate(list(part.values())) for part in found)
    return Connections(float(np.sum(unread)), unread.size, float(np.sum(cut_off)), cut_off.size)


def connections_of(loop: Loop, run: Run, networks: Mapping[str, Any]) -> dict[str, Connections]:
    """network → what its masks leave without use when training begins; gradual pruning begins dense.

    Args:
        loop: of the pack.
        run: one of it.
        networks: network → dense parameters, or their shapes.
    """
    how = run.config.pruning
    budgets = {} if how.method == "gradual" else run.inputs.budgets
    return {
        name: connections(loop.agent.wiring[name], prunable_shapes(network), budgets.get(name, {}), how)
        for name, network in networks.items()
    }
