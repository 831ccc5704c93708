"""Numbers of survivors, blocks, and masks that change, worked by hand on sizes that differ."""

import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.pruning import (
    BlockGrid,
    ParameterCounts,
    choose_storage,
    connected_units,
    default_prunable,
    densities,
    dynamic,
    expected,
    parameter_counts,
    plan_budget,
    prunable_shapes,
    random_supports,
    read_inputs,
    surviving_counts,
    survivors,
)
from sparse_rl.pruning.blocks import block_grid
from sparse_rl.pruning.compact import tiles_of
from sparse_rl.pruning.patterns import Pattern
from sparse_rl.pruning.storage import support_of

KEY = jax.random.key(21)
SHAPES = {"a": (3, 5), "b": (4, 10), "conv": (3, 3, 2, 7)}
"""15, 40 and 126 weights; sums of 8, 14 and 15."""


def test_erdos_renyi_counts_all_dimensions_of_a_kernel() -> None:
    """0.3 of 181 are 54.3; ε = 54.3 / 37, and nothing exceeds its size."""
    share = 0.3 * 181 / 37
    found = densities(SHAPES, 0.7)
    assert found == pytest.approx({"a": 8 * share / 15, "b": 14 * share / 40, "conv": 15 * share / 126})


def test_who_becomes_dense_makes_others_dense() -> None:
    """Keep 48.6 of 54. ε = 48.6 / 27 = 1.8: a would keep 12.6 of 6. Then (48.6 − 6) / 20 = 2.13: b would
    keep 17.04 of 16. Then 26.6 are left for the 32 of c."""
    found = densities({"a": (1, 6), "b": (4, 4), "c": (4, 8)}, 0.1)
    assert found == pytest.approx({"a": 1.0, "b": 1.0, "c": 26.6 / 32})


def test_what_is_missing_goes_to_the_largest_remainders() -> None:
    """0.3 of each: 4.5, 12 and 37.8, in all 54.3: 53 in whole numbers, and one more for the conv's 0.8.
    Erdős–Rényi: 11.74, 20.55, 22.01, and one more for a. Of 1.5 and 2.5 the first path gets it."""
    assert surviving_counts(SHAPES, 0.7, "uniform") == {"a": 4, "b": 12, "conv": 38}
    assert surviving_counts(SHAPES, 0.7) == {"a": 12, "b": 20, "conv": 22}
    assert surviving_counts({"y": (3, 1), "x": (5, 1)}, 0.5, "uniform") == {"x": 3, "y": 1}
    assert sum(surviving_counts({"a": (3, 5), "b": (1, 2)}, 0.6, "uniform").values()) == 7  # of 6.8


@pytest.mark.parametrize(
    ("shape", "density", "fan_in", "groups", "k"),
    [
        ((90, 90), 0.22, 1, 9, 2),  # 1/5 is 0.02 off, and 9 %
        ((90, 90), 0.055, 1, 18, 1),
        ((90, 60), 0.85, 1, 6, 5),  # 2 %; 1/1, 2/2, 3/4 (12 %) and 4/5 (6 %) are farther
        ((5, 6), 0.45, 3, 2, 1),  # of k/5 and 1/2 none is within 5 %: the closest, of any fan-in
        ((6, 5), 0.21, 1, 5, 1),
        ((2, 3, 5, 90), 0.1, 2, 20, 2),
    ],
)
def test_a_grid_is_as_close_as_five_percent_of_the_density(
    shape: tuple[int, ...], density: float, fan_in: int, groups: int, k: int
) -> None:
    grid = block_grid("layer", shape, density, fan_in)
    assert grid == BlockGrid(int(np.prod(shape[:-1])), shape[-1], groups, k)
    assert survivors(grid) == grid.count


def test_weights_of_groups_of_unequal_size_by_hand() -> None:
    """11 inputs as 3, 3, 3, 2 and 9 units as 3, 2, 2, 2: 9 + 6 + 6 + 4 with their own group, and with
    the next one 9 + 6 + 4 + 6."""
    grid = BlockGrid(11, 9, 4, 2)
    assert (grid.count, grid.block, grid.stored_shape) == (50, (3, 3), (4, 3, 6))
    assert grid.columns.tolist() == [[0, 1, 2], [3, 4, 9], [5, 6, 9], [7, 8, 9]]


def test_a_budget_hands_the_fan_in_of_blocks_on() -> None:
    budget = plan_budget({"a": (90, 80)}, 0.9, pattern="block", storage="block", block_fan_in=3)
    assert budget == {"a": BlockGrid(90, 80, 30, 3)}
    supports = random_supports(
        KEY, {"kernel": jnp.ones((90, 80))}, 0.9, pattern="block", block_fan_in=3, storage="block"
    )
    assert supports["kernel"].grid == BlockGrid(90, 80, 30, 3)


