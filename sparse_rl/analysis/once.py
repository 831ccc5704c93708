"""What was worked out of equal numbers is not worked out again: a report asks for it several times."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from functools import wraps
from hashlib import blake2b
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd

KEPT = 256
"""Results of each function; those that were not asked for the longest are forgotten first."""

P = ParamSpec("P")
R = TypeVar("R")


def _key(part: Any) -> Hashable:
    """Equal for equal contents, of arrays and tables too; functions are equal to themselves."""
    if isinstance(part, np.ndarray):
        objects = part.dtype == object  # whose bytes are addresses
        content = repr(part.tolist()).encode() if objects else part.tobytes()
        return part.shape, str(part.dtype), blake2b(content, digest_size=16).digest()
    if isinstance(part, pd.DataFrame):
        columns = {name: part[name].to_numpy() for name in part}
        return _key(part.index.to_numpy()), _key(columns)
    if isinstance(part, Mapping):
        return tuple((name, _key(value)) for name, value in part.items())
    if isinstance(part, tuple | list):
        return type(part), *map(_key, part)
    return type(part), part


def once(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, which keeps what it returned; errors are not kept.

    It must draw from seeds that it is given, and nobody may write to what it returns.
    """
    kept: OrderedDict[Hashable, R] = OrderedDict()

    @wraps(function)
    def remembering(*args: P.args, **kwargs: P.kwargs) -> R:
        key = _key((args, kwargs))
        if key not in kept:
            kept[key] = function(*args, **kwargs)
            if len(kept) > KEPT:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key]

    return remembering
