"""What on-policy agents share: first weights, what is allowed, and what an update is said to be."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tides
from conftest import MakeConfig, on_policy

from sparse_rl.agents import actor_critic
from sparse_rl.agents.apart import one_of
from sparse_rl.agents.contract import Experience, View
from sparse_rl.settings.run import RunConfig

KEY = jax.random.key(3)


@pytest.fixture
def config(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    tides.install(monkeypatch, tides.tides(True, True))
    agent = {"name": "ppo", "num_envs": 6, "num_steps": 10, "epochs": 3, "minibatches": 4}
    return make_config(agent=agent, env={"source": "probe", "task": "tides"}, width=6)


def test_actor_and_critic_draw_their_first_weights_apart(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same network for both would, with one key, begin with the same weights."""
    drawn: list[Any] = []

    def told(config: Any, wiring: Any, initial: Any, key: Any, inputs: Any, labels: Any = ()) -> Any:
        networks = initial(key)
        drawn.append(networks)
        return networks, jax.tree.map(lambda _: None, networks)

    loop, inputs = on_policy(config)
    monkeypatch.setattr(actor_critic, "draw_pruned", told)
    monkeypatch.setattr(actor_critic, "_wiring", lambda parts: {})

    class Fake:
        """A network whose weights are its key's first draws."""

        def init(self, key: Any, observation: Any) -> Any:
            assert observation.shape == (1, 3)
            return {"params": {"kernel": jax.random.normal(key, (3, 5))}}

    parts = actor_critic.build(config, loop.env)._replace(actor=Fake(), critic=Fake())
    made = actor_critic._init(parts, config, optax.sgd, KEY, inputs)
    alone = np.asarray(jax.random.normal(KEY, (3, 5)))
    weights = [np.asarray(made.networks[name]["kernel"]) for name in ("actor", "critic")]
    assert len(np.unique(np.stack([*weights, alone]))) == 3 * 15
    assert len(drawn) == 1


def test_what_is_not_allowed_has_no_share_in_densities_and_entropies(config: RunConfig) -> None:
    """Logits (1, 9, 2) of which the middle one is not allowed: log-softmax of (1, 2)."""
    loop, _ = on_policy(config)
    parts = actor_critic.build(config, loop.env)
    networks = jax.tree.map(
        lambda x: jnp.zeros(x.shape),
        {
            name: jax.eval_shape(net.init, KEY, jnp.zeros((1, 3)))["params"]
            for name, net in (("actor", one_of(parts.actor)), ("critic", one_of(parts.critic)))
        },
    )
    networks["actor"]["logits"]["bias"] = jnp.array([1.0, 9.0, 2.0])
    networks["critic"]["value"]["bias"] = jnp.array([-4.5])
    n = jnp.zeros(2)
    view = View(jnp.zeros((2, 3)), legal=jnp.array([[True, False, True]] * 2))
    batch = Experience(view, jnp.array([0, 2]), n, n, n, n)
    found = actor_critic.evaluate_actions(parts, networks, {"actor": None, "critic": None}, batch)
    p = np.exp([1.0, 2.0]) / np.exp([1.0, 2.0]).sum()
    np.testing.assert_allclose(found.log_prob, np.log(p), rtol=1e-5)
    np.testing.assert_allclose(found.entropy, [-(p * np.log(p)).sum()] * 2, rtol=1e-5)
    np.testing.assert_allclose(found.value, [-4.5, -4.5])


def test_an_update_is_said_to_be_what_it_is(make_config: MakeConfig, config: RunConfig) -> None:
    """Sixty samples in four minibatches, three times over; PAAC takes them all at once."""
    ppo = on_policy(config)[0].agent
    assert (ppo.updates_per_rollout, ppo.batch_size) == (12, 15)
    agent = {"name": "paac", "num_envs": 6, "num_steps": 10}
    env = {"source": "probe", "task": "tides"}
    paac = on_policy(make_config(agent=agent, env=env, width=6))[0].agent
    assert (paac.updates_per_rollout, paac.batch_size) == (1, 60)
    # weight, gradient and moments are read and written: two moments of Adam, one of RMSProp
    assert (ppo.traffic, paac.traffic) == ({"actor": 8, "critic": 8}, {"actor": 6, "critic": 6})
    assert ppo.passes == paac.passes == {"actor": 3, "critic": 3}