@pytest.mark.parametrize(
    ("width", "storage"), [(2047, "masked"), (2048, "compact"), (1, "masked"), (9000, "compact")]
)
def test_auto_is_compact_from_the_stated_width_of_the_widest_layer(width: int, storage: str) -> None:
    assert choose_storage("auto", "unstructured", width).storage == storage
    params = {"a": {"kernel": jnp.ones((1, width))}, "b": {"kernel": jnp.ones((3, 2))}}
    found = jax.eval_shape(lambda: random_supports(KEY, params, 0.2))
    assert type(found["b"]["kernel"]).__name__.lower() == storage


def test_a_minimum_fan_in_reaches_the_draw() -> None:
    """27 weights, 9 units of 30 inputs: three each, where three are asked for (one is the default)."""
    supports = random_supports(KEY, {"kernel": jnp.ones((30, 9))}, 0.9, min_fan_in=3)
    assert np.asarray(supports["kernel"].mask).sum(axis=0).tolist() == [3] * 9


def test_one_tile_holds_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """6 × 20 float32 are 480 bytes: three tiles of 200 do not divide 20 units, four do, of 120 bytes."""
    monkeypatch.setattr("sparse_rl.pruning.compact.TILE_BYTES", 200)
    assert tiles_of((6, 20), 12) == 4
    assert tiles_of((6, 21), 12) == 3
    assert tiles_of((6, 20), 18) == 4  # 0.15 of all is still few
    assert tiles_of((6, 20), 19) == 1
    assert tiles_of((6, 23), 12) == 1
    assert tiles_of((2, 20), 4) == 1


def test_what_counts_as_a_kernel() -> None:
    tree = {
        "norm": {"weight": jnp.ones(5), "scale": jnp.ones(5)},
        "first": {"kernel": jnp.ones((3, 5)), "bias": jnp.ones((1, 5))},
        "embedding_1": {"weight": jnp.ones((9, 4))},
        "cell": {"weight_hh": jnp.ones((4, 2)), "b": jnp.ones((4, 1))},
        "boxed": {"kernel": {"value": jnp.ones((2, 7))}},
    }
    assert prunable_shapes(tree) == {
        "first/kernel": (3, 5), "cell/weight_hh": (4, 2), "boxed/kernel/value": (2, 7),
    }  # fmt: skip
    assert not default_prunable("a/kernel", jnp.ones(4))


def test_parameters_are_counted_by_places() -> None:
    """Of 15 + 8 + 5, masks remove 4 of 15 and 7 of 8; a weight that happens to be 0 is there."""
    masks = {"a": jnp.arange(15).reshape(3, 5) >= 4, "b": jnp.arange(8) == 2, "c": None}
    params = {"a": jnp.zeros((3, 5)), "b": jnp.ones(8), "c": jnp.ones(5)}
    assert parameter_counts(masks, params) == ParameterCounts(28, 17)


@pytest.mark.parametrize("storage", ["masked", "compact"])
def test_rows_are_inputs_and_columns_are_units(storage: Any) -> None:
    mask = np.zeros((5, 3), bool)
    mask[1, 2] = mask[4, 2] = mask[4, 0] = True
    support = support_of(jnp.asarray(mask), storage, 3)
    np.testing.assert_array_equal(read_inputs(support, 5), [False, True, False, False, True])
    np.testing.assert_array_equal(connected_units(support, 3), [True, False, True])


MASK = jnp.array([[True, True, False], [True, True, True], [False, True, False]])
WEIGHTS = jnp.array([[-5.0, 0.2, 0.0], [0.3, -0.1, 4.0], [0.0, -2.0, 0.0]])


def test_exchange_by_hand() -> None:
    """0.6 of six survivors, rounded down: three go, those of magnitude 0.1, 0.2 and 0.3. Of all places
    but the three strong ones, scores 9, 8 and 7 grow: one of them had just been dropped, and stays."""
    score = jnp.array([[99.0, 8.0, 1.0], [2.0, 3.0, 99.0], [9.0, 99.0, 7.0]])
    found = dynamic.exchange(MASK, WEIGHTS, score, 0.6)
    assert found.mask.tolist() == [[True, True, False], [False, False, True], [True, True, True]]
    assert found.kept.tolist() == [[True, True, False], [False, False, True], [False, True, False]]
    same = dynamic.exchange(MASK, WEIGHTS, score, 0.16)  # less than one
    assert same.mask.tolist() == same.kept.tolist() == MASK.tolist()


def test_shrinking_keeps_the_largest_magnitudes() -> None:
    found = dynamic.shrink(MASK, WEIGHTS, 4)
    assert found.mask.tolist() == [[True, False, False], [True, False, True], [False, True, False]]
    assert found.kept.tolist() == found.mask.tolist()


def test_ties_go_to_the_first_place_and_places_outside_to_nobody() -> None:
    score, among = jnp.array([3.0, 7.0, 3.0, 3.0, 9.0]), jnp.array([True, True, True, True, False])
    assert dynamic.strongest(score, among, 3).tolist() == [True, True, True, False, False]
    assert dynamic.strongest(score, among, 0).sum() == 0
    assert dynamic.strongest(-score, among, 2).tolist() == [True, False, True, False, False]


