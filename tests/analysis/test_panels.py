"""Held-out levels in tables, by hand."""

from typing import Any

import pandas as pd
import pytest

from sparse_rl.analysis.held_out import PANELS, by_set, panels, summary

ROOMS = {
    "SixteenRooms": (0.5, 0.9), "SixteenRooms2": (0.4, 0.7), "Labyrinth": (0.1, 0.3),
    "LabyrinthFlipped": (0.0, 0.2), "Labyrinth2": (0.2, 0.6), "StandardMaze": (0.3, 0.5),
    "StandardMaze2": (0.25, 0.35), "StandardMaze3": (0.05, 0.45),
}  # fmt: skip
"""Solved within 250 and 450 frames."""


def rows(seed: int = 0, more: float = 0.0, **but: Any) -> list[dict[str, Any]]:
    axes = {
        "run_id": f"run{seed}", "env": "maze/13", "curriculum": "dr", "agent": "ppo", "width": 64,
        "sparsity": 0.9, "seed": seed, "policy": "drawn", "regret": 0.1,
    } | but  # fmt: skip
    told = [
        axes | {"set": "rooms", "level": name, "horizon": h, "solve_rate": rate + more}
        for name, rates in ROOMS.items()
        for h, rate in zip((250, 450), rates, strict=True)
    ]
    for name, levels in {
        "crossing": (0.6, 0.8), "four_rooms": (0.9,), "small_corridor": (0.15, 0.25, 0.35),
        "large_corridor": (0.2,), "perfect19": (0.4, 0.0),
    }.items():  # fmt: skip
        told += [
            axes | {"set": name, "level": f"{name}{i}", "horizon": 882, "solve_rate": rate + more}
            for i, rate in enumerate(levels)
        ]
    return told


def rates(frame: pd.DataFrame) -> dict[tuple[str, int], float]:
    """Set and horizon → solve rate."""
    told = frame[["set", "horizon", "solve_rate"]].itertuples(index=False)
    return {(name, horizon): rate for name, horizon, rate in told}


def test_panels_weigh_mazes_and_drawn_sets_alike() -> None:
    assert len(PANELS["panel of 12"]) == 12
    found = rates(panels(pd.DataFrame(rows())))
    assert found["panel of 8", 250] == pytest.approx(1.8 / 8)
    assert found["panel of 8", 450] == pytest.approx(4.0 / 8)
    # seven rooms within 450 frames (all but the flipped one), and the means of five sets
    assert found["panel of 12", 450] == pytest.approx((3.8 + 0.7 + 0.9 + 0.25 + 0.2 + 0.2) / 12)
    assert len(found) == 3


def test_no_panel_is_made_of_parts_that_were_not_tried() -> None:
    some = pd.DataFrame([row for row in rows() if row["set"] != "crossing"])
    assert set(panels(some)["set"]) == {"panel of 8"}


def test_sets_are_means_over_levels_and_shares_of_the_worst_are_apart() -> None:
    worst = {"set": "worst", "horizon": 250}
    more = [rows()[0] | worst | {"level": "0.01", "solve_rate": 0.1, "regret": None}]
    more.append(more[0] | {"level": "0.1", "solve_rate": 0.3})
    found = rates(by_set(pd.DataFrame(rows() + more)))
    assert found["rooms", 450] == pytest.approx(0.5)
    assert found["small_corridor", 882] == pytest.approx(0.25)
    assert (found["worst 0.01", 250], found["worst 0.1", 250]) == (0.1, 0.3)


def test_the_table_has_a_column_per_cell_with_its_spread() -> None:
    many = [row for seed in range(4) for row in rows(seed, more=0.01 * seed)]
    many += [row for seed in range(4) for row in rows(seed, more=0.02 * seed, curriculum="plr")]
    table = summary(pd.DataFrame(many))
    assert table.columns.tolist() == ["dr", "plr"]
    # of four seeds the interquartile mean is that of the middle two
    (row,) = (cells for key, cells in table.T.items() if key == ("rooms", "drawn", 450))
    assert [str(cell)[:9] for cell in row] == ["0.515 [0.", "0.53 [0.4"]
    alone = summary(pd.DataFrame(rows()))
    (row,) = (cells for key, cells in alone.T.items() if key == ("rooms", "drawn", 450))
    assert row.tolist() == ["0.5"]
