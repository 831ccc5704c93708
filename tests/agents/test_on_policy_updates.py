"""PPO, PAAC and DQN beside references in float64: whole updates on rollouts amid which episodes end."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tides
import torch
from conftest import MakeConfig, on_policy
from references import dqn, paac, ppo
from references import on_policy as of_all
from references.arithmetic import Weights, cut, flat, no_moments

from sparse_rl.agents import actor_critic, choosing
from sparse_rl.agents import ppo as ours
from sparse_rl.agents.contract import View
from sparse_rl.loops.learning import LearnerState
from sparse_rl.loops.rollout import Rollout
from sparse_rl.pruning import restore, store, support_masks
from sparse_rl.pruning.storage import support_of
from sparse_rl.settings.run import RunConfig

STEPS, ENVS, ROLLOUTS, GAMMA = 6, 3, 5, 0.9
RATE = 3e-3
QUICKLY = {"xla_backend_optimization_level": "0"}


class Side(NamedTuple):
    """Our side: the learner's state, and how it learns."""

    state: Any
    learn: Any


def drawn(
    config: RunConfig, wiring: Any, initial: Any, key: Any, inputs: Any, labels: Any = ()
) -> tuple[Any, Any]:
    """In place of ``draw_pruned``, which takes seconds to compile: random weights, biases and
    deviations, and masks that leave out two of five weights."""
    rng, shapes = np.random.default_rng(4), jax.eval_shape(initial, key)

    def support(shape: Any) -> Any:
        if len(shape.shape) < 2:
            return None
        mask = rng.random(shape.shape) < 0.6
        return support_of(jnp.asarray(mask), config.storage.storage, int(mask.sum()))

    def weights(shape: Any) -> Any:
        spread = shape.shape[0] ** -0.5 if len(shape.shape) > 1 else 0.4
        return jnp.asarray(spread * rng.standard_normal(shape.shape), jnp.float32)

    supports = jax.tree.map(support, shapes)
    return store(supports, jax.tree.map(weights, shapes)), supports


