"""Planted laws are recovered, held-out sizes predicted, and what data cannot carry is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize

from sparse_rl.analysis import (
    answers,
    choices,
    fits,
    laws,
    load,
    series,
    solving,
    tables,
)
from sparse_rl.analysis.fits import Points
from sparse_rl.analysis.laws import Law
from sparse_rl.analysis.statistics import Floats

WIDTHS = np.array([16.0, 32, 64, 128, 256, 512, 1024, 2048])
SPARSITIES = np.array([0.0, 0.5, 0.8, 0.9, 0.95])


def planted(
    truth: Callable[[Floats, Floats], Floats],
    noise: float,
    size: Floats = WIDTHS,
    kept: Floats | float = 1.0,
    seeds: int = 8,
    draw: int = 0,
    resamples: int = 400,
) -> Points:
    """Means over seeds with normal noise, and bootstrap resamples of them."""
    generator = np.random.default_rng(draw)
    shares = np.broadcast_to(np.asarray(kept, dtype=float), size.shape)
    runs = truth(size, shares)[:, None] + noise * generator.normal(size=(len(size), seeds))
    picked = generator.integers(seeds, size=(len(size), resamples, seeds))
    samples = np.take_along_axis(runs[:, None, :], picked, axis=2).mean(-1)
    never = np.zeros((len(size), 1 + resamples), dtype=np.bool_)
    return Points(size, shares, runs.mean(1), samples, never)


def saturating(size: Floats, kept: Floats) -> Floats:
    return 800 - 3000 * size**-0.5


def peaked(size: Floats, kept: Floats) -> Floats:
    return 800 - 40 * np.log2(size / 200) ** 2


@pytest.mark.parametrize("noise", [1.0, 20.0])
def test_a_power_law_is_recovered(noise: float) -> None:
    """c and b are the data's own; a belongs to N0, the geometric mean of the sizes."""
    values = fits.values(fits.fit(laws.POWER, planted(saturating, noise)))
    middle = np.exp(np.log(WIDTHS).mean())
    for name, true in (("c", 800.0), ("b", 0.5), ("a", -3000 * middle**-0.5)):
        value = values[name]
        assert value.problem is None
        margin = 0.5 * (value.high - value.low)
        assert value.low - margin < true < value.high + margin
        assert value.value == pytest.approx(true, rel=0.002 * noise + 0.01)


@pytest.mark.parametrize("noise", [1.0, 20.0])
def test_a_peak_is_recovered(noise: float) -> None:
    values = fits.values(fits.fit(laws.PEAK, planted(peaked, noise)))
    assert values["m"].value == pytest.approx(200, rel=0.05)
    assert values["k"].value == pytest.approx(40, rel=0.05)
    assert values["c"].value == pytest.approx(800, rel=0.01)


def test_intervals_of_an_exponent_cover() -> None:
    """Over 40 draws at least four fifths of the 95 % intervals hold it: eight seeds are few."""
    held = 0
    for draw in range(40):
        points = planted(saturating, 10.0, draw=draw, resamples=80)
        value = fits.values(fits.fit(laws.POWER, points))["b"]
        held += value.low <= 0.5 <= value.high
    assert held >= 32


@pytest.mark.parametrize(("truth", "name"), [(saturating, "power"), (peaked, "peak")])
def test_the_planted_law_predicts_the_largest_sizes(
    truth: Callable[[Floats, Floats], Floats], name: str
) -> None:
    points = planted(truth, 2.0)
    choice = choices.choose(laws.CURVES, points, largest=2)
    assert choice.preferred == name
    assert choice.shares[name] > 0.9
    assert sum(choice.shares.values()) == pytest.approx(1.0)
    trial = choice.trials[name]
    assert trial.predicted == pytest.approx(truth(WIDTHS[-2:], np.ones(2)), abs=15)
    assert (trial.low < trial.predicted).all()
    assert (trial.predicted < trial.high).all()


