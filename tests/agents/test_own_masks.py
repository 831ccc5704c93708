"""Agents that use the same weights, each through a mask of its own."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import crew
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import on_policy, parts_of, places

from sparse_rl.agents import Memories, RunInputs, View, actor_critic, apart
from sparse_rl.agents.apart import Apart
from sparse_rl.agents.pruned import supports_of
from sparse_rl.agents.remembering import over_pieces
from sparse_rl.diagnostics import global_norm
from sparse_rl.envs import TeamEnv, registry
from sparse_rl.loops.rollout import flat, view_of
from sparse_rl.networks import Wiring
from sparse_rl.networks.wiring import Wire
from sparse_rl.pruning import Owned, restore, store, support_masks
from sparse_rl.runs.pack import prepare_pack, program_of
from sparse_rl.settings.run import RunConfig, run_config
from sparse_rl.settings.schema import ConfigError

KEY = jax.random.key(2)
ROLLOUTS = {"num_envs": 4, "num_steps": 8, "minibatches": 2, "epochs": 1, "learning_rate": 1e-2}
REPLAY = {
    "num_envs": 4, "sequence_length": 3, "batch_size": 4, "target_every": 3,
    "random_interactions": 6, "updates_per_interaction": 0.5,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _crew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crew, and one that has lost all but its first."""

    def make(task: str) -> TeamEnv:
        kinds = (0,) if task == "alone" else (0, 0, 0)
        return dataclasses.replace(crew.crew(), kinds=kinds)

    monkeypatch.setitem(registry.SOURCES, "jaxmarl", make)


def config_of(
    name: str = "ippo", sparsity: float = 0.5, task: str = "crew", pruning: Any = None, **agent: Any
) -> RunConfig:
    env = {"source": "jaxmarl", "task": task, "eval_episodes": 4}
    settings = REPLAY if name in ("iql", "vdn", "qmix") else ROLLOUTS
    budget = {"env_steps": 128, "log_every": 32, "eval_every": 64}
    asked = {"name": name, "sharing": "masks", **settings, **agent}
    rest = {"pruning": pruning or {}, "width": 8, "sparsity": sparsity, **budget}
    return run_config({"agent": asked, "env": env, **rest})


def test_a_weight_hears_from_those_who_use_it() -> None:
    """By hand: two agents, two teams, three weights and a fourth that nobody uses."""
    network = Apart(nn.Dense(1, use_bias=False), ((0,), (1,)), one_set=True)
    masks = jnp.array([[True, True, False, False], [False, True, True, False]])[:, :, None]
    supports = {"kernel": Owned(masks)}
    params = store(supports, {"kernel": jnp.array([[2.0], [3.0], [5.0], [7.0]])})
    np.testing.assert_array_equal(params["kernel"][:, 0], [2.0, 3.0, 5.0, 0.0])
    # teams one after the other, agents within them
    seen = jnp.array(
        [[1.0, 4.0, 9.0, 3.0], [6.0, 2.0, 8.0, 5.0], [7.0, 3.0, 2.0, 9.0], [5.0, 7.0, 4.0, 2.0]]
    )
    weight = jnp.array([0.3, -2.0, 1.5, 0.7])

    def loss(params: Any) -> Any:
        said = over_pieces(network, params, supports, (), None, seen)[:, 0]
        return jnp.sum(weight * said), said

    (_, said), grads = jax.value_and_grad(loss, has_aux=True)(params)
    # 2·1 + 3·4; 3·2 + 5·8; 2·7 + 3·3; 3·7 + 5·4
    np.testing.assert_allclose(said, [14.0, 46.0, 23.0, 41.0], rtol=1e-6)
    # first: agent 0 alone, 0.3·1 + 1.5·7; second: both, 0.3·4 − 2·2 + 1.5·3 + 0.7·7; third: agent 1
    # alone, −2·8 + 0.7·4; the fourth is no weight
    np.testing.assert_allclose(grads["kernel"][:, 0], [10.8, 6.6, -13.2, 0.0], rtol=1e-5)
    np.testing.assert_array_equal(support_masks(supports)["kernel"][:, 0], [True, True, True, False])
    np.testing.assert_array_equal(restore(supports, params)["kernel"], params["kernel"])


