"""How programs are compiled, and where they are kept between commands."""

import contextlib
import ctypes
import os
import stat
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sparse_rl.kernels.machine import processor

Name = TypeVar("Name")


MOST_BYTES = 4 << 30
"""Of compiled programs that are kept; the oldest go."""


class CacheError(OSError):
    """There is no folder of this user's alone for what is compiled."""


def cache_folder(name: str) -> Path:
    """Where what is compiled once per machine is kept: a folder of the user's own, to which nobody else
    may write, for what lies there is run.

    Raises:
        CacheError: it belongs to somebody else, others may write to it, or it cannot be made.
    """
    root = _caches()
    temporary = root.parent == Path(tempfile.gettempdir())
    if temporary:
        _own(root)
    _own(root / "sparse_rl")
    return _own(root / "sparse_rl" / name)


def _own(folder: Path) -> Path:
    """A folder of this user, which nobody else may write to."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise CacheError(f"{folder} cannot be made ({error.strerror})") from error
    if found.st_uid != os.getuid():
        raise CacheError(f"{folder} belongs to user {found.st_uid}, and what is in it is run as you")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        folder.chmod(stat.S_IMODE(found.st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))
    return folder


def _caches() -> Path:
    """The user's folder of caches; one of his own among temporary files where he has no home."""
    told = os.environ.get("XDG_CACHE_HOME")
    if told and Path(told).is_absolute():
        return Path(told)
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in passwd
        home = Path("/")
    if home != Path("/") and os.access(home, os.W_OK):
        return home / ".cache"
    return Path(tempfile.gettempdir()) / f"sparse_rl_{os.getuid()}"


PROGRAMS = "programs"
"""Our folder of compiled programs. A folder of a limited size must hold nothing from before the limit:
jax looks for the time of each entry's last use, and writes nothing where one has none."""


def use_cache() -> None:
    """Compile each program once per machine, not once per command; call before anything is compiled.

    What the environment says already is left as it is. jax reads it when it is imported, which happens
    early: a jax that is there already is told, and processes that are started later inherit the rest.
    """
    folder = "jax_compilation_cache_dir"
    options: dict[str, Any] = {"jax_persistent_cache_min_compile_time_secs": 1.0}
    if folder.upper() not in os.environ:
        with contextlib.suppress(CacheError):  # programs are compiled by each command then
            options |= {
                folder: str(cache_folder(PROGRAMS)),
                "jax_compilation_cache_max_size": MOST_BYTES,
            }
    if "jax" in sys.modules:
        _tell_processors_apart()
        _check_what_is_kept()
    for name, value in options.items():
        if name.upper() not in os.environ:
            os.environ[name.upper()] = str(value)
            if "jax" in sys.modules:
                sys.modules["jax"].config.update(name, value)


def _tell_processors_apart() -> None:
    """A home may be shared by machines whose processors differ; jax's keys do not tell them apart."""
    from jax._src import cache_key

    if hasattr(cache_key, "custom_hook"):
        cache_key.custom_hook = processor


def _check_what_is_kept() -> None:
    """Have zlib pack the programs: what it unpacks has a checksum, so that a damaged program is compiled
    again, and jax says so. zstandard, which jax takes where there is one, is given none."""
    from jax._src import compilation_cache

    for name in ("zstd", "zstandard"):
        if hasattr(compilation_cache, name):
            setattr(compilation_cache, name, None)


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
