"""What a worker of the suite holds, and how many there are."""

from typing import Any

import conftest
import jax
import pytest

from sparse_rl.kernels import machine


def test_programs_are_let_go_after_each_file(request: pytest.FixtureRequest) -> None:
    assert "programs_go_with_their_file" in request.fixturenames
    program: Any = jax.jit(lambda x: x + 1)
    program(1.0)
    assert program._cache_size() == 1
    conftest.forget_programs()
    assert program._cache_size() == 0


@pytest.mark.parametrize(
    ("gigabytes", "cores", "workers"), [(7.5, 4, 2), (7.5, 1, 1), (1, 4, 1), (200, 64, 8)]
)
def test_workers_are_as_many_as_cores_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, gigabytes: float, cores: int, workers: int
) -> None:
    monkeypatch.setattr(conftest, "free_memory", lambda: int(gigabytes * 2**30))
    monkeypatch.setattr(machine, "cores", lambda: cores)
    assert conftest.pytest_xdist_auto_num_workers() == workers


def test_free_memory_is_some_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < conftest.free_memory() < machine.memory_bytes()
    monkeypatch.setattr(machine, "allowed_bytes", lambda: 12345)
    assert conftest.free_memory() == 12345
