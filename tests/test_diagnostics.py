"""Health measurements against numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.diagnostics import (
    dormancy,
    effective_rank,
    feature_norm,
    global_norm,
    network_health,
    ratio,
    unconnected,
)
from sparse_rl.networks import Encoder, wiring_of
from sparse_rl.networks.dense import Critic, Kind
from sparse_rl.pruning import BlockGrid, Masked, draw_supports, prune, restore, store
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
    params = network.init(KEY, observation, action)["params"]
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
    params = network.init(KEY, observation, action)["params"]
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
    params = network.init(KEY, jnp.zeros((1, 4)))["params"]
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


@pytest.mark.parametrize(("width", "samples"), [(16, 256), (512, 1024), (4096, 2048)])
def test_more_samples_than_the_width_or_the_stated_cap(width: int, samples: int) -> None:
    assert DiagnosticsConfig().samples(width) == samples
