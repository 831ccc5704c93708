"""The progress line, by hand."""

import io
import math
import time

import pytest
from conftest import MakeConfig
from rich.console import Console

from sparse_rl.runs import Progress
from sparse_rl.sweeps.progress import PackProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the progress line reads: set its only item."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_line_before_the_first_evaluation_and_after_it(
    make_config: MakeConfig, clock: list[float]
) -> None:
    """Budgets of 200 and 600; the second run is last to report, and what it says is not all there is."""
    first, second = make_config(seed=1), make_config(seed=2, env_steps=600)
    progress = PackProgress(Console(file=io.StringIO()), "pack", [first, second])
    line = progress.line()
    assert "0/800 env steps, – env steps/s, – updates/s, last return –, – left" in line
    for run in (first, second):
        progress(Progress(run.run_id, 0, 0, math.nan, None))
    assert "nan" not in progress.line()
    assert "?" not in progress.line()

    clock[0] += 4.0
    progress(Progress(first.run_id, 100, 90, -300.0, None))
    assert "last return -300, 0m28s left" in progress.line()  # 25 env steps a second, 700 are left
    progress(Progress(second.run_id, 100, 90, -200.0, None))
    progress(Progress(first.run_id, 200, 190, -100.0, None))
    progress(Progress(second.run_id, 200, 190, math.nan, None))  # logged, not evaluated
    assert "400/800 env steps, 100 env steps/s, 95 updates/s" in progress.line()
    assert "last return -150 (mean of 2 runs), 0m04s left" in progress.line()


def test_a_run_that_ended_early_leaves_its_own_budget_unused(
    make_config: MakeConfig, clock: list[float]
) -> None:
    """Of 200 and 600 env steps the longer run ends at 100: what is left are 100 of the shorter."""
    short, long = make_config(seed=1), make_config(seed=2, env_steps=600)
    progress = PackProgress(Console(file=io.StringIO()), "pack", [short, long])
    for run in (short, long):
        progress(Progress(run.run_id, 0, 0, math.nan, None))
    clock[0] += 10.0
    for run in (short, long):
        progress(Progress(run.run_id, 100, 0, math.nan, None))
    progress(Progress(long.run_id, 100, 0, math.nan, "diverged"))
    assert "1/2 runs ended (diverged)" in progress.line()
    assert "0m05s left" in progress.line()
