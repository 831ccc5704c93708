"""How many inputs units keep at least, how many units read each input, and what is left by chance."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.pruning import draw_supports, expected, random_masks
from sparse_rl.pruning.patterns import Pattern, spread

KEY = jax.random.key(7)
DRAWS = 4000


def drawn(key: Any, shape: tuple[int, int], count: int, fan_out: int = 0, **options: Any) -> Any:
    params = {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}
    options["min_fan_out"] = {"kernel": fan_out}
    return draw_supports(key, params, {"kernel": count}, **options)["kernel"].mask


def mask_of(inputs: int, units: int, count: int, **options: Any) -> np.ndarray:
    """bool ``[inputs, units]``."""
    return np.asarray(drawn(KEY, (inputs, units), count, **options))


def masks_of(inputs: int, units: int, count: int, **options: Any) -> np.ndarray:
    """bool ``[draws, inputs, units]``."""
    keys = jax.random.split(KEY, DRAWS)
    draw = jax.jit(jax.vmap(lambda key: drawn(key, (inputs, units), count, **options)))
    return np.asarray(draw(keys))


@pytest.mark.parametrize(
    ("count", "min_fan_in", "fans"),
    [
        (64, 1, {1: 64}),
        (63, 1, {0: 1, 1: 63}),  # one weight fewer is one unit fewer
        (5, 1, {0: 59, 1: 5}),
        (100, 2, {1: 28, 2: 36}),
        (0, 1, {0: 64}),
    ],
)
def test_as_many_units_as_there_are_weights_keep_an_input(
    count: int, min_fan_in: int, fans: dict[int, int]
) -> None:
    fan_in = mask_of(64, 64, count, min_fan_in=min_fan_in).sum(axis=0)
    assert dict(zip(*np.unique(fan_in, return_counts=True), strict=True)) == fans


def test_which_units_keep_an_input_is_drawn() -> None:
    masks = masks_of(6, 5, 3)
    assert (masks.any(axis=1).sum(axis=1) == 3).all()
    np.testing.assert_allclose(masks.any(axis=1).mean(axis=0), 3 / 5, atol=0.04)
    np.testing.assert_allclose(masks.mean(axis=0), 3 / 30, atol=0.025)


@pytest.mark.parametrize("pattern", ["unstructured", "constant_fan_in"])
@pytest.mark.parametrize(
    ("count", "fan_out", "least", "most_at_least"),
    [(25, 1, 1, 24), (24, 1, 1, 24), (10, 1, 0, 10), (60, 2, 2, 24), (60, 99, 2, 24)],
)
def test_each_input_is_read_where_there_are_weights_enough(
    pattern: Pattern, count: int, fan_out: int, least: int, most_at_least: int
) -> None:
    """Walker-walk's actor at width 32 and 0.9: 24 inputs, 8 units, 25 weights."""
    mask = mask_of(24, 8, count, fan_out=fan_out, pattern=pattern)
    free = mask_of(24, 8, count, pattern=pattern)
    assert mask.sum() == count
    assert mask.sum(axis=1).min() == least
    assert mask.any(axis=1).sum() == most_at_least
    assert free.any(axis=1).sum() < 24
    np.testing.assert_array_equal(mask.sum(axis=0), free.sum(axis=0))  # weights move within a unit
    if fan_out == 99:  # more than there are weights for: as even as can be
        assert mask.sum(axis=1).max() == 3


def assert_shares(found: Any, expected: Any) -> None:
    """Means over the draws, each within 4.5 of its standard errors, give or take a rare draw."""
    expected = np.asarray(expected, np.float64)
    error = np.sqrt(np.clip(expected * (1 - expected), 0.0, None) / DRAWS)
    room = 4.5 * error + np.where(error > 1e-9, 2 / DRAWS, 1e-9)
    assert np.all(np.abs(found - expected) <= room), (found, expected)


def by_numbers(inputs: int, units: int, count: int, least: int, draws: int) -> np.ndarray:
    """Masks by the rule, from numpy's numbers: each unit's smallest, then the smallest of the others.

    A unit whose smallest number is small has smaller others, too, than numbers drawn anew: what is
    beyond the least clusters a little more in some units."""
    numbers = np.random.default_rng(0).random((draws, inputs, units))
    sure = np.argsort(np.argsort(numbers, axis=1), axis=1) < least
    flat = np.where(sure, -1.0, numbers).reshape(draws, -1)
    return (np.argsort(np.argsort(flat, axis=1), axis=1) < count).reshape(numbers.shape)


