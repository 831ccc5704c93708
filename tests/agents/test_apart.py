"""Agents that do not share their networks: each has its own, sees with it, and learns from its own."""

import dataclasses
from typing import Any

import crew
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import on_policy, parts_of

from sparse_rl.agents import apart
from sparse_rl.agents.actor_critic import evaluate_actions
from sparse_rl.agents.apart import Apart
from sparse_rl.envs import TeamEnv, registry
from sparse_rl.loops.rollout import flat, view_of
from sparse_rl.networks import Critic
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.run import RunConfig, run_config
from sparse_rl.settings.schema import ConfigError

KEY = jax.random.key(2)
PPO = {"num_envs": 4, "num_steps": 8, "minibatches": 2, "epochs": 1, "learning_rate": 1e-2}


@pytest.fixture(autouse=True)
def _crew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first agent is of one kind, the others of another."""

    def make(task: str) -> TeamEnv:
        return dataclasses.replace(crew.crew(), kinds=(0, 1, 1) if task == "crew" else (0, 0, 0))

    monkeypatch.setitem(registry.SOURCES, "jaxmarl", make)


def config_of(name: str = "ippo", task: str = "crew", sparsity: float = 0.5, **agent: Any) -> RunConfig:
    env = {"source": "jaxmarl", "task": task, "eval_episodes": 4}
    settings = PPO if name != "qmix" else {
        "num_envs": 4, "sequence_length": 3, "batch_size": 4, "target_every": 3,
        "random_interactions": 6, "updates_per_interaction": 0.5,
    }  # fmt: skip
    budget = {"env_steps": 128, "log_every": 32, "eval_every": 64}
    asked = {"name": name, **settings, **agent}
    return run_config({"agent": asked, "env": env, "width": 8, "sparsity": sparsity, **budget})


def test_samples_go_to_their_groups_and_come_back() -> None:
    network = Apart(None, ((0, 2), (1,)))
    seen = {"a": jnp.arange(24.0).reshape(6, 4), "b": jnp.arange(12).reshape(2, 6)}
    for axis, x in ((0, seen["a"]), (1, seen["b"])):
        parts = [apart.of_group(x, agents, 3, axis) for agents in network.groups]
        np.testing.assert_array_equal(apart.joined(parts, network, axis), x)
    np.testing.assert_array_equal(apart.of_group(seen["a"], (0, 2), 3)[:, 0], [0, 8, 12, 20])
    np.testing.assert_array_equal(apart.of_group(seen["b"], (1,), 3, 1), [[1, 4], [7, 10]])


def test_groups_are_kinds_or_agents() -> None:
    network = Critic("mlp", 3, 1)
    assert apart.grouped(network, "all", (0, 1, 0), 0.5) is network
    assert apart.grouped(network, "kind", (1, 0, 1), 0.0).groups == ((1,), (0, 2))
    assert apart.grouped(network, "none", (0, 0), 0.5) == Apart(network, ((0,), (1,)))
    assert apart.grouped(network, "masks", (0, 0), 0.5) == Apart(network, ((0,), (1,)), one_set=True)
    assert apart.grouped(network, "masks", (0, 0), 0.0) is network  # the dense program of all


@pytest.mark.parametrize("memory", ["none", "gru"])
@pytest.mark.parametrize("sharing", ["kind", "none", "masks"])
def test_each_agent_acts_and_is_valued_by_its_own(sharing: str, memory: str) -> None:
    """Over steps, over pieces, and over whole rollouts, beside a team of which all use one network."""
    loop, inputs = on_policy(config_of(sharing=sharing, memory=memory))
    single, _ = on_policy(config_of(memory=memory))
    state, one = jax.jit(loop.init)(inputs), jax.jit(single.init)(inputs)
    label_of = ("0", "1", "1" if sharing == "kind" else "2")
    parts = {name: labelled(loop, state, name) for name in ("actor", "critic")}
    drawn = parts["critic"][0]
    assert sorted(drawn) == sorted(set(label_of))
    pairs = zip(*(jax.tree.leaves(drawn[label]) for label in ("0", "1")), strict=True)
    assert any(np.any(one != other) for one, other in pairs)  # drawn apart, or pruned apart
    envs, memory_after, rollout = jax.jit(loop.collect)(state, KEY)
    learning, last = loop.learning, view_of(loop.env, envs)
    views = learning.see(state, flat(rollout.view))
    valued = learning.value(state, views, last, rollout)
    experience = learning.experience(state, views, valued, rollout, rollout.reward)
    said = apart_outputs(loop, state, experience)
    for a, label in enumerate(label_of):
        networks, supports = ({name: parts[name][i][label] for name in parts} for i in (0, 1))
        alone = one._replace(agent=one.agent._replace(networks=networks, supports=supports))
        expected = single.learning.value(alone, views, last, rollout)
        for name in ("values", "successors"):
            np.testing.assert_allclose(
                getattr(valued, name)[:, a::3], getattr(expected, name)[:, a::3], rtol=1e-4, atol=1e-5
            )
        ours = apart_outputs(single, alone, experience)
        for found, wanted in zip(said, ours, strict=True):
            np.testing.assert_allclose(found[a::3], wanted[a::3], rtol=1e-4, atol=1e-5)
        acted = single.agent.act(alone.agent)
        memories = state.memory.acting
        view = learning.see(state, view_of(loop.env, state.envs))
        both = loop.agent.act(state.agent)(view, memories, KEY), acted(view, memories, KEY)
        for found, wanted in zip(*map(jax.tree.leaves, both), strict=True):
            np.testing.assert_allclose(found[a::3], wanted[a::3], rtol=1e-4, atol=1e-5)
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (memory_after, state.memory.acting)]
    assert shapes[0] == shapes[1]


def labelled(loop: Any, state: Any, name: str) -> Any:
    """Parameters and supports of a network, by label."""
    network = getattr(parts_of(loop), name)
    return apart.of_labels(network, state.agent.networks[name], state.agent.supports[name])


def apart_outputs(loop: Any, state: Any, experience: Any) -> Any:
    return evaluate_actions(parts_of(loop), state.agent.networks, state.agent.supports, experience)


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_an_agent_learns_from_what_it_did_alone(memory: str) -> None:
    """Where only the second agent has advantages and errors, only its networks move."""
    loop, inputs = on_policy(config_of(sharing="none", memory=memory, entropy_coefficient=0.0, epochs=2))
    state = jax.jit(loop.init)(inputs)
    envs, _, rollout = jax.jit(loop.collect)(state, KEY)
    learning, views = loop.learning, loop.learning.see(state, flat(rollout.view))
    valued = learning.value(state, views, view_of(loop.env, envs), rollout)
    experience = learning.experience(state, views, valued, rollout, rollout.reward)
    mine = np.arange(len(experience.action)) % 3 == 1
    weight = jnp.asarray(mine, jnp.float32).reshape(-1, *(1,) * (experience.value.ndim - 1))
    weight = jnp.broadcast_to(weight, experience.value.shape)
    experience = experience._replace(view=experience.view._replace(weight=weight))
    after = jax.jit(loop.agent.update)(state.agent, experience, jnp.float32(0.0), KEY)[0]
    for name in ("actor", "critic"):
        for label in "012":
            pairs = zip(
                *(jax.tree.leaves(x.networks[name][label]) for x in (after, state.agent)), strict=True
            )
            moved = any(not np.array_equal(a, b) for a, b in pairs)
            assert moved == (label == "1"), (name, label)


def test_each_network_is_probed_on_what_its_agents_saw_who_acted() -> None:
    network = Apart("network", ((0, 2), (1,)))
    seen = jnp.arange(12.0)
    weight = jnp.float32([1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1])
    params = {"0": "a", "1": "b"}
    found = apart.probes(network, params, {"0": "c", "1": "d"}, seen, weight, 3)
    assert {label: probe[:2] for label, probe in found.items()} == {"0": ("a", "c"), "1": ("b", "d")}
    np.testing.assert_array_equal(found["0"].seen, [0, 5, 6])
    np.testing.assert_array_equal(found["1"].seen, [1, 4, 10])
    whole = apart.probes("network", params, {}, seen, weight, 3)
    assert whole[""].seen is seen


@pytest.mark.parametrize("name", ["ippo", "qmix"])
def test_what_is_not_shared_is_counted_for_each_and_computed_once(name: str) -> None:
    """Three networks: three times the parameters, and as much arithmetic, for each sees a third."""
    one, three = (
        prepare_pack([config_of(name, sharing=sharing, sparsity=sparsity)]).runs[0].costs
        for sharing, sparsity in (("all", 0.0), ("none", 0.0))
    )
    assert three.parameters["critic"].total == 3 * one.parameters["critic"].total
    assert three.flops_per_update_dense == one.flops_per_update_dense
    sparse = prepare_pack([config_of(name, sharing="none")]).runs[0].costs
    assert sparse.parameters["critic"].total == three.parameters["critic"].total
    assert sparse.parameters["critic"].nonzero < three.parameters["critic"].nonzero
    assert sparse.flops_per_update < three.flops_per_update


@pytest.mark.parametrize(
    ("task", "sharing", "message"),
    [("crew", "kind", None), ("alike", "kind", "agents of one kind; give all"), ("alike", "none", None)],
)
def test_sharing_that_changes_nothing_is_refused(task: str, sharing: str, message: str | None) -> None:
    config = config_of(task=task, sharing=sharing)
    if message is None:
        assert on_policy(config)[0].agent.together == 3
    else:
        with pytest.raises(ConfigError, match=message):
            on_policy(config)


def test_who_shared_with_all_has_the_name_that_earlier_versions_gave() -> None:
    assert config_of(sharing="all").run_id == config_of().run_id
    assert config_of(sharing="none").run_id != config_of().run_id
