"""What on-policy agents share: which network sees what, which depth is whose, what is drawn and what it
was worth."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy_networks as by_numpy
import pytest
from conftest import MakeConfig, on_policy
from scipy import stats

from sparse_rl.agents import actor_critic
from sparse_rl.agents.actor_critic import ActorCritic, ActorCriticState
from sparse_rl.agents.contract import Experience, RunInputs, Streams, View
from sparse_rl.agents.pruned import grad_norms, scheduled
from sparse_rl.envs import Spec
from sparse_rl.settings.on_policy import PpoConfig
from sparse_rl.settings.run import RunConfig

KEY = jax.random.key(2)
SIZE = 6
DENSE = RunInputs(np.uint32(0), np.uint32(0), np.float32(0.1), {"actor": {}, "critic": {}})


def start(config: RunConfig, discrete: bool) -> tuple[ActorCritic, ActorCriticState]:
    """Networks that say something: their weights moved at random."""
    spec = Spec(
        name="six numbers", observation_size=SIZE, action_size=3, episode_length=7, discrete=discrete
    )
    parts = actor_critic.build(config, spec)

    def optimiser(rate: Any) -> Any:
        class Nothing:
            def init(self, networks: Any) -> Any:
                return rate

        return Nothing()

    state = actor_critic._init(parts, config, optimiser, KEY, DENSE)
    rng = np.random.default_rng(1)
    networks = jax.tree.map(
        lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), state.networks
    )
    return parts, state._replace(networks=networks)


def config_of(make_config: MakeConfig) -> RunConfig:
    return make_config(
        agent={"name": "ppo", "network": "simba", "actor_blocks": 1, "critic_blocks": 3}, width=6
    )


def through(weights: Any, x: Any, blocks: int, head: str) -> np.ndarray:
    """A SimBa network in numpy."""
    exact = by_numpy.as_float64(weights)
    assert sum(name.endswith("expand") for name in exact["trunk"]) == blocks
    seen, _ = by_numpy.simba(exact["trunk"], np.asarray(x, np.float64), blocks)
    return by_numpy.dense(seen, exact[head])


def views(n: int) -> View:
    """The critic sees other numbers, and of three actions one or two are allowed."""
    rng = np.random.default_rng(5)
    seen = [jnp.asarray(rng.normal(size=(n, SIZE)), jnp.float32) for _ in range(2)]
    return View(seen[0], seen[1], jnp.asarray(np.arange(n)[:, None] % 2 != np.array([0, 1, 0])))


def test_values_are_the_critics_of_what_the_critic_sees(make_config: MakeConfig) -> None:
    parts, state = start(config_of(make_config), discrete=True)
    view = views(4)
    expected = through(state.networks["critic"], view.critic_observation, 3, "value")[:, 0]
    found = actor_critic._value(parts, state)(view, ())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_choices_are_drawn_among_those_allowed_as_the_actor_says(make_config: MakeConfig) -> None:
    """And their log density is that of what was drawn; greedily the likeliest of them is taken."""
    parts, state = start(config_of(make_config), discrete=True)
    two = views(2)
    many = jax.tree.map(lambda x: jnp.repeat(x, 3000, axis=0), two)
    action, log_prob, _ = actor_critic._act(parts, state)(many, (), KEY)
    logits = through(state.networks["actor"], two.observation, 1, "logits")
    chances = np.where(np.asarray(two.legal), np.exp(logits), 0.0)
    chances /= chances.sum(1, keepdims=True)
    for i, mine in enumerate(np.split(np.asarray(action), 2)):
        counts = np.bincount(mine, minlength=3)
        allowed = chances[i] > 0
        assert not counts[~allowed].any()
        assert (
            allowed.sum() == i + 1
            or stats.chisquare(counts[allowed], 3000 * chances[i][allowed]).pvalue > 0.01
        )
    told = chances[np.arange(6000) // 3000, action]
    np.testing.assert_allclose(np.exp(log_prob), told, rtol=1e-4)
    best, _ = actor_critic._act_greedily(parts, state)(two, ())
    assert best.tolist() == chances.argmax(1).tolist()


def test_gaussian_actions_have_the_actors_mean_and_deviation(make_config: MakeConfig) -> None:
    parts, state = start(config_of(make_config), discrete=False)
    view = View(views(3).observation)
    mean = through(state.networks["actor"], view.observation, 1, "mean")
    deviation = np.exp(np.asarray(state.networks["actor"]["log_std"]))
    np.testing.assert_allclose(
        actor_critic._act_greedily(parts, state)(view, ())[0], mean, rtol=1e-4, atol=1e-5
    )
    many = View(jnp.repeat(view.observation, 2000, axis=0))
    action, log_prob, _ = actor_critic._act(parts, state)(many, (), KEY)
    scaled = (np.asarray(action) - np.repeat(mean, 2000, axis=0)) / deviation
    assert stats.kstest(scaled.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(scaled.T)[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(6000)
    expected = stats.norm(0, 1).logpdf(scaled).sum(1) - np.log(deviation).sum()
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4, atol=1e-4)


def test_what_a_rollout_is_told_to_have_been_is_what_it_was(make_config: MakeConfig) -> None:
    """Before an update densities and values are those of the rollout."""
    parts, state = start(config_of(make_config), discrete=True)
    view = views(8)
    action, log_prob, _ = actor_critic._act(parts, state)(view, (), KEY)
    zeros = jnp.zeros(8)
    experience = Experience(view, action, log_prob, zeros, zeros, zeros)
    found = actor_critic.evaluate_actions(
        parts, state.networks, {"actor": None, "critic": None}, experience
    )
    np.testing.assert_allclose(found.log_prob, log_prob, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.value, actor_critic._value(parts, state)(view, ()), rtol=1e-5)
    logits = through(state.networks["actor"], view.observation, 1, "logits")
    chances = np.where(np.asarray(view.legal), np.exp(logits), 0.0)
    chances /= chances.sum(1, keepdims=True)
    entropy = -np.sum(chances * np.log(np.where(chances > 0, chances, 1.0)), axis=1)
    np.testing.assert_allclose(found.entropy, entropy, rtol=1e-4, atol=1e-5)


def test_two_networks_of_one_form_have_masks_of_their_own(make_config: MakeConfig) -> None:
    """Their layers have the same names and sizes."""
    config = make_config(agent={"name": "ppo"}, sparsity=0.5)
    loop, inputs = on_policy(config)
    state = jax.jit(loop.agent.init)(KEY, inputs)
    one, two = (state.supports[name]["trunk"]["dense_1"]["kernel"].mask for name in ("actor", "critic"))
    assert one.shape == two.shape == (16, 16)
    agreeing = float(np.mean(np.asarray(one) == np.asarray(two)))
    assert abs(agreeing - 0.5) < 0.2


@pytest.mark.parametrize(("schedule", "expected"), [("linear", 0.3 * 0.75), ("constant", 0.3)])
def test_a_learning_rate_falls_to_nothing_or_stays(schedule: Any, expected: float) -> None:
    settings = PpoConfig(learning_rate_schedule=schedule)
    found = scheduled(settings, jnp.float32(0.3), jnp.float32(0.25))
    assert float(found) == pytest.approx(expected)


def test_norms_of_gradients_by_hand() -> None:
    """√(9 + 16) and √(4 + 36 + 9)."""
    grads = {"actor": {"a": jnp.array([3.0]), "b": jnp.array([[4.0]])}, "critic": jnp.array([2.0, 6, 3])}
    found = {name: float(value) for name, value in grad_norms(grads).items()}
    assert found == pytest.approx({"grad_norm/actor": 5.0, "grad_norm/critic": 7.0})


def test_every_random_draw_of_a_run_has_a_stream_of_its_own() -> None:
    streams = {name: value for name, value in vars(Streams).items() if name.isupper()}
    assert len(streams) == len(set(streams.values())) == 8
