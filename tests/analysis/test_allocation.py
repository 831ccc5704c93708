"""Planted laws of size, data and sparsity are found, and what a grid cannot tell is refused."""

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from made_up import flops, nonzero, rows, total

from sparse_rl import laws as command
from sparse_rl.analysis import allocation, fits, intervals, laws, series, shared, surface, thresholds
from sparse_rl.analysis.statistics import Floats
from sparse_rl.analysis.surface import Surface
from sparse_rl.records.console import console

TRUE = 0.5 / (0.7 + 0.5)
"""N_opt ∝ C^(β / (α + β)) of what is planted below."""


def planted(
    of_size: float = 2e5, of_data: float = 3000.0, noise: float = 1.0, sizes: int = 8, steps: int = 24,
    sparsities: Sequence[float] = (0.0,), longest: float = 1e7, seeds: int = 5, draw: int = 0,
) -> Surface:  # fmt: skip
    """900 − a·N^−0.7 − e·D^−0.5 of N surviving parameters, FLOPs per step 6 N; half of the noise is a
    run's own level, the rest each evaluation's."""
    generator = np.random.default_rng(draw)
    dense = 500.0 * 4.0 ** np.arange(sizes)
    data = np.geomspace(1e3, longest, steps)
    cells = [(int(n**0.5), s) for s in sparsities for n in dense]
    total_ = np.tile(dense, len(sparsities))
    kept = total_ * (1 - np.array([s for _, s in cells]))
    values = []
    for i, n in enumerate(kept):
        true = 900 - of_size * n**-0.7 - of_data * data**-0.5
        runs = true[:, None] + noise * generator.normal(size=(1, seeds))
        runs = runs + 0.3 * noise * generator.normal(size=(steps, seeds))
        drawn = thresholds.mean_curves(runs, 60, i, "t")
        values.append(np.column_stack([runs.mean(1), drawn.T]))
    return Surface(cells, total_, kept, 6 * kept, data, np.stack(values))


def exponents(found: Surface) -> dict[str, str]:
    told = allocation.table(found)
    return dict(zip(told["method"], told["a of N_opt ∝ C^a"], strict=True))


def ends(text: str) -> tuple[float, float, float]:
    value, low, high = (
        float(part) for part in text.replace("[", "").replace("]", "").replace(",", "").split()
    )
    return value, low, high


def test_four_methods_find_how_the_best_size_grows() -> None:
    told = exponents(planted())
    for name, text in told.items():
        value, low, high = ends(text)
        assert value == pytest.approx(TRUE, abs=0.1), name
        assert low - 0.01 < TRUE < high + 0.01, name
    value, low, high = ends(told["law of size and data"])
    assert high - low < 0.01
    assert value == pytest.approx(TRUE, abs=0.005)


def test_what_an_env_step_costs_need_not_grow_as_the_size_does() -> None:
    """FLOPs ∝ N²: N_opt ∝ C^(β / (α + 2 β))."""
    found = planted(sizes=5, steps=6)
    value, draws = allocation.parametric(found._replace(flops=6 * found.nonzero**2))
    assert value == pytest.approx(0.5 / (0.7 + 1.0), abs=0.005)
    assert np.quantile(draws, [0.025, 0.975]) == pytest.approx([value, value], abs=0.01)


@pytest.mark.parametrize("draw", range(3))
@pytest.mark.parametrize("grid", [{"of_size": 0.0}, {"of_data": 0.0}, {"of_size": 0.0, "of_data": 0.0}])
def test_flat_curves_have_no_best_size(grid: dict[str, float], draw: int) -> None:
    """Of noise some size is the best at every budget."""
    found = planted(noise=30.0, draw=draw, **grid)  # type: ignore[arg-type]
    for method in (allocation.envelope, allocation.isoflop):
        with pytest.raises(ValueError, match="at too few budgets is a size beyond doubt better"):
            method(found)