def test_a_joint_law_is_recovered() -> None:
    size, kept = (a.ravel() for a in np.meshgrid(80 * WIDTHS**2, 1 - SPARSITIES))
    points = planted(
        lambda n, k: 900 - (300 * k**0.7 + 150) * (n * k / 1e6) ** -0.2, 4.0, size=size, kept=kept
    )
    values = fits.values(fits.fit(laws.SPARSITY_FACTOR, points))
    assert values["e"].value == pytest.approx(0.7, rel=0.1)
    assert values["d"].value == pytest.approx(0.2, rel=0.1)
    assert choices.choose(laws.JOINT, points, largest=2).preferred == "sparsity factor"


def test_the_best_sparsity_is_asked_of_the_likeliest_law() -> None:
    """Planted at 0.9 everywhere. In the second draw the law of total parameters, which knows of no best
    sparsity, happens to be closest to the largest size."""
    size, kept = (a.ravel() for a in np.meshgrid(80 * WIDTHS[:6] ** 2, 1 - SPARSITIES[:4]))
    constant = 300 * (0.7 - 0.35) * 0.1**0.7 / 0.35  # where the derivative by 1 − S is 0 at 0.1

    def truth(n: Floats, k: Floats) -> Floats:
        return 900 - (300 * k**0.7 + constant) * (n * k / 1e5) ** -0.35

    for draw in (0, 3):
        points = planted(truth, 15.0, size=size, kept=kept, seeds=5, draw=draw, resamples=100)
        fit = tables.joint_fit(points)
        assert fit is not None
        assert fit.law.name == "sparsity factor"
        best = answers.best_by_law(fit, size[2], np.linspace(0, 0.95, 96))
        assert best.low <= 0.9 <= best.high


def test_survivors_alone_explain_what_only_they_decide() -> None:
    size, kept = (a.ravel() for a in np.meshgrid(80 * WIDTHS**2, 1 - SPARSITIES))
    points = planted(lambda n, k: 900 - 300 * (n * k / 1e6) ** -0.2, 4.0, size=size, kept=kept)
    assert fits.fit(laws.SURVIVING, points).cost < 0.1 * fits.fit(laws.TOTAL, points).cost


def test_the_optimum_of_the_surface_is_found() -> None:
    """Best where log2(1 − S) = −2 at every size: sparsity ¾."""
    size, kept = (a.ravel() for a in np.meshgrid(80 * WIDTHS**2, 1 - SPARSITIES))
    points = planted(lambda n, k: 500 + 20 * np.log2(n) - 30 * (np.log2(k) + 2) ** 2, 5.0, size, kept)
    fit = fits.fit(laws.SURFACE, points)
    best = answers.best_by_law(fit, size[3], np.linspace(0, 0.95, 96))
    assert best.sparsity == pytest.approx(0.75, abs=0.02)
    assert best.low <= 0.75 <= best.high


def test_a_censored_point_pulls_from_below_only() -> None:
    """Data to a threshold ln D = 10 − 0.5·log2(N/N0); two sizes ran out of budget at e^10.3."""
    size = WIDTHS[:6]
    true = 10 - 0.5 * np.log2(size / np.exp(np.log(size).mean()))
    known = np.minimum(true, 10.3)
    censored = np.repeat((true > 10.3)[:, None], 51, axis=1)
    samples = known[:, None] + 0.01 * np.random.default_rng(0).normal(size=(6, 50))
    points = Points(size, np.ones(6), known, samples, censored)
    assert censored.sum() == 2 * 51
    assert fits.values(fits.fit(laws.DATA_LOGARITHM, points))["k"].value == pytest.approx(-0.5, abs=0.01)
    blind = points._replace(censored=np.zeros_like(censored))
    assert fits.values(fits.fit(laws.DATA_LOGARITHM, blind))["k"].value > -0.45


def sigmoid(size: Floats, kept: Floats) -> Floats:
    return 1000 / (1 + (size / 150) ** -2.0)


def flat(size: Floats, kept: Floats) -> Floats:
    return 500 + 0 * size


