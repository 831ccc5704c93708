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


GB = 1 << 30


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of 64 GB whose control groups lie in this folder; nothing is limited by ``ulimit``."""
    monkeypatch.setattr(machine, "memory_bytes", lambda: 64 * GB)
    monkeypatch.setattr(machine, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, 3))
    return tmp_path


def member(folder: Path, lines: str, **limits: int | str) -> int:
    """What is allowed to a member of these groups; ``__`` in names of files is ``/``, ``_0_`` a dot."""
    (folder / "membership").write_text(lines)
    for name, limit in limits.items():
        file = folder / "groups" / name.replace("__", "/").replace("_0_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")
    return machine.allowed_bytes()


def test_control_groups_limit_memory(groups: Path) -> None:
    """Of version 2: the process's own, and every one around it; others' do not."""
    assert machine.allowed_bytes() == 64 * GB  # nothing is told
    jobs = "0::/slurm/job/step\n"
    assert member(groups, jobs) == 64 * GB
    assert member(groups, jobs, slurm__job__step__memory_0_max="max") == 64 * GB
    assert member(groups, jobs, slurm__other__memory_0_max=GB, memory_0_max=90 * GB) == 64 * GB
    assert member(groups, jobs, slurm__job__memory_0_max=24 * GB) == 24 * GB
    assert member(groups, jobs, slurm__job__step__memory_0_max=7 * GB + 5) == 7 * GB + 5
    assert member(groups, jobs, memory_0_max=3 * GB) == 3 * GB
    (groups / "memory.max").write_text("1")  # above the root of all groups is none
    assert machine.allowed_bytes() == 3 * GB


def test_control_groups_of_version_1_limit_memory(groups: Path) -> None:
    """A tree is a controller's. A container may see its own as the root: the path leads nowhere."""
    lines = "9:cpu,cpuacct:/a\n4:hugetlb,memory:/docker/b\n1:name=systemd:/c\n0::/\n"
    limits = {"memory__a": 2 * GB, "cpu__a": 2 * GB, "memory__docker__b": 2**63 - 4096}
    named = {f"{path}__memory_0_limit_in_bytes": limit for path, limit in limits.items()}
    assert member(groups, lines, **named) == 64 * GB
    assert member(groups, lines, memory__docker__b__memory_0_limit_in_bytes=6 * GB) == 6 * GB
    assert (
        member(groups, lines.replace("docker", "gone"), memory__memory_0_limit_in_bytes=5 * GB) == 5 * GB
    )


@pytest.mark.parametrize("limited", [resource.RLIMIT_AS, resource.RLIMIT_DATA])
def test_ulimit_limits_memory(groups: Path, monkeypatch: pytest.MonkeyPatch, limited: int) -> None:
    """The soft limit, which is the first of two."""

    def limit(of: int) -> tuple[int, int]:
        return (11 * GB, 13 * GB) if of == limited else (resource.RLIM_INFINITY, 2 * GB)

    monkeypatch.setattr(resource, "getrlimit", limit)
    assert machine.allowed_bytes() == 11 * GB
    assert member(groups, "0::/\n", memory_0_max=7 * GB) == 7 * GB


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
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        use_cache()
        assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "sparse_rl" / "programs")
        assert os.environ["JAX_COMPILATION_CACHE_DIR"] == jax.config.values["jax_compilation_cache_dir"]
        monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
        use_cache()  # what was said before stands
        assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "sparse_rl" / "programs")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_memory_is_given_back_where_the_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    give_back_memory()
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())  # a C library without malloc_trim
    give_back_memory()
