"""Every table and sentence of a report from rows whose order cannot be doubted, by hand."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up import flops, grid, nonzero, only, rows, total
from scipy import stats

from sparse_rl.analysis import (
    answers,
    budgets,
    choices,
    findings,
    fits,
    laws,
    probes,
    scores,
    tables,
)
from sparse_rl.analysis.choices import Choice, Trial
from sparse_rl.analysis.fits import Points
from sparse_rl.analysis.series import Series
from sparse_rl.analysis.thresholds import Crossing

WIDTHS = (8, 16, 32, 64)


def test_laws_of_one_sparsity_are_fitted_to_what_survives() -> None:
    """And joint ones to all parameters, beside the share that is kept."""
    made = only(grid({(w, s): 100 * math.log2(w) - 40 * s for w in WIDTHS for s in (0.0, 0.75)}))
    points = tables.curve_points(made, 0.75)
    assert points.size.tolist() == [nonzero(w, 0.75) for w in WIDTHS]
    assert points.kept.tolist() == [0.25] * 4
    assert points.score == pytest.approx([270.0, 370.0, 470.0, 570.0])
    assert points.samples.shape == (4, 500)
    assert points.samples.mean(1) == pytest.approx(points.score, abs=0.15)
    joint = tables.joint_points(made)
    found = dict(zip(zip(joint.size, joint.kept, strict=True), joint.score, strict=True))
    assert found == {
        (total(w), kept): pytest.approx(100 * math.log2(w) - 40 * (1 - kept))
        for w in WIDTHS
        for kept in (1.0, 0.25)
    }
    with pytest.raises(ValueError, match=r"no run at sparsity 0\.5 has ended"):
        tables.curve_points(made, 0.5)


def test_budgets_begin_where_all_have_a_value_and_end_at_the_dearest_run() -> None:
    made = only(grid({(8, 0.5): 1.0, (32, 0.0): 2.0}))
    least, most = 30 * flops(32, 0.0), 300 * flops(32, 0.0) * 0.999
    ratio = (most / least) ** (1 / 3)
    assert budgets.budgets(made) == pytest.approx([least * ratio**i for i in range(4)])


def test_runs_that_do_not_say_their_flops_have_no_budgets() -> None:
    made = grid({(8, 0.5): 1.0, (32, 0.0): 2.0}).assign(flops_per_update=float("nan"))
    with pytest.raises(ValueError, match="do not say their FLOPs"):
        budgets.budgets(only(made))


def learning(width: int, end: float, seeds: tuple[float, ...] = (-1.0, 0.0, 1.0)) -> pd.DataFrame:
    """Dense runs that score nothing at first and ``end`` from the second evaluation on."""
    made = [
        rows(f"{width}-{i}", [0.0] + [end + own] * 9, 0.0, width, seed=i)
        for i, own in enumerate(seeds)
    ]  # fmt: skip
    return pd.concat(made, ignore_index=True)


def test_the_frontier_carries_cheaper_results_forward() -> None:
    """Width 8 ends at 50 for a fraction of what 16 and 32 spend, which end at 30 and 90: what was cheap
    is not forgotten, and 32 is best only once it has learned."""
    made = only(pd.concat([learning(8, 50.0), learning(16, 30.0), learning(32, 90.0)]))
    table = budgets.frontier(made)
    assert table["width"].tolist() == [8, 32, 32, 32]
    assert table["of cells"].tolist() == [3] * 4
    assert table["return_mean"].iloc[0].startswith("50 [4")
    assert table["best in"].iloc[-1] == "100%"
    wide = learning(16, 50.5, (-20.0, 0.0, 20.0))
    half = budgets.frontier(only(pd.concat([learning(8, 50.0), learning(4, -900.0), wide])))
    assert half["width"].iloc[-1] == 16
    assert 40 <= int(half["best in"].iloc[-1].rstrip("%")) <= 65


def test_a_frontier_of_single_runs_claims_no_share() -> None:
    made = only(pd.concat([learning(8, 50.0, (0.0,)), learning(16, 90.0, (0.0,))]))
    table = budgets.frontier(made)
    assert set(table["best in"]) == {""}
    assert table["return_mean"].iloc[-1] == "90"


def test_thresholds_lie_between_the_first_returns_and_the_best_cell() -> None:
    """First returns 0 and 20: 10 on average; the best cell ends at 90: 50 and 82."""
    ramp = [rows(f"a{i}", [0.0, 40.0, 60.0, 90.0, 90.0], width=8, seed=i) for i in range(2)]
    other = [rows(f"b{i}", [20.0] * 5, width=16, seed=i) for i in range(2)]
    made = only(pd.concat([*ramp, *other], ignore_index=True))
    assert budgets.thresholds_of(made) == [50.0, 82.0]
    points = budgets.data_points(made, 50.0, 0.0)
    assert points.size.tolist() == [nonzero(8, 0.0), nonzero(16, 0.0)]
    assert points.kept.tolist() == [1.0, 1.0]
    assert np.exp(points.score) == pytest.approx([250.0, 500.0])  # between 200 and 300; never: all of it
    assert points.censored.all(axis=1).tolist() == [False, True]
    table = budgets.data_table(made).set_index("width")
    assert table["env steps to 50"].to_dict() == {8: "250", 16: "> 500"}


def test_a_crossing_that_a_fortieth_of_resamples_never_makes_is_open_above() -> None:
    for never, words in ((2, "300 [200, 400]"), (3, "300 [200, > 400]")):
        censored = np.zeros(101, dtype=np.bool_)
        censored[1 : 1 + never] = True
        samples = np.repeat([200.0, 400.0], 50)
        assert budgets._steps(Crossing(300.0, samples, censored)) == words


def test_cells_by_hand() -> None:
    """Five seeds, of which the interquartile mean leaves out the lowest and the highest."""
    made = grid({(8, 0.0): 0.0, (8, 0.5): 100.0}, seeds=(0.0, 1.0, 2.0, 6.0, 40.0))
    diverged = rows("d", [-30.0, 9.0], 0.5, 8, status="diverged", seed=9)
    table = tables.cell_table(only(pd.concat([made, diverged], ignore_index=True))).set_index("sparsity")
    dense, sparse = (text.split(" ")[0] for text in table["return_mean"])
    assert dense == "3"
    # −30, 100, 101, 102, 106, 140: one goes at either end
    assert float(sparse) == pytest.approx(102.25, abs=0.06)
    assert table["dormant_ratio/critic"].tolist() == ["0.5"] * 2
    assert table["runs"].to_dict() == {0.0: 5, 0.5: 6}
    assert table["diverged"].to_dict() == {0.0: 0, 0.5: 1}
    assert table["parameters_total"].to_dict() == {0.0: total(8), 0.5: total(8)}
    assert table["parameters_nonzero"].to_dict() == {0.0: total(8), 0.5: nonzero(8, 0.5)}


def test_chances_above_dense_have_a_side() -> None:
    made = only(grid({(8, 0.0): 50.0, (8, 0.5): 90.0, (8, 0.9): 10.0, (16, 0.5): 1.0}))
    table = tables.improvement_table(made).set_index(["width", "sparsity"])["P(above dense)"]
    assert table.to_dict() == {(8, 0.5): "1 [0.248, 1]", (8, 0.9): "0 [0, 0.752]"}
    close = only(grid({(8, 0.0): 50.0, (8, 0.5): 50.5}))  # 49, 50, 51 and half a point more: 6 of 9
    (chance,) = tables.improvement_table(close)["P(above dense)"]
    assert chance.startswith("0.6667 [")
    low, high = map(float, chance.split("[")[1].rstrip("]").split(", "))
    assert low < 0.3
    assert high > 0.95


def test_aggregates_of_normalised_scores_by_hand() -> None:
    """Returns 100, 200, 300, 1200 of 1000: mean 0.45; the middle two 0.25; short by 0.9, 0.8, 0.7, 0."""
    made = grid({(8, 0.0): 0.0}, seeds=(100.0, 200.0, 300.0, 1200.0), env="dog-run")
    (table,) = tables.aggregates(only(made))
    values = {name: table[name].iloc[0].split(" ")[0] for name in tables.AGGREGATES}
    assert values == {
        "mean": "0.45", "median": "0.45", "interquartile mean": "0.25", "optimality gap": "0.6",
    }  # fmt: skip
    (finals,) = tables.normalised_finals(only(made))
    assert finals["return_mean"].tolist() == [0.1, 0.2, 0.3, 1.2]
    assert not list(tables.aggregates(only(grid({(8, 0.0): 1.0}))))


def planted_surface() -> Series:
    """Best at log2(1 − S) = −1 + X/4, X = log2(N_total/N0): sparser where networks are smaller."""
    widths, levels = (8, 16, 32, 64, 128), (0.0, 0.5, 0.75, 0.875)
    middle = math.exp(np.mean([math.log(total(w)) for w in widths]))
    value = {}
    for width in widths:
        x = math.log2(total(width) / middle)
        for level in levels:
            z = math.log2(1 - level)
            value[width, level] = 500 + 20 * x - 30 * z**2 - 60 * z + 15 * x * z
    return only(grid(value, seeds=(-0.01, 0.01)))


def test_the_best_sparsity_by_a_law_is_that_of_the_widths_own_size() -> None:
    made = planted_surface()
    table = tables.optimum_table(made).set_index("width")
    middle = math.exp(np.mean([math.log(total(w)) for w in table.index]))
    for width, told in zip(table.index.astype(int), table["best by the law"], strict=True):
        best = 1 - 2 ** (-1 + math.log2(total(width) / middle) / 4)
        assert float(told.split(" ")[0]) == pytest.approx(max(best, 0.0), abs=0.011)
    assert table.loc[32, "best measured"] == "0.5 [0.5, 0.5]"
    assert table.loc[128, "best measured"] == "0 [0, 0]"
    assert table.loc[8, "best measured"] == "0.75 [0.75, 0.75]"
    assert table.loc[[8, 32, 128], "best in"].tolist() == ["100%"] * 3
    few = tables.optimum_table(only(grid({(8, 0.0): 1.0, (8, 0.5): 2.0})))
    assert few["best by the law"].tolist() == ["too few cells to fit a law"]


def flat_then(last: float, own: tuple[float, ...] = (-3.0, 0.0, 3.0)) -> Series:
    """100 at every width but the largest."""
    return only(grid({(8, 0.0): 100.0, (16, 0.0): 100.0, (32, 0.0): 100.0, (64, 0.0): last}, own))


def test_a_law_table_says_what_was_predicted_and_what_was_measured() -> None:
    points = tables.curve_points(flat_then(400.0), 0.0)
    choice = choices.choose((laws.CONSTANT, laws.POWER, laws.SURFACE), points)
    table = tables.law_table(choice, points)
    of_law: dict[str, Any] = table.set_index("law").to_dict("index")  # type: ignore[assignment]
    constant = of_law["constant"]
    assert constant["predicted"].split(" ")[0] == "100"
    assert constant["measured"] == "400 [395.3, 404.7]"
    assert constant["held-out error"] == pytest.approx(300.0, rel=1e-3)
    assert constant["parameters"].startswith("c = 100 [9")
    assert "not identified" in of_law["power"]["parameters"]
    assert of_law["surface"]["parameters"] == "surface has 6 parameters, the data have 3 points"
    shares = table["best in"].dropna().str.rstrip("%").astype(int)
    assert shares.sum() == pytest.approx(100, abs=1)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rank_correlations_are_those_of_the_runs(sign: float) -> None:
    """Monotone and curved: Pearson's is another; ties share their rank."""
    made = grid({(w, 0.0): float(w**2) for w in WIDTHS}, seeds=(0.0, 0.0, 5.0))
    made["dormant_ratio/critic"] = sign * np.exp(made["return_mean"] / 600) + (made["seed"] == 1) * 0.3
    found = tables.association(only(made), "dormant_ratio/critic")
    last = made.groupby("run_id").last()
    expected = stats.spearmanr(last["return_mean"], last["dormant_ratio/critic"]).statistic
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.low <= found.value <= found.high
    assert found.high - found.low > 0.02
    (words,) = findings.association_words(only(made), ["dormant_ratio/critic"])
    assert f"over 12 runs is {expected:.4g} [" in words


