"""Health measurements against numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.diagnostics import dormancy, effective_rank, feature_norm, global_norm, network_health
from sparse_rl.networks.dense import Critic, Kind
from sparse_rl.pruning import prune, restore
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
    assert float(found.network) == 0.0
    assert float(found.disconnected) == 1.0


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
    pruned, supports = prune(KEY, params, 0.99, distribution="uniform", storage=storage)
    sparse = network_health(network, {"": pruned}, {"": supports}, inputs, DiagnosticsConfig())
    kernel = restore(supports, pruned)["trunk"]["block_0_expand"]["kernel"]
    connected = np.asarray((kernel != 0).any(axis=0))
    assert sparse["disconnected_ratio", ""] == pytest.approx(1 - connected.mean())
    assert sparse["disconnected_ratio", ""] > 0.5


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
