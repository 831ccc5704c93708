"""Agents that remember, in environments of the host: five actors in two groups of unequal size, with
episodes that end at different times and in both ways, beside plain numpy."""

import functools
from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tides
from compilations import count_compilations
from conftest import parts_of
from numpy_networks import as_float64, dense, gru, lstm, relu
from tides_on_host import Scripted, env_of, fresh

from sparse_rl.agents import ON_POLICY, Experience, Learned, Memories, View
from sparse_rl.agents.actor_critic import evaluate_actions
from sparse_rl.agents.contract import RunInputs
from sparse_rl.envs import ActorsLostError, HostStep
from sparse_rl.loops.hosted import hosting
from sparse_rl.loops.hosted import sessions as hosted
from sparse_rl.loops.hosted.on_policy import Compiled, Driver, HostLoop, OnDevice
from sparse_rl.loops.hosted.parts import Told
from sparse_rl.loops.learning import LearnerState
from sparse_rl.records import results
from sparse_rl.settings.run import RunConfig, run_config

N, T, REPEAT, SIZES, ROLLOUTS = 5, 12, 2, (2, 3), 2
DISCOUNT = 0.9
CELLS = ("gru", "lstm")
PAAC = {"name": "paac", "num_envs": N, "num_steps": T, "memory": "gru"}
PPO = PAAC | {"name": "ppo", "minibatches": 5, "discount": DISCOUNT, "gae_lambda": 0.0}
PROGRAMS = {f"jit({name})" for name in ("init", "act", "value", "learn", "row", "greedily")}


def config_of(agent: dict[str, Any]) -> RunConfig:
    """Chunks of two rollouts of twelve interactions, of two frames each."""
    frames = ROLLOUTS * agent["num_envs"] * T * REPEAT
    return run_config(
        {
            "agent": agent,
            "env": {"source": "probe", "task": "constant", "action_repeat": REPEAT, "eval_episodes": 6},
            "pruning": {},
            "diagnostics": {},
            "width": 6,
            "env_steps": 2 * frames,
            "log_every": frames,
            "eval_every": frames,
        }
    )


def loop_of(config: RunConfig, opened: list[Scripted]) -> HostLoop:
    """Sessions end after seven interactions or more."""
    env = env_of(7, opened)
    return HostLoop(config, env, ON_POLICY[config.agent.name](config, env))


INPUTS = RunInputs(np.uint32(3), np.uint32(4), np.float32(0.1), {"actor": {}, "critic": {}})


class Rolled(NamedTuple):
    """What the learner was handed of a rollout."""

    learner: LearnerState
    seen: np.ndarray
    """``[T, N, 3]``."""
    action: np.ndarray
    log_prob: np.ndarray
    memory: Any
    """Before each step, ``[T, N, M]``."""
    told: Told
    last: np.ndarray
    """``[N, 3]``."""

    @property
    def ended(self) -> np.ndarray:
        return np.asarray(self.told.terminated | self.told.truncated)


class Chunk(NamedTuple):
    """What a learner, whose weights stay as they are, made of two rollouts."""

    loop: HostLoop
    rollouts: list[Rolled]
    experiences: list[Experience]
    probes: list[tuple[View, Memories]]
    learner: LearnerState
    """After it."""


def rolled(learner: LearnerState, answers: Any, told: Told, last: Any) -> Rolled:
    def by_time(*groups: Any) -> np.ndarray:
        """``T`` arrays of each group, ``[T, N, …]``."""
        return np.concatenate([np.stack(group) for group in groups], axis=1)

    of_groups = [jax.tree.map(lambda *x: np.stack(x), *group) for group in answers]
    held = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *of_groups)
    return Rolled(learner, held.observation, held.action, held.log_prob, held.memory, told,
                  np.concatenate(last))  # fmt: skip


