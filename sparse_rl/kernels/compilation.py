"""How programs are compiled, and where they are kept between commands."""

import ctypes
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

Name = TypeVar("Name")


def cache_folder(name: str) -> Path:
    """Where what is compiled once per machine is kept, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sparse_rl" / name


def use_cache() -> None:
    """Compile each program once per machine, not once per command; call before jax is imported."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder("xla")))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1")


def give_back_memory() -> None:
    """Return what was freed to the system: glibc keeps a gigabyte after a pack was compiled."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def compile_all(lowered: Mapping[Name, Any], options: Mapping[str, Any]) -> dict[Name, Any]:
    """Programs that were traced → compiled, side by side (tracing itself holds Python's lock)."""
    with ThreadPoolExecutor() as pool:
        programs = pool.map(lambda low: low.compile(compiler_options=options), lowered.values())
        compiled = dict(zip(lowered, programs, strict=True))
    give_back_memory()
    return compiled
