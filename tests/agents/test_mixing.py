"""IQL, VDN and QMIX: what is learned from, in plain numbers; what is stored; a chain of known values."""

from typing import Any

import crew
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.agents import choosing, joining, mixing
from sparse_rl.agents.apart import one_of
from sparse_rl.agents.joining import Mixing
from sparse_rl.envs import TeamEnv, TeamStep, registry, vector
from sparse_rl.experience import Steps
from sparse_rl.loops import RecallingLoop, view_of
from sparse_rl.loops.replaying import InteractionKeys
from sparse_rl.networks import Mixer, mixer_parameters
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.run import RunConfig, run_config
from sparse_rl.settings.schema import ConfigError

KEY = jax.random.key(8)
L, N, A = 7, 5, 3
SETTINGS: dict[str, Any] = {
    "num_envs": 4, "sequence_length": 4, "batch_size": 6, "replay_size": 200, "target_every": 7,
    "random_interactions": 6, "updates_per_interaction": 0.5, "learning_rate": 1e-2,
}  # fmt: skip


def config_of(name: str, task: str = "crew", **changes: Any) -> RunConfig:
    top: dict[str, Any] = {
        key: changes.pop(key) for key in ("env_steps", "sparsity", "width") if key in changes
    }
    env = {"source": "jaxmarl", "task": task, "eval_episodes": 4, **changes.pop("env", {})}
    budget = {"env_steps": 256, "log_every": 64, "eval_every": 128, "width": 8, "sparsity": 0.5}
    top |= {"pruning": {"mixer_sparsity": changes.pop("mixer", None)}}
    return run_config({"agent": {"name": name, **SETTINGS, **changes}, "env": env, **budget, **top})


def loop_of(config: RunConfig) -> tuple[RecallingLoop, Any]:
    loop, (run,) = prepare_pack([config])
    assert isinstance(loop, RecallingLoop)
    return loop, run.inputs


def steps(rng: np.random.Generator, idle: bool = True) -> Steps:
    """L + 1 rows of N teams, with ends of both kinds and agents that do not act."""
    shape = (L + 1, N)
    last = rng.random(shape) < 0.2
    last[1:] &= ~last[:-1]
    first = np.zeros(shape, bool)
    first[1:] = last[:-1]
    legal = rng.random((*shape, A, 4)) < 0.7
    legal[..., 0] = True
    weight = (rng.random((*shape, A)) < 0.7).astype(np.float32)
    fields: dict[str, Any] = {
        "observation": rng.normal(size=(*shape, A, 2)), "state": rng.normal(size=(*shape, 5)),
        "legal": legal, "weight": weight if idle else None, "memory": (),
        "action": rng.integers(0, 4, (*shape, A)), "reward": rng.normal(size=(*shape, A)),
        "shaping": rng.normal(size=(*shape, A)), "first": first, "last": last,
        "terminated": last & (rng.random(shape) < 0.5),
    }  # fmt: skip

    def single(x: Any) -> Any:
        return jnp.float32(x) if x.dtype == float else jnp.asarray(x)

    return Steps(**jax.tree.map(single, fields))


def returns(
    batch: Steps, reward: Any, following: Any, n: int, a: int, weight: Any, discount: float, lam: float
) -> list[float | None]:
    """What each step of a team's agent should be worth, in plain Python; ``None``: not to be learned."""
    last, terminated = np.asarray(batch.last)[:, n], np.asarray(batch.terminated)[:, n]
    found: list[float | None] = [None] * L
    onward: list[float | None] = [None] * (L + 1)  # the λ-return from each row on, if it is known
    for t in reversed(range(L)):
        if last[t]:
            continue
        acts = weight is None or weight[t + 1, n, a] > 0
        value = float(following[t + 1, n, a])
        if last[t + 1]:
            ahead = 0.0 if terminated[t + 1] else (value if acts else None)
        elif acts:
            later = onward[t + 1]
            ahead = value if later is None else (1 - lam) * value + lam * later
        else:
            ahead = onward[t + 1]
        if ahead is not None:
            onward[t] = float(reward[t, n, a]) + discount * ahead
            if weight is None or weight[t, n, a] > 0:
                found[t] = onward[t]
    return found


def static(name: str, shared: bool = False, **settings: Any) -> Mixing:
    config = config_of(name, memory="none", discount=0.7, **settings)
    env = crew.crew(shared)
    return mixing.build(config, env, 100)


