"""Parameter counts in closed form, initialisation, and what the networks expose."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy_networks as by_numpy
import pytest

from sparse_rl.networks.counts import (
    actor_parameters,
    critic_parameters,
    policy_parameters,
    value_parameters,
)
from sparse_rl.networks.dense import (
    Critic,
    GaussianActor,
    Kind,
    Policy,
    conv_channels,
)
from sparse_rl.pruning import parameter_counts

KEY = jax.random.key(0)


def shapes_of(network: nn.Module, *inputs: Any) -> Any:
    """Of its parameters; nothing is drawn."""
    return jax.eval_shape(network.init, KEY, *inputs)["params"]


@pytest.mark.parametrize("kind", ["simba", "mlp"])
@pytest.mark.parametrize(("width", "blocks", "o", "a"), [(16, 1, 3, 1), (24, 2, 17, 6), (7, 3, 5, 2)])
def test_closed_forms_count_the_real_parameters(
    kind: Kind, width: int, blocks: int, o: int, a: int
) -> None:
    observation, action = jnp.zeros((1, o)), jnp.zeros((1, a))
    critic = shapes_of(Critic(kind, width, blocks), observation, action)
    actor = shapes_of(GaussianActor(kind, width, blocks, a), observation)
    assert parameter_counts({}, critic).total == critic_parameters(kind, width, blocks, o, a)
    assert parameter_counts({}, actor).total == actor_parameters(kind, width, blocks, o, a)


@pytest.mark.parametrize(
    ("observation", "action", "scale", "millions"),
    [
        (67, 21, 1, 4.39),
        (67, 21, 2, 17.44),
        (67, 21, 3, 39.1),
        (67, 21, 4, 69.5),
        (67, 21, 5, 108.5),
        (223, 38, 1, 4.51),
        (223, 38, 2, 17.67),
        (223, 38, 3, 39.5),
        (223, 38, 4, 69.9),
        (223, 38, 5, 109.05),
    ],
)
def test_published_sizes_of_humanoid_and_dog(
    observation: int, action: int, scale: int, millions: float
) -> None:
    """Ma et al. 2025: actor 128 and critic 512, times 1 to 5; printed digits of the paper's table."""
    total = actor_parameters("simba", 128 * scale, 1, observation, action) + critic_parameters(
        "simba", 512 * scale, 2, observation, action
    )
    digits = 2 if millions in (4.39, 4.51, 17.44, 17.67, 109.05) else 1
    assert round(total / 1e6, digits) == pytest.approx(millions)


def test_simba_initialisation_is_the_published_one() -> None:
    init = jax.jit(Critic("simba", 64, 1).init)
    params = init(KEY, jnp.zeros((1, 5)), jnp.zeros((1, 2)))["params"]["trunk"]
    embed = np.asarray(params["embed"]["kernel"])
    np.testing.assert_allclose(embed @ embed.T, np.eye(7), atol=1e-5)
    expand = np.asarray(params["block_0_expand"]["kernel"])
    assert expand.shape == (64, 256)
    assert expand.std() == pytest.approx(np.sqrt(2 / 64), rel=0.05)  # He: variance 2 / fan-in
    assert not np.any(params["block_0_expand"]["bias"])


def test_simba_block_is_a_pre_norm_residual_of_width_four() -> None:
    """With its last product zeroed, a block is the identity: the network is LayerNorm of the input."""
    network = Critic("simba", 8, 1)
    params = by_numpy.drawn_like(shapes_of(network, jnp.zeros((1, 3)), jnp.zeros((1, 1))))
    for layer in (params["trunk"]["block_0_project"], params["trunk"]["embed"], params["value"]):
        layer["bias"] *= 0.0
    params["trunk"]["norm"] = {"bias": jnp.zeros(8), "scale": jnp.ones(8)}
    params["trunk"]["block_0_project"]["kernel"] *= 0.0
    params["value"]["kernel"] = jnp.ones((8, 1)).at[0, 0].set(3.0)
    observation, action = jnp.array([[0.3, -1.0, 2.0]]), jnp.array([[0.5]])
    x = np.array([0.3, -1.0, 2.0, 0.5]) @ np.asarray(params["trunk"]["embed"]["kernel"])
    normed = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
    expected = normed.sum() + 2.0 * normed[0]
    value = network.apply({"params": params}, observation, action)
    np.testing.assert_allclose(value, [expected], rtol=1e-4)


def test_log_std_stays_in_its_range() -> None:
    actor = GaussianActor("mlp", 8, 1, 2)
    params = by_numpy.drawn_like(shapes_of(actor, jnp.zeros((1, 3))))
    params["log_std"]["bias"] = jnp.array([1e3, -1e3])
    _, log_std = actor.apply({"params": params}, jnp.zeros((1, 3)))
    np.testing.assert_allclose(log_std, [[2.0, -10.0]])


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize(
    ("kind", "picture"),
    [
        ("simba", None),
        ("mlp", None),
        ("minatar", (10, 10, 4)),
        ("minatar", (6, 5, 2)),
        ("nips", (21, 21, 64)),
        ("nature", (21, 21, 64)),
    ],
)
@pytest.mark.parametrize("width", [4, 40])
def test_closed_forms_of_policies_and_values(
    kind: Kind, picture: tuple[int, int, int] | None, width: int, gaussian: bool
) -> None:
    size = 7 if picture is None else int(np.prod(picture))
    observation = jnp.zeros((1, size))
    policy = shapes_of(Policy(kind, width, 2, 3, gaussian, picture=picture), observation)
    value = shapes_of(Critic(kind, width, 2, picture=picture), observation)
    assert parameter_counts({}, policy).total == policy_parameters(
        kind, width, 2, size, 3, gaussian, picture
    )
    assert parameter_counts({}, value).total == value_parameters(kind, width, 2, size, picture)
    values = shapes_of(Critic(kind, width, 2, picture=picture, actions=3), observation)
    assert parameter_counts({}, values).total == value_parameters(kind, width, 2, size, picture, 3)


def test_minatars_network_is_the_published_one_at_width_128() -> None:
    """Young and Tian 2019: 16 channels of 3×3, then 128 units; four channels are read."""
    assert conv_channels(128) == 16
    trunk = value_parameters("minatar", 128, 1, 400, (10, 10, 4)) - 129
    assert trunk == 576 + 16 + 64 * 16 * 128 + 128


def test_a_policy_starts_without_a_preference_and_can_learn_one() -> None:
    """The head is orthogonal(0.01), not a constant: rows differ, and logits are near 0."""
    network = Policy("mlp", 32, 1, 3, False)
    x = jax.random.normal(KEY, (50, 4))
    params = jax.jit(network.init)(KEY, x)["params"]
    logits = network.apply({"params": params}, x)
    assert np.abs(logits).max() < 0.1
    kernel = np.asarray(params["logits"]["kernel"])
    np.testing.assert_allclose(kernel.T @ kernel, 1e-4 * np.eye(3), atol=1e-8)
