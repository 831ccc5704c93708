"""How much per layer, which weights, exact counts, and a pytree that is not ours."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.networks.dense import Critic
from sparse_rl.pruning import (
    Pattern,
    densities,
    draw_supports,
    parameter_counts,
    prunable_shapes,
    random_masks,
    store,
    surviving_counts,
)
from sparse_rl.pruning.storage import Masked
from sparse_rl.pruning.tree import path_name

KEY = jax.random.key(7)


def critic_params(width: int) -> Any:
    network = Critic("simba", width, 2)
    return jax.eval_shape(lambda: network.init(KEY, jnp.zeros((1, 67)), jnp.zeros((1, 21)))["params"])


def test_uniform_density_is_the_same_everywhere() -> None:
    assert densities({"a": (3, 5), "b": (7, 2)}, 0.75, "uniform") == {"a": 0.25, "b": 0.25}


def test_erdos_renyi_by_hand() -> None:
    """a: 4×4 (sum 8, 16 weights), b: 16×16 (sum 32, 256 weights); keep half of 272 = 136.

    ε = 136 / 40 = 3.4 would keep 27.2 of a's 16: a becomes dense. Then ε = (136 − 16) / 32 = 3.75,
    so b keeps 120 of 256.
    """
    found = densities({"a": (4, 4), "b": (16, 16)}, 0.5)
    assert found == {"a": 1.0, "b": pytest.approx(120 / 256)}


@pytest.mark.parametrize(("width", "first", "hidden"), [(512, 0.489, 0.906), (2048, 0.0, 0.903)])
def test_published_layer_sparsities(width: int, first: float, hidden: float) -> None:
    """Ma et al. 2025 at S = 0.9 on humanoid. Their total counts biases and norms, kept dense."""
    shapes = prunable_shapes(critic_params(width), lambda path, leaf: True)
    found = densities(shapes, 0.9)
    assert 1 - found["trunk/embed/kernel"] == pytest.approx(first, abs=1e-3)
    assert 1 - found["trunk/block_0_expand/kernel"] == pytest.approx(hidden, abs=1e-3)
    assert found["value/kernel"] == 1.0
    assert all(d == 1.0 for path, d in found.items() if not path.endswith("kernel"))


@pytest.mark.parametrize("distribution", ["uniform", "erdos_renyi"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.77, 0.9, 0.99])
def test_counts_sum_exactly_to_the_target(distribution: Any, sparsity: float) -> None:
    shapes = prunable_shapes(critic_params(48))
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    counts = surviving_counts(shapes, sparsity, distribution)
    assert sum(counts.values()) == round((1 - sparsity) * total)
    for path, density in densities(shapes, sparsity, distribution).items():
        assert abs(counts[path] - density * np.prod(shapes[path])) <= 1


@pytest.mark.parametrize("pattern", ["unstructured", "constant_fan_in", "banded"])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9, 0.97])
def test_masks_have_exactly_the_counted_survivors(pattern: Pattern, sparsity: float) -> None:
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), critic_params(24))
    masks = random_masks(KEY, params, sparsity, pattern=pattern)
    shapes = prunable_shapes(params)
    counts = surviving_counts(shapes, sparsity)
    flat = {path_name(path): mask for path, mask in jax.tree_util.tree_leaves_with_path(masks)}
    assert {path: int(mask.sum()) for path, mask in flat.items()} == counts
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    removed = sum(int(np.prod(s)) for s in shapes.values()) - sum(counts.values())
    assert parameter_counts(masks, params) == (total, total - removed)


def test_biases_and_norms_are_never_pruned() -> None:
    masks = random_masks(KEY, critic_params(16), 0.9)
    assert masks["trunk"]["norm"] == {"bias": None, "scale": None}
    assert masks["trunk"]["embed"]["bias"] is None
    assert masks["trunk"]["embed"]["kernel"].dtype == bool


@pytest.mark.parametrize(
    ("inputs", "units", "sparsity"), [(5, 40, 0.9), (64, 64, 0.95), (21, 512, 0.93)]
)
def test_each_unit_keeps_an_input_where_the_budget_allows(
    inputs: int, units: int, sparsity: float
) -> None:
    params = {"kernel": jax.ShapeDtypeStruct((inputs, units), jnp.float32)}
    mask = random_masks(KEY, params, sparsity, distribution="uniform")["kernel"]
    kept = round((1 - sparsity) * inputs * units)
    fan_in = np.asarray(mask.sum(axis=0))
    assert mask.sum() == kept
    assert fan_in.min() == (1 if kept >= units else 0)
    assert (fan_in > 0).sum() == min(units, kept) or kept < units
    free = draw_supports(KEY, params, {"kernel": kept}, min_fan_in=0)["kernel"].mask
    assert free.sum() == kept
    assert np.asarray(free.sum(axis=0)).min() == 0


def test_constant_fan_in_differs_by_at_most_one() -> None:
    params = {"kernel": jax.ShapeDtypeStruct((30, 50), jnp.float32)}
    mask = draw_supports(KEY, params, {"kernel": 333}, pattern="constant_fan_in")["kernel"].mask
    fan_in = np.asarray(mask.sum(axis=0))
    assert mask.sum() == 333
    assert set(fan_in) == {6, 7}


def test_a_band_is_what_is_nearest_to_the_diagonal() -> None:
    """Positions and velocities of four masses beside four forces: the two diagonals are 8 entries, 12
    lie beside them, and the next ones are two away."""
    params = {"kernel": jax.ShapeDtypeStruct((8, 4), jnp.float32)}
    away = abs(np.arange(8)[:, None] % 4 - np.arange(4))
    for count, nearest in ((8, 0), (20, 1), (24, 2)):
        mask = np.asarray(draw_supports(KEY, params, {"kernel": count}, pattern="banded")["kernel"].mask)
        assert mask.sum() == count
        assert away[mask].max() == nearest
        assert mask[away < nearest].all()


def test_survivors_are_uniform_over_places() -> None:
    params = {"kernel": jax.ShapeDtypeStruct((8, 6), jnp.float32)}
    draw = jax.jit(lambda key: draw_supports(key, params, {"kernel": 12}, min_fan_in=0))
    mean = jnp.mean(jax.vmap(draw)(jax.random.split(KEY, 4000))["kernel"].mask, axis=0)
    np.testing.assert_allclose(mean, 0.25, atol=5 * np.sqrt(0.25 * 0.75 / 4000))


def test_a_tensors_mask_depends_on_key_and_path_alone() -> None:
    small = {"a": {"kernel": jnp.ones((8, 9))}}
    large = small | {"b": {"kernel": jnp.ones((8, 9))}}
    one = random_masks(KEY, small, 0.5, distribution="uniform")
    two = random_masks(KEY, large, 0.5, distribution="uniform")
    np.testing.assert_array_equal(one["a"]["kernel"], two["a"]["kernel"])
    assert np.any(two["a"]["kernel"] != two["b"]["kernel"])
    again = random_masks(jax.random.key(8), small, 0.5, distribution="uniform")
    assert np.any(one["a"]["kernel"] != again["a"]["kernel"])


def test_masked_storage_zeroes_pruned_places_only() -> None:
    supports = {"w": Masked(jnp.array([True, False])), "b": None}
    tree = {"w": jnp.array([-0.0, jnp.nan]), "b": jnp.array([3.0])}
    out = store(supports, tree)
    assert np.signbit(out["w"][0])  # a surviving value keeps every bit, −0 included
    assert out["w"][1] == 0.0  # even where it was not finite
    assert out["b"] is tree["b"]


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_sparsity_out_of_range(sparsity: float) -> None:
    with pytest.raises(ValueError, match="allowed: 0 <= sparsity < 1"):
        random_masks(KEY, {"kernel": jnp.ones((2, 2))}, sparsity)


def test_unknown_choices_list_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="uniform, erdos_renyi"):
        densities({"a": (2, 2)}, 0.5, "magnitude")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unstructured, constant_fan_in"):
        random_masks(KEY, {"kernel": jnp.ones((2, 2))}, 0.5, pattern="star")
