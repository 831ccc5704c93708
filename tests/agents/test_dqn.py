"""DQN: who explores, how often, among what, and what an n-step return goes on from."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tides
from conftest import MakeConfig, on_policy
from references import dqn
from references.arithmetic import flat

from sparse_rl.agents import choosing
from sparse_rl.agents.choosing import exploration
from sparse_rl.agents.contract import ADAM_TRAFFIC, TARGET_TRAFFIC, View
from sparse_rl.settings.on_policy import DqnConfig

KEY = jax.random.key(5)


@pytest.fixture
def agent(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The agent's functions, and a state whose networks are random and differ from each other."""
    tides.install(monkeypatch, tides.tides(True, True))
    env = {"source": "probe", "task": "tides"}
    loop, inputs = on_policy(make_config(agent={"name": "dqn"}, env=env, width=6))

    def drawn(config: Any, wiring: Any, initial: Any, key: Any, inputs: Any, labels: Any = ()) -> Any:
        rng, shapes = np.random.default_rng(2), jax.eval_shape(initial, key)
        weights = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape), jnp.float32), shapes)
        return weights, jax.tree.map(lambda _: None, shapes)

    monkeypatch.setattr(choosing, "draw_pruned", drawn)
    state = jax.jit(lambda inputs: loop.agent.init(KEY, inputs))(inputs)
    return loop.agent, state._replace(target=jax.tree.map(lambda x: -0.8 * x, state.critic))


def test_a_share_of_the_actors_explores_each_for_itself(agent: Any) -> None:
    """ε = 0.3, among two choices that are allowed; the others take the greatest value that is."""
    functions, state = agent
    n, eps = 20_000, 0.3
    view = View(
        jnp.tile(jnp.array([[2.5, 1.4, -1.0]]), (n, 1)), legal=jnp.array([[True, False, True]] * n)
    )
    act = jax.jit(lambda state, key: functions.act(state)(view, (), key)[0])
    values = dqn.values(
        flat({"critic": jax.tree.map(np.asarray, state.critic)}), flat({"x": view.observation[:1]})["x"]
    )[0].numpy()
    best = int(np.argmax(np.where([True, False, True], values, -np.inf)))
    action = np.asarray(act(state._replace(exploration=jnp.float32(eps)), KEY))
    assert set(action) == {0, 2}
    share = (action == best).mean()
    assert abs(share - (1 - eps / 2)) < 4 * np.sqrt(0.15 * 0.85 / n)
    assert (np.asarray(act(state._replace(exploration=jnp.float32(0.0)), KEY)) == best).all()
    wild = np.asarray(act(state._replace(exploration=jnp.float32(1.0)), KEY))
    assert abs((wild == best).mean() - 0.5) < 4 * 0.5 / np.sqrt(n)
    greedily = np.asarray(functions.act_greedily(state)(view, ())[0])
    assert (greedily == best).all()


def test_a_return_goes_on_from_the_targets_greatest_allowed_value(agent: Any) -> None:
    functions, state = agent
    seen = np.random.default_rng(0).normal(1.0, 2.0, (40, 3)).astype(np.float32)
    legal = np.random.default_rng(1).random((40, 3)) < 0.6
    legal[:, 1] |= ~legal.any(1)
    target = flat({"critic": jax.tree.map(np.asarray, state.target)})
    values = dqn.values(target, flat({"x": seen})["x"]).numpy()
    view = View(jnp.asarray(seen), legal=jnp.asarray(legal))
    found = functions.value(state)(view, ())
    np.testing.assert_allclose(found, np.where(legal, values, -np.inf).max(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 1.0), (0.2, 0.68), (0.5, 0.2), (0.9, 0.2)])
def test_exploration_falls_linearly_and_stays(progress: float, expected: float) -> None:
    """From 1 to 0.2 in the first half: 1 − 0.8 · 0.2/0.5 = 0.68."""
    settings = DqnConfig(final_exploration=0.2, exploration_share=0.5)
    assert float(exploration(settings, jnp.float32(progress))) == pytest.approx(expected)


def test_what_an_update_moves_is_adams_and_the_targets(agent: Any) -> None:
    """Weight, gradient and two moments are read and written; the target is read and written, the weight
    read once more."""
    assert agent[0].traffic == {"critic": 4 * 2 + 3}
    assert (ADAM_TRAFFIC, TARGET_TRAFFIC) == (8, 3)
    assert agent[0].passes == {"critic": 3}
    assert agent[0].updates_per_rollout == 1
    assert agent[0].batch_size == 50