def masks_of(tree: Any) -> dict[str, np.ndarray]:
    """path → masks ``[agents, …]``."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: isinstance(x, Owned))
    found = {jax.tree_util.keystr(path): leaf for path, leaf in leaves if isinstance(leaf, Owned)}
    return {path: np.asarray(leaf.masks) for path, leaf in found.items()}


def test_each_mask_comes_from_its_agents_name() -> None:
    """The masks that agents with weights of their own would have, each of as many as one network's."""
    kernels = {name: {"kernel": jax.ShapeDtypeStruct((24, 40), jnp.float32)} for name in ("a", "b")}
    wiring = {"actor": Wiring(()), "critic": Wiring((Wire("a", (("x",),)),))}
    inputs = RunInputs(np.uint32(3), np.uint32(5), np.float32(0), {"actor": {}, "critic": {
        "a/kernel": np.int32(301), "b/kernel": np.int32(407),
    }})  # fmt: skip
    config, shapes = config_of(), {"actor": kernels, "critic": kernels}
    found = supports_of(config, wiring, shapes, inputs, {"critic": ("0", "1", "2")})
    assert found["actor"] == {"a": {"kernel": None}, "b": {"kernel": None}}
    labelled = {"actor": kernels, "critic": dict.fromkeys("012", kernels)}
    budget = {
        f"{label}/{path}": kept for label in "012" for path, kept in inputs.budgets["critic"].items()
    }
    each = inputs._replace(budgets={"actor": {}, "critic": budget})
    own = supports_of(config, wiring, labelled, each)["critic"]
    for layer, kept in (("a", 301), ("b", 407)):
        masks = np.asarray(found["critic"][layer]["kernel"].masks)
        np.testing.assert_array_equal(masks.sum(axis=(1, 2)), [kept] * 3)
        for label, mask in zip("012", masks, strict=True):
            np.testing.assert_array_equal(mask, own[label][layer]["kernel"].mask)
        # two agents' are drawn apart: k²/n in common, within 4 deviations of where one of n places is
        share = kept / 960
        for one, other in ((0, 1), (1, 2), (0, 2)):
            both = np.sum(masks[one] & masks[other])
            assert abs(both - kept * share) < 4 * np.sqrt(960) * share * (1 - share), (layer, one, both)


@pytest.mark.parametrize("name", ["mappo", "qmix"])
def test_counts_are_of_each_and_of_all_together(name: str) -> None:
    """Parameters are those that anybody uses, exactly; arithmetic is as if all had one mask."""
    loop, (run,) = prepare_pack([config_of(name)])
    one, costs = prepare_pack([config_of(name, sharing="all")]).runs[0].costs, run.costs
    state = jax.jit(loop.init)(run.inputs)
    stored, supports = loop.agent.parameters(state.agent), loop.agent.supports(state.agent)
    shared = [network for network in costs.parameters if network != "mixer"]
    assert dict(costs.each) == {network: one.parameters[network].nonzero for network in shared}
    for network, counts in costs.parameters.items():
        assert counts.total == one.parameters[network].total
        masks = jax.tree.leaves(support_masks(supports[network]))
        assert counts.nonzero == counts.total - sum(int(np.sum(~np.asarray(mask))) for mask in masks)
        assert counts.total == sum(leaf.size for leaf in jax.tree.leaves(stored[network]))
        if network in shared:
            assert costs.each[network] < counts.nonzero < counts.total
            at_pruned = places(support_masks(supports[network]), stored[network])
            np.testing.assert_array_equal(at_pruned, 0.0)
    assert costs.flops_per_update == one.flops_per_update
    assert costs.flops_per_update_dense == one.flops_per_update_dense
    dense = sum(4 * (costs.parameters[network].total) for network in shared)
    passes = 3 if name == "mappo" else 4
    assert costs.bytes_per_update - one.bytes_per_update == 2 * passes * dense  # of three, not of one


def test_samples_are_shared_out_where_weights_are_not() -> None:
    """Each of three networks sees the samples of its agent, a third of all; one that all use through
    masks is one network."""
    three = Apart(nn.Dense(1), ((0,), (1,), (2,)))
    assert apart.shares("actor", three, 12) == {"actor/0": 4, "actor/1": 4, "actor/2": 4}
    assert apart.shares("actor", three._replace(one_set=True), 12) == {}


class Trained(NamedTuple):
    """A team that has trained to its first row."""

    loop: Any
    before: Any
    after: Any
    row: Any


@pytest.fixture(scope="module")
def trained() -> Iterator[Trained]:
    """PPO without a bonus for entropy, which moves what an agent does that nothing was said of."""
    with pytest.MonkeyPatch.context() as patch:
        crew.install(patch)
        loop, inputs = on_policy(config_of(entropy_coefficient=0.0))
        before = jax.jit(loop.init)(inputs)
        after, row = jax.jit(loop.chunk)(jnp.int32(0), before)
        yield Trained(loop, before, after, row)