def choice_of(**off: tuple[float, float]) -> tuple[Choice, Points]:
    """Laws whose predicted − measured lies between two numbers at one held-out size."""
    samples = np.array([[50.0] * 1001, np.linspace(94.75, 105.25, 1001).tolist()])
    never = np.zeros((2, 1002), np.bool_)
    points = Points(np.array([8.0, 16.0]), np.ones(2), np.array([50.0, 100.0]), samples, never)
    fit = fits.fit(laws.CONSTANT, points)
    none = np.zeros(1)
    trials = {
        name: Trial(fit, none, none, none, abs(low), none, np.array([low]), np.array([high]))
        for name, (low, high) in off.items()
    }
    shares = {name: 1.0 / len(trials) for name in trials}
    return Choice(np.array([False, True]), trials, {}, shares), points


def test_laws_agree_whose_difference_from_what_was_measured_may_be_none() -> None:
    choice, _ = choice_of(
        below=(-20.0, -10.0), under=(-6.0, -0.1), meets=(-6.0, 0.1), inside=(-1.0, 1.0),
        touches=(-0.1, 10.0), over=(0.1, 10.0),
    )  # fmt: skip
    assert findings.holds(choice) == ["meets", "inside", "touches"]


def test_what_is_said_of_laws() -> None:
    none, _ = choice_of(constant=(-90.0, -80.0), power=(50.0, 60.0))
    assert "No law agrees with what was measured, within its interval." in findings.law_words(none, "x")
    one, _ = choice_of(constant=(-90.0, -80.0), power=(-1.0, 1.0))
    text = findings.law_words(one, "x")
    assert "The power law came closest to that one: best of 2 laws in 50% of resamples." in text
    assert text.endswith("Within intervals power agrees with what was measured.")
    both, _ = choice_of(constant=(-10.0, 2.0), power=(-1.0, 1.0))
    assert findings.law_words(both, "x").endswith(
        "constant and power agree with what was measured. So these runs do not tell growth from none."
    )
    unknown = both._replace(shares=dict.fromkeys(both.shares, math.nan))
    assert findings.law_words(unknown, "x").endswith("cannot be said: one seed, or no spread.")


