"""Programs that are made one after another share MLIR's context, where jax makes one for each.

A context is of 1.1 MB and 3 ms, whatever the program, and lives as long as what jax remembers of it. A
file of the suite makes a thousand programs of a line each: its contexts came to more than all else that
a worker held. What is lowered apart, to be compiled beside others in threads, has its own as ever.
"""

import functools
import threading
from typing import Any

from jax import stages
from jax._src.interpreters import mlir
from jaxlib.mlir import ir

MANY = 100
"""Programs to a context: what was in them lies there until it goes."""


class _Shared:
    """The context of now, and how many programs it has."""

    context: Any = None
    programs = 0
    apart = 0


def renew() -> None:
    """The next program has a new context; the old one goes with its programs."""
    _Shared.context = None


def _inside() -> bool:
    """Whether another program is being lowered: what is made meanwhile would become a part of it."""
    try:
        return ir.Context.current is not None
    except ValueError:
        return False


def _sharing(make: Any) -> Any:
    @functools.wraps(make)
    def context() -> Any:
        if _Shared.apart or threading.current_thread() is not threading.main_thread() or _inside():
            return make()
        if _Shared.context is None or _Shared.programs == MANY:
            _Shared.context, _Shared.programs = make(), 0
        _Shared.programs += 1
        return _Shared.context

    return context


def _with_its_own(lower: Any) -> Any:
    @functools.wraps(lower)
    def apart(*arguments: Any, **options: Any) -> Any:
        _Shared.apart += 1
        try:
            return lower(*arguments, **options)
        finally:
            _Shared.apart -= 1

    return apart


def use() -> None:
    """From now on, in this process."""
    mlir.make_ir_context = _sharing(mlir.make_ir_context)
    traced: Any = stages.Traced
    traced.lower = _with_its_own(traced.lower)
