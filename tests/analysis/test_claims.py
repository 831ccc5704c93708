"""Does dense stop where sparse goes on? Verdicts of planted grids, and what must never be said."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import POINTS, grid, rows
from test_tuning import write

from sparse_rl import claim
from sparse_rl.analysis import answers, claims, scores, verdicts
from sparse_rl.analysis.scores import RETURN
from sparse_rl.records import results

WIDTHS = (8, 16, 32, 64)
GROWS, FLAT, FALLS = (0.0, 10.0, 20.0, 30.0), (0.0, 10.0, 10.0, 10.0), (0.0, 10.0, 20.0, 5.0)
LATE = (0.0, 3.0, 6.0, 10.0)
"""Grows up to where :data:`FLAT` has been since its second width."""
NOISE = (-0.3, -0.1, 0.0, 0.1, 0.3)


def final_of(dense: tuple[float, ...], *sparse: tuple[float, ...], noise: float = 1.0) -> pd.DataFrame:
    """Final scores along :data:`WIDTHS`, dense and at 0.5, 0.9, …"""
    cells = {
        (width, level): value
        for level, curve in zip((0.0, 0.5, 0.9), (dense, *sparse), strict=False)
        for width, value in zip(WIDTHS, curve, strict=True)
    }
    return scores.final_values(grid(cells, tuple(noise * own for own in NOISE)), RETURN)


@pytest.mark.parametrize(
    ("dense", "sparse", "verdict"),
    [
        (FLAT, (FLAT, GROWS), "dense stops and sparse goes on"),
        (FALLS, (GROWS,), "dense stops and sparse goes on"),
        (FALLS, (LATE, GROWS), "dense stops and sparse goes on"),
        (FLAT, (LATE,), "dense stops and sparse catches up"),
        (
            FALLS,
            (LATE,),
            "dense stops and sparse catches up",
        ),  # better than the widest, not than the best
        (FLAT, (LATE, FLAT), "dense stops and sparse catches up"),
        (GROWS, (GROWS, FALLS), "both go on"),
        (GROWS, (FLAT, FALLS), "dense goes on and sparse stops"),
        (FLAT, (FALLS, FLAT), "both stop"),
    ],
)
def test_planted_curves_have_the_verdict_that_was_planted(
    dense: tuple[float, ...], sparse: tuple[tuple[float, ...], ...], verdict: str
) -> None:
    assert claims.family(final_of(dense, *sparse), margin=2.0).verdict == verdict
    noisy = final_of(dense, *sparse, noise=60.0)
    assert claims.family(noisy, margin=2.0).verdict == "cannot tell"


def test_one_curve_in_doubt_is_enough_for_no_verdict() -> None:
    """That no sparse curve goes on takes all of them to stop."""
    curves = claims.family(final_of(GROWS, FLAT, GROWS), 2.0).curves
    grows, flat = curves[0.9], curves[0.5]
    doubt = grows._replace(kind="cannot tell")
    assert claims.judge(flat, {0.5: flat, 0.9: doubt}, {0.9}) == "cannot tell"
    assert claims.judge(doubt, {0.5: grows}, {0.5}) == "cannot tell"
    assert claims.judge(flat, {0.5: doubt, 0.9: grows}, {0.9}) == "dense stops and sparse goes on"
    # 0.5 is beyond dense but does not grow, 0.9 grows but is not beyond
    assert claims.judge(flat, {0.5: flat, 0.9: grows}, {0.5}) == "dense stops and sparse catches up"


def test_narrow_networks_do_not_judge_growth_beyond_a_width() -> None:
    """Dense grows to 16 and is flat from there on; judged from 16 on nothing is gained."""
    final = final_of(FLAT, GROWS)
    assert claims.family(final, 2.0).curves[0.0].size == 16
    assert claims.family(final, 2.0, beyond=16).curves[0.0].size == 16
    late = claims.family(final, 2.0, beyond=32).curves
    assert late[0.0].size == 32
    assert late[0.5].size == 64
    with pytest.raises(ValueError, match="sparsity 0: one size shows no growth"):
        claims.family(final, 2.0, beyond=64)


def test_no_growth_is_found_among_many_curves_that_have_none() -> None:
    """Nine flat sparse curves beside a flat dense one, three widths, five seeds: growth anywhere in at
    most one study in twenty, where single curves judged at 95 % each would find it in more."""
    print("seed 0")
    generator, single, joint, studies = np.random.default_rng(0), 0, 0, 60
    for _ in range(studies):
        cells = []
        for level in range(10):
            for width in (8, 16, 32):
                values = generator.normal(size=5)
                cells += [(width, level / 10, seed, value) for seed, value in enumerate(values)]
        final = pd.DataFrame(cells, columns=["width", "sparsity", "seed", RETURN])
        final = final.assign(env="probe/x", run_id=range(len(final)))
        found = claims.family(final, margin=0.01).curves
        joint += any(curve.kind == "grows" for curve in found.values())
        estimates = scores.cell_estimates(final, RETURN, ["width", "sparsity"], method="t")
        alone = [
            verdicts.growth([e for (_, s), e in estimates.items() if s == level], (8, 16, 32), 0.01)
            for level in found
        ]
        single += any(curve.kind == "grows" for curve in alone)
    assert joint <= 0.05 * studies < single


def test_what_is_no_grid_is_refused() -> None:
    final = final_of(FLAT, GROWS)
    with pytest.raises(ValueError, match="dense runs and sparse ones"):
        claims.family(final[final["sparsity"] > 0], 1.0)
    with pytest.raises(ValueError, match="dense runs and sparse ones"):
        claims.family(final[final["sparsity"] == 0], 1.0)
    with pytest.raises(ValueError, match="one seed"):
        claims.family(final.drop_duplicates(["width", "sparsity"]), 1.0)


def test_it_is_looked_three_times_and_the_early_ones_see_no_later_row() -> None:
    """Dense runs rise by 10 a width until half their training and are all equal afterwards."""
    half = POINTS // 2
    frame = pd.concat(
        [
            rows(f"{w}-{s}-{i}", [early + own] * half + [late + own] * (POINTS - half), s, w, seed=i)
            for s, ends in ((0.0, FLAT), (0.5, GROWS))
            for w, early, late in zip(WIDTHS, GROWS, ends, strict=True)
            for i, own in enumerate(NOISE)
        ]
    )
    told = claims.table(frame, margin=2.0)
    assert list(told["env steps"]) == ["200", "500", "1,000"]
    assert list(told["verdict"]) == ["both go on", "both go on", "dense stops and sparse goes on"]
    assert told["dense"].iloc[2].startswith("enough at 16 ")
    assert told["S = 0.5"].iloc[2].startswith("grows at 64 +10 [")
    lame = claims.table(frame[frame["sparsity"] == 0], margin=2.0)
    assert set(lame["verdict"]) == {"cannot tell: it takes dense runs and sparse ones to compare"}


def test_equal_in_four_ways() -> None:
    """Sparse is 3 better at every width; at equal survivors it has the larger width's score."""
    better = tuple(value + 3.0 for value in GROWS)
    final = final_of(GROWS, better)
    seconds = final["width"] * (1.0 - final["sparsity"])
    told = claims.equal_table(final.assign(train_seconds=seconds), margin=1.0)
    assert list(told["at equal"]) == [answers.MATCHES[at] for at in claims.EQUAL]
    width = told.iloc[0]
    assert (width["better"], width["same"], width["worse"], width["cannot tell"]) == (4, 0, 0, 0)
    assert width["at the largest"].startswith("64: +3 [")
    survivors = told.iloc[1]
    assert survivors["better"] == 3  # beyond the largest sparse network nothing is read
    # half a doubling of width, five points, and the 3 above
    assert float(survivors["at the largest"].split(": ")[1].split(" ")[0]) == pytest.approx(8.0, abs=0.1)
    # of half the seconds: a whole doubling
    assert told.iloc[3]["at the largest"].startswith("32: +13 [")
    alike = claims.equal_table(final, margin=1.0).iloc[3]["at the largest"]
    assert alike == (
        "not compared: networks of several widths have the same wall-clock seconds of training: "
        "no curve goes along it"
    )


