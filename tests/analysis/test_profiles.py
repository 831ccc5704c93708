"""Parameters by the profile of the likelihood, rolling hold-outs and averages over laws, by hand."""

import numpy as np
import pytest

from sparse_rl import laws as command
from sparse_rl.analysis import choices, fits, laws, profiles
from sparse_rl.analysis.choices import Whole
from sparse_rl.analysis.fits import Points
from sparse_rl.analysis.statistics import Floats
from sparse_rl.records.console import console

SIZES = np.array([8.0, 16, 32, 64, 128])


def points_of(score: Floats, error: float, size: Floats = SIZES, draws: int = 40) -> Points:
    """Scores with draws of one standard error."""
    noise = np.random.default_rng(2).normal(size=(len(size), draws))
    noise = (noise - noise.mean(1, keepdims=True)) / noise.std(1, keepdims=True)
    never = np.zeros((len(size), 1 + draws), dtype=np.bool_)
    return Points(size, np.ones(len(size)), score, score[:, None] + error * noise, never)


def test_a_profile_of_a_line_is_least_squares_interval() -> None:
    """x = −2 … 2 in log2: the slope's standard error is a point's over √10, the level's over √5."""
    points = points_of(100 + 30 * np.log2(SIZES / 32), error=4.0)
    error = float(fits.standard_errors(points).mean())
    found = profiles.profile(fits.fit(laws.LOGARITHM, points), points)
    half = 1.959964 * error
    assert found["k"] == pytest.approx((30 - half / 10**0.5, 30 + half / 10**0.5), rel=1e-3)
    assert found["c"] == pytest.approx((100 - half / 5**0.5, 100 + half / 5**0.5), rel=1e-3)


def test_what_a_growing_curve_says_of_its_peak_is_one_sided() -> None:
    """A straight line has no peak near, and may have one far beyond."""
    points = points_of(100 + 30 * np.log2(SIZES / 32), error=4.0)
    fit = fits.fit(laws.PEAK, points)
    assert fits.values(fit)["m"].problem == "not identified"
    found = profiles.profile(fit, points)
    assert found["m"].low > 128
    assert np.isnan(found["m"].high)
    assert found["c"].low > 150
    told = profiles.range_words(found)
    assert told.startswith(f"c ≥ {found['c'].low:.4g}; m ≥ {found['m'].low:.4g}; k ")


def test_a_flat_curve_says_nothing_of_an_exponent() -> None:
    points = points_of(np.full(5, 50.0) + np.array([0.1, -0.2, 0.0, 0.2, -0.1]), error=4.0)
    found = profiles.profile(fits.fit(laws.POWER, points), points)
    assert np.isnan(found["b"]).all()
    assert "b anything" in profiles.range_words(found)
    assert profiles.range_words({"x": profiles.Range(float("nan"), 2.0)}) == "x ≤ 2"
    assert profiles.range_words({"x": profiles.Range(1.0, 2.0)}) == "x in [1, 2]"


def test_rolling_hold_outs_by_hand() -> None:
    """A constant of 3, 3, 3, 3, 9: off by 6 at the largest, by √(36/2), √(36/3), √(36/4) at more."""
    points = points_of(np.array([3.0, 3, 3, 3, 9]), error=1.0)
    told = profiles.rolling(laws.CONSTANT, points)
    assert told == pytest.approx([6.0, 18**0.5, 12**0.5, 3.0], rel=1e-6)
    line = profiles.rolling(laws.LOGARITHM, points_of(2 * np.log2(SIZES), 1.0))
    assert line == pytest.approx([0.0, 0.0], abs=1e-6)  # two points would be run through
    assert profiles.rolling(laws.SURFACE, points) == []


def test_laws_are_averaged_by_their_weights() -> None:
    """A line says 170 at twice the largest, a constant its level; a quarter and three quarters."""
    points = points_of(50 + 20 * np.log2(SIZES / 32), error=4.0)
    line, flat = fits.fit(laws.LOGARITHM, points), fits.fit(laws.CONSTANT, points)
    none = float("nan")
    whole = {"logarithm": Whole(none, 0.0, 0.25, 1.0), "constant": Whole(none, 0.0, 0.75, 1.0)}
    size = np.array([256.0])
    low, high = (float(fit.predict(size, np.ones(1))[0]) for fit in (flat, line))
    assert high == pytest.approx(110, abs=0.5)
    told = profiles.averaged([line, flat], whole, 256.0)
    assert told.value == pytest.approx(0.25 * high + 0.75 * low)
    assert told.low < low
    assert told.high > high - 10  # a quarter of the draws is the line's
    rare = {"logarithm": whole["logarithm"]._replace(weight=0.01), "constant": whole["constant"]}
    assert profiles.averaged([line, flat], rare, 256.0).high < high - 20
    alone = profiles.averaged([line, flat], {"constant": whole["constant"]}, 256.0)
    assert alone.value == pytest.approx(low)
    assert alone.weights == {"constant": 1.0}
    with pytest.raises(ValueError, match="so none has a weight"):
        profiles.averaged([line], {}, 256.0)


def test_the_command_says_when_no_law_fits(capsys: pytest.CaptureFixture[str]) -> None:
    for score, doubt in ((50 + 20 * np.log2(SIZES), False), (np.array([0.0, 90, 0, 90, 0]), True)):
        points = points_of(score, error=1.0)
        two = (laws.CONSTANT, laws.LOGARITHM)
        command.told_of_all(console(), two, points, choices.choose(two, points))
        said = " ".join(capsys.readouterr().out.split())
        assert "At N = 256, twice the largest, by the laws' weights (" in said
        assert ("but no law fits" in said) == doubt
        assert "with the 1, 2, … largest sizes held out" in said
