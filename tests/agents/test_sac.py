"""SAC: how it starts, and a pruned weight that does not exist. Its updates are beside their reference in
test_updates.py."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig, batch_of, off_policy, places

from sparse_rl.agents.q_learner import gamma_heuristic
from sparse_rl.agents.sac import sample_action
from sparse_rl.pruning import store, support_masks, surviving_counts
from sparse_rl.pruning.storage import Masked
from sparse_rl.pruning.tree import path_name
from sparse_rl.settings.run import RunConfig

KEY = jax.random.key(0)


@functools.cache
def start(config: RunConfig) -> tuple[Any, Any]:
    """The agent's functions and its state before the first update."""
    loop, inputs = off_policy(config)
    return loop.agent, jax.jit(loop.agent.init)(KEY, inputs)


@pytest.mark.parametrize(
    ("interactions", "gamma"), [(500, 0.99), (1000, 0.995), (5000, 0.995), (200, 0.975), (20, 0.95)]
)
def test_gamma_heuristic(interactions: int, gamma: float) -> None:
    assert gamma_heuristic(interactions) == pytest.approx(gamma)


def test_random_interactions_are_at_most_a_tenth_of_a_run(make_config: MakeConfig) -> None:
    for env_steps, expected in ((200, 20), (5000, 500), (100_000, 5000)):
        config = make_config(env_steps=env_steps, agent={"random_interactions": 5000})
        loop, _ = off_policy(config)
        assert f"the first {expected:,} interactions random" in loop.describe()


def test_log_density_of_the_squashed_gaussian() -> None:
    """log N(u) − Σ log(1 − tanh² u), computed in float64 from the drawn action."""
    mean, log_std = jnp.array([[0.3, -0.2]]), jnp.array([[-0.5, 0.1]])
    action, log_prob = sample_action(mean, log_std, KEY)
    a, m, s = (np.asarray(x, np.float64) for x in (action, mean, log_std))
    u = np.arctanh(a)
    gaussian = -0.5 * ((u - m) / np.exp(s)) ** 2 - s - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(log_prob, (gaussian - np.log1p(-(a**2))).sum(-1), rtol=1e-4)


def test_saturated_actions_have_finite_density() -> None:
    _, log_prob = sample_action(jnp.full((1, 2), 50.0), jnp.full((1, 2), 2.0), KEY)
    assert np.isfinite(log_prob).all()


def test_critics_start_apart_targets_as_copies_and_optimisers_with_nothing(
    make_config: MakeConfig,
) -> None:
    agent = {"clipped_double_q": True, "initial_temperature": 0.3, "learning_rate": 3e-3}
    _, state = start(make_config(agent=agent))
    pairs = zip(*(jax.tree.leaves(state.critic[i]["trunk"]) for i in ("0", "1")), strict=True)
    kernels = [(one.ravel(), two.ravel()) for one, two in pairs if one.ndim > 1]
    assert len(kernels) == 5
    for one, two in kernels:
        assert abs(np.corrcoef(one, two)[0, 1]) < 5 / np.sqrt(one.size)
    jax.tree.map(np.testing.assert_array_equal, state.critic, state.target)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.optimisers))
    assert float(state.learning_rate) == np.float32(3e-3)
    assert float(state.log_temperature) == pytest.approx(np.log(0.3), rel=1e-6)


def stored_copies(state: Any, network: str) -> dict[str, Any]:
    """Everything that has the shape of a network's parameters."""
    adam = state.optimisers[network][0]
    copies = {"parameters": getattr(state, network), "mu": adam.mu, "nu": adam.nu}
    return copies | ({"target": state.target} if network == "critic" else {})


def test_a_pruned_weight_does_not_exist(make_config: MakeConfig) -> None:
    config = make_config(sparsity=0.8, agent={"clipped_double_q": True, "weight_decay": 0.1})
    agent, state = start(config)
    update = jax.jit(agent.update)
    masks = support_masks(state.supports)
    for i in range(6):
        for network in ("actor", "critic"):
            for name, tree in stored_copies(state, network).items():
                gone = places(masks[network], tree)
                assert gone.size > 0
                assert not gone.any(), f"{network} {name} after {i} updates"
        state, _ = update(state, batch_of(32, seed=i), jax.random.key(i))


