"""Probe environments: what an agent learns is known exactly."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig, off_policy, on_policy, static_parts

from sparse_rl.agents.contract import View
from sparse_rl.envs.probe import PROBES
from sparse_rl.experience.normaliser import normalise
from sparse_rl.loops.off_policy import OffPolicyLoop
from sparse_rl.loops.on_policy import OnPolicyLoop, OnPolicyState
from sparse_rl.loops.replaying import RunState
from sparse_rl.runs.pack import compile_programs

pytestmark = pytest.mark.usefixtures("without_health")
GAMMA = 0.9


off_policy_agents = pytest.mark.parametrize("name", ["sac", "ddpg"])
NO_ENTROPY_BONUS = {"initial_temperature": 1e-3, "target_entropy_per_action": -3.0}


def learn(
    make_config: MakeConfig, name: str, probe: str, **changes: Any
) -> tuple[OffPolicyLoop, RunState, Any]:
    """Train on a probe with no entropy bonus to speak of, so that values are returns."""
    agent = {
        "name": name,
        "learning_rate": 3e-3,
        "batch_size": 64,
        "random_interactions": 100,
        "discount": GAMMA,
        "target_rate": 0.05,
        "weight_decay": 0.0,
        "network": "mlp",
        "actor_width_ratio": 1.0,
        **(NO_ENTROPY_BONUS if name == "sac" else {}),
    }
    config = make_config(
        env={"source": "probe", "task": probe},
        agent=agent,
        width=32,
        env_steps=1500,
        log_every=1500,
        eval_every=1500,
        **changes,
    )
    loop, inputs = off_policy(config)
    programs = compile_programs(loop, [inputs], "map")
    state, _ = programs.chunk(np.int32(0), programs.init(inputs))
    return loop, state, programs.evaluate(np.int32(1500), state)


def value(loop: OffPolicyLoop, state: RunState, observation: float, action: float) -> float:
    parts = static_parts(loop.agent)
    seen = normalise(state.normaliser, jnp.array([[observation]]))
    params = {"params": state.agent.critic["0"]}
    return float(parts.critic.apply(params, seen, jnp.array([[action]]))[0])


def test_constant_reward_is_the_value(make_config: MakeConfig) -> None:
    loop, state, _ = learn(make_config, "sac", "constant")
    assert value(loop, state, 0.0, 0.3) == pytest.approx(1.0, abs=0.1)


def test_value_follows_the_observation(make_config: MakeConfig) -> None:
    loop, state, _ = learn(make_config, "sac", "observation")
    assert value(loop, state, 1.0, 0.0) == pytest.approx(1.0, abs=0.15)
    assert value(loop, state, -1.0, 0.0) == pytest.approx(-1.0, abs=0.15)


@off_policy_agents
def test_reward_is_discounted_once_per_step(make_config: MakeConfig, name: str) -> None:
    loop, state, _ = learn(make_config, name, "discount")
    assert value(loop, state, 1.0, 0.0) == pytest.approx(1.0, abs=0.1)
    assert value(loop, state, 0.0, 0.0) == pytest.approx(GAMMA, abs=0.1)


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_the_best_action_is_found(make_config: MakeConfig, sparsity: float) -> None:
    _, _, score = learn(make_config, "sac", "action", sparsity=sparsity)
    assert float(score["return_mean"]) > -0.02  # best 0; doing nothing −0.25


@off_policy_agents
def test_the_action_follows_the_observation(make_config: MakeConfig, name: str) -> None:
    _, _, score = learn(make_config, name, "policy")
    assert float(score["return_mean"]) > -0.05  # best 0; a constant at best −0.25


@off_policy_agents
def test_truncation_bootstraps(make_config: MakeConfig, name: str) -> None:
    """Reward 1 for ever is worth 1/(1 − γ) = 10; cut at five steps without bootstrap, 4.1."""
    loop, state, score = learn(make_config, name, "truncation")
    assert value(loop, state, 0.0, 0.0) == pytest.approx(10.0, abs=1.5)
    assert jax.tree.map(float, score)["episode_length_mean"] == 5.0


ON_POLICY: dict[str, dict[str, Any]] = {
    "ppo": {
        "num_steps": 16,
        "minibatches": 4,
        "epochs": 4,
        "learning_rate": 1e-2,
        "entropy_coefficient": 0.0,
    },
    "paac": {"num_steps": 4, "learning_rate": 0.1, "entropy_coefficient": 0.0},
    "dqn": {"num_steps": 4, "learning_rate": 0.1, "target_rate": 0.5},
}
on_policy_agents = pytest.mark.parametrize("name", list(ON_POLICY))
with_actor = pytest.mark.parametrize("name", ["ppo", "paac"])


def learn_on_policy(
    make_config: MakeConfig, name: str, probe: str, **changes: Any
) -> tuple[OnPolicyLoop, OnPolicyState, Any, Any]:
    """Train on a probe without an entropy bonus, so that values are returns."""
    agent = {"name": name, "discount": GAMMA, "num_envs": 8, **ON_POLICY[name]}
    steps = 128 * 150
    if name == "dqn" and f"discrete_{probe}" in PROBES:
        probe = f"discrete_{probe}"
    config = make_config(
        env={"source": "probe", "task": probe, "eval_episodes": 20},
        agent=agent | changes.pop("agent", {}),
        width=32,
        env_steps=steps,
        log_every=steps,
        eval_every=steps,
        **changes,
    )
    loop, inputs = on_policy(config)
    programs = compile_programs(loop, [inputs], "map")
    state, row = programs.chunk(np.int32(0), programs.init(inputs))
    return loop, state, row, programs.evaluate(np.int32(steps), state)


def state_value(loop: OnPolicyLoop, state: OnPolicyState, observation: float) -> float:
    return float(loop.agent.value(state.agent)(View(jnp.array([[observation]])), ())[0])


@on_policy_agents
def test_on_policy_constant_reward_is_the_value(make_config: MakeConfig, name: str) -> None:
    loop, state, _, _ = learn_on_policy(make_config, name, "constant")
    assert state_value(loop, state, 0.0) == pytest.approx(1.0, abs=0.1)


@on_policy_agents
def test_on_policy_value_follows_the_observation(make_config: MakeConfig, name: str) -> None:
    loop, state, row, _ = learn_on_policy(make_config, name, "observation")
    assert state_value(loop, state, 1.0) == pytest.approx(1.0, abs=0.15)
    assert state_value(loop, state, -1.0) == pytest.approx(-1.0, abs=0.15)
    assert float(row["explained_variance"]) > 0.8


@on_policy_agents
def test_on_policy_reward_is_discounted_once_per_step(make_config: MakeConfig, name: str) -> None:
    loop, state, _, _ = learn_on_policy(make_config, name, "discount")
    assert state_value(loop, state, 1.0) == pytest.approx(1.0, abs=0.1)
    assert state_value(loop, state, 0.0) == pytest.approx(GAMMA, abs=0.1)


@with_actor
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_on_policy_the_best_action_is_found(make_config: MakeConfig, name: str, sparsity: float) -> None:
    _, _, _, score = learn_on_policy(make_config, name, "action", sparsity=sparsity)
    assert float(score["return_mean"]) > -0.02  # best 0; doing nothing −0.25


@with_actor
def test_on_policy_the_action_follows_the_observation(make_config: MakeConfig, name: str) -> None:
    _, _, _, score = learn_on_policy(make_config, name, "policy")
    assert float(score["return_mean"]) > -0.05  # best 0; a constant at best −0.25


@on_policy_agents
def test_on_policy_truncation_bootstraps(make_config: MakeConfig, name: str) -> None:
    loop, state, _, score = learn_on_policy(make_config, name, "truncation")
    assert state_value(loop, state, 0.0) == pytest.approx(10.0, abs=1.0)
    assert float(score["episode_length_mean"]) == 5.0


@on_policy_agents
@pytest.mark.parametrize(("probe", "best"), [("choice", 1.0), ("discrete_policy", 1.0), ("legal", 1.0)])
def test_on_policy_the_best_choice_is_found(
    make_config: MakeConfig, name: str, probe: str, best: float
) -> None:
    """``legal``: the action that would bring 2 is not allowed, and is never taken."""
    _, _, row, score = learn_on_policy(make_config, name, probe)
    assert float(score["return_mean"]) == best
    assert float(row["train_return_mean"]) <= best


@on_policy_agents
def test_on_policy_evaluation_reports_the_environments_own_rewards(
    make_config: MakeConfig, name: str
) -> None:
    agent = {"normalise_rewards": True, "reward_clip": 0.01, "normalise_observations": True}
    loop, state, row, score = learn_on_policy(make_config, name, "truncation", agent=agent)
    assert float(score["return_mean"]) == float(row["train_return_mean"]) == 5.0
    # rewards that were cut to 0.01 are worth 0.1 for ever
    seen = loop.learning.see(state, View(jnp.zeros((1, 1))))
    assert float(loop.agent.value(state.agent)(seen, ())[0]) == pytest.approx(0.1, abs=0.05)
    before = jax.tree.map(np.asarray, (state.normaliser, state.reward_scale))
    loop.evaluate(jnp.int32(0), state)
    jax.tree.map(np.testing.assert_array_equal, before, (state.normaliser, state.reward_scale))
