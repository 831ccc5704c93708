"""Numbers that commands are given: refused before anything is read where they can mean nothing."""

import math
from argparse import Namespace
from collections.abc import Iterable, Sequence


def _refuse(options: Namespace, names: Iterable[str], least: float, takes: str) -> None:
    for name in names:
        found = getattr(options, name)
        for value in found if isinstance(found, Sequence) else [found]:
            if value is not None and not (math.isfinite(value) and value >= least):
                raise ValueError(f"--{name.replace('_', '-')} takes {takes}, got {value:g}")


def check_numbers(
    options: Namespace,
    *,
    counts: Sequence[str] = (),
    positive: Sequence[str] = (),
    finite: Sequence[str] = (),
) -> None:
    """Look through options by their names in Python; what was not given (``None``) is fine.

    Args:
        counts: at least 1.
        positive: above 0, and no infinity.
        finite: any number, but nan and infinities are none.

    Raises:
        ValueError: one is not; it is named with what is allowed.
    """
    _refuse(options, counts, 1, "a whole number > 0")
    _refuse(options, positive, math.ulp(0.0), "a number > 0")
    _refuse(options, finite, -math.inf, "a number")
