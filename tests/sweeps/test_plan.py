"""The plan's numbers by hand: no two of a line are equal."""

import io
import re
from pathlib import Path

import pytest
from conftest import MakeConfig
from rich.console import Console

from sparse_rl.records.console import duration
from sparse_rl.runs import prepare_pack
from sparse_rl.sweeps.grid import unique
from sparse_rl.sweeps.plan import _rows, _work, amount, print_plan


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (4388353, "4.39M"), (999, "999"), (1000, "1k"), (1234, "1.23k"), (2.5e9, "2.5G"), (7e12, "7T"),
        (6.02e15, "6.02P"), (3e18, "3E"), (0, "0"),
    ],
)  # fmt: skip
def test_amounts_have_three_digits_and_a_decimal_prefix(value: float, words: str) -> None:
    assert amount(value) == words
    assert amount(value, "B") == f"{words}B"


def test_a_line_of_the_plan_is_what_its_runs_cost(make_config: MakeConfig) -> None:
    """Two seeds of one point; the actor is less sparse than the critic.

    Pendulum, MLPs: actor 24 + 64 + 16 weights and 18 biases, critic 64 + 256 + 16 and 33. A pass: 2 · 32
    FLOPs a weight; four of the actor, six of the critic; 200 interactions less 20, one update each.
    """
    agent = {"network": "mlp", "actor_width_ratio": 0.5}
    pruning = {"actor_sparsity": 0.5, "distribution": "uniform"}
    runs = [make_config(seed=s, sparsity=0.75, agent=agent, pruning=pruning) for s in (0, 1)]
    pack = prepare_pack(runs)
    (line,) = _rows(pack.runs)
    dense = 2 * 32 * (4 * (24 + 64 + 16) + 6 * (64 + 256 + 16))
    sparse = 2 * 32 * (4 * (24 + 64 + 16) // 2 + 6 * (64 + 256 + 16) // 4)
    traffic = 4 * (122 * (4 + 8) + 369 * (6 + 11))
    assert line[:9] == (
        "16", "0.5/0.75", "masked", "2", "491", str(18 + 52 + 33 + 84), amount(dense), amount(sparse),
        amount(traffic, "B"),
    )  # fmt: skip
    cost = pack.runs[0].costs
    assert line[9:] == (amount(cost.state_bytes, "B"), amount(cost.replay_bytes, "B"), "180")
    # masked products multiply every weight: a sparse run takes as long as a dense one
    assert _work(pack.runs) == 2 * 180 * dense
    assert unique([*runs, runs[0]]) == runs


def test_hours_are_work_over_the_rate_that_is_assumed(make_config: MakeConfig, tmp_path: Path) -> None:
    pack = prepare_pack([make_config()])
    work = _work(pack.runs)
    for tflops in (work / 3.6e15 / 2, work / 3.6e15 / 30):
        written = io.StringIO()
        print_plan(Console(file=written, width=300), [pack], {}, tmp_path, tflops)
        (hours,) = re.findall(r"([\d.]+) device hours", written.getvalue())
        assert float(hours) == pytest.approx(work / tflops / 3.6e15)
        assert f"{amount(work, 'FLOP')} in the products" in written.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "0m05s"), (130, "2m10s"), (3900, "1h05m"), (3599.6, "1h00m"), (float("inf"), "–")],
)
def test_durations_for_people(seconds: float, words: str) -> None:
    assert duration(seconds) == words
