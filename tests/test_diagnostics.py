"""Health measurements against numbers worked by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy_networks as by_numpy
import pytest

from sparse_rl.diagnostics import (
    dormancy,
    effective_rank,
    feature_norm,
    global_norm,
    network_health,
    ratio,
    saturation,
    unconnected,
)
from sparse_rl.networks import Encoder, TwinCritic, wiring_of
from sparse_rl.networks.dense import Critic, Kind
from sparse_rl.pruning import BlockGrid, Masked, draw_supports, prune, restore, store
from sparse_rl.pruning.storage import support_of
from sparse_rl.settings.run import DiagnosticsConfig

KEY = jax.random.key(0)


def test_dormancy_by_hand() -> None:
    """Mean |h| per unit: 2, 0.1, 1.9, 0; layer mean 1; scores 2, 0.1, 1.9, 0: two at or below 0.1."""
    layer = jnp.array([[2.0, 0.2, -1.9, 0.0], [2.0, 0.0, 1.9, 0.0]])
    found = dormancy({"a": layer}, {"a": jnp.ones(4, bool)}, threshold=0.1)
    assert found.layers["a"] == 0.5
    assert found.network == 0.5
    assert found.disconnected == 0.0


def test_disconnected_units_are_reported_apart() -> None:
    """Units 2 and 3 have no input. Of the others, means 1 and 0: score 0 of the second is dormant."""
    layer = jnp.array([[1.0, 0.0, 9.0, 0.0]])
    connected = jnp.array([True, True, False, False])
    other = jnp.array([[1.0, 1.0]])
    found = dormancy({"a": layer, "b": other}, {"a": connected, "b": jnp.ones(2, bool)})
    assert found.layers["a"] == 0.5
    assert found.layers["b"] == 0.0
    assert found.network == 0.25  # 1 of the 4 connected units
    assert found.disconnected == pytest.approx(2 / 6)


def test_dormancy_tells_one_mean_from_another() -> None:
    """Layer a: means of |h| are 3, 0.5, 1.3, 50, and the last has no input: those connected have a mean
    of 1.6, times τ = 0.35 0.56: one of three. In b, of five, means are 5, 4, 0, 0.5 and 1, mean 2.1,
    0.735: two. Without magnitudes ±h would cancel; over all four units, or with the absent one, the
    bound would be 0.42 or 4.8."""
    a = jnp.array([[5.0, -0.5, 1.3, 50.0], [-1.0, 0.5, -1.3, -50.0]])
    b = jnp.array([[5.0, 4.0, 0.0, 1.0, 1.0], [5.0, -4.0, 0.0, 0.0, -1.0]])
    connected = {"a": jnp.array([True, True, True, False]), "b": jnp.ones(5, bool)}
    found = dormancy({"a": a, "b": b}, connected, threshold=0.35)
    assert found.layers["a"] == pytest.approx(1 / 3)
    assert found.layers["b"] == pytest.approx(2 / 5)
    assert found.network == pytest.approx(3 / 8)  # not the mean of 1/3 and 2/5
    assert found.disconnected == pytest.approx(1 / 9)
    # an absent unit is neither among the dormant ones nor in the mean: 0.29 · 1.6 < 0.5 < 0.29 · 13.7
    assert dormancy({"a": a}, connected, threshold=0.29).network == 0.0
    silent = dormancy({"a": a.at[:, 3].set(0.0)}, connected, threshold=0.35)
    assert silent.network == pytest.approx(1 / 3)
    # nine of 36 units apart: the mean is over the three, so 0.31 · 1.6 < 0.5 < 0.32 · 1.6
    assert dormancy({"a": a}, connected, threshold=0.31).network == 0.0
    assert dormancy({"a": a}, connected, threshold=0.32).network == pytest.approx(1 / 3)


def test_a_score_that_equals_the_threshold_is_dormant() -> None:
    """Means 1 and 3, of mean 2: scores 0.5 and 1.5."""
    layer = {"a": jnp.array([[1.0, 3.0]])}
    assert dormancy(layer, {"a": jnp.ones(2, bool)}, threshold=0.5).network == 0.5
    assert dormancy(layer, {"a": jnp.ones(2, bool)}, threshold=0.49).network == 0.0
    assert dormancy({"a": jnp.array([[0.0, 9.0]])}, {"a": jnp.ones(2, bool)}).network == 0.5  # τ = 0.1
    assert dormancy({"a": jnp.array([[0.6, 9.0]])}, {"a": jnp.ones(2, bool)}).network == 0.0


def test_a_layer_without_connected_units_is_not_dormant_but_absent() -> None:
    found = dormancy({"a": jnp.zeros((2, 3))}, {"a": jnp.zeros(3, bool)})
    assert np.isnan(found.network)
    assert np.isnan(found.layers["a"])
    assert float(found.disconnected) == 1.0


def test_ratios_of_whole_numbers_are_exact_where_the_compiler_knows_the_number() -> None:
    """It multiplies with 1/n then: of 41 units, all connected, −6e-8 was the share without input."""
    sizes = (3, 41, 47, 55, 61, 82, 83, 97, 107, 110)

    @jax.jit
    def compiled(connected: list[jax.Array]) -> list[tuple[jax.Array, ...]]:
        found = [dormancy({"a": jnp.ones((2, c.size))}, {"a": c}) for c in connected]
        whole = [ratio(jnp.sum(c, dtype=jnp.int32), c.size) for c in connected]
        return [(d.disconnected, d.network, w) for d, w in zip(found, whole, strict=True)]

    for found in compiled([jnp.ones(size, bool) for size in sizes]):
        assert tuple(map(float, found)) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("kind", ["simba", "mlp"])
def test_a_dead_relu_network_is_all_dormant(kind: Kind) -> None:
    """Taken before the ReLU this would read 0: the inputs of the dead units are large."""
    network = Critic(kind, 16, 2)
    observation, action = jax.random.normal(KEY, (64, 3)), jax.random.normal(KEY, (64, 1))
    shapes = jax.eval_shape(network.init, KEY, observation, action)["params"]
    params = by_numpy.drawn_like(shapes)
    for layer in params["trunk"]:
        if layer.endswith("expand") or layer.startswith("dense"):
            params["trunk"][layer]["bias"] -= 1e3
    inputs = (observation, action)
    nowhere = jax.tree.map(lambda leaf: None, params)
    health = network_health(network, {"": params}, {"": nowhere}, inputs, DiagnosticsConfig())
    assert health["dormant_ratio", ""] == 1.0
    layers = {rest: v for (name, rest), v in health.items() if name == "dormant_ratio" and rest}
    assert len(layers) == 2
    assert all(value == 1.0 for value in layers.values())


@pytest.mark.parametrize("storage", ["masked", "compact"])
def test_a_fresh_network_is_healthy_and_counts_its_disconnected_units(storage: str) -> None:
    network = Critic("simba", 32, 1)
    observation, action = jax.random.normal(KEY, (256, 3)), jax.random.normal(KEY, (256, 1))
    params = jax.jit(network.init)(KEY, observation, action)["params"]
    inputs = (observation, action)
    nowhere = jax.tree.map(lambda leaf: None, params)
    dense = network_health(network, {"": params}, {"": nowhere}, inputs, DiagnosticsConfig())
    assert 0.0 <= dense["dormant_ratio", ""] < 0.1
    assert dense["disconnected_ratio", ""] == 0.0
    assert dense["unread_inputs", ""] == 0.0
    pruned, supports = prune(KEY, params, 0.99, distribution="uniform", storage=storage)
    sparse = network_health(network, {"": pruned}, {"": supports}, inputs, DiagnosticsConfig())
    dense_again = restore(supports, pruned)
    kernels = dense_again["trunk"] | {"value": dense_again["value"]}
    embed, expand, project, value = (
        np.asarray(kernels[name]["kernel"] != 0)
        for name in ("embed", "block_0_expand", "block_0_project", "value")
    )
    stream = value.any(1)  # who reads the sum reads each summand
    whole = (
        embed.any(0) & (expand.any(1) | stream),
        expand.any(0) & project.any(1),
        project.any(0) & stream,
        value.any(0),
    )
    units = np.concatenate(whole)
    assert len(units) == 32 + 128 + 32 + 1
    assert float(sparse["disconnected_ratio", ""]) == np.float32((~units).sum()) / np.float32(193)
    assert sparse["disconnected_ratio", ""] > 0.5
    assert float(sparse["unread_inputs", ""]) == np.float32((~embed.any(1)).sum()) / np.float32(4)
    assert sparse["unread_inputs", ""] > 0


def masked(mask: np.ndarray) -> dict[str, Masked]:
    return {"kernel": Masked(jnp.asarray(mask))}


def test_a_channel_is_read_if_one_of_its_places_is() -> None:
    """A picture of 2 channels, 3 units, 4 units: kernels have rows (place, channel)."""
    encoder = Encoder("drq_strided", 3, (18, 17, 2))
    first, second, third = np.zeros((18, 3), bool), np.zeros((27, 3), bool), np.ones((27, 3), bool)
    first[2 * 5, :2] = True  # channel 0 at place 5; unit 2 has no input, channel 1 is not read
    second[3 * 8 + 1, :] = True  # unit 1 of the first layer at place 8; its units 0 and 2 are not read
    supports = {"trunk": {"conv": masked(first), "conv_2": masked(second), "conv_3": masked(third)}}
    found = unconnected(wiring_of(encoder), supports_shapes(supports), supports)
    assert (int(found.unread), found.inputs) == (1, 2)
    assert (int(found.cut_off), found.units) == (2, 9)


def supports_shapes(supports: dict[str, dict[str, dict[str, Masked]]]) -> dict[str, dict[str, object]]:
    return {
        name: {layer: {"kernel": kernel["kernel"].mask} for layer, kernel in layers.items()}
        for name, layers in supports.items()
    }


def test_blocks_leave_nothing_unconnected() -> None:
    network = Critic("mlp", 16, 1)
    shapes = jax.eval_shape(network.init, KEY, jnp.zeros((1, 4)))["params"]
    params = jax.tree.map(jnp.asarray, by_numpy.drawn_like(shapes))
    budget = {
        "trunk/dense_0/kernel": BlockGrid(4, 16, 4, 1),
        "trunk/dense_1/kernel": BlockGrid(16, 16, 8, 1),
    }
    supports = draw_supports(KEY, params, budget, pattern="block", storage="block")
    found = unconnected(wiring_of(network), store(supports, params), supports)
    assert (int(found.unread), found.inputs, int(found.cut_off), found.units) == (0, 4, 0, 33)


def test_norm_is_one_global_norm_not_a_sum_of_norms() -> None:
    tree = {"a": jnp.array([3.0]), "b": jnp.array([[4.0]])}
    assert global_norm(tree) == 5.0


def test_feature_norm_is_the_mean_over_samples() -> None:
    assert feature_norm(jnp.array([[3.0, 4.0], [0.0, 1.0]])) == 3.0


def test_effective_rank_by_hand() -> None:
    """Singular values 90, 9, 1: two of them hold 99 %, so srank(0.01) = 2; srank(0.005) = 3."""
    features = jnp.diag(jnp.array([90.0, 9.0, 1.0]))
    assert effective_rank(features, 0.0105) == 2
    assert effective_rank(features, 0.005) == 3
    assert effective_rank(jnp.zeros((4, 3))) == 0
    assert effective_rank(jnp.ones((4, 3))) == 1


def test_rank_counts_singular_values_and_not_their_squares() -> None:
    """Values 8, 4, 2, 1 of 15 in all: 12 hold 80 %, so δ = 0.21 takes two and 0.19 three. Of squares, 85
    in all, 64 hold 75 % and 80 hold 94 %. Rotated, and with more samples than units, they stay."""
    rng = np.random.default_rng(3)
    left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (9, 4))
    features = jnp.float32(left[:, :4] @ np.diag([8.0, 4.0, 2.0, 1.0]) @ right)
    for threshold, rank in ((0.5, 1), (0.45, 2), (0.21, 2), (0.19, 3), (0.08, 3), (0.06, 4)):
        assert effective_rank(features, threshold) == rank, threshold
        assert effective_rank(features.T, threshold) == rank
    assert effective_rank(jnp.diag(jnp.array([98.9, 0.6, 0.5]))) == 2  # δ = 0.01


def reference_health(params: Any, masks: Any, read: np.ndarray, settings: DiagnosticsConfig) -> Any:
    """Of one multilayer perceptron, in numpy: what is counted, and what is measured."""
    features, sown = by_numpy.mlp(params["trunk"], read)
    kernels = [*(masks["trunk"][f"dense_{i}"]["kernel"] for i in range(2)), masks["value"]["kernel"]]
    layers = {}
    for i, (name, h) in enumerate(sown.items()):
        inside = kernels[i].any(axis=0)
        score = abs(h).mean(axis=0)[inside]
        layers[name] = (int((score <= settings.dormant_threshold * score.mean()).sum()), len(score))
    values = np.linalg.svd(features, compute_uv=False)
    shares = np.cumsum(values) / values.sum()
    later = [*kernels[1:], np.ones((1, 1), bool)]  # who reads the value is outside
    cut = [~(here.any(axis=0) & after.any(axis=1)) for here, after in zip(kernels, later, strict=True)]
    return {
        "layers": layers,
        "unread": int((~kernels[0].any(axis=1)).sum()),
        "cut_off": int(np.concatenate(cut).sum()),
        "feature_norm": float(np.sqrt((features**2).sum(axis=1)).mean()),
        "srank": int((shares < 1 - settings.srank_threshold).sum()) + 1,
        "squares": float(sum((leaf**2).sum() for leaf in jax.tree.leaves(params))),
    }


def members_of(storage: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Two critics 3 + 2 → 9 → 9 → 1, the first one sparser: as stored, supports, masks, in float64."""
    network = Critic("mlp", 9, 1)
    shapes = jax.eval_shape(network.init, KEY, jnp.zeros((1, 3)), jnp.zeros((1, 2)))["params"]
    stored, supports, masks, exact = {}, {}, {}, {}
    for i, (label, density) in enumerate((("0", 0.2), ("1", 0.35))):
        rng = np.random.default_rng(i)
        masks[label] = jax.tree.map(
            lambda leaf: rng.random(leaf.shape) < density if leaf.ndim > 1 else None,  # noqa: B023
            shapes,
        )
        supports[label] = jax.tree.map(
            lambda mask: support_of(jnp.asarray(mask), storage, int(mask.sum())), masks[label]
        )
        params = jax.tree.map(jnp.asarray, by_numpy.drawn_like(shapes, seed=i))
        stored[label] = store(supports[label], params)
        exact[label] = by_numpy.as_float64(restore(supports[label], stored[label]))
    return stored, supports, masks, exact


