"""Agents that learn from a stream, beside float64 references from the papers, the public code's numbers
on one stream of transitions, and steps worked by hand."""

import functools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from references import streaming as reference
from references.arithmetic import flat

from sparse_rl.agents import STREAMING, Happened, step_rules
from sparse_rl.agents.contract import RunInputs
from sparse_rl.agents.sparse_start import sparse_kernel
from sparse_rl.envs import Spec
from sparse_rl.loops.streaming import Streaming, StreamRun, Told
from sparse_rl.networks import StreamNetwork, stream_parameters
from sparse_rl.networks.streaming import StreamKind
from sparse_rl.pruning import dense_shape, restore, support_masks
from sparse_rl.pruning.one_shot import FixedCount
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.run import RunConfig, run_config
from sparse_rl.settings.schema import ConfigError

PUBLIC: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data/streaming_public.json").read_text()
)
LAYERS = {
    "fc_layer": "trunk/dense_0", "hidden_layer": "trunk/dense_1", "linear_layer": "value",
    "linear_mu": "mean", "linear_std": "deviation", "fc_pi": "logits",
    "fc1_v": "trunk/dense_0", "hidden_v": "trunk/dense_1", "fc_v": "value",
}  # fmt: skip
"""Layer of the public code → ours."""


def config_of(name: str, **settings: Any) -> RunConfig:
    """Six units, three observations."""
    agent = {"name": name, "network": "stream_mlp", "time_feature": False, **settings.pop("agent", {})}
    env = {"source": "probe", "task": "policy"}
    return run_config(
        {"agent": agent, "env": env, "width": 6, "env_steps": 100, "log_every": 50} | settings
    )


def spec(discrete: bool) -> Spec:
    return Spec(
        name="probe/streamed", observation_size=3, action_size=2, episode_length=20, discrete=discrete
    )


class Made(NamedTuple):
    """An agent, its first state, and its compiled update."""

    agent: Any
    state: Any
    update: Any


def made(config: RunConfig, discrete: bool, kept: dict[str, int] | None = None) -> Made:
    """With so many weights left in each kernel."""
    agent = STREAMING[config.agent.name](config, spec(discrete))
    budgets: dict[str, Any] = {name: {} for name in config.agent.NETWORKS}
    if kept:
        storage = config.storage.storage
        fixed = FixedCount if storage == "compact" else np.int32
        budgets = {
            name: {path: fixed(n) for path, n in kept.items() if path.split("/")[0] in heads}
            for name, heads in (
                ("critic", ("trunk", "value")), ("actor", ("trunk", "mean", "deviation", "logits"))
            )
            if name in config.agent.NETWORKS
        }  # fmt: skip
    inputs = RunInputs(np.uint32(7), np.uint32(8), np.float32(config.agent.learning_rate), budgets)
    return Made(agent, agent.init(jax.random.key(5), inputs), jax.jit(agent.update))


def happened(one: dict[str, Any]) -> Happened:
    """One transition of a recorded stream."""
    action = one["a"]
    given: Any = np.array([action], np.int32 if isinstance(action, int) else np.float32)
    terminated = one.get("terminated", one.get("done"))
    seen, reward, following = (jnp.asarray([one[name]], jnp.float32) for name in "srn")
    flags = (jnp.asarray([flag]) for flag in (terminated, one.get("ended", terminated)))
    return Happened(seen, given, reward, following, *flags)


def ours(public: dict[str, Any]) -> dict[str, Any]:
    """The public code's parameters as ours: torch's matrices are ``[units, inputs]``."""
    tree: dict[str, Any] = {}
    for name, numbers in public.items():
        layer, kind = name.split(".")
        *parents, last = LAYERS[layer].split("/")
        where = functools.reduce(lambda found, part: found.setdefault(part, {}), parents, tree)
        own = where.setdefault(last, {})
        own["bias" if kind == "bias" else "kernel"] = jnp.asarray(np.float32(numbers).T)
    return tree


@pytest.mark.parametrize(
    ("stream", "name"), [("continuous", "stream_ac"), ("discrete", "stream_ac"), ("q", "stream_q")]
)
def test_the_public_codes_numbers_on_one_stream(stream: str, name: str) -> None:
    """Forty transitions, episodes of unequal lengths, rewards that are small and then large; there every
    end is a termination."""
    recorded = PUBLIC[stream]
    _, state, update = made(config_of(name), discrete=stream != "continuous")
    first = {part: ours(weights) for part, weights in recorded["first"].items()}
    assert jax.tree.map(jnp.shape, first) == jax.tree.map(jnp.shape, dict(state.networks))
    state = state._replace(networks=first)
    for one, sizes in zip(recorded["stream"], recorded["size"], strict=True):
        state, _, _ = update(state, happened(one), False)
        parts = [state.networks[part] for part in ("actor", "critic") if part in state.networks]
        found = [sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(part)) for part in parts]
        np.testing.assert_allclose(found, sizes, rtol=2e-5)
    for part, weights in recorded["last"].items():
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-5),
            state.networks[part], ours(weights),
        )  # fmt: skip


