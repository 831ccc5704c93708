"""Candidate scaling laws: score as a function of network size and kept share of the weights.

Sources: power laws with offset for data-to-threshold, Rybkin et al. 2025; a sparsity factor on surviving
parameters, Frantar et al. 2023 (arXiv 2309.08520, eq. 3 at fixed data).
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np

from sparse_rl.analysis.statistics import Floats


class Parameter(NamedTuple):
    """One parameter of a law: how it scales with the data, where it may lie, where the search starts."""

    kind: Literal["level", "slope", "size", "exponent"]
    """A score; a difference of scores; log2 of a size over N0; a pure number."""
    low: float
    high: float
    starts: tuple[float, ...]
    """All combinations are tried. Scores are counted in spreads around their centre here."""


class Law(NamedTuple):
    """A score as a function of network size N and kept share 1 − S."""

    name: str
    formula: str
    """N0 is the geometric mean of the sizes."""
    parameters: Mapping[str, Parameter]
    predict: Callable[[Floats, Floats, Floats], Floats]
    """``(θ [..., parameters], N/N0 [points], 1 − S [points]) → [..., points]``; laws of data as well
    have [points, 2], 1 − S and D/D0."""
    scaling: Literal["standardised", "centred", "none"] = "standardised"
    """Of scores before the fit; a law that is not affine in its levels needs them as they are."""


def _column(theta: Floats, i: int) -> Floats:
    return theta[..., i, None]


def _constant(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return _column(theta, 0) + 0.0 * size


def _logarithm(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return _column(theta, 0) + _column(theta, 1) * np.log2(size)


def _power(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return _column(theta, 0) + _column(theta, 1) * size ** -_column(theta, 2)


def _log_power(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return np.logaddexp(_column(theta, 0), _column(theta, 1) - _column(theta, 2) * np.log(size))


def _peak(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return _column(theta, 0) - _column(theta, 2) * (np.log2(size) - _column(theta, 1)) ** 2


def _logistic(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return 1.0 / (1.0 + 2.0 ** (_column(theta, 1) * (_column(theta, 0) - np.log2(size))))


def _surviving(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return _power(theta, size * kept, kept)


def _sparsity_factor(theta: Floats, size: Floats, kept: Floats) -> Floats:
    c, a, b, e, d = (_column(theta, i) for i in range(5))
    return c + (a * kept**e + b) * (size * kept) ** -d


def _data_alone(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return _power(theta, kept[..., 1], kept)


def _size_and_data(theta: Floats, size: Floats, kept: Floats) -> Floats:
    own = size * kept[..., 0]
    return _power(theta[..., :3], own, kept) + _column(theta, 3) * kept[..., 1] ** -_column(theta, 4)


def _total_and_data(theta: Floats, size: Floats, kept: Floats) -> Floats:
    dense = np.stack([np.ones_like(size), kept[..., 1]], axis=-1)
    return _size_and_data(theta, size, dense)


def _size_data_and_sparsity(theta: Floats, size: Floats, kept: Floats) -> Floats:
    of_data = _column(theta, 5) * kept[..., 1] ** -_column(theta, 6)
    return _sparsity_factor(theta[..., :5], size, kept[..., 0]) + of_data


def _intrinsic(theta: Floats, size: Floats, kept: Floats) -> Floats:
    n, e, of_size, of_data = (_column(theta, i) for i in range(4))
    lacking = np.logaddexp(of_size * (n - np.log(size)), of_data * (e - np.log(kept[..., 1])))
    return -(1.0 / of_size + 1.0 / of_data) * lacking


def _surface(theta: Floats, size: Floats, kept: Floats) -> Floats:
    x, z = np.log2(size), np.log2(kept)
    terms = (np.ones_like(x), x, x * x, z, z * z, x * z)
    return sum((_column(theta, i) * term for i, term in enumerate(terms)), np.zeros(()))


_LEVEL = Parameter("level", -30.0, 30.0, (0.0,))
_SLOPE = Parameter("slope", -30.0, 30.0, (-1.0, 1.0))
_EXPONENT = Parameter("exponent", 0.01, 4.0, (0.1, 0.5, 1.5))
_POSITION = Parameter("size", -20.0, 20.0, (-3.0, -1.0, 0.0, 1.0, 3.0))
_CURVATURE = Parameter("slope", 0.0, 30.0, (0.05, 0.5))

CONSTANT = Law("constant", "c", {"c": _LEVEL}, _constant)
LOGARITHM = Law("logarithm", "c + k·log2(N/N0)", {"c": _LEVEL, "k": _SLOPE}, _logarithm)
POWER = Law(
    "power", "c + a·(N/N0)^−b", {"c": _LEVEL, "a": _SLOPE, "b": _EXPONENT}, _power
)  # fmt: skip
PEAK = Law(
    "peak", "c − k·log2(N/m)²", {"c": _LEVEL, "m": _POSITION, "k": _CURVATURE}, _peak
)  # fmt: skip

LOGISTIC = Law(
    "logistic", "1/(1 + (N/m)^−b)", {"m": _POSITION, "b": _EXPONENT}, _logistic, "none"
)  # fmt: skip

DATA_LOGARITHM = LOGARITHM._replace(name="power", formula="ln D = c + k·log2(N/N0)")
DATA_POWER = Law(
    "power with offset",
    "ln D = ln(e^c + e^a·(N/N0)^−b)",
    {"c": _LEVEL._replace(starts=(-3.0, 0.0)), "a": _LEVEL, "b": _EXPONENT},
    _log_power,
    "centred",
)
DATA_TROUGH = PEAK._replace(
    name="trough",
    formula="ln D = c − k·log2(N/m)²",
    parameters={**PEAK.parameters, "k": Parameter("slope", -30.0, 0.0, (-0.05, -0.5))},
)

TOTAL = POWER._replace(name="total parameters", formula="c + a·(N_total/N0)^−b")
SURVIVING = POWER._replace(
    name="surviving parameters", formula="c + a·(N_nonzero/N0)^−b", predict=_surviving
)
SPARSITY_FACTOR = Law(
    "sparsity factor",
    "c + (a·(1−S)^e + b)·(N_nonzero/N0)^−d",
    {"c": _LEVEL, "a": _SLOPE, "b": _SLOPE, "e": _EXPONENT, "d": _EXPONENT},
    _sparsity_factor,
)
SURFACE = Law(
    "surface",
    "c + x·X + xx·X² + z·Z + zz·Z² + xz·X·Z, X = log2(N_total/N0), Z = log2(1−S)",
    {"c": _LEVEL} | {name: _SLOPE._replace(starts=(0.0,)) for name in ("x", "xx", "z", "zz", "xz")},
    _surface,
)

CURVES = (CONSTANT, LOGARITHM, POWER, PEAK)
"""Return against one size; higher is better."""
NORMALISED = (*CURVES, LOGISTIC)
"""Score in [0, 1] against one size."""
DATA = (CONSTANT, DATA_LOGARITHM, DATA_POWER, DATA_TROUGH)
"""Logarithm of the data to a threshold against one size; lower is better."""
JOINT = (TOTAL, SURVIVING, SPARSITY_FACTOR, SURFACE)
"""Score against total parameters and sparsity."""

DATA_ALONE = Law(
    "data alone", "c + e·(D/D0)^−f", {"c": _LEVEL, "e": _SLOPE, "f": _EXPONENT}, _data_alone
)
_OF_DATA = {
    "e": _SLOPE._replace(starts=(-1.0,)), "f": _EXPONENT._replace(starts=(0.2, 1.0)),
}  # fmt: skip
SIZE_AND_DATA = Law(
    "surviving parameters and data",
    "c + a·(N_nonzero/N0)^−b + e·(D/D0)^−f",
    {**POWER.parameters, **_OF_DATA},
    _size_and_data,
)
TOTAL_AND_DATA = SIZE_AND_DATA._replace(
    name="total parameters and data",
    formula="c + a·(N_total/N0)^−b + e·(D/D0)^−f",
    predict=_total_and_data,
)
SIZE_DATA_AND_SPARSITY = Law(
    "parameters, data and sparsity",
    "c + (a·(1−S)^g + h)·(N_nonzero/N0)^−b + e·(D/D0)^−f",
    {
        "c": _LEVEL, "a": _SLOPE, "h": _SLOPE, "g": _EXPONENT._replace(starts=(0.5,)),
        "b": _EXPONENT._replace(starts=(0.2, 1.0)), **_OF_DATA,
    },
    _size_data_and_sparsity,
)  # fmt: skip
INTRINSIC = Law(
    "intrinsic performance",
    "I^−β = (n/N)^αN + (e/D)^αD, 1/β = 1/αN + 1/αD, ln I the score",
    {
        "n": _LEVEL._replace(starts=(-2.0, 0.0, 2.0)), "e": _LEVEL._replace(starts=(-2.0, 0.0, 2.0)),
        "αN": _EXPONENT, "αD": _EXPONENT,
    },
    _intrinsic,
    "centred",
)  # fmt: skip
WITH_DATA = (DATA_ALONE, TOTAL_AND_DATA, SIZE_AND_DATA, SIZE_DATA_AND_SPARSITY)
"""Score against total parameters, data and sparsity: Hoffmann et al. 2022 (arXiv 2203.15556, eq. 10),
with Frantar et al.'s sparsity factor (2023, eq. 3). ``kept`` is [points, 2]: 1 − S, and D/D0."""
