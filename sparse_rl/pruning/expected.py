"""What a random mask leaves unread, from counts alone: probabilities, nothing is drawn.

For plans: drawing masks of every width would take longer than a short run. All follow from the ways
in which masks are drawn (:mod:`sparse_rl.pruning.patterns`). One is near, not exact: beyond a minimum
fan-in weights are taken as drawn anew, but their numbers are those of which each unit's smallest are
gone. They cluster a little more in some units, and leave up to 3 % fewer inputs unread than expected.
"""

import math
from typing import NamedTuple

import numpy as np

from sparse_rl.pruning.patterns import Pattern


class Layer(NamedTuple):
    """One layer, and how its mask is drawn."""

    inputs: int
    units: int
    kept: int | None
    """Weights that survive; ``None`` where every input is read and every unit reads (dense, blocks)."""
    pattern: Pattern
    min_fan_in: int
    min_fan_out: int


def _none_of(chosen: float, places: float, among: float) -> float:
    """Probability that ``chosen`` draws without replacement out of ``among`` hit none of ``places``."""
    if chosen > among - places:
        return 0.0
    left = math.lgamma(among - places + 1) - math.lgamma(among - places - chosen + 1)
    return math.exp(left - math.lgamma(among + 1) + math.lgamma(among - chosen + 1))


def unread(layer: Layer, rows: np.ndarray) -> np.ndarray:
    """Probability that no weight reads what lies in some rows of a layer.

    Args:
        layer: how its mask is drawn.
        rows: int ``[n, r]``: of each of n things, its rows.

    Returns:
        float64 ``[n]``.
    """
    n, r = rows.shape
    if layer.kept is None:
        return np.zeros(n)
    if layer.pattern == "banded":
        return _off_band(layer, rows[:, :, None], np.arange(layer.units))
    if layer.min_fan_out:
        return np.full(n, _none_of(min(layer.kept, layer.inputs), r, layer.inputs))
    each, left = divmod(layer.kept, layer.units)
    sure = min(layer.min_fan_in, layer.inputs, layer.kept)
    if layer.pattern == "unstructured" and each >= sure:
        each, left = sure, 0
    first = each * layer.units + left
    missed = _none_of(each, r, layer.inputs) ** (layer.units - left)
    missed *= _none_of(each + 1, r, layer.inputs) ** left
    rest = _none_of(layer.kept - first, r * layer.units, layer.inputs * layer.units - first)
    return np.full(n, missed * rest)


def without_input(layer: Layer) -> np.ndarray:
    """Probability that a unit keeps no input: float64 ``[units]``."""
    if layer.kept is None:
        return np.zeros(layer.units)
    if layer.pattern == "banded":
        return _off_band(layer, np.arange(layer.inputs), np.arange(layer.units)[:, None])
    if layer.pattern == "unstructured" and not layer.min_fan_in:
        size = layer.inputs * layer.units
        return np.full(layer.units, _none_of(layer.kept, layer.inputs, size))
    return np.full(layer.units, max(0.0, 1.0 - layer.kept / layer.units))


def _off_band(layer: Layer, rows: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Probability that none of some places survives: what is nearer than the last survivors is sure,
    and of what is as far as these some are drawn. Rows and units make places ``[n, …]``."""

    def away(rows: np.ndarray, units: np.ndarray) -> np.ndarray:
        return np.abs(rows % layer.units - units)

    count = layer.kept or 0
    found = np.sort(away(np.arange(layer.inputs)[:, None], np.arange(layer.units)), axis=None)
    last = found[count - 1] if count else -1
    sure, ties = int(np.sum(found < last)), int(np.sum(found == last))
    here = away(rows, units)
    here = here.reshape(len(here), -1)
    missed = np.array([_none_of(count - sure, tied, ties) for tied in np.sum(here == last, axis=1)])
    return np.where(np.any(here < last, axis=1), 0.0, missed)
