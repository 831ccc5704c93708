"""What a function draws at random, returned beside what it returns."""

import contextlib
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
from jax import Array

DRAWS = ("normal", "uniform", "randint")


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """``(…) → (what the function returns, kind of draw → [(words of its key, numbers), …])``.

    It may be compiled. Draws inside of XLA's loops are nobody's to see, and nor are those of a program
    within: of one, what it was made from is watched.
    """
    function = getattr(function, "__wrapped__", function)

    def run(*arguments: Any) -> tuple[Any, dict[str, list[tuple[Array, Array]]]]:
        seen: dict[str, list[tuple[Array, Array]]] = {kind: [] for kind in DRAWS}

        def watch(kind: str) -> Callable[..., Array]:
            draw = getattr(jax.random, kind)

            def drawn(key: Array, *rest: Any, **named: Any) -> Array:
                numbers: Array = draw(key, *rest, **named)
                seen[kind].append((jax.random.key_data(key), numbers))
                return numbers

            return drawn

        with contextlib.ExitStack() as stack:
            for kind in DRAWS:
                stack.enter_context(mock.patch.object(jax.random, kind, watch(kind)))
            return function(*arguments), seen

    return run