def sentences(made: Series) -> dict[str, str]:
    """First two words → sentence."""
    return {" ".join(text.split(" ")[:2]): text for text in findings.words(made)}


def test_sentences_say_the_numbers_of_the_right_cells() -> None:
    """A peak at 600 parameters more than the smallest, away from the middle; the widest network's
    difference is the one that is told, and its dormant ratio."""
    value = {(w, 0.0): 900 - 20 * math.log2(total(w) / 1500) ** 2 for w in (8, 16, 32, 64, 128)}
    value |= {(w, 0.75): value[w, 0.0] + w / 8 for w in (8, 16, 32, 64, 128)}
    frame = grid(value, seeds=(-0.01, 0.0, 0.01))
    frame["dormant_ratio/critic"] = frame["width"] / 1000 + frame["sparsity"]
    frame["eval_episodes_distinct"] = np.where(frame["sparsity"] > 0, 1.0, 10.0)
    frame.loc[frame["env_steps"] == 500, "eval_episodes_distinct"] = 1.0  # not the last one
    said = sentences(only(frame))
    assert said["Dense does"].startswith(
        f"Dense does best at {total(16):,} surviving parameters: a larger"
    )
    assert said["In 15"].startswith("In 15 of 30 runs all episodes of the last evaluation")
    dormant = "At width 128 the share of dormant units in the critic is 0.128 at sparsity 0 and 0.878 at"
    assert dormant in said["At width"]
    assert said["The best"].startswith(
        "The best sparsity of those measured, with its interval, is 0.75 [0.75, 0.75] at"
    )
    assert said["The best"].count("0.75 [0.75, 0.75]") == 5
    table = answers.compare(scores.final_values(frame, "return_mean"), "width", margin=0.01)
    assert table["verdict"].tolist() == ["better"] * 5
    assert table["difference"].tolist() == pytest.approx([1.0, 2.0, 4.0, 8.0, 16.0])
    at_width = next(t for t in findings.words(only(frame), 0.01) if "at equal width" in t)
    assert "equal width, 5 comparisons: sparsity 0.75: 5 better." in at_width
    assert "sparse less dense is +16 [+15.97, +16.03] for sparsity 0.75 at 128." in at_width


