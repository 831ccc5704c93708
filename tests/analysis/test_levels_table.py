"""Curricula in tables and figures, from rows whose numbers are known."""

from typing import Any

import pandas as pd
import pytest

from sparse_rl.analysis import levels
from sparse_rl.analysis.report import notebooks_of

NAN = float("nan")


def rows(curriculum: str, seed: int, rates: list[float], **but: Any) -> pd.DataFrame:
    """Five log points of a run."""
    told = {
        "run_id": f"{curriculum}{seed}", "study": "s", "status": "done", "env": "maze/9", "agent": "ppo",
        "network": "minigrid", "pattern": "unstructured", "distribution": "erdos_renyi", "variant": "",
        "width": 64, "sparsity": 0.0, "seed": seed, "mask_seed": seed, "curriculum": curriculum,
        "parameters_total": 9, "parameters_nonzero": 9, "flops_per_update": 2, "train_seconds": 1.0,
    } | but  # fmt: skip
    frame = pd.DataFrame([told] * 5)
    return frame.assign(
        env_steps=[100, 200, 300, 400, 500],
        updates=[3, 6, 9, 12, 15],
        return_mean=rates,
        **{
            "solve_rate/random": rates,
            "steps_in_chunk/new": [100.0, 60, 60, 60, 60],
            "steps_in_chunk/replayed": [0.0, 40, 40, 40, 40],
            "steps_in_chunk/scouted": [0.0] * 5,
        },
    )


def study() -> pd.DataFrame:
    """Two curricula, four seeds each, not evaluated at the second log point."""
    made = [rows("dr", s, [0.1, NAN, 0.2, 0.3, 0.4 + 0.1 * s]) for s in range(4)]
    made += [rows("plr", s, [0.1, NAN, 0.3, 0.5, 0.8 + 0.01 * s]) for s in range(4)]
    return pd.concat(made, ignore_index=True)


def test_a_row_says_what_was_solved_and_what_the_frames_went_to() -> None:
    table = levels.finals(study())
    assert table[""].tolist() == ["dr", "plr"]
    assert table["runs"].tolist() == [4, 4]
    # the last fifth of 500 frames is the last point; of four seeds the middle two count
    assert [str(x)[:5] for x in table["random"]] == ["0.55 ", "0.815"]
    assert table["frames"].tolist() == [500.0, 500.0]
    assert table["updates"].tolist() == [15.0, 15.0]
    # every chunk counts, evaluated or not
    assert table["frames new"].tolist() == [340.0, 340.0]
    assert table["frames replayed"].tolist() == [160.0, 160.0]
    assert "frames scouted" not in table


def test_cells_are_named_by_what_differs() -> None:
    both = pd.concat([rows("dr", 0, [0.1] * 5), rows("dr", 0, [0.1] * 5, width=32, sparsity=0.9)])
    assert [name for name, _ in levels.cells(both)] == ["width 64, sparsity 0", "width 32, sparsity 0.9"]
    assert [name for name, _ in levels.cells(rows("sfl", 0, [0.1] * 5))] == ["sfl"]


def test_curves_are_interquartile_means_at_the_evaluations() -> None:
    figure = levels.curves(study())
    (ax,) = figure.axes
    first, second = (line.get_xydata().tolist() for line in ax.lines)  # type: ignore[union-attr]
    assert [x for x, _ in first] == [100, 300, 400, 500]
    assert [y for _, y in first] == pytest.approx([0.1, 0.2, 0.3, 0.55])
    assert [y for _, y in second] == pytest.approx([0.1, 0.3, 0.5, 0.815])
    assert ax.get_title() == "random"
    assert "4 seeds" in figure.get_suptitle()


def test_the_report_has_a_part_on_levels_where_there_are_any() -> None:
    told = study()
    assert notebooks_of(told, told)[:2] == ["overview", "levels"]
    assert "levels" not in notebooks_of(told, told.drop(columns="solve_rate/random"))
