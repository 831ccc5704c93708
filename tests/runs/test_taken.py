"""What a run takes while it trains: by the closed form, by XLA's analysis, and held by this process."""

import multiprocessing
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from conftest import MakeConfig
from holding import PEAK, measured

from sparse_rl.runs import memory
from sparse_rl.runs import pack as pack_of_runs
from sparse_rl.runs.lockstep import Programs
from sparse_rl.runs.memory import batch_that_fits, parts_that_fit, planned_bytes, taken_by
from sparse_rl.runs.pack import PreparedPack, prepare_pack

MB = 1 << 20


def test_a_result_that_takes_an_arguments_place_is_counted_once() -> None:
    x, y = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((300, 1000), (70,)))

    def more(x: Any, y: Any) -> Any:
        return x + 1.0, y[:20]

    alone = taken_by(jax.jit(more).lower(x, y).compile())
    donated = taken_by(jax.jit(more, donate_argnums=0).lower(x, y).compile())
    assert alone is not None
    assert donated is not None
    assert alone - donated == 4 * 300 * 1000
    assert 0 <= donated - 4 * (300 * 1000 + 70 + 20) <= 128  # the table of a tuple


def test_what_is_held_in_between_counts() -> None:
    def through(x: Any) -> Any:
        wide = jnp.sin(x[:, None] * x[None, :])
        return jnp.sum(jnp.sin(wide @ wide))  # neither of the two matrices is an argument or a result

    taken = taken_by(jax.jit(through).lower(jax.ShapeDtypeStruct((500,), jnp.float32)).compile())
    assert taken is not None
    assert 2 * 4 * 500 * 500 <= taken <= 4 * 4 * 500 * 500


def program(**sizes: int) -> Any:
    names = ("argument", "output", "temp", "alias")
    made = SimpleNamespace(**{f"{name}_size_in_bytes": sizes.get(name, 0) for name in names})
    return SimpleNamespace(memory_analysis=lambda: made)


def programs(init: Any, chunk: Any, evaluate: Any) -> Programs:
    return Programs(init, chunk, evaluate, 0.0)


@pytest.mark.parametrize("largest", [0, 1, 2])
def test_a_pack_takes_what_its_largest_program_takes(largest: int) -> None:
    """100 + 30 + 7 − 20 bytes, of which each kind counts."""
    three = [program(argument=90, temp=3), program(output=80), program(temp=70)]
    three[largest] = program(argument=100, output=30, temp=7, alias=20)
    assert planned_bytes(programs(*three)) == 117
    silent = SimpleNamespace(memory_analysis=lambda: None)
    three[largest] = silent
    assert planned_bytes(programs(*three)) is None