KEPT = {
    "trunk/dense_0/kernel": 11, "trunk/dense_1/kernel": 17, "value/kernel": 5, "mean/kernel": 7,
    "deviation/kernel": 9, "logits/kernel": 8,
}  # fmt: skip


def stream_of(discrete: bool, steps: int) -> list[dict[str, Any]]:
    """Episodes that end by themselves and by time, and rewards of all sizes."""
    rng = np.random.default_rng(4)
    return [
        {
            "s": rng.normal(size=3).round(3).tolist(), "n": rng.normal(size=3).round(3).tolist(),
            "a": int(rng.integers(2)) if discrete else rng.normal(size=2).round(3).tolist(),
            "r": round(float(rng.normal() * 10 ** rng.uniform(-1, 0.7)), 3),
            "terminated": t % 7 == 4, "ended": t % 7 == 4 or t % 5 == 3,
        }
        for t in range(steps)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "discrete", "rule", "storage"),
    [
        ("stream_ac", False, "obgd", "masked"),
        ("stream_ac", True, "intentional", "compact"),
        ("stream_q", True, "obgd", "compact"),
    ],
)
def test_steps_are_the_papers_in_float64(name: str, discrete: bool, rule: str, storage: str) -> None:
    """Gradients, traces and steps of pruned networks, from a start in which no surviving weight is 0."""
    given: dict[str, Any] = {
        "discount": reference.GAMMA, "trace_decay": reference.LAMBDA, "step_rule": rule,
        "learning_rate": 0.6, "value_kappa": 1.7, "value_share": 0.3, "initial_zeros": 0.0,
    }  # fmt: skip
    if name == "stream_ac":
        given |= {"policy_kappa": 2.3, "policy_share": 0.07, "entropy_coefficient": 0.2}
    config = config_of(name, agent=given, sparsity=0.5, pruning={"storage": storage})
    _, state, update = made(config, discrete, KEPT)
    names = config.agent.NETWORKS
    masks = {part: flat(support_masks(state.supports[part])) for part in names}

    def whole(tree: dict[str, Any], part: str) -> Any:
        return flat(restore(state.supports[part], tree[part]))

    learners = {part: reference.begin(whole(state.networks, part)) for part in names}
    for part, tensors in masks.items():
        for path, mask in tensors.items():
            assert int(mask.sum()) == KEPT[path] == int((learners[part].weights[path] != 0).sum())
    rules = {
        part: reference.Rule(
            (2.3 if part == "actor" else 1.7) if rule == "obgd" else None,
            0.07 if part == "actor" else 0.3,
            part == "actor",
        )
        for part in names
    }
    for one in stream_of(discrete, 30):
        state, metrics, _ = update(state, happened(one), False)
        if name == "stream_q":
            of = learners["critic"], masks["critic"]
            learners = {"critic": reference.q_learning(*of, one, 0.6, rules["critic"])}
        else:
            learners = reference.actor_critic(learners, masks, one, 0.6, rules, 0.2)
        for part in names:
            ended = reference.total(learners[part].traces, 2) == 0.0
            assert (float(state.alive) == 0.0) == ended
    assert all(math.isfinite(float(x)) for x in metrics.values())
    for part in names:
        found, wanted = whole(state.networks, part), learners[part].weights
        for path, w in wanted.items():
            np.testing.assert_allclose(found[path], w, rtol=2e-3, atol=2e-4, err_msg=path)
        for path, mask in masks[part].items():
            traces = whole(state.traces, part)[path]
            assert not traces[mask == 0].any()
            assert not found[path][mask == 0].any()


def test_time_that_runs_out_is_worth_what_follows_and_an_end_is_not() -> None:
    """Of equal transitions δ differs by γ V(s') after an end by itself; traces are new after either."""
    config = config_of("stream_q", agent={"initial_zeros": 0.0})
    agent, state, update = made(config, discrete=True)
    one, other = stream_of(True, 2)
    best = int(agent.act_greedily(state, jnp.asarray([one["s"]]))[0])
    errors, carried = {}, {}
    for kind, flags in {"goes on": (False, False), "time": (False, True), "end": (True, True)}.items():
        told = one | {"a": best, "terminated": flags[0], "ended": flags[1]}
        after, metrics, _ = update(state, happened(told), False)
        errors[kind] = float(metrics["loss/critic"])
        following = update(after, happened(other), False)[0].traces
        alone = after._replace(traces=jax.tree.map(jnp.zeros_like, after.traces))
        fresh = update(alone, happened(other), False)[0].traces
        left = jax.tree.map(lambda z, new: float(jnp.abs(z - new).max()), following, fresh)
        carried[kind] = max(jax.tree.leaves(left))
    assert errors["goes on"] == errors["time"] != errors["end"]
    assert carried["goes on"] > 0.1
    assert carried["time"] == carried["end"] == 0.0