def test_what_no_unit_needs_goes_anywhere() -> None:
    """4 × 3, five weights: one for each unit, and the other two wherever numbers are smallest: a unit
    has both in about a third of the draws; were they drawn anew, it would be a quarter."""
    masks, like = masks_of(4, 3, 5), by_numbers(4, 3, 5, 1, 200_000)
    for fan_in in (1, 2, 3):
        likely = (like.sum(axis=1) == fan_in).mean()
        assert_shares((masks.sum(axis=1) == fan_in).mean(axis=0), likely)
    assert_shares(masks.mean(axis=0), 5 / 12)
    assert_shares((masks[:, 0] & masks[:, 1]).mean(axis=0), (like[:, 0] & like[:, 1]).mean())


def test_units_with_one_input_more_are_drawn_and_so_are_their_inputs() -> None:
    """13 weights of 4 × 5: two for each unit, and a third one for 3 units of 5, any pair of them in 3 of
    10 draws. A unit's inputs are any: a given pair is in it with 2 · 1/6 + 3 · 1/2 of five."""
    masks = masks_of(4, 5, 13, pattern="constant_fan_in")
    fan_in = masks.sum(axis=1)
    assert sorted(np.unique(fan_in)) == [2, 3]
    assert (masks.sum(axis=(1, 2)) == 13).all()
    assert_shares((fan_in == 3).mean(axis=0), 3 / 5)
    for i, j in ((0, 1), (0, 4), (2, 3)):
        assert_shares(((fan_in[:, i] == 3) & (fan_in[:, j] == 3)).mean(), 3 / 10)
    assert_shares(masks.mean(axis=0), 13 / 20)
    assert_shares((masks[:, 0] & masks[:, 3]).mean(axis=0), 2 / 5 * 1 / 6 + 3 / 5 * 1 / 2)
    apart = (
        masks[:, 0, 0] & masks[:, 0, 1]
    )  # units 0 and 1 read input 0: given their fans, each by itself
    one = {2: 1 / 2, 3: 3 / 4}
    both = 3 / 10 * one[3] ** 2 + 6 / 10 * one[2] * one[3] + 1 / 10 * one[2] ** 2
    assert_shares(apart.mean(), both)


def test_ties_of_a_band_are_broken_at_random() -> None:
    """3 × 4, five weights: the diagonal's three, and two of the five places beside it, any two of them
    in 1 of 10 draws."""
    masks = masks_of(3, 4, 5, pattern="banded")
    assert masks[:, range(3), range(3)].all()
    beside = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3)]
    survives = masks[:, [i for i, _ in beside], [j for _, j in beside]]
    assert (survives.sum(axis=1) == 2).all()
    assert_shares(survives.mean(axis=0), 2 / 5)
    for i, j in ((0, 1), (0, 4), (2, 3), (3, 4)):
        assert_shares((survives[:, i] & survives[:, j]).mean(), 1 / 10)


def test_weights_move_to_inputs_that_need_them_and_no_further() -> None:
    """Row 0 has five of eight: one moves to the row that has none, within its column, each with the same
    probability; what is read once stays as it is, for one is asked for."""
    rows = [[1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0]]
    mask = jnp.asarray(rows, bool)
    moved = np.asarray(jax.vmap(lambda key: spread(key, mask, 1))(jax.random.split(KEY, DRAWS)))
    assert (moved.sum(axis=1) == np.asarray(mask).sum(axis=0)).all()
    assert (moved[:, 3].sum(axis=1) == 1).all()
    assert (moved[:, 1] == rows[1]).all()
    donors = moved[:, 0].sum(axis=1) == 4
    assert (donors | (moved[:, 2].sum(axis=1) == 1)).all()
    # free are four of the five of row 0, any, and one of the two of row 2; one of these five moves
    assert_shares(donors.mean(), 4 / 5)
    assert_shares(moved[:, 3].mean(axis=0)[[0, 2, 3]], 4 / 25)
    assert_shares(moved[:, 3].mean(axis=0)[[1, 4]], 4 / 25 + 1 / 10)