def test_schedules_by_hand() -> None:
    """cos(π/3) = 1/2: 0.15 · 3/2 a third of the way. 1 − (1 − 1/4)³ of 190 go after a quarter."""
    shares = [float(dynamic.cosine_share(0.3, t, 0.75)) for t in (0.0, 0.25, 0.5, 0.7499, 0.75, 0.9)]
    assert shares == pytest.approx([0.3, 0.225, 0.075, 0.0, 0.0, 0.0], abs=1e-6)
    counts = [int(dynamic.gradual_count(200, 10, t, 0.2, 0.6)) for t in (0.1, 0.2, 0.3, 0.4, 0.6, 0.9)]
    assert counts == [200, 200, 10 + 80, 10 + 24, 10, 10]  # 190 · 27/64 = 80.2, 190/8 = 23.75


Masks = Mapping[tuple[bool, ...], float]


def drawn_in_all_ways(inputs: int, units: int, kept: int, pattern: Pattern, least: int) -> Masks:
    """Every mask and its probability: by the rules in words, place by place, nothing from the code."""
    places = list(itertools.product(range(inputs), range(units)))
    each, more = divmod(kept, units)
    if pattern == "unstructured":
        wanted = min(least, inputs)
        each, more = (wanted, 0) if each >= wanted else (each, more)
    found: dict[tuple[bool, ...], float] = {}
    for chosen in itertools.combinations(range(units), more):
        columns = [
            list(itertools.combinations(range(inputs), each + (u in chosen))) for u in range(units)
        ]
        for fans in itertools.product(*columns):
            first = {(i, u) for u, fan in enumerate(fans) for i in fan}
            others = [place for place in places if place not in first]
            rests = list(itertools.combinations(others, kept - len(first)))
            ways = len(list(itertools.combinations(range(units), more))) * np.prod(
                [len(column) for column in columns]
            )
            for rest in rests:
                mask = tuple(place in first or place in rest for place in places)
                found[mask] = found.get(mask, 0.0) + 1.0 / (float(ways) * len(rests))
    return found


@pytest.mark.parametrize(
    ("inputs", "units", "kept", "pattern", "least"),
    [
        (4, 3, 2, "unstructured", 1),
        (4, 3, 5, "unstructured", 1),
        (4, 3, 4, "unstructured", 0),
        (3, 2, 5, "unstructured", 2),
        (4, 2, 3, "unstructured", 3),
        (4, 3, 4, "constant_fan_in", 1),
        (3, 4, 6, "constant_fan_in", 0),
    ],
)
def test_probabilities_are_those_of_all_masks_counted(
    inputs: int, units: int, kept: int, pattern: Pattern, least: int
) -> None:
    ways = drawn_in_all_ways(inputs, units, kept, pattern, least)
    masks = np.array(list(ways)).reshape(-1, inputs, units)
    weights = np.array(list(ways.values()))
    assert weights.sum() == pytest.approx(1.0)
    layer = expected.Layer(inputs, units, kept, pattern, least, 0)
    missed: np.ndarray = np.logical_not(masks.any(axis=2))
    alone = weights @ missed
    np.testing.assert_allclose(expected.unread(layer, np.arange(inputs)[:, None]), alone, atol=1e-12)
    pair = weights @ (missed[:, 0] & missed[:, 2])
    np.testing.assert_allclose(expected.unread(layer, np.array([[0, 2]])), [pair], atol=1e-12)
    lost = weights @ np.logical_not(masks.any(axis=1))
    np.testing.assert_allclose(expected.without_input(layer), lost, atol=1e-12)


def test_probabilities_of_bands_and_of_a_minimum_fan_out_by_hand() -> None:
    """Band: the diagonal of 3 × 3 is sure, and of the four places beside it two survive. A corner's row
    has one of them, the middle one's has two. Fan-out: three weights of five inputs read three."""
    band = expected.Layer(4, 3, 5, "banded", 1, 0)  # input 3 has input 0's places
    rows = np.arange(4)[:, None]
    np.testing.assert_allclose(expected.unread(band, rows), [0, 0, 0, 0])
    few = expected.Layer(3, 4, 2, "banded", 1, 0)  # two of the three places on the diagonal
    np.testing.assert_allclose(expected.unread(few, np.arange(3)[:, None]), [1 / 3] * 3)
    np.testing.assert_allclose(expected.without_input(few), [1 / 3, 1 / 3, 1 / 3, 1])
    out = expected.Layer(5, 2, 3, "unstructured", 1, 1)
    np.testing.assert_allclose(expected.unread(out, np.arange(5)[:, None]), [2 / 5] * 5)
    np.testing.assert_allclose(expected.unread(out, np.array([[0, 1]])), [1 / 10])
    whole = expected.Layer(5, 2, None, "block", 1, 0)
    assert not expected.unread(whole, np.arange(5)[:, None]).any()
    assert not expected.without_input(whole).any()