def test_what_some_runs_do_not_tell_is_said_and_not_left_out() -> None:
    final = final_of(GROWS, GROWS)
    some = final["run_id"].isin(final["run_id"].iloc[:2])
    told = claims.equal_table(final.assign(flops=final["width"].where(~some)), margin=1.0)
    line = told[told["at equal"] == answers.MATCHES["flops"]]
    assert list(line["at the largest"]) == [f"not compared: 2 of {len(final)} runs do not tell it"]
    assert (told["at equal"] == answers.MATCHES["width"]).any()


def test_a_common_setting_is_the_best_of_all_cells_and_choosing_seeds_do_not_judge() -> None:
    """At 0.1 one cell is best by far but the other fails; 0.2 serves both."""
    score = {(8, 0.0, 0.1): 9.0, (8, 0.5, 0.1): 0.0, (8, 0.0, 0.2): 6.0, (8, 0.5, 0.2): 5.0}
    frame = pd.concat(
        [
            rows(f"{s}-{rate}-{seed}", [value] * POINTS, s, w, seed=seed).assign(rate=rate)
            for (w, s, rate), value in score.items()
            for seed in (0, 1, 100)
        ]
    )
    same, words = claims.common(frame, "rate", [100])
    assert words == "rate=0.2, of 2 settings the best for all cells"
    assert set(same["rate"]) == {0.2}
    assert set(same["seed"]) == {0, 1}
    assert set(claims.common(frame, "rate")[0]["seed"]) == {0, 1, 100}
    lacking = frame[~((frame["rate"] == 0.2) & (frame["sparsity"] == 0.5))]
    assert set(claims.common(lacking, "rate")[0]["rate"]) == {0.1}
    with pytest.raises(ValueError, match="no rate was tried in all cells"):
        claims.common(lacking[~((lacking["rate"] == 0.1) & (lacking["sparsity"] == 0))], "rate")