@functools.cache
def chunk(cell: str, length: int | None = None) -> Chunk:
    """As in the middle of a run: biases are not 0, and something is remembered."""
    loop = loop_of(config_of(PPO | {"memory": cell, "sequence_length": length}), [])
    experiences: list[Any] = []
    rollouts: list[Any] = []
    probes: list[Any] = []

    def update(state: Any, experience: Any, progress: Any, key: Any) -> Any:
        experiences.append(experience)
        return state, Learned({}, jnp.int32(1))

    def diagnose(state: Any, view: View, memories: Memories) -> Any:
        probes.append((view, memories))
        return {}

    spied = loop._replace(agent=loop.agent._replace(update=update, diagnose=diagnose))
    device = OnDevice(spied.learning, loop.env)

    def learn(learner: Any, answers: Any, told: Any, last: Any, memory: Any, i: Any) -> Any:
        rollouts.append(rolled(learner, answers, told, last))
        return device.learn(learner, answers, told, last, memory, i)

    unused: Any = None
    acts: Any = dict.fromkeys(SIZES, jax.jit(device.act))
    programs = Compiled(acts, {}, learn, unused, device.row, unused, nothing=unused)
    programs = programs._replace(add=lambda a, b: jax.tree.map(jnp.add, a, b))
    state = jax.jit(loop.init)(INPUTS)
    random = np.random.default_rng(5)

    def moved(x: jax.Array) -> jax.Array:
        return x + jnp.asarray(random.normal(0.0, 0.3, x.shape), x.dtype)

    learner = state.learner
    networks = jax.tree.map(moved, learner.agent.networks)
    learner = learner._replace(
        agent=learner.agent._replace(networks=networks), memory=jax.tree.map(moved, learner.memory)
    )
    state, _ = Driver(spied.learning, loop.env, programs).chunk(0, state._replace(learner=learner))
    return Chunk(loop, rollouts, experiences, probes, state.learner)


def together(groups: Any) -> Any:
    """Memories of the groups as one, ``[N, M]``."""
    return jax.tree.map(lambda *x: np.concatenate(x), *groups)


def after(cell: str, params: Any, memory: Any, seen: np.ndarray) -> tuple[Any, np.ndarray]:
    """The memory after a step, and what the heads see of it; float64."""
    hidden = relu(dense(seen, params["trunk"]["dense_0"]))
    if cell == "gru":
        memory = gru(params["cell"], memory, hidden)
        return memory, memory
    memory = lstm(params["cell"], memory, hidden)
    return memory, memory[1]


def without(memory: Any, ended: np.ndarray) -> Any:
    return jax.tree.map(lambda x: np.where(ended[:, None], 0.0, x), memory)


def close(memory: Any, expected: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), memory, expected)


def check_covers(made: Chunk) -> None:
    """That in these rollouts everything happens that could be mixed up."""
    first, second = made.rollouts
    assert 0 < first.ended[-1].sum() < N
    assert 0 < second.ended[-1].sum() < N
    for each in made.rollouts:
        assert each.told.terminated.any()
        times = each.told.truncated.sum(axis=0)
        assert times.max() >= 2
        assert len(set(times.tolist())) > 1


@pytest.mark.parametrize("cell", CELLS)
def test_what_acts_on_the_host_remembers_its_own_episode(cell: str) -> None:
    """Each actor's memory before each step, over two rollouts, is that of its steps one by one; it is
    zero where an episode begins and nowhere else; and actions are drawn with it."""
    made = chunk(cell)
    check_covers(made)
    params = as_float64(made.learner.agent.networks["actor"])
    memory = as_float64(together(made.rollouts[0].learner.memory.acting))
    begins = np.zeros(N, bool)
    for each in made.rollouts:
        for t in range(T):
            held = jax.tree.map(lambda x, t=t: x[t], each.memory)
            close(held, memory)
            for x in jax.tree.leaves(held):
                np.testing.assert_array_equal((x == 0.0).all(axis=1), begins)
            memory, hidden = after(cell, params, memory, each.seen[t])
            mean, log_std = dense(hidden, params["mean"]), params["log_std"]
            away = (each.action[t] - mean) / np.exp(log_std)
            density = (-0.5 * away**2 - log_std - 0.5 * np.log(2.0 * np.pi)).sum(-1)
            np.testing.assert_allclose(each.log_prob[t], density, rtol=1e-4, atol=1e-4)
            begins = each.ended[t]
            memory = without(memory, begins)
    close(together(made.learner.memory.acting), memory)
    assert [len(jax.tree.leaves(group)[0]) for group in made.learner.memory.acting] == list(SIZES)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("length", [None, 4])