def library_cost(law: Law, points: Points, starts: int, seed: int) -> float:
    """The least Huber loss that scipy's solver finds from random starts, none of which are ours."""
    generator = np.random.default_rng(seed)
    error, low, high = fits.standard_errors(points), *solving.bounds(law)
    bare = fits.fit_once(law, points)
    best = np.inf
    for _ in range(starts):
        start = generator.uniform(np.maximum(low, -8), np.minimum(high, 8))
        found = optimize.least_squares(
            lambda theta: (
                (bare._replace(theta=theta).predict(points.size, points.kept) - points.score) / error
            ),
            start, bounds=(low, high), loss="huber", f_scale=solving.HUBER, x_scale="jac",
        )  # fmt: skip
        best = min(best, found.cost)
    return float(best)


@pytest.mark.parametrize(
    ("truth", "noise", "sizes", "draw"),
    [
        (saturating, 40.0, 8, 3),
        (sigmoid, 80.0, 4, 5),
        (flat, 25.0, 6, 37),  # its power law is best at an exponent of 4 and a slope of 0.0006
        (saturating, 80.0, 8, 26),
        (peaked, 25.0, 4, 9),
    ],
)
def test_no_library_finds_a_better_fit_from_anywhere(
    truth: Callable[[Floats, Floats], Floats], noise: float, sizes: int, draw: int
) -> None:
    """From 20 random starts; and what is quoted lies within its interval."""
    points = planted(truth, noise, size=WIDTHS[:sizes], seeds=3, draw=draw, resamples=60)
    for law in laws.CURVES:
        fit = fits.fit(law, points)
        assert fit.converged
        assert fit.cost <= library_cost(law, points, 20, draw) * (1 + 1e-6) + 1e-12
        for value in fits.values(fit).values():
            assert value.low <= value.value <= value.high


def test_the_joint_law_of_a_trained_study_is_the_librarys() -> None:
    """Of the demo, whose sparsity factor has two valleys; 12 starts."""
    (grid,) = series.split(load(Path(__file__).parents[1] / "studies" / "demo"))
    points = tables.joint_points(grid)
    fit = fits.fit(laws.SPARSITY_FACTOR, points)
    assert fit.cost <= library_cost(laws.SPARSITY_FACTOR, points, 12, 1) * (1 + 1e-6)
    assert {value.problem for value in fits.values(fit).values()} == {"not identified"}  # e at its end


def test_what_did_not_converge_is_said() -> None:
    fit = fits.fit(laws.LOGARITHM, planted(saturating, 10.0))
    assert {v.problem for v in fits.values(fit).values()} == {None}
    stopped = fits.values(fit._replace(converged=False))
    assert {v.problem for v in stopped.values()} == {"did not converge"}


def test_an_estimate_lies_within_its_interval() -> None:
    """Even where all draws lie above it."""
    fit = fits.fit(laws.LOGARITHM, planted(saturating, 10.0))
    for value in fits.values(fit._replace(thetas=fit.thetas + 1.0)).values():
        assert value.low == value.value < value.high


def test_if_one_parameter_is_not_identified_none_is() -> None:
    """A flat curve: its exponent is anything, and what level and slope are is made by its bounds. Two
    that cancel are not identified either."""
    values = fits.values(fits.fit(laws.POWER, planted(flat, 20.0)))
    assert {value.problem for value in values.values()} == {"not identified"}
    fit = fits.fit(laws.LOGARITHM, planted(saturating, 10.0))
    slope = fit.thetas[:, :1]
    tied = fit._replace(thetas=np.hstack([slope, -slope]))
    assert {value.problem for value in fits.values(tied).values()} == {"not identified"}


def test_a_law_with_a_parameter_for_every_point_says_that_it_interpolates() -> None:
    three = planted(saturating, 1.0, size=WIDTHS[:3])
    assert fits.fit(laws.POWER, three).interpolates
    assert not fits.fit(laws.LOGARITHM, three).interpolates
    points = planted(saturating, 1.0, size=WIDTHS[:4])
    table = tables.law_table(choices.choose(laws.CURVES, points), points)
    told = table.set_index("law")["parameters"]
    assert told["power"].startswith("runs through all points shown; ")
    assert told["logarithm"].startswith("c = ")