def test_a_grid_of_masks_is_one_program() -> None:
    same = {program_of(config_of(sparsity=sparsity)) for sparsity in (0.3, 0.8)}
    assert len(same) == 1
    assert program_of(config_of(sparsity=0.0)) not in same
    assert config_of(sparsity=0.0).run_id != config_of(sparsity=0.0, sharing="all").run_id


def test_what_one_agent_learns_changes_what_it_uses_and_nothing_else(trained: Trained) -> None:
    loop, state = trained.loop, trained.before
    envs, _, rollout = jax.jit(loop.collect)(state, KEY)
    learning, views = loop.learning, loop.learning.see(state, flat(rollout.view))
    valued = learning.value(state, views, view_of(loop.env, envs), rollout)
    experience = learning.experience(state, views, valued, rollout, rollout.reward)
    mine = jnp.asarray(np.arange(len(experience.action)) % 3 == 1, jnp.float32)
    experience = experience._replace(view=experience.view._replace(weight=mine))
    after = jax.jit(loop.agent.update)(state.agent, experience, jnp.float32(0.0), KEY)[0]
    for name in ("actor", "critic"):
        for path, mask in masks_of(state.agent.supports[name]).items():
            layers = path.strip("[']").split("']['")
            moved = at(state.agent.networks[name], layers) != at(after.networks[name], layers)
            assert not np.any(moved & ~mask[1]), path
            assert np.any(moved[mask[1]]), path  # units that were 0 throughout stay
    masks = masks_of(state.agent.supports["actor"])["['trunk']['dense_1']['kernel']"]
    assert np.any(masks[0] & ~masks[1])


def at(tree: Any, layers: list[str]) -> np.ndarray:
    for layer in layers:
        tree = tree[layer]
    return np.asarray(tree)


def test_health_is_of_each_and_what_is_shared_counts_once(trained: Trained) -> None:
    row, agent = trained.row, trained.after.agent
    for name in ("actor", "critic"):
        masks = list(masks_of(agent.supports[name]).values())
        size = sum(mask[0].size for mask in masks)
        used, common = (sum(int(np.sum(x(mask, axis=0))) for mask in masks) for x in (np.any, np.all))
        np.testing.assert_allclose(row[f"used_ratio/{name}"], used / size, rtol=1e-6)
        np.testing.assert_allclose(row[f"common_ratio/{name}"], common / size, rtol=1e-6)
        assert 0 < row[f"common_ratio/{name}"] < 0.5 < row[f"used_ratio/{name}"] < 1
        norm = global_norm(agent.networks[name])
        np.testing.assert_allclose(row[f"param_norm/{name}"], norm, rtol=1e-6)
        for label in "012":
            assert np.isfinite(row[f"dormant_ratio/{name}/{label}/dense_0"])
        np.testing.assert_array_equal(
            places(support_masks(agent.supports[name]), agent.networks[name]), 0
        )


def test_one_network_may_be_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then all use it as it is, and it is probed on as many samples as ever, of those who act."""
    config = config_of(pruning={"actor_sparsity": 0.0})
    monkeypatch.setattr(type(config.diagnostics), "samples", lambda self, width: 5)
    loop, inputs = on_policy(config)
    parts = parts_of(loop)
    assert not isinstance(parts.actor, Apart)
    assert isinstance(parts.critic, Apart)
    assert loop.agent.together == 3
    seen: dict[str, Any] = {}
    monkeypatch.setattr(actor_critic, "health", lambda probed, _: seen.update(probed) or {})
    like = jax.eval_shape(loop.init, inputs)
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like.agent)
    acts = jnp.float32([0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1])
    view = View(jnp.arange(24.0).reshape(12, 2), None, None, acts)
    loop.agent.diagnose(state, view, Memories())
    shown = seen["actor"].inputs[""][0]
    np.testing.assert_array_equal(shown[:, 0], [2, 4, 8, 10, 14])
    assert {len(inputs[0]) for inputs in seen["critic"].inputs.values()} == {4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pruning": {"storage": "compact"}}, "storage=compact holds the places of one mask"),
        ({"pruning": {"pattern": "block", "storage": "block"}}, "storage=block holds the places of one"),
        ({"task": "alone"}, "agent.sharing=masks shares with all: env=probe/crew has one agent"),
    ],
)
def test_what_cannot_hold_them_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_pack([config_of(**changes)])


@pytest.mark.parametrize("pattern", ["unstructured", "constant_fan_in", "block"])
def test_any_pattern_is_held_masked(pattern: str) -> None:
    config = dataclasses.replace(config_of(pruning={"pattern": pattern}), width=4096)
    assert config.storage.storage == "masked"