@pytest.mark.parametrize("storage", ["masked", "compact"])
def test_every_number_of_an_ensembles_health_is_that_of_numpy(storage: str) -> None:
    """Thresholds differ, members differ, and so do numbers of units: what is one for another is seen."""
    settings = DiagnosticsConfig(dormant_threshold=0.8, srank_threshold=0.14)
    rng = np.random.default_rng(2)
    observation, action = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    inputs = jnp.float32(observation), jnp.float32(action)
    stored, supports, masks, exact = members_of(storage)
    health = network_health(Critic("mlp", 9, 1), stored, supports, inputs, settings)
    read = np.concatenate([observation, action], axis=1)
    found = [reference_health(exact[label], masks[label], read, settings) for label in "01"]
    layers = {f"{label}/{name}": v for label, f in zip("01", found, strict=True)
              for name, v in f["layers"].items()}  # fmt: skip
    expected = {("dormant_ratio", f"/{name}"): asleep / size for name, (asleep, size) in layers.items()}
    expected["dormant_ratio", ""] = sum(a for a, _ in layers.values()) / sum(
        n for _, n in layers.values()
    )
    expected["unread_inputs", ""] = sum(f["unread"] for f in found) / 10
    expected["disconnected_ratio", ""] = sum(f["cut_off"] for f in found) / (2 * 19)
    expected["feature_norm", ""] = np.mean([f["feature_norm"] for f in found])
    expected["srank", ""] = np.mean([f["srank"] for f in found])
    expected["param_norm", ""] = np.sqrt(sum(f["squares"] for f in found))
    assert {name: float(x) for name, x in health.items()} == pytest.approx(expected, rel=1e-5)
    assert found[0]["srank"] != found[1]["srank"]
    other = [reference_health(exact[m], masks[m], read, DiagnosticsConfig())["layers"] for m in "01"]
    assert [f["layers"] for f in found] != other
    assert 0 < expected["unread_inputs", ""] < 1
    assert len({*expected.values()}) > 8  # few coincide