def test_a_mask_that_reads_everything_stays_as_it_is() -> None:
    mask = mask_of(5, 40, 100)
    assert int(mask.sum(axis=1).min()) > 3
    np.testing.assert_array_equal(mask_of(5, 40, 100, fan_out=3), mask)


def test_no_place_is_preferred_by_a_minimum_fan_out() -> None:
    """Rows and columns are exchangeable, so each of 7 × 4 places survives as often as each other."""
    masks = masks_of(7, 4, 9, fan_out=1)
    assert (masks.sum(axis=2) >= 1).all()
    assert (masks.sum(axis=(1, 2)) == 9).all()
    deviation = np.sqrt(9 / 28 * 19 / 28 / DRAWS)
    np.testing.assert_allclose(masks.mean(axis=0), 9 / 28, atol=4.5 * deviation)


def test_a_minimum_fan_out_is_nearly_uniform_over_the_masks_that_have_it() -> None:
    """3 inputs, 3 units, 4 weights, all rows and columns read: 45 masks, by count.

    Of the 126 masks of four weights, counted here one by one.
    """
    masks = masks_of(3, 3, 4, fan_out=1)
    numbers, seen = np.unique(masks.reshape(DRAWS, 9) @ (1 << np.arange(9)), return_counts=True)
    fit = [
        n
        for n in range(512)
        if n.bit_count() == 4
        and all((n >> 3 * i) & 7 for i in range(3))
        and all(n & (0b001001001 << i) for i in range(3))
    ]
    assert numbers.tolist() == fit
    assert len(fit) == 45
    assert seen.min() / (DRAWS / 45) > 0.5
    assert seen.max() / (DRAWS / 45) < 1.6


def test_a_large_fan_out_of_a_full_column_is_found() -> None:
    """Two rows of three: whichever weight moves, the other row must lack its unit."""
    mask = jnp.array([[True, True, True], [True, False, False]])
    for i in range(20):
        moved = np.asarray(spread(jax.random.key(i), mask, 2))
        assert moved.sum(axis=1).tolist() == [2, 2]
        assert moved.sum(axis=0).tolist() == [2, 1, 1]


def test_fan_out_by_path_in_storages_and_never_for_a_band() -> None:
    params = {"in": {"kernel": jnp.ones((24, 8))}, "out": {"kernel": jnp.ones((24, 8))}}
    options: dict[str, Any] = {"distribution": "uniform", "min_fan_out": {"in/kernel": 1}}
    masks = random_masks(KEY, params, 0.87, **options)
    assert masks["in"]["kernel"].any(axis=1).all()
    assert not masks["out"]["kernel"].any(axis=1).all()
    with pytest.raises(ValueError, match="takes no min_fan_out"):
        random_masks(KEY, params, 0.87, pattern="banded", **options)


CASES: list[tuple[int, int, int, dict[str, Any]]] = [
    (12, 5, 9, {}),
    (12, 5, 3, {}),
    (12, 5, 9, {"min_fan_in": 0}),
    (12, 5, 13, {"min_fan_in": 2}),
    (12, 5, 8, {"min_fan_in": 2}),
    (12, 5, 9, {"pattern": "constant_fan_in"}),
    (12, 5, 9, {"fan_out": 1}),
    (12, 5, 9, {"pattern": "banded"}),
    (5, 12, 9, {"pattern": "banded"}),
]


@pytest.mark.parametrize(("inputs", "units", "count", "options"), CASES)
def test_what_is_expected_unread_is_what_masks_leave_on_average(
    inputs: int, units: int, count: int, options: dict[str, Any]
) -> None:
    masks = masks_of(inputs, units, count, **options)
    layer = expected.Layer(
        inputs,
        units,
        count,
        options.get("pattern", "unstructured"),
        options.get("min_fan_in", 1),
        options.get("fan_out", 0),
    )
    unread = np.asarray(~masks.any(axis=2))
    pairs = np.arange(inputs // 2 * 2).reshape(2, -1).T
    alone = expected.unread(layer, np.arange(inputs)[:, None])
    assert_shares(unread.mean(axis=0), alone)
    together = unread[:, pairs].all(axis=2).mean(axis=0)
    assert_shares(together, expected.unread(layer, pairs))
    lost = (~masks.any(axis=1)).mean(axis=0)
    assert_shares(lost, expected.without_input(layer))