@pytest.fixture
def pack(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> PreparedPack:
    """Twenty runs of an accelerator; each takes 10 MB by the closed form."""
    monkeypatch.setattr(memory, "default_layout", lambda loop: "vmap")
    monkeypatch.setattr(memory, "_known", {})
    (run,) = prepare_pack([make_config()]).runs
    loop = prepare_pack([run.config]).loop
    run = run._replace(costs=run.costs._replace(memory_bytes=10 * MB))
    return PreparedPack(loop, [run] * 20)


def compiled(monkeypatch: pytest.MonkeyPatch, room: float, sizes: Any) -> list[int]:
    """Let a device have ``room`` MB for training, and ``n`` runs take ``sizes(n)`` of them; the numbers
    of runs that are compiled from now on."""
    asked: list[int] = []

    def compile_programs(loop: Any, inputs: Any, layout: str) -> Programs:
        assert layout == "vmap"
        asked.append(len(inputs))
        taken = program(argument=int(MB * sizes(len(inputs))))
        return programs(program(), taken, program())

    monkeypatch.setattr(memory, "compile_programs", compile_programs)
    for module in (memory, pack_of_runs):
        monkeypatch.setattr(module, "available_bytes", lambda: int(room * MB / 0.8) + 1)
    return asked


def test_what_surely_fits_is_not_compiled(pack: PreparedPack, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = compiled(monkeypatch, 401, lambda n: 900)
    assert batch_that_fits(pack, 20) == 20
    assert not asked
    compiled(monkeypatch, 399, lambda n: 20 * n)  # not twice of 200 MB
    assert batch_that_fits(pack, 20) == 19
    assert batch_that_fits(pack, 3) == 3


@pytest.mark.parametrize(
    ("room", "sizes", "fit", "tries"),
    [
        (105, lambda n: 10 * n, 10, [10]),  # as the closed form says
        (105, lambda n: 8.5 * n, 10, [10]),  # two more are not worth a compilation
        (105, lambda n: 25 * n, 4, [10, 4]),  # more than that: what fits
        (105, lambda n: 60 + 9 * n, 5, [10, 7, 5]),  # a part that they share
        (105, lambda n: 4 * n, 20, [10, 20]),  # less: all
        (105, lambda n: 30 + 4 * n, 15, [10, 15]),
        (105, lambda n: 500, 1, [10, 2, 1]),  # one at least, which will say that it does not fit
    ],
)
def test_as_many_are_batched_as_their_programs_leave_room_for(
    pack: PreparedPack,
    monkeypatch: pytest.MonkeyPatch,
    room: float,
    sizes: Any,
    fit: int,
    tries: list[int],
) -> None:
    asked = compiled(monkeypatch, room, sizes)
    assert batch_that_fits(pack, 20) == fit
    assert asked == tries
    assert batch_that_fits(pack, 20) == fit
    assert asked == tries  # known by now


def test_a_compiler_that_sees_no_room_is_asked_for_half(
    pack: PreparedPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sizes(n: int) -> float:
        if n > 3:
            raise RuntimeError("RESOURCE_EXHAUSTED: 17 GB")
        return 20 * n

    asked = compiled(monkeypatch, 105, sizes)
    assert batch_that_fits(pack, 20) == 2
    assert asked == [10, 5, 2, 4]

    def broken(n: int) -> float:
        raise RuntimeError("an unknown instruction")

    compiled(monkeypatch, 105, broken)
    assert batch_that_fits(pack._replace(runs=pack.runs[:15]), 15) == 10  # training will say it


def test_packs_are_cut_by_what_all_of_their_devices_hold(
    pack: PreparedPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sizes(*of: Any, **more: Any) -> list[int]:
        return [len(part.runs) for part in parts_that_fit(pack, *of, **more)]

    compiled(monkeypatch, 35, lambda n: 10 * n)
    assert sizes() == [3] * 6 + [2]
    assert sizes(2) == [6, 6, 6, 2]
    assert sizes(most=2) == [2] * 10
    assert sizes(2, most=4) == [4] * 5
    assert parts_that_fit(pack._replace(runs=[])) == []
    monkeypatch.setattr(memory, "default_layout", lambda loop: "map")
    assert sizes() == [20]
    assert sizes(2, most=7) == [7, 7, 6]


SHORT = {"env_steps": 25, "log_every": 25, "eval_every": 25, "diagnostics": {"max_samples": 256}}
CELLS: dict[str, dict[str, Any]] = {
    "sac, SimBa, masked": {"width": 256, "agent": {"batch_size": 256, "actor_width_ratio": 0.25}},
    "sac, SimBa, blocks": {
        "width": 512, "sparsity": 0.9, "pruning": {"pattern": "block", "storage": "block"},
        "agent": {"batch_size": 256, "actor_width_ratio": 0.25},
    },
    "sac, MLP, compact": {
        "width": 1024, "sparsity": 0.9, "pruning": {"storage": "compact"}, "agent": {"network": "mlp"},
    },
    "paac, MLP, masked": {"width": 1024, "agent": {"name": "paac", "network": "mlp"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def alone() -> Iterator[ProcessPoolExecutor]:
    """One process that does nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as one:
        yield one


@pytest.mark.skipif(not PEAK.exists(), reason="the peak of a process is asked of Linux")
@pytest.mark.parametrize("cell", CELLS)
def test_closed_form_analysis_and_what_is_held_agree(
    make_config: MakeConfig, alone: ProcessPoolExecutor, cell: str
) -> None:
    """Both others are within 15 % of the analysis."""
    config = make_config(**{"sparsity": 0.5, **SHORT, **CELLS[cell]})
    _, (run,) = prepare_pack([config])
    analysed, times = alone.submit(measured, config).result()
    print(f"{cell}: closed form {run.costs.memory_bytes / 1e6:.1f} MB, analysis "
          f"{(analysed or 0) / 1e6:.1f} MB, held {[round(x / 1e6, 1) for x in times]} MB")  # fmt: skip
    assert analysed == pytest.approx(statistics.median(times), rel=0.15)
    assert run.costs.memory_bytes == pytest.approx(analysed, rel=0.15)