def test_a_law_without_size_or_data_has_no_exponent() -> None:
    for grid in ({"of_size": 0.0}, {"of_data": 0.0}):
        with pytest.raises(ValueError, match=r"both size and data beyond doubt|not identified"):
            allocation.parametric(planted(steps=6, sizes=4, **grid))  # type: ignore[arg-type]


def test_a_grid_that_has_no_budget_in_common_is_refused_by_name() -> None:
    short = planted(longest=4e3)
    with pytest.raises(ValueError, match="at no budget were 3 sizes measured: train small ones longer"):
        allocation.envelope(short)
    with pytest.raises(ValueError, match="at no budget were 4 sizes measured"):
        allocation.isoflop(short)


def test_single_runs_have_no_interval_and_so_no_peak() -> None:
    told = exponents(planted(seeds=1, sizes=5))
    assert all(text.startswith("none") or "[" not in text for text in told.values())
    for method in (allocation.parametric, allocation.intrinsic):
        with pytest.raises(ValueError, match="2 sizes cannot tell an exponent of size from an offset"):
            method(planted(sizes=2))


def test_scores_at_equal_flops_by_hand() -> None:
    """Costs 2 and 8 per step, steps 10 and 1000: 200 FLOPs are 100 steps of one, half way in
    logarithms, and 25 of the other; 20 and 8,000 are the ends of either."""
    values = np.array([[[1.0], [5.0]], [[30.0], [90.0]]])
    two = np.array([10.0, 40.0])
    found = Surface(
        [(1, 0.0), (2, 0.0)], two, two, np.array([2.0, 8.0]), np.array([10.0, 1000.0]), values
    )
    told = allocation.at_equal_flops(found, np.array([20.0, 200.0, 8000.0]))[..., 0]
    share = np.log(2.5) / np.log(100)
    assert told[:, 0] == pytest.approx([1.0, 3.0, np.nan], nan_ok=True)
    assert told[:, 1] == pytest.approx([np.nan, 30 + 60 * share, 90.0], nan_ok=True)


def test_intrinsic_performance_by_hand() -> None:
    """The second size is at 40 after 300 steps at 8: 2,400 FLOPs; the first after 500 at 2, which is
    less."""
    steps, rising = np.array([100.0, 500.0]), np.array([0.0, 40.0])
    assert allocation._reached(steps, rising, np.array([-1.0, 0.0, 10.0, 40.0, 41.0])) == pytest.approx(
        [100, 100, 200, 500, np.inf]
    )


def told_of(
    found: Surface, patch: pytest.MonkeyPatch, *candidates: laws.Law
) -> tuple[dict[str, float], dict[str, float]]:
    """How far off some laws are at the largest size and at the last data."""
    assert [law.name for law in surface.candidates(found)] == [law.name for law in laws.WITH_DATA]
    patch.setattr(surface, "candidates", lambda _: list(candidates))
    told = surface.law_table(found).set_index("law")
    columns = ("off at the largest size", "off at the last data")
    size, data = ({str(name): float(off) for name, off in told[c].items()} for c in columns)
    return size, data


def test_the_law_of_intrinsic_performance_by_hand() -> None:
    """αN = ½ and αD = 3/2 make 1/β = 8/3: at N = 4 and D = 2 the lack is 4^−½ + 2^−3/2 = 0.8536."""
    theta, data = np.array([0.0, 0.0, 0.5, 1.5]), np.array([[1.0, 2.0]])
    told = laws.INTRINSIC.predict(theta, np.array([4.0]), data)
    assert told == pytest.approx([-8 / 3 * np.log(0.5 + 2**-1.5)])