def test_a_bounded_step_by_hand() -> None:
    """η = 0.7, κ = 3. δ = −2.5, ‖z‖₁ = 4: 0.7 · 3 · 2.5 · 4 = 21, so α = 0.7 / 21 and the factor is
    −2.5 / 30. δ = 0.4 counts as 1: with ‖z‖₁ = 4 the bound is 8.4, α = 1 / 12; with 0.1 it is 0.21 and
    the step is whole."""

    def factor(error: float, size: float) -> float:
        sums = step_rules.Sums(jnp.float32(size), jnp.float32(50.0), jnp.float32(60.0))
        return float(step_rules.obgd(jnp.float32(0.7), 3.0, jnp.float32(error), sums))

    assert factor(-2.5, 4.0) == pytest.approx(-2.5 / 30, rel=1e-6)
    assert factor(0.4, 4.0) == pytest.approx(0.4 / 12, rel=1e-6)
    assert factor(0.4, 0.1) == pytest.approx(0.28, rel=1e-6)


def test_intentional_steps_by_hand() -> None:
    """η = 0.5, share 0.3, γλ = 0.6. Gradients of ‖∇‖² = 8, then 2: the mean is 8, then (0.6 · 0.4 · 8 +
    0.4 · 2) / (1 − 0.36) = 4.25. ‖z‖² = 2, then 17: the reach is 4, then 8.5. δ = −3 and 6: a policy's
    are −1 and 6 over their mean 4.5 but for the weight of the later one."""
    intent, found = step_rules.no_intent(), []
    policy = step_rules.no_intent()
    for error, square, trace in ((-3.0, 8.0, 2.0), (6.0, 2.0, 17.0)):
        sums = step_rules.Sums(jnp.float32(99.0), jnp.float32(trace), jnp.float32(square))
        given = jnp.float32(0.5), 0.3, 0.6, jnp.float32(error), sums
        one, intent = step_rules.intentional(*given, intent, policy=False)
        two, policy = step_rules.intentional(*given, policy, policy=True)
        found += [float(one), float(two)]
    mean = (0.9998 * 3 + 6) / 1.9998
    wanted = [0.15 / 4 * -3, -0.15 / 4, 0.15 / 8.5 * 6, 0.15 / 8.5 * 6 / mean]
    np.testing.assert_allclose(found, wanted, rtol=2e-4)
    # after many steps of size 1 an error of 1000 counts as 20 root mean squares
    settled = step_rules.Intent(jnp.int32(10**6), jnp.float32(1.0), jnp.float32(1.0), jnp.float32(1.0))
    sums = step_rules.Sums(jnp.float32(1.0), jnp.float32(1.0), jnp.float32(1.0))
    factor, _ = step_rules.intentional(
        jnp.float32(1.0), 0.5, 0.8, jnp.float32(1000.0), sums, settled, policy=False
    )
    assert float(factor) == pytest.approx(0.5 * 20 * math.sqrt(0.9998 + 200.0), rel=1e-3)


def test_the_share_of_an_error_that_a_step_removed_is_measured() -> None:
    """(V'(s) − V(s)) / δ by what the agent says before and after; nothing where it is not asked."""
    config = config_of("stream_q", agent={"initial_zeros": 0.0, "value_kappa": 30.0})
    _, state, update = made(config, discrete=True)
    one = stream_of(True, 1)[0] | {"r": 3.0}
    after, metrics, found = update(state, happened(one), True)
    seen = torch.tensor(one["s"], dtype=torch.float64)
    before, now = (
        reference.says(flat(each.networks["critic"]), "value", seen) for each in (state, after)
    )
    error = math.copysign(math.sqrt(float(metrics["loss/critic"])), 1.0)  # 3 and more
    share = (float(now[one["a"]]) - float(before[one["a"]])) / error
    assert float(found["td_error_removed"]) == pytest.approx(share, rel=2e-3)
    assert 0.001 < share < 0.5
    assert float(found["td_errors"]) == 1.0
    assert not any(map(float, update(state, happened(one), False)[2].values()))


