"""The calibration bench: theory by hand, ∞ in medians, and the whole notebook on a small study."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sparse_rl.analysis import load, load_runs, lqr, lqr_words
from sparse_rl.analysis.report import NOTEBOOKS, RUNS, notebook, notebooks_of
from sparse_rl.runs.pack import prepare_pack, train_pack
from sparse_rl.settings.run import run_config
from sparse_rl.sweeps.grid import packs


def test_theory_by_hand() -> None:
    """With a barrier M exponential durations take H_M: 1 + 1/2 + 1/3 + 1/4 = 25/12 for four."""
    assert lqr.theory("exponential", "asynchronous", 8) == 8.0
    assert lqr.theory("constant", "synchronous", 8) == 8.0
    assert lqr.theory("exponential", "synchronous", 4) == pytest.approx(4 / (25 / 12))
    longest = np.random.default_rng(0).lognormal(-0.5, 1.0, (400_000, 4)).max(1).mean()
    assert lqr.theory("lognormal", "synchronous", 4) == pytest.approx(4 / longest, rel=0.01)


def test_a_median_is_infinite_where_half_of_the_runs_did_not_get_there() -> None:
    assert lqr.median(pd.Series([1.0, 2.0, np.inf])) == 2.0
    assert lqr.median(pd.Series([1.0, np.inf, np.inf])) == np.inf
    assert lqr.median(pd.Series([1.0, 2.0, np.inf, np.inf])) == np.inf


def runs_of(updates: dict[int, list[float]]) -> pd.DataFrame:
    """Made-up outcomes: free entries → updates to the target, of width 8 (128 entries in all)."""
    shared = {
        "env": "lqr/chain", "width": 8, "learning_rate": 0.01, "workers": 1,
        "learning_rate_over": "free_entries", "structural_gap": 0.1, "flow_time": 1.0,
    }  # fmt: skip
    return pd.DataFrame(
        {
            **shared,
            "pattern": "dense" if free == 128 else "banded",
            "sparsity": 1.0 - free / 128,
            "free_entries": float(free),
            "updates_to_target": value,
            "flow_updates": 100.0 * free,
            "reached": np.isfinite(value),
        }
        for free, values in updates.items()
        for value in values
    )


def test_the_exponent_is_that_of_the_medians_and_points_without_one_are_counted() -> None:
    """Medians 20·d: slope 1, whatever single runs do; at 16 entries most runs never got there."""
    found = runs_of(
        {
            128: [2560.0, 2560.0, np.inf],
            64: [1280.0, 1280.0, 99.0],
            32: [640.0, 640.0, 640.0],
            16: [1.0, np.inf, np.inf],
        }
    )
    points = lqr.entries(found).set_index("free_entries")
    assert points["updates"].to_dict() == {128.0: 2560.0, 64.0: 1280.0, 32.0: 640.0, 16.0: np.inf}
    assert points["reached"].to_dict() == {128.0: 2, 64.0: 3, 32.0: 3, 16.0: 1}
    (line,) = lqr.slopes(found).to_dict("records")
    assert line["slope"] == pytest.approx(1.0)
    assert line["at_equal_flow"] == pytest.approx(1.0)
    assert (line["points"], line["without a median"]) == (3, 1)


def test_the_notebook_of_a_small_study(tmp_path: Path) -> None:
    """A step that diverges, one that does not, two masks, several workers; every cell runs."""
    agents: list[dict[str, Any]] = [
        *({"workers": m, "learning_rate": r} for m in (1, 4) for r in (0.004, 3.0)),
        {"learning_rate": 0.04, "learning_rate_over": "free_entries"},
    ]
    grid = [
        run_config(
            {
                "agent": {"name": "azopg", **agent},
                "env": {"source": "lqr", "task": "chain"},
                "width": 2, "sparsity": sparsity, "seed": seed, "pruning": {"pattern": "banded"},
                "env_steps": 4000, "log_every": 2000, "eval_every": 4000,
            }
        )
        for sparsity in (0.0, 0.5)
        for seed in (0, 1, 2)
        for agent in agents
    ]  # fmt: skip
    for group in packs(grid):
        train_pack(prepare_pack(group), tmp_path)
    runs = load_runs(tmp_path)
    assert notebooks_of(runs, runs) == ["lqr", RUNS]
    assert notebooks_of(runs.assign(agent="sac"), runs) == [*NOTEBOOKS, RUNS]
    found = lqr.outcomes(runs, load(tmp_path))
    assert len(found) == 30
    assert (found.loc[found["status"] == "diverged", "time_to_target"] == np.inf).all()
    ledger = lqr.ledger(found)
    large = ledger[ledger["learning_rate"] == 3.0]
    assert large["diverged"].tolist() == large["runs"].tolist() == [12]
    curves = lqr.speed_up(found)
    best = curves[(curves["choice"] == "tuned") & (curves["pattern"] == "dense")]
    assert best["step"].tolist() == [0.004, 0.004]  # never the one that diverges
    assert best["speed_up"].tolist() == pytest.approx([1.0, 4.0], rel=0.3)
    near_theory = best["updates"] / best["flow_updates"]
    assert near_theory.tolist() == pytest.approx([1.0, 1.0], rel=0.35)
    assert any("exponential durations, tuned step" in line for line in lqr_words.words(found))

    book = notebook("lqr", {"studies": [str(tmp_path)], "out": str(tmp_path)})
    scope: dict[str, object] = {}
    for cell in book.cells:
        if cell.cell_type == "code":
            exec(cell.source, scope)
    assert (tmp_path / "lqr_speed_up_lqr_chain_2.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "lqr_map_lqr_chain_2.svg").exists()