@pytest.mark.parametrize("idle", [True, False])
@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("name", ["iql", "vdn"])
def test_targets_in_plain_python(name: str, lam: float, idle: bool) -> None:
    seed = int(np.random.default_rng().integers(2**31))
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    batch, parts = steps(rng, idle), static(name, gae_lambda=lam)
    size = A if name == "iql" else 1
    reward, following = (jnp.float32(rng.normal(size=(L + 1, N, size))) for _ in range(2))
    weight = batch.weight if name == "iql" else None
    if weight is not None:
        following = following * weight
    found = joining.targets(parts, reward, following, batch)
    for n in range(N):
        for a in range(size):
            expected = returns(batch, reward, following, n, a, weight, 0.7, lam)
            for t, value in enumerate(expected):
                assert float(found.weight[t, n, a]) == (value is not None), (t, n, a)
                if value is not None:
                    assert float(found.value[t, n, a]) == pytest.approx(value, abs=1e-5), (t, n, a)


def test_what_comes_after_an_end_moves_no_target() -> None:
    """Neither rewards nor values of the next episode; and the last reward of each is learned from."""
    rng = np.random.default_rng(3)
    batch, parts = steps(rng, idle=False), static("vdn", gae_lambda=0.9)
    last = np.zeros((L + 1, N), bool)
    last[3] = True
    for ended in (True, False):
        one = batch._replace(last=jnp.asarray(last), terminated=jnp.asarray(last & ended))
        reward, following = (jnp.float32(rng.normal(size=(L + 1, N, 1))) for _ in range(2))
        plain = joining.targets(parts, reward, following, one)
        for changed in (
            joining.targets(parts, reward.at[3:].add(9.0), following.at[4:].add(9.0), one),
            joining.targets(parts, reward, following.at[0].add(9.0), one),
        ):
            np.testing.assert_allclose(changed.value[:3], plain.value[:3], rtol=1e-5)
        np.testing.assert_array_equal(plain.weight[:, 0, 0], [1, 1, 1, 0, 1, 1, 1])
        earns = joining.targets(parts, reward.at[2].add(1.0), following, one).value - plain.value
        np.testing.assert_allclose(earns[2], 1.0, rtol=1e-5)
        worth = joining.targets(parts, reward, following.at[3].add(1.0), one).value - plain.value
        np.testing.assert_allclose(worth[2], 0.0 if ended else 0.7, atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_rewards_of_a_team_and_of_its_agents(shared: bool) -> None:
    batch = steps(np.random.default_rng(0))
    assert batch.shaping is not None
    own = batch.reward + 0.5 * batch.shaping
    apart = joining.rewards(static("iql", shared), jnp.float32(0.5), batch)
    np.testing.assert_allclose(apart, own, rtol=1e-6)
    team = own[..., :1] if shared else jnp.sum(own, axis=-1, keepdims=True)
    for name in ("vdn", "qmix"):
        found = joining.rewards(static(name, shared), jnp.float32(0.5), batch)
        np.testing.assert_allclose(found, team, rtol=1e-5)


def test_a_mixer_by_hand() -> None:
    """|W₂|ᵀ elu(|W₁|ᵀ q + b₁) + b₂, all made of the state; never less for larger values."""
    rng = np.random.default_rng(1)
    mixer = Mixer(agents=3, width=2, hidden_width=4)
    values, state = rng.normal(size=(6, 3)), rng.normal(size=(6, 5))
    params = mixer.init(KEY, jnp.float32(values), jnp.float32(state))["params"]
    params = jax.tree.map(lambda x: jnp.float32(rng.normal(size=x.shape)), params)
    assert sum(x.size for x in jax.tree.leaves(params)) == mixer_parameters(3, 5, 2, 4)

    def dense(at: Any, x: Any) -> Any:
        return x @ np.asarray(at["kernel"], np.float64) + np.asarray(at["bias"], np.float64)

    def hidden(name: str) -> Any:
        return np.maximum(dense(params["trunk"][name], state), 0.0)

    first = np.abs(dense(params["weights_in"], hidden("weights_in"))).reshape(6, 3, 2)
    mixed = np.einsum("na,naw->nw", values, first) + dense(params["bias_in"], state)
    mixed = np.where(mixed > 0, mixed, np.exp(np.minimum(mixed, 0)) - 1)
    last = np.abs(dense(params["weights_out"], hidden("weights_out")))
    expected = (mixed * last).sum(axis=1) + dense(params["bias_out"], hidden("bias_out"))[:, 0]
    found = mixer.apply({"params": params}, jnp.float32(values), jnp.float32(state))
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    slopes = jax.grad(lambda v: jnp.sum(mixer.apply({"params": params}, v, jnp.float32(state))))
    assert np.all(np.asarray(slopes(jnp.float32(values))) >= 0)
    assert np.any(np.asarray(slopes(jnp.float32(values))) > 0.1)


def learner(name: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Any:
    """A loop, and its state with target networks that are not those that learn."""
    crew.install(monkeypatch)
    loop, inputs = loop_of(config_of(name, **settings))
    state = jax.jit(loop.init)(inputs)
    other = jax.tree.map(lambda x: 0.7 * x + 0.05 * (x != 0), state.agent.target)
    mixer = jax.tree.map(lambda x: 10.0 * x, state.agent.mixer)  # it begins too small to be seen
    return loop, state._replace(agent=state.agent._replace(target=other, mixer=mixer))


@pytest.mark.parametrize("name", ["iql", "vdn", "qmix"])
def test_an_update_is_one_of_double_q_learning(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Loss and step from values that were asked one row at a time, and targets that are numbers."""
    loop, state = learner(name, monkeypatch, memory="none", discount=0.7, width=6)
    parts = mixing.build(loop.config, loop.env, 100)
    rng = np.random.default_rng(5)
    batch = steps(rng)
    assert batch.legal is not None
    assert batch.state is not None
    assert batch.shaping is not None
    legal, central, mixer = batch.legal[..., :3], batch.state[..., :3], parts.mixer
    action = jnp.argmax(legal * jnp.float32([1, 3, 2]), axis=-1)
    batch = batch._replace(legal=legal, state=central, action=action, shaping=0.0 * batch.shaping)
    agent = state.agent
    read = one_of(parts.chooser.critic)

    def q(critic: Any) -> Any:
        seen = batch.observation.reshape(-1, 2)
        return read.apply({"params": critic}, seen).reshape(L + 1, N, A, 3)

    def together(networks: Any, values: Any) -> Any:
        values = values * batch.weight
        if name == "iql":
            return values
        if name == "vdn":
            return values.sum(axis=-1, keepdims=True)
        assert mixer is not None
        mixed = mixer.apply({"params": networks["mixer"]}, values.reshape(-1, A), central.reshape(-1, 3))
        return mixed.reshape(L + 1, N, 1)

    def of(values: Any, action: Any) -> Any:
        return jnp.sum(values * jax.nn.one_hot(action, 3), axis=-1)

    networks = {"critic": agent.critic} | ({"mixer": agent.mixer} if name == "qmix" else {})
    best = jnp.argmax(jnp.where(legal, q(agent.critic), -jnp.inf), axis=-1)
    following = np.asarray(together(agent.target, of(q(agent.target["critic"]), best)))
    reward = np.asarray(batch.reward)
    reward = reward if name == "iql" else reward.sum(axis=-1, keepdims=True)
    weight = batch.weight if name == "iql" else None
    worth = np.zeros((L, N, reward.shape[-1]))
    counts = np.zeros_like(worth)
    for n in range(N):
        for a in range(reward.shape[-1]):
            for t, value in enumerate(returns(batch, reward, following, n, a, weight, 0.7, 0.0)):
                if value is not None:
                    worth[t, n, a], counts[t, n, a] = value, 1.0

    def loss(networks: Any) -> Any:
        said = together(networks, of(q(networks["critic"]), batch.action))[:-1]
        return jnp.sum(counts * jnp.square(said - worth)) / counts.sum()

    after, metrics = jax.jit(loop.agent.update)(agent, batch, KEY)
    value, grads = jax.value_and_grad(loss)(networks)
    assert float(metrics["loss/critic"]) == pytest.approx(float(value), rel=1e-4)
    for key, tree in grads.items():
        # what is pruned has no gradient
        held = jax.tree.map(lambda g, p: jnp.where(p == 0, 0.0, g), tree, networks[key])
        kept = jax.tree.map(lambda g, p, h: h if p.ndim > 1 else g, tree, networks[key], held)
        norm = np.sqrt(sum(float(jnp.sum(jnp.square(g))) for g in jax.tree.leaves(kept)))
        assert norm > 1e-3
        assert float(metrics[f"grad_norm/{key}"]) == pytest.approx(norm, rel=1e-3)
    assert int(after.updates) == 1
    # RAdam's first steps are those of momentum alone: one rate along the clipped gradient
    clip = min(1.0, 25.0 / float(np.sqrt(sum(float(metrics[f"grad_norm/{k}"]) ** 2 for k in grads))))
    bias = grads["critic"]["value"]["bias"]
    moved = after.critic["value"]["bias"] - agent.critic["value"]["bias"]
    np.testing.assert_allclose(moved, -1e-2 * clip * bias, rtol=1e-3, atol=1e-7)


def test_targets_are_renewed_as_far_and_as_often_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, state = learner("qmix", monkeypatch, target_rate=0.25)
    assert loop.agent.occasional is not None
    assert loop.agent.occasional.every == 7
    after = loop.agent.occasional.change(state.agent, None, jnp.int32(7))
    for name in ("critic", "mixer"):
        now = getattr(state.agent, name)
        trees = (after.target[name], state.agent.target[name], now)
        for new, old, learned in zip(*map(jax.tree.leaves, trees), strict=True):
            np.testing.assert_allclose(new, 0.75 * old + 0.25 * learned, rtol=1e-5, atol=1e-7)


def keys_of(interaction: int) -> InteractionKeys:
    return InteractionKeys(*(jax.random.fold_in(KEY, 3 * interaction + i) for i in range(3)))


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_what_is_stored_is_what_was_there(monkeypatch: pytest.MonkeyPatch, memory: str) -> None:
    """Rows of a few interactions beside the team in plain Python; of the last of an episode, what is
    legal and who acts in the state that it ended in."""
    loop, state = learner("qmix", monkeypatch, memory=memory, identify=True)
    interact = jax.jit(loop.interact)
    rows: list[list[dict[str, Any]]] = [[] for _ in range(4)]
    for t in range(9):
        before = state.envs
        state, seen = interact(state, jnp.int32(t), keys_of(t))
        for e in range(4):
            env = jax.tree.map(lambda x, e=e: x[e], before.envs.env)
            memories = jax.tree.map(lambda x, e=e: x[3 * e : 3 * e + 3], before.memory)
            now: dict[str, Any] = {"env": env, "memory": memories}
            now |= {"first": int(env.time) == 0, "last": False, "terminated": False}
            now |= {"reward": seen.reward[3 * e : 3 * e + 3]}
            rows[e].append(now)
            if bool(seen.terminated[3 * e] | seen.truncated[3 * e]):
                env = jax.tree.map(lambda x, e=e: x[e], seen.successor)
                ended = {"env": env, "first": False, "last": True}
                rows[e].append(ended | {"terminated": bool(seen.terminated[3 * e])})
    assert {len(each) for each in rows} <= set(range(11, 13))
    held = state.replay.rows
    assert held.state.shape[-1] == 3  # whose value it is plays no part
    for e, each in enumerate(rows):
        assert int(state.replay.size[e]) == len(each)
        for i, now in enumerate(each):
            env = now["env"]
            shown = np.concatenate([crew.seen(env), np.eye(3)], axis=1)
            np.testing.assert_array_equal(held.observation[e, i], shown)
            np.testing.assert_array_equal(held.state[e, i], crew.central(env, crew.seen(env))[0])
            np.testing.assert_array_equal(held.legal[e, i], crew.legal(env))
            np.testing.assert_array_equal(held.weight[e, i], np.sum(crew.legal(env), axis=1) > 1)
            for name in ("first", "last", "terminated"):
                assert bool(getattr(held, name)[e, i]) == now[name], (e, i, name)
            if now["last"]:
                continue
            np.testing.assert_array_equal(held.reward[e, i], now["reward"])
            np.testing.assert_array_equal(held.shaping[e, i], -np.arange(3.0))
            earned = np.asarray(held.action[e, i]) * np.array([1.0, 0.5, 0.25])
            np.testing.assert_array_equal(held.reward[e, i], earned)
            if memory == "gru":
                np.testing.assert_array_equal(held.memory[e, i], now["memory"])
                assert np.any(np.asarray(held.memory[e, i]) != 0) == (not now["first"])


def test_values_of_a_sample_are_those_that_were_acted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps in a row from the memory that was stored give what single steps gave, over ends too."""
    loop, state = learner("iql", monkeypatch)
    interact = jax.jit(loop.interact)
    said: list[Any] = []
    parts = mixing.build(loop.config, loop.env, 100)
    act = jax.jit(lambda a, *seen: choosing.values_of(parts.chooser, a.critic, a.supports)(*seen))
    for t in range(9):
        view = view_of(loop.env, state.envs.envs)
        said.append(act(state.agent, view, state.envs.memory)[0].reshape(4, 3, 3))
        state, _ = interact(state, jnp.int32(t), keys_of(t))
    rows = state.replay.rows
    starts = [(e, start) for e in range(4) for start in range(6)]  # one sample of all, side by side
    windows = [jax.tree.map(lambda x, e=e, s=s: x[e, s : s + 5], rows) for e, s in starts]
    batch: Steps = jax.tree.map(lambda *x: jnp.stack(x, axis=1), *windows)
    found = joining.values(parts, state.agent.critic, state.agent.supports, batch)
    for n, (e, start) in enumerate(starts):
        acted = [i for i in range(int(state.replay.size[e])) if not rows.last[e, i]]
        for k in range(5):
            if start + k in acted:
                expected = said[acted.index(start + k)][e]
                np.testing.assert_allclose(found[k, n], expected, rtol=1e-4, atol=1e-5)


def chain(terminates: bool) -> TeamEnv:
    """Two agents see the time; each earns 1 in the second step, whatever they do."""

    def seen(time: Any) -> Any:
        return jnp.broadcast_to(jax.nn.one_hot(time, 3), (2, 3))

    def step(key: Any, time: Any, action: Any) -> tuple[Any, TeamStep]:
        reward = jnp.full(2, (time == 1).astype(jnp.float32))
        over = jnp.bool_(terminates) & (time == 1)
        return time + 1, TeamStep(seen(time + 1), reward, over, jnp.zeros(2), jnp.float32(0))

    return TeamEnv(
        name="probe/chain", observation_size=3, action_size=2, episode_length=2, discrete=True,
        kinds=(0, 0), critic_size=3, reset=lambda key: (jnp.int32(0), seen(jnp.int32(0))), step=step,
        state=lambda time, seen: seen, shared_reward=False,
    )  # fmt: skip


@pytest.mark.parametrize("terminates", [True, False])
@pytest.mark.parametrize("name", ["iql", "qmix"])
def test_a_chain_of_two_steps_is_valued(
    monkeypatch: pytest.MonkeyPatch, name: str, terminates: bool
) -> None:
    """γ = ½. Where it ends, the second step is worth 1 and the first ½. Where only time runs out, what
    is seen then is worth what nobody ever learns, and the targets must hold that."""
    monkeypatch.setitem(registry.SOURCES, "jaxmarl", lambda task: chain(terminates))
    config = config_of(
        name, discount=0.5, memory="none", env_steps=8192, sparsity=0.0, target_every=5, batch_size=16,
        learning_rate_schedule="constant", learning_rate=5e-3, sequence_length=2,
    )  # fmt: skip
    loop, inputs = loop_of(config)
    state = jax.jit(loop.init)(inputs)
    chunk = jax.jit(loop.chunk)
    for first in range(0, 8192 // 4, 16):
        state, _ = chunk(jnp.int32(first), state)
    parts = mixing.build(config, loop.env, 10**6)
    batch = loop.replaying.batch(state, KEY, 64)

    def team(values: Any) -> Any:
        networks = state.agent
        return joining.together(parts, networks.mixer, networks.mixer_supports, values, batch)

    q = joining.values(parts, state.agent.critic, state.agent.supports, batch)
    agents = 1 if name == "iql" else 2
    worth = np.asarray(team(jnp.max(q, axis=-1)))[..., 0]
    time = np.argmax(np.asarray(batch.observation)[:, :, 0], axis=-1)
    here = ~np.asarray(batch.last)
    after = 0.0 if terminates else 0.5 * float(np.mean(worth[~here]))
    np.testing.assert_allclose(worth[here & (time == 1)], agents + after, atol=0.06)
    np.testing.assert_allclose(worth[here & (time == 0)], 0.5 * (agents + after), atol=0.06)
    assert not terminates or abs(float(np.mean(worth[~here]))) > 0.01  # what nobody learns is not 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"random_interactions": 3}, "agent.sequence_length=4: a sample needs as many"),
        ({"replay_size": 12}, "3 are kept"),
        ({"target_every": 29}, "agent.target_every=29: of 29 updates none"),
        ({"memory": "none", "memory_span": 5}, "agent.memory_span=5 is of networks that remember"),
    ],
)
def test_what_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    crew.install(monkeypatch)
    with pytest.raises(ConfigError, match=message):
        loop_of(config_of("qmix", **changes))


def test_exploration_and_shaping_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 interactions, the first 6 at random; then from 1 to 0.2 in half of the run. Shaping from 0.5 to
    0 in 128 frames, 4 an interaction."""
    crew.install(monkeypatch)
    env = {"shaping": 0.5, "shaping_steps": 128}
    loop, inputs = loop_of(config_of("vdn", final_exploration=0.2, exploration_share=0.5, env=env))
    agent = jax.eval_shape(loop.init, inputs).agent
    told = ((0, 1.0, 0.5), (6, 1.0, 0.4063), (22, 0.6, 0.1563), (60, 0.2, 0.0))
    for interaction, chance, shaping in told:
        now = loop._now(agent, jnp.int32(interaction))
        assert float(now.exploration) == pytest.approx(chance)
        assert float(now.shaping) == pytest.approx(shaping, abs=1e-4)


def test_a_team_that_is_reset_is_seen_as_it_was_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told of an episode's end is of the state it ended in, not of the next episode."""
    env = crew.crew()
    envs = vector.reset(env, KEY, 3)
    for t in range(4):
        before = envs
        action = jnp.zeros(9, jnp.int32)
        envs, seen = vector.step(env, jax.random.fold_in(KEY, t), envs, action, 1)
        np.testing.assert_array_equal(seen.successor.time, before.env.time + 1)
        np.testing.assert_array_equal(seen.successor.secret, before.env.secret)


def test_health_is_measured_on_what_those_saw_who_acted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on what the dead and the waiting saw, nor on what an episode ended with."""
    loop, state = learner("qmix", monkeypatch)
    interact = jax.jit(loop.interact)
    for t in range(12):
        state, _ = interact(state, jnp.int32(t), keys_of(t))
    told: dict[str, Any] = {}
    monkeypatch.setattr(mixing, "health", lambda probed, settings: told.update(probed) or {})

    def diagnose(chooser: Any, config: Any, critic: Any, supports: Any, view: Any, memories: Any) -> Any:
        told.update(seen=view.observation, memory=memories.acting)
        return {}

    monkeypatch.setattr(choosing, "diagnose", diagnose)
    batch = loop.replaying.batch(state, KEY, 256)
    loop.agent.diagnose(state.agent, batch)
    here, rows = np.asarray(~batch.last[0]), jax.tree.map(lambda x: np.asarray(x)[0], batch)
    acts = rows.weight * here[:, None] > 0
    assert 0 < acts.sum() < 256 * 3
    np.testing.assert_array_equal(told["seen"], rows.observation[acts][:256])
    np.testing.assert_array_equal(told["memory"], rows.memory[acts][:256])
    values, central = told["mixer"].inputs
    assert len(values) == len(central) == 256
    np.testing.assert_array_equal(central[: here.sum()], rows.state[here])
    parts = mixing.build(loop.config, loop.env, 100)
    q = joining.values(parts, state.agent.critic, state.agent.supports, batch)
    best = np.asarray(q)[0].max(axis=-1) * rows.weight
    np.testing.assert_allclose(values[: here.sum()], best[here], rtol=1e-4, atol=1e-5)


def test_costs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every weight of the agents' network is used on 3 agents' 6 · 5 rows, the mixer's on 6 · 5, forward
    and back (3) and once more for targets."""
    crew.install(monkeypatch)
    costs = prepare_pack([config_of("qmix", sparsity=0.0)]).runs[0].costs
    critic = 2 * 8 + 6 * 8 * 8 + 8 * 3
    mixer = 3 * (16 + 16 + 4 + 4) + 16 * 3 * 4 + 16 * 4 + 4
    assert costs.flops_per_update == costs.flops_per_update_dense == 2 * 4 * 30 * (3 * critic + mixer)
    assert costs.parameters["critic"].total == critic + 8 + 4 * 8 + 3
    assert costs.parameters["mixer"].total == mixer_parameters(3, 3, 4, 16) == mixer + 40 + 12 + 4 + 1
    half = prepare_pack([config_of("qmix", sparsity=0.5)]).runs[0].costs
    kept = {name: half.parameters[name].nonzero for name in ("critic", "mixer")}
    assert kept == {"critic": critic // 2 + 43, "mixer": mixer // 2 + 57}
    assert half.flops_per_update == 2 * 4 * 30 * (3 * critic // 2 + mixer // 2)
    own = prepare_pack([config_of("qmix", sparsity=0.5, mixer=0.25)]).runs[0].costs
    assert own.parameters["critic"].nonzero == kept["critic"]
    assert own.parameters["mixer"].nonzero == mixer - mixer // 4 + 57