def begin(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> Side:
    loop, inputs = on_policy(config)
    for module in (actor_critic, choosing):
        monkeypatch.setattr(module, "draw_pruned", drawn)
    state = jax.jit(lambda inputs: LearnerState(**loop.learning.init(inputs, loop.env)))(inputs)
    return Side(state, jax.jit(loop.learning.learn, compiler_options=QUICKLY))


def settings(name: str, **agent: Any) -> dict[str, Any]:
    """Of a run of five rollouts of six interactions of three actors."""
    samples = STEPS * ENVS * 2
    return {
        "agent": {
            "name": name,
            "network": "mlp",
            "num_envs": ENVS,
            "num_steps": STEPS,
            "discount": GAMMA,
            "learning_rate": RATE,
            **agent,
        },
        "env": {"source": "probe", "task": "tides", "action_repeat": 2},
        "width": 7,
        "sparsity": 0.4,
        "env_steps": samples * ROLLOUTS,
        "log_every": samples,
        "eval_every": samples,
    }


def rollout_of(seed: int, discrete: bool, scale: float) -> of_all.Rollout:
    """Random; episodes end in its middle, one way and the other, and at its end."""
    rng, shape = np.random.default_rng(seed), (STEPS, ENVS)
    terminated, truncated = np.zeros((2, *shape), bool)
    terminated[1, 0] = terminated[4, 1] = terminated[5, 2] = True
    truncated[3, 0] = truncated[0, 1] = truncated[5, 1] = truncated[2, 2] = True
    observation, following = rng.normal(2.0, 3.0, (2, *shape, 3)).astype(np.float32).astype(float)
    goes_on = ~(terminated | truncated)[:-1]
    following[:-1][goes_on] = observation[1:][goes_on]
    action = rng.integers(0, 3, shape) if discrete else rng.normal(0.2, 1.2, (*shape, 2))
    return of_all.Rollout(
        observation,
        action.astype(np.float32).astype(float),
        rng.uniform(-0.35, 0.35, shape),
        (scale * rng.normal(0.4, 1.0, shape)).astype(np.float32).astype(float),
        terminated,
        truncated,
        following,
    )


def given(rollout: of_all.Rollout, final: np.ndarray, discrete: bool) -> tuple[View, Rollout]:
    """The same for our side: what is seen after it, and the rollout.

    Args:
        final: V of what each action led to; ours is told those at which time ran out.
    """
    real = [np.asarray(x, np.float32) for x in rollout]
    action = real[1].astype(np.int32) if discrete else real[1]
    value = np.where(rollout.truncated, final, 0.0).astype(np.float32)
    ended = rollout.terminated | rollout.truncated
    # what is seen after an end is of the next episode, and must be nobody's successor
    last = np.where(ended[-1][:, None], -50.0, real[6][-1]).astype(np.float32)
    return View(jnp.asarray(last)), Rollout(
        View(jnp.asarray(real[0])),
        jnp.asarray(action),
        jnp.asarray(real[2]),
        jnp.asarray(real[3]),
        jnp.asarray(rollout.terminated),
        jnp.asarray(rollout.truncated),
        jnp.full((STEPS, ENVS), 3.0),
        jnp.asarray(value),
    )


class Learned(NamedTuple):
    """What a reference makes of a rollout before the update."""

    samples: of_all.Samples
    final: np.ndarray
    explained: float


def prepared(
    rollout: of_all.Rollout, seen: of_all.Seen, value: Any, gae_lambda: float, normalises: bool
) -> tuple[Learned, of_all.Seen]:
    """The samples of a rollout, and statistics with it.

    Args:
        value: ``[n, o] → V [n]``, of tensors.
    """
    after = of_all.remember(seen, rollout, GAMMA)
    reward = of_all.scaled(rollout.reward, after) if normalises else rollout.reward

    def see(observation: np.ndarray) -> torch.Tensor:
        shown = of_all.normalised(observation, seen) if normalises else observation
        return torch.tensor(shown.reshape(-1, 3))

    values, following = (
        value(see(x)).detach().numpy().reshape(STEPS, ENVS)
        for x in (rollout.observation, rollout.following)
    )
    advantage = of_all.advantages(rollout, reward, values, following, GAMMA, gae_lambda)
    flat_ = [torch.tensor(x.reshape(STEPS * ENVS, *x.shape[2:])) for x in rollout[1:3]]
    rest = [torch.tensor(x.reshape(-1)) for x in (values, advantage, values + advantage)]
    target = values + advantage
    explained = 1.0 - (target - values).var() / target.var()
    samples = of_all.Samples(see(rollout.observation), *flat_, *rest)
    return Learned(samples, following, explained), after


def nothing_seen() -> of_all.Seen:
    return of_all.Seen(np.zeros((0, 3)), np.zeros(0), np.zeros(ENVS))


def weights_of(networks: Any, supports: Any) -> Weights:
    return flat(jax.tree.map(np.asarray, restore(supports, networks)))


def masks_of(supports: Any) -> Weights:
    return flat(support_masks(supports))


def assert_same(found: Any, expected: Weights, what: str) -> None:
    ours_ = flat(jax.tree.map(np.asarray, found))
    assert ours_.keys() == expected.keys()
    for path, tensor in expected.items():
        np.testing.assert_allclose(
            ours_[path].numpy(), tensor.detach().numpy(), rtol=1e-5, atol=1e-5, err_msg=f"{what}: {path}"
        )


def assert_told(totals: Any, said: list[dict[str, float]], explained: float) -> None:
    """Sums over the steps of an update, and what the values explain of the targets."""
    assert int(totals.learned.updates) == len(said)
    sums = {name: sum(each[name] for each in said) for name in said[0]}
    found = {name: float(x) for name, x in totals.learned.metrics.items()}
    assert found.keys() == sums.keys()
    for name, number in sums.items():
        assert found[name] == pytest.approx(number, rel=2e-5, abs=2e-5), name
    assert float(totals.explained_variance) == pytest.approx(explained, rel=1e-4, abs=1e-4)


def test_paac_learns_as_its_reference(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards of about 40; gradients are clipped, and the loss is scaled."""
    tides.install(monkeypatch, tides.tides())
    told = paac.Settings(0.35, 0.07, 1.7, 25.0, 0.93, 0.2)
    agent = {
        "value_coefficient": told.value_coefficient,
        "entropy_coefficient": told.entropy_coefficient,
        "loss_scale": told.loss_scale,
        "max_grad_norm": told.max_grad_norm,
        "rmsprop_decay": told.decay,
        "rmsprop_epsilon": told.epsilon,
    }
    side = begin(make_config(**settings("paac", **agent), pruning={"storage": "compact"}), monkeypatch)
    state, masks = side.state, masks_of(side.state.agent.supports)
    assert masks
    learner, seen = paac.begin(weights_of(state.agent.networks, state.agent.supports)), nothing_seen()
    for i in range(3):
        rollout = rollout_of(i, False, 40.0)
        inner = cut(learner.weights, masks)
        made, seen = prepared(rollout, seen, lambda x, w=inner: of_all.value(w, x), 1.0, False)
        learner, said = paac.update(learner, made.samples, masks, told, RATE * (1 - i / ROLLOUTS))
        last, mine = given(rollout, made.final, False)
        state, totals, _ = side.learn(state, last, mine, jnp.int32(i), jax.random.key(i))
        networks = restore(state.agent.supports, state.agent.networks)
        assert_same(networks, cut(learner.weights, masks), f"after update {i + 1}")
        assert_told(totals, [said], made.explained)


def acted(rollout: of_all.Rollout, weights: Weights, seen: of_all.Seen) -> of_all.Rollout:
    """The rollout as if its actions were drawn by a policy a little beside this one."""
    shown = torch.tensor(of_all.normalised(rollout.observation, seen).reshape(STEPS * ENVS, 3))
    action = torch.tensor(rollout.action.reshape(STEPS * ENVS, *rollout.action.shape[2:]))
    exact = of_all.log_prob(weights, shown, action).numpy().reshape(STEPS, ENVS)
    return rollout._replace(log_prob=(exact + rollout.log_prob).astype(np.float32).astype(float))


def watch(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The observations of each minibatch that PPO evaluates, as it comes."""
    seen: list[np.ndarray] = []
    evaluate = actor_critic.evaluate_actions

    def watched(parts: Any, networks: Any, supports: Any, batch: Any) -> Any:
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), batch.view.observation, ordered=True)
        return evaluate(parts, networks, supports, batch)

    monkeypatch.setattr(ours, "evaluate_actions", watched)
    return seen


