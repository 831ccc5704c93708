"""Caches of compiled code are their user's alone: what lies there is run."""

import os
import sys
import tempfile
import types
import zlib
from pathlib import Path

import pytest

from sparse_rl.kernels.compilation import (
    PROGRAMS,
    CacheError,
    _check_what_is_kept,
    cache_folder,
    use_cache,
)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_cache_is_private_whatever_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = os.umask(0)
    try:
        folder = cache_folder("kernels")
    finally:
        os.umask(before)
    assert folder == tmp_path / "sparse_rl" / "kernels"
    assert mode(folder) == 0o700
    folder.chmod(0o775)  # as versions before made it in a group's home
    assert mode(cache_folder("kernels")) == 0o755


def test_what_another_user_owns_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache_folder("xla")
    (tmp_path / "sparse_rl" / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be made"):
        cache_folder("file")
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    with pytest.raises(CacheError, match="belongs to user"):
        cache_folder("xla")


def test_without_a_home_there_is_a_folder_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert cache_folder("xla") == tmp_path / f"sparse_rl_{os.getuid()}" / "sparse_rl" / "xla"


def test_a_folder_of_the_users_own_is_not_limited(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It may hold entries without the time of their last use, of which jax would complain for ever."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE"):
        os.environ.pop(name, None)
    os.environ["XDG_CACHE_HOME"] = str(tmp_path)
    monkeypatch.delitem(sys.modules, "jax")  # what is there already is not to be told
    os.environ["JAX_COMPILATION_CACHE_DIR"] = "/of/the/user"
    use_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/of/the/user"
    assert "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ
    del os.environ["JAX_COMPILATION_CACHE_DIR"]
    use_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "sparse_rl" / PROGRAMS)
    assert int(os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"]) > 0


def test_a_damaged_program_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """zstandard, where it is installed, would unpack what a disk has changed."""
    from jax._src import compilation_cache

    for name in ("zstd", "zstandard"):
        monkeypatch.setattr(compilation_cache, name, types.SimpleNamespace(), raising=False)
    _check_what_is_kept()
    program, refused = bytes(range(256)) * 40, 0
    packed = compilation_cache.compress_executable(program)
    for at in range(len(packed)):
        damaged = bytearray(packed)
        damaged[at] ^= 1
        try:
            assert compilation_cache.decompress_executable(bytes(damaged)) == program
        except zlib.error:
            refused += 1
    assert refused > len(packed) - 4  # a few bits mean nothing