def test_laws_of_single_runs_have_no_intervals() -> None:
    alone = planted(saturating, 1.0)._replace(
        samples=np.full((8, 50), np.nan), censored=np.zeros((8, 51), dtype=np.bool_)
    )
    fit = fits.fit(laws.LOGARITHM, alone)
    assert np.isfinite(fit.theta).all()
    assert np.isnan([v.low for v in fits.values(fit).values()]).all()
    choice = choices.choose(laws.CURVES, alone)
    assert np.isnan(list(choice.shares.values())).all()
    assert set(tables.law_table(choice, alone)["best in"]) == {""}


def test_how_laws_fit_all_points_by_hand() -> None:
    """Straight in log2, errors of 1: the line's loss is 0, so its BIC is 2·ln 8; a constant misses the
    mean by 3.5, 2.5, 1.5 and 0.5 steps of 100 on both sides, far beyond Huber's corner. Left out, the
    constant is off by 8/7 of that, the line by nothing."""
    line = exact(lambda n, k: 100 * np.log2(n))
    noise = np.tile([-1.0, 1.0], 500)
    points = line._replace(
        samples=line.score[:, None] + noise, censored=np.zeros((8, 1001), dtype=np.bool_)
    )
    whole = choices.weigh((laws.CONSTANT, laws.LOGARITHM), points)
    assert whole["logarithm"].bic == pytest.approx(2 * np.log(8), abs=1e-6)
    steps = 100 * np.array([3.5, 2.5, 1.5, 0.5] * 2)
    loss = (1.345 * (steps - 1.345 / 2)).sum()
    assert whole["constant"].bic == pytest.approx(2 * loss + np.log(8), rel=1e-4)
    assert (whole["logarithm"].weight, whole["constant"].weight) == pytest.approx((1.0, 0.0))
    assert whole["constant"].left_out == pytest.approx(8 / 7 * np.sqrt(np.mean(steps**2)), rel=0.2)
    assert whole["logarithm"].left_out == pytest.approx(0.0, abs=0.01)
    assert whole["logarithm"].misfit == pytest.approx(1.0)
    assert whole["constant"].misfit < 1e-6


@pytest.mark.parametrize(
    ("truth", "name"), [(flat, "constant"), (saturating, "power"), (peaked, "peak")]
)
def test_the_right_law_is_among_those_that_are_left(
    truth: Callable[[Floats, Floats], Floats], name: str
) -> None:
    """Six sizes × five seeds of standard deviation 25: in at least 10 of 12 draws."""
    left = 0
    for draw in range(12):
        points = planted(truth, 25.0, size=WIDTHS[:6], seeds=5, draw=draw, resamples=50)
        whole = choices.weigh(laws.CURVES, points)
        none = choices.Choice(np.zeros(6, np.bool_), {}, {}, {}, whole)
        left += name in none.plausible
    assert left >= 10


def test_an_outlier_pulls_no_more_than_linearly() -> None:
    clean = planted(saturating, 2.0)
    score = clean.score.copy()
    score[3] += 200
    bent = fits.fit(laws.POWER, clean._replace(score=score, samples=clean.samples))
    assert fits.values(bent)["c"].value == pytest.approx(800, rel=0.03)


def test_too_few_sizes_are_refused_with_the_reason() -> None:
    two = planted(saturating, 1.0, size=WIDTHS[:2])
    with pytest.raises(ValueError, match="power has 3 parameters, the data have 2 points"):
        fits.fit(laws.POWER, two)
    three = planted(saturating, 1.0, size=WIDTHS[:3])
    choice = choices.choose(laws.CURVES, three)
    assert set(choice.refused) == {"power", "peak"}
    assert set(choice.trials) == {"constant", "logarithm"}
    with pytest.raises(ValueError, match=r"^1 size cannot be fitted and 1 held out$"):
        choices.choose(laws.CURVES, planted(saturating, 1.0, size=WIDTHS[:1]))