def test_heads_of_one_network_are_measured_each_and_averaged() -> None:
    """DrQ's critic is one network that sows two features: norms and ranks are means of both."""
    network, rng = TwinCritic(6, 4), np.random.default_rng(4)
    seen, action = rng.standard_normal((30, 5)), rng.standard_normal((30, 2))
    inputs = jnp.float32(seen), jnp.float32(action)
    params = by_numpy.drawn_like(jax.eval_shape(network.init, KEY, *inputs)["params"], seed=3)
    nowhere = jax.tree.map(lambda leaf: None, params)
    settings = DiagnosticsConfig(srank_threshold=0.1)
    health = network_health(network, {"": params}, {"": nowhere}, inputs, settings)
    _, sown = by_numpy.twin(by_numpy.as_float64(params), seen, action)
    both = [sown[f"{head}_dense_1"] for head in ("first", "second")]
    norms = [np.sqrt((h**2).sum(axis=1)).mean() for h in both]
    values = [np.linalg.svd(h, compute_uv=False) for h in both]
    ranks = [int((np.cumsum(v) / v.sum() < 0.9).sum()) + 1 for v in values]
    assert health["feature_norm", ""] == pytest.approx(np.mean(norms), rel=1e-5)
    assert health["srank", ""] == np.mean(ranks)
    assert set(health) >= {("dormant_ratio", f"/{layer}") for layer in sown}
    assert health["unread_inputs", ""] == health["disconnected_ratio", ""] == 0


