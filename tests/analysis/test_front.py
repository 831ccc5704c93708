"""The first page and its figures, by hand: verdicts, edges of axes, hovers, what was run."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from made_up import grid, nonzero, only, rows, total

from sparse_rl.analysis import (
    budgets,
    choices,
    figures,
    front,
    interactive,
    laws,
    load,
    load_runs,
    looks,
    origins,
    plots,
    tables,
)
from sparse_rl.analysis.interactive import Plot
from sparse_rl.records import results

GRID = {
    (16, 0.0): 300.0, (22, 0.0): 500.0, (64, 0.0): 700.0,
    (16, 0.9): 20.0, (22, 0.9): 540.0, (64, 0.9): 702.0,
}  # fmt: skip
"""With seeds that differ by 2: worse, better and the same at a margin of 30."""
HALF = {(16, 0.5): 310.0, (22, 0.5): 400.0, (64, 0.5): 800.0}
"""The same, worse and better."""


def made() -> pd.DataFrame:
    frame = grid(GRID, seeds=(-1.0, 0.0, 1.0))
    return frame.assign(**{"grad_norm/critic": frame["return_mean"]})


def test_verdicts_stand_at_their_width_and_sparsity() -> None:
    series = only(grid(GRID | HALF))
    found = front.comparisons(series, 30.0)
    told = found["width"].set_index(["sparsity", "width"])["verdict"].to_dict()
    assert told == {
        (0.5, 16): "same", (0.5, 22): "worse", (0.5, 64): "better",
        (0.9, 16): "worse", (0.9, 22): "better", (0.9, 64): "same",
    }  # fmt: skip
    said = front.answer(found, 30.0)
    places = "sparsity 0.5 at width 64, sparsity 0.9 at width 22"
    assert f"6 comparisons of sparse with dense at equal width: sparse is better in 2 ({places})" in said
    assert "sparse is worse in 2 (sparsity 0.5 at width 22, sparsity 0.9 at width 16)" in said
    assert "each cell needs" not in said  # nothing is in doubt
    text = front.verdict_tables(series, found, 30.0)
    lines = re.findall(r'<th scope="row">(\d+)</th>(.*?)</tr>', text.split("</table>")[0])
    cells = {width: re.findall(r'<td class="([a-z-]+)">.*?<small>(.*?) ', line) for width, line in lines}
    assert cells == {
        "16": [("same", "+10"), ("worse", "−280")],
        "22": [("worse", "−100"), ("better", "+40")],
        "64": [("better", "+100"), ("same", "+2")],
    }
    assert "within 30 count as the same" in text


def test_sizes_that_are_held_equal_are_those_of_the_dense_network() -> None:
    """Of the sparse ones the largest has 4,103 weights: only the dense one of width 16 has so few."""
    series = only(made())
    table = front.comparisons(series, 30.0)["parameters_nonzero"]
    assert nonzero(22, 0.9) < nonzero(16, 0.0) < nonzero(64, 0.9) < nonzero(22, 0.0)
    assert table["width"].tolist() == [16]
    text = front.verdict_tables(series, front.comparisons(series, 30.0), 30.0)
    second = text.split("</table>")[1]
    assert "At equal surviving parameters" in second
    assert re.findall(r'<th scope="row">(\d+)</th><td class="([a-z-]+)"', second) == [
        ("16", "better"), ("22", "none"), ("64", "none"),
    ]  # fmt: skip


def test_doubt_is_counted_in_seeds() -> None:
    series = only(
        grid({(8, 0.0): 10.0, (8, 0.5): 12.0, (16, 0.0): 20.0, (16, 0.5): 21.0}, seeds=(-9.0, 0.0, 9.0))
    )
    found = front.comparisons(series, 3.0)
    found["width"]["seeds"] = [500.0, 20.0]
    assert found["width"]["verdict"].tolist() == ["cannot tell"] * 2
    said = front.answer(found, 3.0)
    assert said.startswith(
        "2 comparisons of sparse with dense at equal width: these runs cannot tell in all."
    )
    assert said.endswith(
        "To tell a difference of 3 there, in four of five such studies, each cell needs at most 20 "
        "seeds (sparsity 0.5 at width 16) to 500 seeds (sparsity 0.5 at width 8)."
    )
    found["width"]["seeds"] = [20.0, 20.0]
    assert "each cell needs at most 20 seeds (sparsity 0.5 at width 8)." in front.answer(found, 3.0)


def test_without_dense_runs_there_is_no_verdict() -> None:
    series = only(grid({(16, 0.9): 1.0, (32, 0.9): 2.0}))
    text = front.overview(series, front.compared(series, 1.0), 1.0, "<figure></figure>")
    assert "cannot be compared: no run has sparsity 0" in text
    assert "<table" not in text
    dense = only(grid({(16, 0.0): 1.0, (32, 0.0): 2.0}))
    assert "no sparse run has ended" in front.overview(dense, front.compared(dense, 1.0), 1.0, "")


def test_far_out_is_three_quartile_distances_beyond() -> None:
    """Quartiles of 0 to 8 and a larger one are 2.25 and 6.75, so 20.25 is the last that is near; with a
    smaller one they are 1.25 and 5.75, and it is -12.25."""
    near = [*map(float, range(9))]
    assert not looks.far_out([*near, 20.2]).any()
    assert looks.far_out([*near, 20.3]).tolist() == [False] * 9 + [True]
    assert looks.far_out([*near, -12.3]).tolist() == [False] * 9 + [True]
    assert not looks.far_out([*near, -12.2]).any()
    assert not looks.far_out([0.0, 1.0, 1000.0]).any()


def table(values: list[float], half: float = 0.0) -> pd.DataFrame:
    y = np.array(values)
    return pd.DataFrame({"x": np.arange(len(y)), "y": y, "low": y - half, "high": y + half})


def test_a_failed_cell_does_not_set_the_axis() -> None:
    """4 to 8 with half intervals of 1: 3 to 9, and 6 % of these 6 beyond."""
    ends = looks.limits(table([4.0, 5.0, 6.0, 7.0, 8.0, -900.0], 1.0), "y")
    assert ends == pytest.approx((2.64, 9.36))
    # an interval adds at most twice the span of 4
    assert looks.limits(table([4.0, 8.0], 500.0), "y") == pytest.approx((-5.2, 17.2))
    assert looks.limits(table([5.0, 5.0]), "y") == (2.5, 7.5)
    assert looks.limits(table([float("nan")]), "y") is None


def traces(plot: Plot) -> list[dict[str, Any]]:
    return [
        trace for panel in json.loads(interactive.as_json(plot))["panels"] for trace in panel["data"]
    ]


def test_what_lies_beyond_the_axis_stands_at_its_edge_with_its_value() -> None:
    cells = {(w, s): 100.0 + w + 10 * s for w in (8, 16, 32) for s in (0.0, 0.5)} | {(8, 0.9): -5000.0}
    frame = grid(cells)
    plot = plots.scaling(frame, ["return_mean"])
    (edge,) = (trace for trace in traces(plot)[: len(plot.panels[0].data)] if "text" in trace)
    bottom, top = plot.panels[0].layout["yaxis"]["range"]
    assert edge["text"] == ["-5000"]
    assert edge["x"] == [8.0]
    assert bottom < edge["y"][0] < bottom + 0.02 * (top - bottom)
    assert top < 200
    assert edge["meta"] == {"level": 2, "kind": "cell"}
    ax = figures.scaling_curves(frame).axes[0]
    assert [text.get_text() for text in ax.texts] == ["-5000"]
    assert ax.get_ylim() == pytest.approx((bottom, top), rel=1e-5)


def test_points_say_what_they_are_and_lead_to_their_runs() -> None:
    found = traces(plots.scaling(made(), ["return_mean"]))
    line = next(t for t in found if t["meta"] == {"level": 1, "kind": "cell"} and "customdata" in t)
    assert (line["x"], line["y"]) == ([16.0, 22.0, 64.0], [20.0, 540.0, 702.0])
    hover, target = line["customdata"][1]
    assert hover.startswith("<b>width 22, sparsity 0.9</b><br>return (per episode): 540 [")
    assert f"3 runs<br>{nonzero(22, 0.9):,} of {total(22):,} parameters" in hover
    assert target == "cell-22-0.9"
    runs = next(t for t in found if t["meta"] == {"level": 1, "kind": "run"})
    assert sorted(runs["y"]) == [19.0, 20.0, 21.0, 539.0, 540.0, 541.0, 701.0, 702.0, 703.0]
    at = runs["y"].index(541.0)
    assert runs["customdata"][at][1] == "run-22-0.9-2"
    assert "seed 2, mask seed 2<br>return (per episode): 541" in runs["customdata"][at][0]


def test_a_single_size_shows_its_interval() -> None:
    cells = {(8, 0.0): 10.0, (16, 0.0): 14.0, (16, 0.5): 12.0}
    found = traces(plots.scaling(grid(cells), ["return_mean"]))
    (alone,) = (t for t in found[:6] if t["meta"] == {"level": 1, "kind": "cell"})
    every = figures.scaling_table(grid(cells), "return_mean")
    (own,) = (cell for _, cell in every.iterrows() if cell["sparsity"] == 0.5)
    assert alone["error_y"]["array"] == [pytest.approx(own["high"] - 12, rel=1e-4)]
    assert alone["error_y"]["arrayminus"] == [pytest.approx(12 - own["low"], rel=1e-4)]
    band = next(t for t in found if t.get("fill") == "toself")
    assert band["x"] == [8.0, 16.0, 16.0, 8.0]
    assert band["y"][0] > 10 > band["y"][3]


def test_levels_are_told_apart_without_colour() -> None:
    marks = looks.marks([0.0, 0.5, 0.8, 0.9, 0.95])
    assert len({mark.dash for mark in marks.values()}) == 5
    assert len({mark.marker for mark in marks.values()}) == 5
    assert len({mark.symbol for mark in marks.values()}) == 5

    def luminance(colour: looks.Colour) -> float:
        """WCAG 2: relative luminance of sRGB."""
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    for mark in marks.values():  # against white, and against the page's black
        assert 1.05 / (luminance(mark.colour) + 0.05) >= 3.0
        assert (luminance(mark.dark) + 0.05) / (luminance((0.08, 0.09, 0.11)) + 0.05) >= 3.0


def test_plotly_knows_every_word_of_every_figure() -> None:
    """A word that Plotly does not know is drawn by nobody, and nobody is told."""
    frame = made()
    series = only(frame)
    found = front.comparisons(series, 30.0)
    half = pd.concat([frame, rows("late", [1.0, 2.0], 0.9, 16, "running")], ignore_index=True)
    points = tables.curve_points(only(grid({(w, 0.0): float(w) for w in (8, 16, 32, 64)})), 0.0)
    choice = choices.choose((laws.CONSTANT, laws.LOGARITHM), points)
    final = (
        frame.groupby("run_id").last().reset_index().assign(return_mean=lambda f: f["return_mean"] / 1e3)
    )
    every = {
        "scaling": plots.scaling(frame), "learning": plots.learning(half),
        "heat": plots.heat_maps(frame),
        "health": plots.health(frame), "iso": plots.iso_flops(frame, [1e6, 4e6]),
        "profiles": plots.profiles(final), "forest": front.forest_plot(found, 30.0),
        "laws": plots.held_out(points, choice, "width", "return"),
    }  # fmt: skip

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        if isinstance(value, list):
            return [plain(one) for one in value]
        return "#123456" if isinstance(value, str) and re.fullmatch(r"@[\w/.]+", value) else value

    for name, plot in every.items():
        panels = plain(json.loads(interactive.as_json(plot))["panels"])
        assert panels, name
        for panel in panels:
            assert panel["data"], name
            layout = panel["layout"] | {"font": panel["layout"]["font"] | {"family": "x"}}
            go.Figure({"data": panel["data"], "layout": layout})  # raises for what it does not know
    dotted = [t for t in traces(every["learning"]) if t.get("line", {}).get("dash") == "1px,3px"]
    assert [t["customdata"][0][1] for t in dotted] == ["run-late"]


def test_a_heat_map_writes_the_cells_where_they_belong() -> None:
    returns = traces(plots.heat_maps(made()))[0]
    assert (returns["x"], returns["y"]) == (["16", "22", "64"], ["0", "0.9"])
    assert returns["z"] == [[300.0, 500.0, 700.0], [20.0, 540.0, 702.0]]
    assert returns["customdata"][1][2][0].startswith("<b>width 64, sparsity 0.9</b>")


def test_text_of_runs_cannot_leave_its_place_in_the_page() -> None:
    frame = made().assign(env="</script><b>")
    text = interactive.as_json(plots.scaling(frame, ["return_mean"]))
    assert "<" not in text


def test_many_runs_are_not_drawn_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "MOST_RUNS", 17)
    plot = plots.scaling(made(), ["return_mean"])
    assert not plot.seeds
    assert {trace["meta"]["kind"] for trace in traces(plot)} == {"cell"}


def study(folder: Path) -> Path:
    for i, (commit, device, day, every) in enumerate(
        [
            ("a" * 40, "cpu:cpu", "2026-03-01", 500),
            ("b" * 40 + "+changes", "cuda:H200", "2026-03-07", 700),
        ]
    ):
        record = {
            "run_id": f"r{i}", "status": "done", "width": 8, "sparsity": 0.5, "git_commit": commit,
            "device": device, "started_at": f"{day}T10:00:00+00:00", "ended_at": f"{day}T11:00:00+00:00",
            "timings": {"train_seconds": 2700.0 * (i + 1)}, "env": "probe/x", "agent": "sac", "seed": i,
            "network": "simba", "pattern": "unstructured", "distribution": "uniform", "mask_seed": i,
        }  # fmt: skip
        results.write_run(folder / f"r{i}", record)
        results.write_config(folder / f"r{i}", {"eval_every": every, "env": {"eval_episodes": 20}})
        results.write_metrics(folder / f"r{i}", [{"env_steps": 4000, "return_mean": 3.0}])
    return folder


def test_what_was_run_is_what_the_records_say(tmp_path: Path) -> None:
    folder = study(tmp_path)
    told = origins.facts(load_runs(folder), load(folder), [folder])
    assert told["Command"].startswith("not recorded")
    assert told["Commit"] == "aaaaaaa, bbbbbbb+changes"
    assert told["Device"] == "cpu:cpu, cuda:H200"
    assert told["Date"] == "2026-03-01 to 2026-03-07"
    assert told["Budget"] == "4,000 env steps a run; 2.25 hours of training in all"
    assert "20 episodes" in told["Evaluation"]
    assert "every 500, 700 env steps" in told["Evaluation"]
    results.add_words(folder / results.COMMANDS, "python -m sparse_rl.sweep width=8")
    results.add_words(folder / results.COMMANDS, "python -m sparse_rl.sweep width=9")
    results.add_words(folder / results.COMMANDS, "python -m sparse_rl.sweep width=8")
    told = origins.facts(load_runs(folder), load(folder), [folder])
    assert told["Command"] == "python -m sparse_rl.sweep width=8 ; python -m sparse_rl.sweep width=9"
    (folder / results.COMMANDS).write_text('{"x": 3}')
    assert "cannot be read" in origins.facts(load_runs(folder), load(folder), [folder])["Command"]


def test_a_question_is_told_with_how_many_runs_had_begun_when_it_was_asked(tmp_path: Path) -> None:
    folder = study(tmp_path)
    assert "Question" not in origins.facts(load_runs(folder), load(folder), [folder])
    times = {"first\n asked?": "2026-02-01T00:00:00+00:00", "and then?": "2026-03-02T00:00:00+00:00"}
    (folder / results.QUESTIONS).write_text(json.dumps(times))
    assert origins.facts(load_runs(folder), load(folder), [folder])["Question"] == (
        "first asked? (Written down 2026-02-01T00:00:00+00:00, before any run had begun.) ; "
        "and then? (Written down 2026-03-02T00:00:00+00:00, 1 of 2 runs had begun.)"
    )
    (folder / results.QUESTIONS).write_text('{"x": 3}')
    assert "cannot be read" in origins.facts(load_runs(folder), load(folder), [folder])["Question"]


def test_a_margin_that_is_asked_for_is_taken() -> None:
    series = only(made())
    own = budgets.margin_of(series)
    assert budgets.margin_or(series, own + 3.0) == own + 3.0
    assert budgets.margin_or(series, 0.0) == 0.0 < own
    assert budgets.margin_or(series, None) == own