def test_what_data_do_not_identify_is_said() -> None:
    """A flat curve has no exponent, a straight one no peak."""
    flat = fits.values(fits.fit(laws.POWER, planted(lambda n, k: 500 + 0 * n, 20.0)))
    assert flat["b"].problem == "not identified"
    line = planted(lambda n, k: 100 * np.log2(n), 1.0)
    assert fits.values(fits.fit(laws.PEAK, line))["m"].problem == "not identified"
    assert fits.values(fits.fit(laws.LOGARITHM, line))["k"].problem is None


@pytest.mark.parametrize(
    ("law", "theta", "size", "kept", "expected"),
    [
        (laws.CONSTANT, [5], 4, 0.25, 5),
        (laws.LOGARITHM, [3, 2], 4, 0.25, 3 + 2 * 2),
        (laws.POWER, [1, 8, 0.5], 4, 0.25, 1 + 8 / 2),
        (laws.PEAK, [10, 0.5, 3], 4, 0.25, 10 - 3 * 1.5**2),
        (laws.LOGISTIC, [1, 2], 4, 0.25, 1 / (1 + (4 / 2) ** -2)),
        (laws.DATA_LOGARITHM, [3, -2], 8, 0.25, 3 - 2 * 3),
        (laws.DATA_POWER, [0.3, 1.2, 0.5], 4, 0.25, np.log(np.exp(0.3) + np.exp(1.2) / 2)),
        (laws.DATA_TROUGH, [10, 0.5, -3], 4, 0.25, 10 + 3 * 1.5**2),
        (laws.TOTAL, [1, 8, 0.5], 16, 0.25, 1 + 8 / 4),
        (laws.SURVIVING, [1, 8, 0.5], 16, 0.25, 1 + 8 / 2),
        (laws.SPARSITY_FACTOR, [1, 8, 2, 0.5, 1.5], 16, 0.25, 1 + (8 / 2 + 2) / 8),
        (laws.SURFACE, [1, 2, 3, 4, 5, 7], 8, 0.25, 1 + 2 * 3 + 3 * 9 - 4 * 2 + 5 * 4 - 7 * 3 * 2),
    ],
)
def test_what_a_law_says_by_hand(
    law: Law, theta: list[float], size: float, kept: float, expected: float
) -> None:
    assert len(theta) == len(law.parameters)
    told = law.predict(np.array(theta, float), np.array([size, 1.0]), np.array([kept, 1.0]))
    assert told[0] == pytest.approx(expected, rel=1e-12)


def exact(truth: Callable[[Floats, Floats], Floats], size: Floats = WIDTHS) -> Points:
    """Points on the curve itself; one run each, so every resample is the same."""
    score = truth(size, np.ones_like(size))
    never = np.zeros((len(size), 6), dtype=np.bool_)
    return Points(size, np.ones_like(size), score, np.repeat(score[:, None], 5, axis=1), never)


@pytest.mark.parametrize("at", [40.0, 900.0])
def test_a_peak_away_from_the_middle_is_where_it_is(at: float) -> None:
    """The sizes' geometric mean is 181: there any base of the logarithm would do."""
    points = exact(lambda n, k: 800 - 40 * np.log2(n / at) ** 2)
    values = fits.values(fits.fit(laws.PEAK, points))
    assert values["m"].value == pytest.approx(at, rel=1e-3)
    assert values["k"].value == pytest.approx(40, rel=1e-3)
    assert values["c"].value == pytest.approx(800, rel=1e-3)


def test_parameters_are_in_the_datas_units() -> None:
    """N0 is the sizes' geometric mean; the spread of the scores is in slopes, their centre in levels."""
    middle = float(np.exp(np.log(WIDTHS).mean()))
    line = fits.values(fits.fit(laws.LOGARITHM, exact(lambda n, k: 7000 + 130 * np.log2(n))))
    assert line["k"].value == pytest.approx(130, rel=1e-4)
    assert line["c"].value == pytest.approx(7000 + 130 * np.log2(middle), rel=1e-4)
    score = fits.values(fits.fit(laws.LOGISTIC, exact(lambda n, k: 1 / (1 + (n / 50) ** -1.5))))
    assert score["m"].value == pytest.approx(50, rel=1e-3)
    assert score["b"].value == pytest.approx(1.5, rel=1e-3)
    data = fits.values(fits.fit(laws.DATA_POWER, exact(lambda n, k: np.log(2e4 + 5e5 * n**-0.7))))
    assert np.exp(data["c"].value) == pytest.approx(2e4, rel=1e-2)
    assert np.exp(data["a"].value) == pytest.approx(5e5 * middle**-0.7, rel=1e-2)
    assert data["b"].value == pytest.approx(0.7, rel=1e-2)


