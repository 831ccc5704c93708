"""What figures draw, read back from their axes and compared with numbers by hand."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up import POINTS, UPDATES, flops, grid, nonzero, only, rows
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparse_rl.analysis import choices, figures, laws, lqr_figures, page, ranges, scores, tables


def lines(ax: Axes) -> list[Any]:
    """Points of every line, in order."""
    return [list(map(tuple, np.asarray(line.get_xydata()).tolist())) for line in ax.get_lines()]


def test_heat_maps_write_the_cells_where_they_belong() -> None:
    frame = grid({(8, 0.0): 10.0, (16, 0.0): 20.0, (8, 0.5): 30.0, (16, 0.5): 40.0})
    frame["dormant_ratio/critic"] = frame["return_mean"] / 1000
    returns, dormant = figures.heat_maps(frame).axes[:2]
    assert [t.get_text() for t in returns.texts] == ["10", "20", "30", "40"]
    assert [t.get_text() for t in dormant.texts] == ["0.01", "0.02", "0.03", "0.04"]
    assert [t.get_text() for t in returns.get_xticklabels()] == ["8", "16"]
    assert [t.get_text() for t in returns.get_yticklabels()] == ["0.0", "0.5"]


def test_health_stands_across_from_the_return_of_the_same_run() -> None:
    frame = grid({(8, 0.0): 10.0, (16, 0.5): 40.0})
    frame["dormant_ratio/critic"] = frame["return_mean"] / 100
    (ax,) = figures.health_against_score(frame).axes
    drawn = np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections])
    assert sorted(map(tuple, drawn.round(9).tolist())) == [
        (0.09, 9.0), (0.1, 10.0), (0.11, 11.0), (0.39, 39.0), (0.4, 40.0), (0.41, 41.0),
    ]  # fmt: skip


def ramps() -> pd.DataFrame:
    """Runs that score 10 more at every log point, at two widths and two sparsities."""
    return pd.concat(
        [
            rows(f"{w}-{s}", [10.0 * i for i in range(1, POINTS + 1)], s, w)
            for w in (8, 16)
            for s in (0.0, 0.5)
        ],
        ignore_index=True,
    )


def test_lines_of_equal_compute_join_survivors_at_that_budget() -> None:
    """Four log points of the sparse network of width 16: of the dense ones in proportion to its weights;
    the smallest network never spends so much."""
    budget = 4.0 * UPDATES * flops(16, 0.5)
    dense, sparse = figures.iso_flops(ramps(), [budget]).axes
    assert lines(sparse) == [[(nonzero(16, 0.5), pytest.approx(40.0))]]
    assert lines(dense) == [
        [(nonzero(w, 0.0), pytest.approx(40.0 * nonzero(16, 0.5) / nonzero(w, 0.0))) for w in (8, 16)]
    ]
    assert [ax.get_title() for ax in (dense, sparse)] == ["sparsity 0", "sparsity 0.5"]


def test_profiles_fall_where_the_scores_lie() -> None:
    """Scores 0.2, 0.4, 0.4, 0.9: all lie above 0.1, three above 0.3, one above 0.4 and 0.8."""
    final = ranges.normalised(
        scores.final_values(
            grid({(8, 0.0): 0.0}, seeds=(200.0, 400.0, 400.0, 900.0), env="dog-run"), "return_mean"
        )
    )
    (line,) = lines(figures.performance_profiles(final, "x").axes[0])
    told = {round(x, 6): y for x, y in line}
    assert [told[x] for x in (0.1, 0.3, 0.5, 0.8, 1.0)] == [1.0, 0.75, 0.25, 0.25, 0.0]


def test_held_out_points_are_told_from_fitted_ones() -> None:
    made = only(grid({(w, 0.0): 100 * np.log2(w) for w in (8, 16, 32, 64)}, seeds=(-1.0, 0.0, 1.0)))
    points = tables.curve_points(made, 0.0)
    choice = choices.choose((laws.CONSTANT, laws.LOGARITHM), points)
    ax = figures.held_out(points, choice, "surviving parameters", "return", "x").axes[0]
    drawn = {line.get_markerfacecolor(): line for line in ax.get_lines() if line.get_marker() == "o"}
    assert np.asarray(drawn["black"].get_xdata()).tolist() == [nonzero(w, 0.0) for w in (8, 16, 32)]
    assert np.asarray(drawn["white"].get_xdata()).tolist() == [nonzero(64, 0.0)]
    law = next(line for line in ax.get_lines() if line.get_label() == "logarithm")
    assert float(np.asarray(law.get_ydata())[0]) == pytest.approx(300, abs=1.0)
    assert float(np.asarray(law.get_xdata())[-1]) == pytest.approx(nonzero(64, 0.0))
    constant = next(line for line in ax.get_lines() if line.get_label() == "constant")
    assert np.asarray(constant.get_ydata(), float) == pytest.approx(np.full(100, 400.0), abs=0.1)


def test_learning_curves_are_of_the_width_that_stands_above_them() -> None:
    made = grid({(8, 0.0): 10.0, (16, 0.0): 20.0})
    made["return_mean"] += made["env_steps"] / 100
    for ax, start in zip(figures.learning_curves(made).axes, (10.0, 20.0), strict=True):
        (line,) = lines(ax)
        assert line == [(100.0 * i, pytest.approx(start + i)) for i in range(1, POINTS + 1)]


def test_figures_of_the_bench_draw_its_tables() -> None:
    shared = {"env": "x", "width": 4, "durations": "constant", "master": "asynchronous", "runs": 3}
    curves = pd.DataFrame(
        {
            **shared, "choice": "fixed", "workers": [1, 4], "speed_up": [1.0, 3.5], "low": [1.0, 3.0],
            "high": [1.0, 4.0], "theory": [1.0, 4.0],
        }
    )  # fmt: skip
    assert lines(lqr_figures.speed_up(curves).axes[0]) == [
        [(1.0, 1.0), (4.0, 3.5)], [(1.0, 1.0), (4.0, 4.0)],
    ]  # fmt: skip
    joint = pd.DataFrame(
        {
            "free_entries": [8, 8, 32, 32], "workers": [1, 4, 1, 4], "sparsity": [0.75, 0.75, 0.0, 0.0],
            "time": [10.0, 4.0, 50.0, 2000.0], "gain": [5.0, 2.5, 1.0, 1.0],
        }
    )  # fmt: skip
    figure: Figure = lqr_figures.joint(joint)
    time, gain = figure.axes
    assert [t.get_text() for t in time.texts] == ["10", "4", "50", "2,000"]
    assert [t.get_text() for t in gain.texts] == ["5", "2.5", "1", "1"]
    points = pd.DataFrame(
        {
            "pattern": "banded", "free_entries": [8.0, 32.0], "sparsity": [0.75, 0.0], "runs": 3,
            "updates": [100.0, 400.0], "flow_updates": [90.0, 300.0], "low": [80.0, 350.0],
            "high": [120.0, 450.0], "structural_gap": [0.05, 0.0], "gap_low": [0.01, 0.0],
            "gap_high": [0.1, 0.0],
        }
    )  # fmt: skip
    slopes = pd.DataFrame({"pattern": ["banded"], "slope": [1.0]})
    left, right = lqr_figures.entries(points, slopes).axes
    assert lines(left) == [[(8.0, 100.0), (32.0, 400.0)], [(8.0, 90.0), (32.0, 300.0)]]
    assert lines(right) == [[(8.0, pytest.approx(5.0))]]  # per cent, pruned ones only


def test_numbers_of_a_page_have_four_digits_and_text_is_escaped() -> None:
    frame = pd.DataFrame({"a": [123.456, 0.000123456], "b": ["<x>", None], "rows": ["w == 1", "w > 2"]})
    text = page.table(frame, "n & m", "q")
    for part in (
        "<td>123.5</td>",
        "<td>0.0001235</td>",
        "&lt;x&gt;",
        "<code>w &gt; 2</code>",
        "n &amp; m",
    ):
        assert part in text
    assert page.slug("gymnax/Pendulum-v1, block") == "gymnax_Pendulum-v1__block"


def test_counts_in_tables_are_whole_and_the_rest_has_four_digits() -> None:
    sizes = [17723.0, 2_736_350.0, 36_110_000_000.0, 17723.46, -148.512, 0.079641]
    text = page.table(pd.DataFrame({"size": sizes}), "n", "q")
    told = re.findall(r"<td>([^<]*)</td>", text)
    assert told == ["17723", "2736350", "3.611e+10", "1.772e+04", "-148.5", "0.07964"]