def test_what_is_best_in_one_cell_is_tried_on_the_others() -> None:
    """Width 8 dense wants 0.1; width 16 wants 0.3 and gains 4 by it; sparse width 8 wants 0.1 too."""
    score = {
        (8, 0.0): {0.1: 5.0, 0.3: 1.0}, (16, 0.0): {0.1: 6.0, 0.3: 10.0}, (8, 0.5): {0.1: 3.0, 0.3: 2.0},
        (16, 0.5): {0.3: 7.0},
    }  # fmt: skip
    frame = pd.concat(
        [
            rows(f"{w}-{s}-{rate}-{i}", [value + own] * POINTS, s, w, seed=i).assign(rate=rate)
            for (w, s), at in score.items()
            for rate, value in at.items()
            for i, own in enumerate(NOISE)
        ]
    )
    told = claims.transfer(frame, "rate").set_index(["width", "sparsity"])
    assert dict(told["best"]) == {(8, 0.0): 0.1, (8, 0.5): 0.1, (16, 0.0): 0.3, (16, 0.5): 0.3}
    assert list(told["times the base's"]) == pytest.approx([1.0, 1.0, 3.0, 3.0])
    gains, low, high = told.loc[(16, 0.0), ["gains", "low", "high"]].to_numpy(dtype=np.float64)
    assert gains == pytest.approx(4.0)
    assert low < 4.0 < high
    assert told["gains"].isna().tolist() == [True, True, False, True]
    of_wide = claims.transfer(frame, "rate", base=16).set_index(["width", "sparsity"])
    assert list(of_wide["times the base's"]) == pytest.approx([1 / 3, 1 / 3, 1.0, 1.0])
    assert of_wide.loc[(8, 0.0), "gains"] == pytest.approx(4.0)
    with pytest.raises(ValueError, match="no dense run has width 32"):
        claims.transfer(frame, "rate", base=32)
    with pytest.raises(ValueError, match="rate is no number"):
        claims.transfer(frame.assign(rate="x"), "rate")


def test_the_command_tells_each_cell_at_its_own_rate_and_all_at_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dense gains nothing from the widest network at a rate of 0.1, and as much as sparse at 0.3, which
    is what a tuned comparison finds; the narrow ones all want 0.1."""
    study = tmp_path / "s"
    for width, level, rate, seed in (
        (w, s, r, i) for w in (8, 16, 32) for s in (0.0, 0.5) for r in (0.1, 0.3) for i in range(4)
    ):
        score = {8: 0.0, 16: 10.0, 32: 20.0}[width] - (
            5.0 if rate == 0.3 and (width, level) != (32, 0.0) else 0.0
        )
        score -= 10.0 if rate == 0.1 and (width, level) == (32, 0.0) else 0.0
        write(
            study,
            score + 0.1 * seed,
            rate,
            seed,
            width,
            parameters=round(width**2 * (1 - level)),
            sparsity=level,
        )
    (study / results.QUESTIONS).write_text(json.dumps({"does\n it?": "2026-01-01T00:00:00+00:00"}))
    figures = tmp_path / "figures"
    claim.main([str(study), "--tune", "agent.learning_rate", "--margin", "2", "--figures", str(figures)])
    told = " ".join(capsys.readouterr().out.split())
    assert "asked 2026-01-01T00:00:00+00:00: does it?" in told
    own, same = told.split("agent.learning_rate=0.1, of 2 settings the best for all cells: width")
    assert "both go on" in own
    assert "dense stops and sparse goes on" not in own
    assert "dense stops and sparse goes on" in same
    assert len(list(figures.glob("claim_*.png"))) == 2
    assert "does the base's agent.learning_rate serve all cells?" in told
    for bad, reason in (
        (["--base", "8"], "--base is the cell whose setting of --tune KEY is tried"),
        (["--tune-seeds", "1"], "--tune-seeds choose a setting of --tune KEY"),
        (["--margin", "0"], "--margin takes a number > 0, got 0"),
        (["--margin", "inf"], "--margin takes a number > 0, got inf"),
        (["--beyond", "nan"], "--beyond takes a number, got nan"),
        (["--figures", __file__], "--figures takes a folder, and"),
        (["--only", "width=9"], "no run has width=9"),
    ):
        with pytest.raises(SystemExit) as stopped:
            claim.main([str(study), *bad])
        assert stopped.value.code == 2
        assert reason in capsys.readouterr().err