def test_sparsity_zero_is_bitwise_the_dense_program(make_config: MakeConfig) -> None:
    agent, state = start(make_config(sparsity=0.0))
    assert not jax.tree.leaves(state.supports)
    dense = state._replace(supports={"actor": None, "critic": {"0": None}})
    ones = jax.tree.map(
        lambda p: Masked(jnp.ones(p.shape, bool)), {"actor": state.actor, "critic": state.critic}
    )
    masked = state._replace(supports=ones)
    update = jax.jit(agent.update)
    for i in range(5):
        batch, key = batch_of(32, seed=i), jax.random.key(i)
        state, dense, masked = (update(s, batch, key)[0] for s in (state, dense, masked))
    jax.tree.map(np.testing.assert_array_equal, state._replace(supports=0), dense._replace(supports=0))
    # and masks that are all true say the same, but for the order in which a product is rounded
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        state._replace(supports=0),
        masked._replace(supports=0),
    )


def test_critic_is_pruned_whether_or_not_the_actor_is(make_config: MakeConfig) -> None:
    config = make_config(pruning={"actor_sparsity": 0.0, "critic_sparsity": 0.7})
    _, state = start(config)
    assert not jax.tree.leaves(state.supports["actor"])
    masks = jax.tree.leaves(support_masks(state.supports["critic"]))
    kept = sum(int(mask.sum()) for mask in masks)
    size = sum(mask.size for mask in masks)
    assert kept == round(0.3 * size)


def test_mask_seed_and_seed_are_told_apart(make_config: MakeConfig) -> None:
    def drawn(key_seed: int, mask_seed: int) -> tuple[Any, Any]:
        config = make_config(sparsity=0.5, mask_seed=mask_seed)
        loop, inputs = off_policy(config)
        state = jax.jit(loop.agent.init)(jax.random.key(key_seed), inputs)
        return support_masks(state.supports), state.actor["mean"]["kernel"]

    (masks, weights), (same_masks, other_weights) = drawn(0, 5), drawn(1, 5)
    jax.tree.map(np.testing.assert_array_equal, masks, same_masks)
    assert np.any(weights != other_weights)
    other_masks, same_weights = drawn(0, 6)
    kernels = (m["trunk"]["embed"]["kernel"] for m in (masks["actor"], other_masks["actor"]))
    assert np.any(next(kernels) != next(kernels))
    both = masks["actor"]["mean"]["kernel"] & other_masks["actor"]["mean"]["kernel"]
    np.testing.assert_array_equal(jnp.where(both, weights, 0), jnp.where(both, same_weights, 0))


def test_actor_and_critic_do_not_share_a_mask_key(make_config: MakeConfig) -> None:
    """With equal shapes and names, equal keys would give equal masks."""
    config = make_config(
        sparsity=0.5,
        pruning={"distribution": "uniform"},
        agent={"actor_width_ratio": 1.0, "clipped_double_q": True},
    )
    _, state = start(config)
    masks = support_masks(state.supports)
    layers = [masks["actor"]["trunk"], masks["critic"]["0"]["trunk"], masks["critic"]["1"]["trunk"]]
    one, two, three = (np.asarray(layer["block_0_expand"]["kernel"]) for layer in layers)
    assert (one != two).any()
    assert (two != three).any()


def test_dense_and_sparse_start_from_the_same_weights(make_config: MakeConfig) -> None:
    _, dense = start(make_config(sparsity=0.0))
    _, sparse = start(make_config(sparsity=0.9))
    jax.tree.map(
        np.testing.assert_array_equal, sparse.critic, store(sparse.supports["critic"], dense.critic)
    )


def test_counts_that_the_masks_must_meet_are_the_published_rule(make_config: MakeConfig) -> None:
    config = make_config(sparsity=0.9, width=32)
    _, state = start(config)
    masks = jax.tree_util.tree_leaves_with_path(support_masks(state.supports["critic"]))
    shapes = {path_name(path): mask.shape for path, mask in masks}
    kept = {path_name(path): int(mask.sum()) for path, mask in masks}
    assert kept == surviving_counts(shapes, 0.9, "erdos_renyi")
