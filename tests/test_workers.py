"""What a worker of the suite holds, and how many there are."""

import functools
from types import SimpleNamespace
from typing import Any

import contexts
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import workers
from jax._src.interpreters import mlir

from sparse_rl.kernels import machine


@functools.cache
def kept(size: int) -> list[int]:
    return [size]


def test_programs_are_let_go_after_each_file(request: pytest.FixtureRequest) -> None:
    assert "programs_go_with_their_file" in request.fixturenames
    program: Any = jax.jit(lambda x: x + 1)
    program(1.0)
    assert program._cache_size() == 1
    large = kept(3)
    workers.forget_programs()
    assert program._cache_size() == 0
    assert kept(3) is not large


def test_small_programs_share_a_context_and_what_is_lowered_apart_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[Any] = []
    make = mlir.ModuleContext.__init__

    def watched(module: Any, **options: Any) -> None:
        make(module, **options)
        found.append(module.context)

    monkeypatch.setattr(mlir.ModuleContext, "__init__", watched)
    monkeypatch.setattr(contexts, "MANY", 3)
    contexts.renew()
    for size in range(2, 6):
        jax.jit(lambda x: x + 2)(jnp.ones(size, jnp.uint16))
    shared = {id(context) for context in found}
    assert len(found) >= 4
    assert len(shared) == -(-len(found) // 3)
    for size in range(2, 4):
        jax.jit(lambda x: x + 3).lower(jnp.ones(size, jnp.uint16))
        shared |= {id(found[-1])}
    assert len(shared) == -(-(len(found) - 2) // 3) + 2


def test_a_program_that_is_made_while_another_is_lowered_is_no_part_of_it() -> None:
    outer = mlir.make_ir_context()
    assert mlir.make_ir_context() is outer
    with outer:
        assert mlir.make_ir_context() is not outer


@pytest.mark.parametrize(
    ("gigabytes", "cores", "number"), [(7.5, 4, 2), (16.0, 2, 3), (1, 4, 1), (200, 64, 8)]
)
def test_workers_are_as_many_as_cores_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, gigabytes: float, cores: int, number: int
) -> None:
    monkeypatch.setattr(workers, "free_memory", lambda: int(gigabytes * 2**30))
    monkeypatch.setattr(machine, "cores", lambda: cores)
    assert workers.pytest_xdist_auto_num_workers() == number


def test_files_that_wait_begin_before_the_others() -> None:
    names = ["agents/test_sac.py", "test_mutants.py", "runs/test_pack.py", *workers.FIRST[:2]]
    items = [SimpleNamespace(path=workers.HERE / name) for name in names]
    workers.pytest_collection_modifyitems(items)
    assert all((workers.HERE / name).exists() for name in workers.FIRST)
    assert [item.path for item in items] == [
        workers.HERE / name for name in (*workers.FIRST, "agents/test_sac.py", "runs/test_pack.py")
    ]


def test_free_memory_is_some_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < workers.free_memory() < machine.memory_bytes()
    monkeypatch.setattr(machine, "allowed_bytes", lambda: 12345)
    assert workers.free_memory() == 12345


def test_a_file_that_takes_a_worker_beyond_its_memory_fails_and_all_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_peaks", {"tests/test_before.py": 3 << 20})
    held = workers.most_held()
    ballast = np.ones(25 << 20)
    assert workers.most_held() > 200 << 20 or not held
    del ballast
    monkeypatch.setattr(workers, "most_held", lambda: 2560 << 20)
    workers.check_memory("tests/test_it.py")
    monkeypatch.setattr(workers, "most_held", lambda: 2561 << 20)
    with pytest.raises(MemoryError, match=r"test_large.py took a worker to 2561 MB; 2560 are allowed"):
        workers.check_memory("tests/test_large.py")
    told: list[str] = []
    workers.pytest_testnodedown(SimpleNamespace(workeroutput={"peaks": {"tests/test_far.py": 7 << 20}}))
    workers.pytest_terminal_summary(SimpleNamespace(write_line=told.append))
    assert told == [
        "memory of a worker, at most: tests/test_large.py 2561 MB, tests/test_it.py 2560 MB, "
        "tests/test_far.py 7 MB, tests/test_before.py 3 MB"
    ]