def test_what_was_just_collected_on_the_host_has_ratio_one(cell: str, length: int | None) -> None:
    made = chunk(cell, length)
    agent, pieces = made.learner.agent, length or T
    for each, experience in zip(made.rollouts, made.experiences, strict=True):
        assert experience.action.shape == (N * T // pieces, pieces, 2)
        now = evaluate_actions(parts_of(made.loop), agent.networks, agent.supports, experience)
        np.testing.assert_allclose(now.log_prob, experience.log_prob, atol=1e-6)
        np.testing.assert_allclose(now.value, experience.value, rtol=1e-5, atol=1e-5)
        begun = jax.tree.map(lambda x: x[::pieces].reshape(-1, x.shape[-1]), each.memory)
        jax.tree.map(np.testing.assert_array_equal, experience.memory.acting, begun)


@pytest.mark.parametrize("cell", CELLS)
def test_values_on_the_host_are_those_of_the_steps_one_by_one(cell: str) -> None:
    """Where time ran out that of the true successor, with the memory that was there."""
    made = chunk(cell)
    check_covers(made)
    params = as_float64(made.learner.agent.networks["critic"])
    memory = as_float64(made.rollouts[0].learner.memory.valuing)

    def value(memory: Any, seen: np.ndarray) -> tuple[np.ndarray, Any]:
        memory, hidden = after(cell, params, memory, seen)
        return dense(hidden, params["value"])[:, 0], memory

    seen, given = (
        np.concatenate([getattr(each, name) for each in made.rollouts]) for name in ("seen", "action")
    )
    brought = tides.field(tides.played(seen, np.clip(given, -1.0, 1.0), REPEAT), "observation")
    true_successors = brought.reshape(ROLLOUTS, T, N, 3)
    for each, experience, true in zip(made.rollouts, made.experiences, true_successors, strict=True):
        values, successors = np.zeros((T, N)), np.zeros((T, N))
        for t in range(T):
            values[t], there = value(memory, each.seen[t])
            memory = without(there, each.ended[t])
            following = each.last if t == T - 1 else each.seen[t + 1]
            out_of_time = value(there, true[t])[0]
            successors[t] = np.where(each.told.truncated[t], out_of_time, value(memory, following)[0])
        np.testing.assert_allclose(experience.value, values.T, rtol=1e-4, atol=1e-4)
        goes_on = DISCOUNT * np.where(each.told.terminated, 0.0, successors)
        expected = each.told.reward + goes_on - values  # λ is 0
        np.testing.assert_allclose(experience.advantage, expected.T, atol=1e-3)
    close(made.learner.memory.valuing, memory)


def test_health_is_measured_on_what_was_seen_and_remembered_together() -> None:
    """Each sight with the memories of its own actor and step."""
    made = chunk("gru")
    ((view, memories),) = made.probes
    seen = np.concatenate([each.seen.reshape(-1, 3) for each in made.rollouts])
    held = np.concatenate([each.memory.reshape(-1, 6) for each in made.rollouts])
    assert len(np.unique(seen, axis=0)) == len(seen) == ROLLOUTS * N * T
    where = [np.flatnonzero((seen == look).all(axis=1)).item() for look in np.asarray(view.observation)]
    assert sorted(where) == list(range(ROLLOUTS * N * T))
    np.testing.assert_array_equal(memories.acting, held[where])
    valuing = np.zeros((ROLLOUTS, T, N, 6))
    memory = as_float64(made.rollouts[0].learner.memory.valuing)
    params = as_float64(made.learner.agent.networks["critic"])
    for i, each in enumerate(made.rollouts):
        for t in range(T):
            valuing[i, t] = memory
            memory = without(after("gru", params, memory, each.seen[t])[0], each.ended[t])
    np.testing.assert_allclose(memories.valuing, valuing.reshape(-1, 6)[where], atol=1e-5)


class Breaking(Scripted):
    """Breaks off at its third interaction."""

    def receive(self) -> HostStep:
        self.received = getattr(self, "received", 0) + 1
        if self.received == 3:
            raise ActorsLostError("gone")
        return super().receive()


def greedy(seen: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """By hand: what was seen before decides, and what is seen now."""
    return np.stack([0.9 - 0.2 * memory, 0.15 * seen[:, 0] - 0.3], axis=1)


@pytest.mark.parametrize("breaks", [False, True])
def test_an_evaluation_on_the_host_begins_without_memory(breaks: bool) -> None:
    """It carries what it saw from step to step, and where it broke off and is tried again, or is the
    second one, it carries nothing from before."""
    opened: list[Scripted] = []
    loop = loop_of(config_of(PPO), opened)
    config, env = loop.config, loop.env
    living = hosting.Living(config, env, 3, hosted.begin(env, config.env, N), 2)
    if breaks:
        living._evaluating = Breaking(6, REPEAT)

    def acts(learner: Any, seen: np.ndarray, memory: np.ndarray) -> Any:
        return greedy(seen, memory), 0.5 * memory + seen[:, 0]

    unused: Any = None
    programs = Compiled(unused, unused, unused, unused, unused, acts, nothing=np.zeros(6))
    driver = Driver(loop.learning, env, programs)
    state = hosting.HostState(unused, unused, unused, living)
    rows = [driver.evaluate(20, state) for _ in range(2)]
    returns = []
    for seed in opened[2].seeded[:6]:
        twin, memory = fresh(seed, 0), np.zeros(1)
        while True:
            look = np.array([[twin.level, 0.0, 0.0]], np.float32)
            brought = twin.interact(greedy(look, memory)[0], REPEAT)
            memory = 0.5 * memory + look[:, 0]
            if brought.terminated or brought.truncated:
                break
        returns.append(brought.total)
    assert rows[0] == rows[1]
    assert rows[0]["return_mean"] == pytest.approx(float(np.mean(returns)), rel=1e-5)
    assert living.restarts() == {results.RESTARTS: float(breaks)}


def test_the_deterministic_policy_of_the_host_remembers() -> None:
    """What a run's own program gives, over three steps that follow each other."""
    made = chunk("gru")
    device = OnDevice(made.loop.learning, made.loop.env)
    params = as_float64(made.learner.agent.networks["actor"])
    memory: Any = jnp.zeros((N, 6))
    plain = np.zeros((N, 6))
    for seen in made.rollouts[0].seen[:3]:
        given, memory = device.greedily(made.learner, jnp.asarray(seen), memory)
        plain, hidden = after("gru", params, plain, seen)
        expected = np.clip(dense(hidden, params["mean"]), -1.0, 1.0)
        np.testing.assert_allclose(given, expected, atol=1e-5)
        np.testing.assert_allclose(memory, plain, atol=1e-5)


def test_a_rollout_on_the_host_is_counted_with_its_memories() -> None:
    """Twelve steps and what is seen after them, four times that time may run out, and six units."""
    loop = loop_of(config_of(PPO), [])
    shapes = jax.tree.leaves(loop.workload(jax.eval_shape(loop.init, INPUTS)).rollout)
    assert sum(x.size for x in shapes) == (12 + 1 + 4) * 5 * 3 + 12 * 5 * 6


@pytest.mark.parametrize("num_envs", [1, N])
def test_a_run_with_memory_compiles_its_programs_once(num_envs: int) -> None:
    """One to answer each size of a group, none to value on the way, and nothing while it runs; nor does
    what one evaluation remembered reach the next."""
    loop = loop_of(config_of(PAAC | {"num_envs": num_envs}), [])
    with count_compilations() as compiled:
        init, chunk, evaluate = loop.compile(INPUTS, {})
    names = Counter(name for name in compiled if name in PROGRAMS)
    once = Counter(f"jit({name})" for name in ("init", "learn", "row", "greedily"))
    assert names == once | Counter({"jit(act)": len({*hosted.sizes(num_envs, min(2, num_envs))})})
    state, _ = chunk(np.int32(0), init(INPUTS))
    first = evaluate(np.int32(0), state)
    with count_compilations() as again:
        state, row = chunk(np.int32(ROLLOUTS * T), state)
        assert evaluate(np.int32(0), state)["return_mean"] != first["return_mean"]
        evaluate(np.int32(0), state)
    assert not again
    assert 0.0 <= float(row["saturation/actor"]) <= 1.0
    assert jnp.isfinite(jnp.stack([jnp.asarray(value) for value in row.values()])).all()
