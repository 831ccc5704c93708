"""How programs are compiled, and where they are kept between commands."""

import ctypes
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

Name = TypeVar("Name")


def cache_folder(name: str) -> Path:
    """Where what is compiled once per machine is kept, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sparse_rl" / name


def use_cache() -> None:
    """Compile each program once per machine, not once per command; call before anything is compiled.

    What the environment says already is left as it is. jax reads it when it is imported, which happens
    early: a jax that is there already is told, and processes that are started later inherit the rest.
    """
    options = {
        "jax_compilation_cache_dir": str(cache_folder("xla")),
        "jax_persistent_cache_min_compile_time_secs": 1.0,
    }
    for name, value in options.items():
        if name.upper() not in os.environ:
            os.environ[name.upper()] = str(value)
            if "jax" in sys.modules:
                sys.modules["jax"].config.update(name, value)


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