def test_single_seeds_are_told_without_intervals() -> None:
    value = {(w, s): 900 - 10 * math.log2(w) - s for w in (8, 16, 32, 64) for s in (0.0, 0.5)}
    said = list(findings.words(only(grid(value, seeds=(0.0,)))))
    assert not [text for text in said if "nan" in text or "[" in text or "%" in text]
    assert any("the best sparsity: no best sparsity: 0, 0.5 has one seed" in text for text in said)
    assert any(text.endswith("sparse less dense is -0.5 for sparsity 0.5 at 64.") for text in said)
    best = tables.optimum_table(only(grid(value, seeds=(0.0,))))
    assert set(best["best in"]) == {""}
    assert not best.astype(str).apply(lambda column: column.str.contains(r"\[")).to_numpy().any()
    (chance, *_) = tables.improvement_table(only(grid(value, seeds=(0.0,))))["P(above dense)"]
    assert chance == ""


def test_data_words_are_of_the_higher_threshold() -> None:
    def ramp(width: int) -> list[float]:
        return [min(90.0, 3.0 * n * math.log2(width)) for n in range(11)]

    made = only(
        pd.concat(
            [
                rows(f"{w}-{i}", ramp(w), width=w, seed=i)
                for w in WIDTHS
                for i in range(2)
            ],
            ignore_index=True,
        )
    )  # fmt: skip
    (said,) = findings.data_words(made)
    assert said.startswith(
        "Env steps to a return of 81 at sparsity 0: laws were fitted to all but the largest size."
    )
    points = budgets.data_points(made, 81.0, 0.0)
    assert points.score == pytest.approx(
        np.log([100 * (1 + 27 / math.log2(w)) for w in WIDTHS]), abs=1e-9
    )


def test_probes_are_summarised_over_the_seeds_of_a_cell() -> None:
    cell = {"env": "x", "agent": "sac", "width": 8}
    made = [
        {
            **cell,
            "sparsity": level,
            "run_id": f"r{i}",
            "seed": i,
            "churn": 10 * level + value,
            "loss": 2.0,
        }
        for level in (0.0, 0.5)
        for i, value in enumerate((0.0, 1.0, 2.0, 6.0, 40.0))
    ]
    table = probes.summary(pd.DataFrame(made))
    assert list(table.index) == ["churn", "loss"]
    dense, sparse = table["x", "sac", 8, 0.0], table["x", "sac", 8, 0.5]
    assert dense["churn"].startswith("3 [")  # interquartile: of 1, 2, 6
    assert sparse["churn"].startswith("8 [")
    assert (dense["loss"], sparse["loss"]) == ("2", "2")