def orders(seen: list[np.ndarray], samples: of_all.Samples) -> list[np.ndarray]:
    """Which samples each minibatch had, by what they saw."""
    places = samples.observation.numpy()
    gaps = [abs(batch[:, None] - places[None]).sum(-1) for batch in seen]
    assert all((gap.min(1) < 1e-3).all() for gap in gaps)
    return [gap.argmin(1) for gap in gaps]


PPO_CASES: dict[str, tuple[bool, str, dict[str, Any], float]] = {
    "choices, masked, normalised advantages": (True, "masked", {"normalise": True}, 40.0),
    "gaussian, compact, raw advantages, values clipped": (
        False,
        "compact",
        {"normalise": False, "value_clip": 0.3},
        0.02,
    ),
}


@pytest.mark.parametrize("case", PPO_CASES)
def test_ppo_learns_as_its_reference(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Two epochs of three minibatches, of which each takes every sample once, in an order of its own."""
    discrete, storage, more, scale = PPO_CASES[case]
    tides.install(monkeypatch, tides.tides(discrete))
    told = ppo.Settings(0.15, 0.35, 0.07, 0.6, **more)
    agent = {
        "epochs": 2,
        "minibatches": 3,
        "gae_lambda": 0.8,
        "clip_ratio": told.clip,
        "value_coefficient": told.value_coefficient,
        "entropy_coefficient": told.entropy_coefficient,
        "max_grad_norm": told.max_grad_norm,
        "value_clip": told.value_clip,
        "normalise_advantages": told.normalise,
        "normalise_observations": True,
        "normalise_rewards": True,
    }
    batches = watch(monkeypatch)
    side = begin(make_config(**settings("ppo", **agent), pruning={"storage": storage}), monkeypatch)
    state, masks = side.state, masks_of(side.state.agent.supports)
    weights = weights_of(state.agent.networks, state.agent.supports)
    learner, seen, every = ppo.Learner(weights, no_moments(weights)), nothing_seen(), []
    for i in range(3):
        inner = cut(learner.weights, masks)
        rollout = acted(rollout_of(i, discrete, scale), inner, seen)
        made, seen = prepared(rollout, seen, lambda x, w=inner: of_all.value(w, x), 0.8, True)
        last, mine = given(rollout, made.final, discrete)
        batches.clear()
        state, totals, _ = side.learn(state, last, mine, jnp.int32(i), jax.random.key(i))
        jax.effects_barrier()
        order = orders(batches, made.samples)
        assert len(order) == 6
        for epoch in (order[:3], order[3:]):
            assert sorted(np.concatenate(epoch)) == list(range(STEPS * ENVS))
            every.append(tuple(np.concatenate(epoch)))
        some = [made.samples.some(which) for which in order]
        learner, said = ppo.update(learner, some, masks, told, RATE * (1 - i / ROLLOUTS))
        networks = restore(state.agent.supports, state.agent.networks)
        assert_same(networks, cut(learner.weights, masks), f"after update {i + 1}")
        assert_told(totals, said, made.explained)
    assert len(set(every)) == 6
    assert 0.0 < said[-1]["clip_fraction"] < 1.0


def test_dqn_learns_as_its_reference(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Returns go on from the target network, which lags; ε falls before each rollout."""
    tides.install(monkeypatch, tides.tides(True))
    told = dqn.Settings(6.0, 0.3, 0.08, 0.7)
    agent = {
        "max_grad_norm": told.max_grad_norm,
        "target_rate": told.target_rate,
        "final_exploration": told.final_exploration,
        "exploration_share": told.exploration_share,
    }
    side = begin(make_config(**settings("dqn", **agent), pruning={"storage": "masked"}), monkeypatch)
    state, supports = side.state, side.state.agent.supports
    masks = {f"critic/{path}": mask for path, mask in masks_of(supports).items()}
    first, target = (
        {f"critic/{path}": w for path, w in weights_of(x, supports).items()}
        for x in (state.agent.critic, state.agent.target)
    )
    learner, seen = dqn.Learner(first, target, no_moments(first)), nothing_seen()
    for i in range(4):
        rollout = rollout_of(i, True, 40.0)
        inner = cut(learner.target, masks)
        made, seen = prepared(rollout, seen, lambda x, w=inner: dqn.greatest(w, x), 1.0, False)
        learner, said = dqn.update(learner, made.samples, masks, told, RATE * (1 - i / ROLLOUTS))
        last, mine = given(rollout, made.final, True)
        said["exploration"] = dqn.exploration(told, i, ROLLOUTS)
        state, totals, _ = side.learn(state, last, mine, jnp.int32(i), jax.random.key(i))
        for network, weights in (("critic", learner.weights), ("target", learner.target)):
            found = {"critic": restore(supports, getattr(state.agent, network))}
            assert_same(found, cut(weights, masks), f"{network} after update {i + 1}")
        assert_told(totals, [said], made.explained)