def test_the_right_law_of_size_data_and_sparsity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Surviving parameters count: the law of total ones and the one without size are further off."""
    found = planted(sizes=4, steps=6, sparsities=(0.0, 0.9))
    three = (laws.DATA_ALONE, laws.TOTAL_AND_DATA, laws.SIZE_AND_DATA)
    for off in told_of(found, monkeypatch, *three):
        alone, total_, right = (off[law.name] for law in three)
        assert right < 5 < total_ < alone
    points = surface.points(found._replace(values=found.values[..., :21]))
    values = fits.values(fits.fit(laws.SIZE_AND_DATA, points))
    assert values["b"].value == pytest.approx(0.7, abs=0.01)
    assert values["f"].value == pytest.approx(0.5, abs=0.02)
    assert values["c"].value == pytest.approx(900, abs=3)


def test_a_factor_of_sparsity_that_was_planted_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = planted(sizes=4, steps=6, sparsities=(0.0, 0.5, 0.9))
    factor = np.array([3.0 * (1 - s) ** 0.8 for _, s in found.cells])
    lift = (factor - 1.0) * 2e5 * found.nonzero**-0.7
    lifted = found._replace(values=(found.values - lift[:, None, None])[..., :21])
    two = (laws.SIZE_AND_DATA, laws.SIZE_DATA_AND_SPARSITY)
    _, off = told_of(lifted, monkeypatch, *two)
    assert off[two[1].name] < 0.3 * off[two[0].name]


def test_dense_runs_are_not_asked_about_sparsity() -> None:
    told = surface.law_table(planted(sizes=4, steps=6))
    assert told["law"].tolist() == ["data alone", "surviving parameters and data"]


def learned(size_exponent: float, env: str, widths: Sequence[int] = (8, 16, 32, 64)) -> pd.DataFrame:
    """Return rises linearly and reaches 100 after 900 (N / N_8)^−b env steps; three seeds differ."""
    made = []
    for width in widths:
        needed = 900.0 * (nonzero(width, 0.0) / nonzero(8, 0.0)) ** -size_exponent
        for seed, own in enumerate((0.97, 1.0, 1.03)):
            returns = [min(100.0, 100.0 * 100 * i / (needed * own)) for i in range(1, 11)]
            made.append(rows(f"{env}{width}s{seed}", returns, width=width, seed=seed, env=env))
    return pd.concat(made, ignore_index=True)


def test_one_exponent_over_returns_and_tasks() -> None:
    grids = list(series.split(pd.concat([learned(0.1, "probe/x"), learned(0.1, "probe/y")])))
    every = [shared.reached(grid, 0.0, (60.0, 80.0, 95.0)) for grid in grids]
    assert [len(each) for each in every] == [3, 3]
    told, words = shared.table(every)
    assert told["task"].tolist() == ["probe/x", "probe/y", "all"]
    assert words == "The tasks' exponents do not differ beyond doubt; all: one for every task."
    for text in told["b"]:
        value, low, high = ends(text)
        assert value == pytest.approx(0.1, abs=0.02)
        assert low < 0.11
        assert high > 0.09
    widths = [ends(text)[2] - ends(text)[1] for text in told["b"]]
    assert widths[2] < min(widths[:2])


def test_flops_to_a_return_have_their_own_exponent() -> None:
    """FLOPs ∝ N·D, here to within the seven weights that cannot be pruned: −b + 1."""
    (grid,) = series.split(learned(0.1, "probe/x"))
    steps = shared.exponent(shared.reached(grid, 0.0, (80.0,))).value
    spent = shared.reached(grid, 0.0, (80.0,), "flops")
    assert shared.exponent(spent).value == pytest.approx(steps - 1.0, abs=1e-3)
    per_step = flops(8, 0.0) * 0.3
    data = shared.reached(grid, 0.0, (80.0,))[0].points
    assert np.exp(spent[0].points.score[0] - data.score[0]) == pytest.approx(per_step)
    with pytest.raises(ValueError, match="unit must be env_steps or flops"):
        shared.reached(grid, 0.0, (80.0,), "seconds")


def test_tasks_that_differ_share_no_exponent() -> None:
    grids = list(series.split(pd.concat([learned(0.05, "probe/x"), learned(0.3, "probe/y")])))
    told, words = shared.table([shared.reached(grid, 0.0, (80.0,)) for grid in grids])
    assert words == "The tasks' exponents differ beyond doubt: they share none."
    assert told["task"].tolist() == ["probe/x", "probe/y"]


def test_returns_that_nobody_reaches_tell_no_exponent() -> None:
    (grid,) = series.split(learned(0.1, "probe/x"))
    assert shared.reached(grid, 0.0, (500.0,)) == []
    with pytest.raises(ValueError, match="no return is reached by two sizes"):
        shared.table([[]])


def test_cells_to_a_return_are_drawn_independently() -> None:
    """Equal weights for the runs of two cells would move both at once."""
    generator = np.random.default_rng(6)
    noisy = learned(0.0, "probe/x", (8, 16))
    own = {run: generator.normal() for run in noisy["run_id"].unique()}
    noisy["return_mean"] += 3 * noisy["run_id"].map({r: own[r.replace("16s", "8s")] for r in own})
    (grid,) = series.split(noisy)
    (found,) = shared.reached(grid, 0.0, (50.0,))
    assert abs(np.atleast_2d(np.corrcoef(found.points.samples))[0, 1]) < 0.2


def returns_of(width: int, factor: float = 1.0) -> list[float]:
    steps = 100.0 * np.arange(1, 11)
    return list(900 - 3000 * factor * nonzero(width, 0.0) ** -0.5 - 2000 * steps**-0.5)


def test_a_surface_is_read_from_rows() -> None:
    made = [
        rows(f"w{w}s{s}", [v + 2.0 * (s - 1) for v in returns_of(w)], width=w, seed=s)
        for w in (8, 16, 32) for s in range(3)
    ]  # fmt: skip
    (grid,) = series.split(pd.concat(made, ignore_index=True))
    found = surface.surface(grid)
    assert found.total.tolist() == [total(w) for w in (8, 16, 32)]
    assert found.flops.tolist() == pytest.approx([0.3 * flops(w, 0.0) for w in (8, 16, 32)])
    assert found.steps[[0, -1]].tolist() == pytest.approx([100.0, 1000.0])
    assert found.values[1, [0, -1], 0] == pytest.approx(np.array(returns_of(16))[[0, -1]])
    points = surface.points(found)
    assert points.kept[:, 1].prod() == pytest.approx(1.0)  # D0 is the geometric mean
    half = np.quantile(found.values[0, 0, 1:], 0.975) - found.values[0, 0, 0]
    assert half == pytest.approx(4.3 * 2 / 3**0.5, rel=0.35)
    with pytest.raises(ValueError, match="no run is done"):
        surface.surface(grid, 0.5)
    known = fits.values(fits.fit(laws.SIZE_AND_DATA, points))
    assert known["c"].value == pytest.approx(900, abs=30)


def test_the_command_tells_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    made = [
        rows(f"w{w}s{s}", [v + 2.0 * (s - 1) for v in returns_of(w)], width=w, seed=s)
        for w in (8, 16, 32) for s in range(3)
    ]  # fmt: skip
    command.with_data(console(), pd.concat(made, ignore_index=True), 0.0)
    out = " ".join(capsys.readouterr().out.split())
    for said in ("surviving parameters", "envelope of the curves", "env steps to a return ∝ N^−b"):
        assert said in out
    with pytest.raises(ValueError, match=r"no run has sparsity 0\.5; there are 0"):
        command.with_data(console(), pd.concat(made, ignore_index=True), 0.5)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["--with-data", "--by", "agent.batch_size"], "takes no --by"),
        (["--with-data", "--tune", "x", "--at-steps", "5"], "takes no --tune, --at-steps"),
        (["--thresholds", "5"], "--thresholds are returns for --with-data"),
    ],
)
def test_options_that_do_not_go_together(given: list[str], reason: str) -> None:
    options: argparse.Namespace = command._parser().parse_args(["x", *given])
    with pytest.raises(ValueError, match=reason):
        command.check(options)


def test_method_is_that_of_intervals() -> None:
    """From ten runs on draws are of runs, and their spread that of a bootstrap."""
    values: Floats = np.random.default_rng(1).normal(size=(4, intervals.MANY))
    drawn = thresholds.mean_curves(values, 4000, 0, "percentile")
    assert drawn.std(0) == pytest.approx(values.std(1) / intervals.MANY**0.5, rel=0.06)
