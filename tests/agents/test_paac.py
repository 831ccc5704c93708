"""PAAC's first weights as its public code draws them."""

import jax
import jax.numpy as jnp
import numpy as np
from conftest import MakeConfig, on_policy, places

from sparse_rl.agents.actor_critic import uniform_layers
from sparse_rl.pruning import support_masks

KEY = jax.random.key(4)


def test_layers_are_uniform_within_one_over_the_root_of_their_inputs() -> None:
    layer = {"kernel": jnp.zeros((64, 300)), "bias": jnp.zeros(300)}
    drawn = uniform_layers({"trunk": {"a": layer, "b": layer}, "log_std": jnp.zeros(2)}, KEY)
    np.testing.assert_array_equal(drawn["log_std"], 0.0)
    for made in drawn["trunk"].values():
        for leaf in made.values():
            assert 0.12 < float(abs(leaf).max()) <= 1 / 8
            np.testing.assert_allclose(jnp.std(leaf), 1 / 8 / np.sqrt(3), rtol=0.15)
    assert (drawn["trunk"]["a"]["kernel"] != drawn["trunk"]["b"]["kernel"]).any()


def test_they_are_an_option_and_pruned_like_others(make_config: MakeConfig) -> None:
    agent = {"name": "paac"}
    plain, said = (make_config(agent=agent | more) for more in ({}, {"initialisation": "orthogonal"}))
    assert plain.run_id == said.run_id
    config = make_config(agent=agent | {"initialisation": "uniform"}, sparsity=0.5)
    assert config.run_id != plain.run_id
    loop, inputs = on_policy(config)
    state = jax.jit(loop.agent.init)(KEY, inputs)
    head = state.networks["actor"]["mean"]["kernel"]  # orthogonal(0.01) would be far smaller
    assert 0.15 < float(abs(head).max()) <= 1 / 4
    assert float(abs(state.networks["critic"]["value"]["bias"]).max()) > 0.0
    assert not places(support_masks(state.supports), state.networks).any()