@pytest.mark.parametrize("share", [0.9, 0.35, 0.0])
def test_each_unit_begins_with_as_many_weights_as_are_said(share: float) -> None:
    """Of 33 inputs; with a mask, as many as survive there, and none beside."""
    shape, zeros = (33, 21), math.ceil(33 * share)
    dense = np.asarray(sparse_kernel(jax.random.key(1), shape, share, None))
    assert ((dense == 0).sum(0) == zeros).all()
    assert np.abs(dense).max() <= 33**-0.5
    assert np.abs(dense).max() > 0.9 * 33**-0.5
    assert abs(dense[dense != 0].mean()) < 0.15 * 33**-0.5
    rows = (dense != 0).mean(1)
    assert share == 0.0 or rows.std() > 0.02
    mask = (
        np.arange(33)[:, None] >= np.arange(21)[None] + 12
    )  # 21 survive in the first unit, 1 in the last
    cut = np.asarray(sparse_kernel(jax.random.key(1), shape, share, jnp.asarray(mask)))
    assert not cut[~mask].any()
    assert ((cut != 0).sum(0) == np.minimum(33 - zeros, mask.sum(0))).all()


def test_a_pruned_network_begins_within_what_survives() -> None:
    config = config_of("stream_ac", sparsity=0.5, agent={"initial_zeros": 0.5})
    _, state, _ = made(config, discrete=True, kept=KEPT)
    supports, stored = state.supports["critic"]["trunk"], state.networks["critic"]["trunk"]
    for layer, inputs in (("dense_0", 3), ("dense_1", 6)):
        support, kernel = supports[layer]["kernel"], stored[layer]["kernel"]
        assert kernel.shape == (KEPT[f"trunk/{layer}/kernel"],)
        assert dense_shape(support, kernel) == (inputs, 6)
        mask, dense = support_masks(support), restore(support, kernel)
        most = inputs - math.ceil(0.5 * inputs)
        assert (np.sum(dense != 0, axis=0) == np.minimum(np.sum(mask, axis=0), most)).all()
        assert not np.any(stored[layer]["bias"])
    assert not any(np.any(z) for z in jax.tree.leaves(state.traces))


def test_statistics_are_the_public_codes() -> None:
    """Observations and rewards of thirty steps: each is taken in before it is seen, deviations are of a
    sample, and the running return is new with an episode's last reward."""
    recorded = PUBLIC["statistics"]
    stream = Streaming(config_of("stream_ac"), spec(discrete=False), STREAMING["stream_ac"](
        config_of("stream_ac"), spec(discrete=False)
    ))  # fmt: skip
    nothing = RunInputs(np.uint32(1), np.uint32(1), np.float32(1.0), {"actor": {}, "critic": {}})
    state: StreamRun = stream.init(nothing, envs=())

    @jax.jit
    def take(state: StreamRun, observation: Any, reward: Any, ended: Any) -> Any:
        state = stream.watch(state, observation)
        seen = stream.see(state.normaliser, observation, jnp.int32(0))
        told = Told(observation, observation, reward, ended, ended)
        scale, scaled = stream._reward(state.reward_scale, told, ended)
        return state._replace(reward_scale=scale), seen[0], scaled[0]

    for observation, reward, ended, seen, scaled in zip(*recorded.values(), strict=True):
        given = jnp.asarray([observation]), jnp.asarray([reward]), np.array([ended])
        state, found, rewarded = take(state, *given)
        np.testing.assert_allclose(found, seen, rtol=2e-4, atol=2e-4)
        np.testing.assert_allclose(rewarded, scaled, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"agent": {"network": "stream_minatar", "time_feature": False}}, "small pictures"),
        ({"agent": {"network": "stream_minatar"}}, "agent.time_feature=true"),
        ({"agent": {"name": "stream_q", "network": "stream_mlp"}}, "discrete actions"),
        ({"width": 2}, "LayerNorms"),
        ({"products": "bfloat16"}, "stream_mlp multiplies in float32"),
        ({"curriculum": {"method": "dr"}}, "learn from rollouts"),
        ({"sparsity": 0.5, "pruning": {"method": "set"}}, "not for stream_ac"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], says: str) -> None:
    agent = {"name": "stream_ac"} | changes.get("agent", {})
    env = {"source": "probe", "task": "policy"}
    data = {"env": env, "width": 8, "env_steps": 100, "log_every": 50, **changes, "agent": agent}
    with pytest.raises(ConfigError, match=says):
        prepare_pack([run_config(data)])


@pytest.mark.parametrize("width", [4, 24])
def test_parameters_in_closed_form(width: int) -> None:
    picture = (6, 5, 2)
    kinds: dict[StreamKind, int] = {"stream_mlp": 9, "stream_minatar": 60}
    for kind, size in kinds.items():
        network = StreamNetwork(kind, width, (("mean", 3), ("deviation", 2)), picture)
        shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size)))["params"]
        total = sum(x.size for x in jax.tree.leaves(shapes))
        assert stream_parameters(kind, width, size, 5, picture) == total
