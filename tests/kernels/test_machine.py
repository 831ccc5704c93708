"""What is asked of the machine, on systems that answer less than Linux does."""

import functools
import os
import resource
from pathlib import Path

import jax
import pytest

from sparse_rl.kernels import machine
from sparse_rl.kernels.compilation import give_back_memory, use_cache


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that only Linux has; eight cores."""
    for name in ("sched_getaffinity", "sched_setaffinity", "process_cpu_count"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv(machine.CORES, raising=False)


@pytest.mark.usefixtures("mac")
def test_cores_of_a_system_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.core_numbers() == list(range(8))
    assert machine.cores() == 8
    machine.keep_to([1])  # left undone
    monkeypatch.setenv(machine.CORES, "3,5,7")  # a worker's share
    assert machine.core_numbers() == [3, 5, 7]
    assert machine.cores() == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.delenv(machine.CORES)
    assert machine.cores() == 1


def test_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 2, 9}, raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 64, raising=False)
    assert machine.core_numbers() == [2, 4, 9]
    assert machine.cores() == 3
    monkeypatch.setattr(os, "process_cpu_count", lambda: 2)  # PYTHON_CPU_COUNT=2, from Python 3.13 on
    assert machine.cores() == 2


def test_memory_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.memory_bytes() > 1 << 28

    def unknown(name: str) -> int:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown)
    assert machine.memory_bytes() == machine.ASSUMED_BYTES
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": -1}.get)
    assert machine.memory_bytes() == machine.ASSUMED_BYTES


@pytest.mark.parametrize(("system", "unit"), [("darwin", 1), ("linux", 1024)])
def test_peak_memory_is_in_bytes(monkeypatch: pytest.MonkeyPatch, system: str, unit: int) -> None:
    """``ru_maxrss`` is in bytes on macOS and in KiB on Linux."""
    monkeypatch.setattr("sys.platform", system)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert before * unit <= machine.peak_bytes() <= before * unit * 1.5


def test_machines_without_proc_have_libraries_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)
    monkeypatch.setattr("platform.node", lambda: "one")
    one = machine.processor()
    monkeypatch.setattr("platform.node", lambda: "other")
    assert machine.processor() != one


def test_processors_of_arm_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their features have another name."""
    told = set()
    for features, part in (("asimd", "0xd0c"), ("asimd sve", "0xd0c"), ("asimd", "0xd40")):
        text = f"processor : 0\nBogoMIPS : 50\nFeatures : fp {features}\nCPU part : {part}\n"
        monkeypatch.setattr(Path, "read_text", functools.partial(lambda text: text, text))
        told.add(machine.processor())
    assert len(told) == 3


def test_a_jax_that_is_imported_already_hears_of_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        use_cache()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "sparse_rl" / "xla")
        assert os.environ["JAX_COMPILATION_CACHE_DIR"] == jax.config.jax_compilation_cache_dir
        monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
        use_cache()  # what was said before stands
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "sparse_rl" / "xla")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_memory_is_given_back_where_the_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    give_back_memory()
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())  # a C library without malloc_trim
    give_back_memory()