def test_standard_errors_by_hand() -> None:
    """Half of what holds 68.27 % of draws spread evenly over 0 … 10 and 0 … 70 is 3.4 and 7 times that;
    typical is 5 of these: half of each square."""
    even = np.linspace(0.0, 10.0, 10_001)
    points = exact(saturating, WIDTHS[:2])._replace(samples=np.stack([even, 7.0 * even]))
    unit = 10 * 0.682690 / 2
    assert fits.standard_errors(points) == pytest.approx(
        [unit * np.sqrt(13), unit * np.sqrt(37)], rel=1e-4
    )
    alone = points._replace(score=np.array([10.0, 30.0]), samples=np.full((2, 1), np.nan))
    assert fits.standard_errors(alone) == pytest.approx([np.sqrt(0.5)] * 2)  # a tenth of their spread


def test_the_held_out_error_by_hand() -> None:
    """A constant of 100, asked for sizes that scored 104 and 97: √((16 + 9)/2). A threshold that was not
    reached counts where the law falls short of what is known, and not where it lies above."""
    score = np.array([100.0, 100.0, 100.0, 104.0, 97.0])
    points = exact(saturating, WIDTHS[:5])._replace(
        score=score, samples=score[:, None] + np.zeros((5, 5))
    )
    trial = choices.hold_out(laws.CONSTANT, points, largest=2)
    assert trial.predicted == pytest.approx([100.0, 100.0])
    assert trial.error == pytest.approx(np.sqrt(12.5))
    assert trial.errors == pytest.approx([np.sqrt(12.5)] * 5)
    censored = np.zeros((5, 6), dtype=np.bool_)
    censored[3:] = True
    half = choices.hold_out(laws.CONSTANT, points._replace(censored=censored), largest=2)
    assert half.error == pytest.approx(np.sqrt(16 / 2))


def test_the_preferred_law_is_the_one_that_is_closest() -> None:
    """Straight in log2: the logarithm predicts the largest size, the constant is off by three doublings
    and a half on average."""
    points = exact(lambda n, k: 100 * np.log2(n))
    choice = choices.choose((laws.CONSTANT, laws.LOGARITHM), points)
    assert choice.held.tolist() == [False] * 7 + [True]
    assert choice.preferred == "logarithm"
    assert choice.shares == {"constant": 0.0, "logarithm": 1.0}
    assert choice.trials["constant"].error == pytest.approx(400, rel=0.01)
    assert choice.trials["logarithm"].error == pytest.approx(0, abs=0.1)


def test_the_best_sparsity_of_a_law_belongs_to_the_size_that_is_asked_for() -> None:
    """Where X = log2(N/N0) and Z = log2(1 − S): −30 Z² − 60 Z + 15 X Z is best at Z = −1 + X/4."""
    size, kept = (a.ravel() for a in np.meshgrid(80 * WIDTHS**2, 1 - SPARSITIES))
    middle = np.exp(np.log(size).mean())

    def truth(n: Floats, k: Floats) -> Floats:
        x, z = np.log2(n / middle), np.log2(k)
        return 500 + 20 * x - 30 * z**2 - 60 * z + 15 * x * z

    score = truth(size, kept)
    samples = np.repeat(score[:, None], 3, axis=1)
    points = Points(size, kept, score, samples, np.zeros((len(size), 4), dtype=np.bool_))
    fit = fits.fit(laws.SURFACE, points)
    for x in (-4.0, -2.0, 2.0):
        best = answers.best_by_law(fit, middle * 2**x, np.linspace(0, 0.95, 96))
        assert best.sparsity == pytest.approx(1 - 2 ** (-1 + x / 4), abs=0.006)
        assert best.share == 1.0
