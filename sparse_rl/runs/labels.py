"""Whether a run is as sparse as its label says, and can learn: told by its counts, before it starts."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from sparse_rl.networks import Wiring
from sparse_rl.pruning import dynamic, survivors
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError

Budgets = Mapping[str, Mapping[str, Any]]
Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]
"""network → path → shape of what may be pruned."""


def check_counts(
    config: RunConfig,
    wiring: Mapping[str, Wiring],
    shapes: Shapes,
    budgets_at: Callable[[float], Budgets],
) -> None:
    """Raise :class:`ConfigError` where a run would end ``done`` and not be what its label says.

    A network that loses no weight; a head that no input can reach, so that it is a constant.

    Args:
        config: of the run.
        wiring: network → what its layers read.
        shapes: of what may be pruned.
        budgets_at: factor on all sparsities → network → path → what is kept.
    """
    budgets = budgets_at(1.0)
    for name, sizes in shapes.items():
        total = {path: math.prod(shape) for path, shape in sizes.items()}
        here = f"width={config.width}: the {name}, sparsity={config.sparsities[name]:g},"
        if total and _kept(sizes, budgets[name]) == total:
            raise ConfigError(
                f"{here} would lose none of its {sum(total.values()):,} weights; give 0, or a larger one"
            )
        cut = _constant(wiring[name], sizes, budgets[name])
        if cut:
            sparsity = config.sparsities[name]
            below = (mille / 1000 for mille in range(math.ceil(1000 * sparsity) - 1, 0, -1))
            nearest = next(
                s
                for s in (*below, 0.0)
                if not s or not _constant(wiring[name], sizes, budgets_at(s / sparsity)[name])
            )
            raise ConfigError(
                f"{here} would see nothing of its inputs, for too few weights are left for a way to "
                f"{' and '.join(cut)}; the nearest sparsity that works is {nearest:g}, or give a "
                "larger width"
            )


def _kept(sizes: Mapping[str, tuple[int, ...]], budget: Mapping[str, Any]) -> dict[str, int]:
    """path → weights that survive."""
    total = {path: math.prod(shape) for path, shape in sizes.items()}
    return total | {path: survivors(kept) for path, kept in budget.items()}


def _constant(
    wiring: Wiring, sizes: Mapping[str, tuple[int, ...]], budget: Mapping[str, Any]
) -> list[str]:
    """:func:`constant_heads` of a network; none of one that is not pruned."""
    return constant_heads(wiring, _kept(sizes, budget)) if sizes else []


def constant_heads(wiring: Wiring, kept: Mapping[str, int]) -> list[str]:
    """Heads that some input of the network cannot reach through layers that keep a weight.

    Args:
        wiring: of the network.
        kept: kernel's path → weights that survive.
    """

    def reached(left: Mapping[str, int]) -> dict[str, set[str]]:
        """layer → inputs of the network that reach it, with so many weights left in each kernel."""
        found: dict[str, set[str]] = {}
        for wire in wiring.layers:
            sources = (found.get(name, {name}) for group in wire.reads for name in group)
            found[wire.layer] = set().union(*sources) if left[wire.kernel] else set()
        return found

    all_of_it, now = reached(dict.fromkeys(kept, 1)), reached(kept)
    return [head for head in wiring.heads if now[head] != all_of_it[head]]


def check_exchanges(config: RunConfig, shapes: Shapes, budgets: Budgets, updates: int) -> None:
    """Raise :class:`ConfigError` if no layer has weights enough to exchange one (SET, RigL).

    Args:
        config: of the run.
        shapes: of what may be pruned.
        budgets: network → path → what is kept.
        updates: optimiser steps in the whole run.
    """
    if config.pruning.method not in ("set", "rigl") or not any(budgets.values()):
        return
    pruning, share = config.pruning, config.pruning.drop_share
    if pruning.method == "rigl":
        progress = pruning.change_every / updates
        share = float(dynamic.cosine_share(share, progress, pruning.change_until))
    open_layers = [
        survivors(kept)
        for name, paths in budgets.items()
        for path, kept in paths.items()
        if survivors(kept) < math.prod(shapes[name][path])
    ]
    if not any(int(share * kept) for kept in open_layers):
        raise ConfigError(
            f"pruning.method={pruning.method}: masks would never change, for pruning.drop_share="
            f"{pruning.drop_share:g} of no layer's weights (at most {max(open_layers, default=0)}) is "
            "one weight; give a larger drop_share or width"
        )
