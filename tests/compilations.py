"""What XLA compiles, counted."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

PROGRAMS = ("jit(init)", "jit(chunk)", "jit(evaluate)")
"""Of a pack."""


@contextmanager
def count_compilations() -> Iterator[list[str]]:
    """Names of the programs that XLA compiles inside the block (cache hits included)."""
    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(details.get("fun_name", "?")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