def test_what_a_twin_critic_leaves_unread_is_counted_by_hand() -> None:
    """Five numbers seen, three of an action, two few ones, two units per layer.

    Seen: row 4 is zero. The action's entry 0 is read by the second head alone, entry 2 by none. Few:
    unit 1 has inputs and only the first head reads it. First: its unit 0 of dense_0 has no input, and is
    read; unit 1 of dense_1 leads nowhere. Second: all is well, but its value has no input, so both units
    that it would read lead nowhere, and so does it."""
    ones = np.ones((2, 2), bool)
    first, second = np.ones((5, 2), bool), np.ones((5, 2), bool)
    first[:, 0] = False
    first[[2, 4]] = False
    second[[1, 4]] = False
    seen = np.arange(5)[:, None] != 4
    kernels = {
        "feature": seen & np.ones((5, 2), bool),
        "first_dense_0": first,
        "first_dense_1": ones,
        "second_dense_0": second,
        "second_dense_1": ones,
    }
    supports: dict[str, Any] = {"trunk": {name: masked(mask) for name, mask in kernels.items()}}
    supports |= {
        "first_value": masked(np.array([[True], [False]])),
        "second_value": masked(~ones[:, :1]),
    }
    held = jax.tree.map(lambda support: support.mask, supports, is_leaf=lambda s: isinstance(s, Masked))
    found = unconnected(wiring_of(TwinCritic(2, 2)), held, supports)
    assert (int(found.unread), found.inputs) == (2, 8)
    assert (int(found.cut_off), found.units) == (1 + 1 + 2 + 1, 12)


@pytest.mark.parametrize(("width", "samples"), [(16, 256), (512, 1024), (4096, 2048)])
def test_more_samples_than_the_width_or_the_stated_cap(width: int, samples: int) -> None:
    assert DiagnosticsConfig().samples(width) == samples


def test_saturated_units_are_counted_on_both_sides() -> None:
    """Of eight numbers three are beyond 0.9."""
    squashed = jnp.array([[0.95, -0.95, 0.1, 0.3], [-0.99, 0.2, 0.89, 0.0]])
    assert float(saturation(squashed)) == pytest.approx(3 / 8)
