"""The host loop's parts on scripted environments: three observations, two actions, five of them in two
groups of unequal size, with episodes that end at different times and in both ways."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tides
from conftest import MakeConfig
from puppets import puppet, value_of
from tides_on_host import Scripted, env_of, fresh

from sparse_rl.agents.contract import Memories, Streams
from sparse_rl.envs import HostEnv
from sparse_rl.loops.evaluation import evaluation_key
from sparse_rl.loops.hosted import hosting
from sparse_rl.loops.hosted import sessions as hosted
from sparse_rl.loops.hosted.on_policy import Compiled, Driver, HostLoop, OnDevice
from sparse_rl.loops.hosted.parts import Answer, Told
from sparse_rl.loops.learning import LearnerState
from sparse_rl.records import results
from sparse_rl.settings.run import RunConfig

N, T, REPEAT = 5, 4, 2


def config_of(make_config: MakeConfig) -> RunConfig:
    """Chunks of two rollouts of four interactions of five actors, of two frames each."""
    env = {"source": "probe", "task": "constant", "action_repeat": REPEAT, "eval_episodes": 6}
    agent = {"name": "paac", "num_envs": N, "num_steps": T, "discount": 0.9}
    budget = {"env_steps": 160, "log_every": 80, "eval_every": 80}
    return make_config(agent=agent, env=env, **budget)


def actions_of(iteration: Any, t: Any, group: Any, n: int) -> np.ndarray:
    """Another one at every time, of every group and of every actor."""
    return np.array([[0.1 * t + 0.02 * i - 0.3, 0.3 * group - 0.05 * iteration] for i in range(n)])


class Counting(NamedTuple):
    """What is on the device: how many updates were made, and no memory of the two groups."""

    updates: float
    memory: Memories = Memories(acting=((), ()))


class Learner:
    """The programs of a learner that writes down what it is given."""

    def __init__(self) -> None:
        self.learned: list[Any] = []
        self.rows: list[Any] = []

    def act(
        self, learner: Any, i: Any, t: Any, group: Any, observation: Any, memory: Any, ended: Any
    ) -> Any:
        n = len(observation)
        given = actions_of(i, t, group, n).astype(np.float32)
        return given, 10.0 * given, np.full(n, 100.0 * group + t), memory, memory

    def value(self, learner: Any, observation: Any) -> Any:
        return value_of(np.asarray(observation), learner.updates)

    def learn(self, learner: Any, answers: Any, told: Told, last: Any, memory: Any, i: Any) -> Any:
        seen = [
            np.concatenate([np.asarray(group[t].observation) for group in answers]) for t in range(T)
        ]
        self.learned.append((answers, told, [np.asarray(x) for x in last], int(i), np.array(seen)))
        return Counting(learner.updates + 1.0), {"sum": np.float32(10.0 ** int(i))}, np.concatenate(seen)

    def programs(self) -> Compiled:
        sizes = hosted.sizes(N, 2)

        def row(learner: Any, totals: Any, probe: Any, end: Any) -> Any:
            self.rows.append((learner.updates, totals, probe, int(end)))
            return {}

        def add(a: Any, b: Any) -> Any:
            return jax.tree.map(np.add, a, b)

        acts, values = dict.fromkeys(sizes, self.act), dict.fromkeys(sizes, self.value)
        unused: Any = None
        return Compiled(acts, values, self.learn, add, row, greedily=unused, nothing=())


def chunks(config: RunConfig, env: HostEnv) -> tuple[Learner, hosting.HostState]:
    """Two chunks by hand."""
    made, loop = Learner(), HostLoop(config, env, puppet(N)[0])
    driver = Driver(loop.learning, env, made.programs())
    state: Any = hosting.begin(config, env, Counting(0.0), 3)
    for first in (0, 2 * T):
        state, _ = driver.chunk(first, state)
    return made, state


def test_a_rollout_on_the_host_is_what_its_environments_bring(make_config: MakeConfig) -> None:
    """Each group is given its own answers; a truncation is worth its own successor's value."""
    made, _ = chunks(config_of(make_config), env_of(1000, []))
    seen = np.concatenate([each[4] for each in made.learned])
    given = np.array([
        np.concatenate([actions_of(i, t, g, n) for g, n in enumerate(hosted.sizes(N, 2))])
        for i in range(4)
        for t in range(T)
    ])  # fmt: skip
    assert [each[3] for each in made.learned] == [0, 1, 2, 3]
    found = tides.played(seen, given, REPEAT)
    names = {"reward": "reward", "terminated": "terminated", "truncated": "truncated"}
    for field, name in (names | {"episode_return": "total"}).items():
        told = np.concatenate([getattr(each[1], field) for each in made.learned])
        np.testing.assert_allclose(told, tides.field(found, name), rtol=1e-5, err_msg=field)
    updates = np.repeat(np.arange(4.0), T)[:, None]
    worth = value_of(tides.field(found, "observation"), updates)
    truncated = tides.field(found, "truncated")
    assert truncated.sum() > 3
    final = np.concatenate([each[1].final_value for each in made.learned])
    np.testing.assert_allclose(final, np.where(truncated, worth, 0.0), rtol=1e-4)
    for now, after in zip(made.learned, made.learned[1:], strict=False):
        np.testing.assert_array_equal(np.concatenate(now[2]), after[4][0])
    for answers, *_ in made.learned:
        for g, group in enumerate(answers):
            assert [float(answer.log_prob[0]) for answer in group] == [100.0 * g + t for t in range(T)]


def test_a_chunk_on_the_host_adds_up_its_rollouts(make_config: MakeConfig) -> None:
    """Health is measured on the last of them, in their order of time."""
    made, _ = chunks(config_of(make_config), env_of(1000, []))
    assert [(float(x[0]), float(x[1]["sum"]), x[3]) for x in made.rows] == [
        (2.0, 11.0, 2),
        (4.0, 1100.0, 4),
    ]
    for row, learned in zip(made.rows, (made.learned[:2], made.learned[2:]), strict=True):
        for probe, each in zip(row[2], learned, strict=True):
            np.testing.assert_array_equal(probe, each[4].reshape(-1, 3))


def test_sessions_end_with_the_first_episode_after_so_many_interactions(make_config: MakeConfig) -> None:
    """Seeded anew when an episode ends after four or more; no seed comes twice; and what was done since
    the last seed brings other environments to the same place."""
    opened: list[Scripted] = []
    config, env = config_of(make_config), env_of(4, opened)
    made, state = chunks(config, env)
    sessions = state.sessions
    ended = np.concatenate([each[1].terminated | each[1].truncated for each in made.learned])
    exactly = 0
    for n in range(N):
        number, length = 0, 0
        for end in ended[:, n]:
            length += 1
            exactly += end and length == 4
            if end and length >= 4:
                number, length = number + 1, 0
        assert (sessions.number[n], sessions.length[n]) == (number, length)
    assert exactly
    seeded = [seed for actors in opened for seed in actors.seeded]
    assert len(set(seeded)) == len(seeded) == N + sessions.number.sum()
    now = [twin for actors in opened for twin in actors.twins]
    np.testing.assert_allclose(sessions.episode_return, [twin.total for twin in now], rtol=1e-5)
    copy = hosted.Sessions(*(np.array(x) for x in sessions))
    groups = hosted.open_groups(env, config.env, 3, copy, 2, 1)
    again = np.concatenate([group.observation for group in groups])
    np.testing.assert_allclose(again, np.concatenate([a.look() for a in opened[:2]]), rtol=1e-6)
    assert [len(group.observation) for group in groups] == [2, 3]


def test_an_evaluation_on_the_host_is_its_episodes_and_no_more(make_config: MakeConfig) -> None:
    opened: list[Scripted] = []
    config, env = config_of(make_config), env_of(1000, opened)
    living = hosting.Living(config, env, 3, hosted.begin(env, config.env, N), 2)

    def greedily(seen: np.ndarray) -> np.ndarray:
        return 0.1 * seen[:, :2]

    rows = [living.evaluate(i, lambda: greedily) for i in (20, 20, 40)]
    seeds = opened[2].seeded
    assert seeds[:6] == seeds[6:12]
    assert len(set(seeds)) == 12
    returns, lengths = [], []
    for seed in seeds[:6]:
        twin = fresh(seed, 0)
        while True:
            look = np.array([[twin.level, 0.7 * twin.time, 0.0]])
            brought = twin.interact(greedily(look)[0], REPEAT)
            if brought.terminated or brought.truncated:
                break
        returns.append(brought.total)
        lengths.append(brought.elapsed)
    assert len(set(lengths)) > 1
    assert rows[0] == rows[1]
    assert rows[0] == pytest.approx({
        "return_mean": float(np.mean(returns)),
        "return_std": float(np.std(returns)),
        "episode_length_mean": float(np.mean(lengths)),
        results.EPISODES_DISTINCT: 6,
    }, rel=1e-5)  # fmt: skip
    assert rows[2]["return_mean"] != rows[0]["return_mean"]


def test_what_is_learned_from_is_in_the_order_of_time_and_then_of_actors(
    make_config: MakeConfig,
) -> None:
    """On the device: two groups of two and three actors become one rollout."""
    config = config_of(make_config)
    agent, told = puppet(N)
    loop = HostLoop(config, env_of(1000, []), agent)
    learner = LearnerState(**loop.learning.init(type("I", (), {"seed": np.uint32(1)}), loop.env))  # type: ignore[arg-type]
    shape = (T, N, 3)
    seen = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    action, log_prob = seen[..., :2] + 5.0, seen[..., 2] - 9.0
    parts = (slice(0, 2), slice(2, 5))
    answers = [
        [Answer(*(jnp.asarray(x[t, part]) for x in (seen, action, log_prob))) for t in range(T)]
        for part in parts
    ]
    reward = np.arange(T * N, dtype=np.float32).reshape(T, N) + 3.0
    none = np.zeros((T, N), bool)
    last = np.random.default_rng(1).normal(size=(N, 3)).astype(np.float32)
    on_device = OnDevice(loop.learning, loop.env)
    of_rollout: Any = [jnp.asarray(x) for x in (reward, none, none, reward, 0.0 * reward)]
    given = Told(*of_rollout)
    _, _, shown = on_device.learn(
        learner, answers, given, [jnp.asarray(last[part]) for part in parts], [(), ()], jnp.int32(0)
    )
    jax.effects_barrier()
    np.testing.assert_array_equal(shown.view.observation, seen.reshape(-1, 3))
    ((experience, *_),) = told.experiences
    np.testing.assert_array_equal(experience.view.observation, seen.reshape(-1, 3))
    np.testing.assert_array_equal(experience.action, action.reshape(-1, 2))
    np.testing.assert_array_equal(experience.log_prob, log_prob.reshape(-1))
    expected = reward[-1] + 0.9 * value_of(last) - value_of(seen[-1])
    np.testing.assert_allclose(experience.advantage[-N:], expected, rtol=1e-4, atol=1e-4)


def test_groups_and_moments_draw_each_for_itself(make_config: MakeConfig) -> None:
    """Answers to the same sight at two moments, of two groups and in two rollouts, all differ; and what
    the environment is given is within its range."""
    loop = HostLoop(config_of(make_config), env_of(1000, []), puppet(N)[0])
    learner = LearnerState(**loop.learning.init(type("I", (), {"seed": np.uint32(1)}), loop.env))  # type: ignore[arg-type]
    act = jax.jit(OnDevice(loop.learning, loop.env).act)
    sight = jnp.tile(jnp.array([[1.5, 0.7, -1.0]]), (3, 1))
    drawn = []
    for at in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)):
        given, action, *_ = act(learner, *map(jnp.int32, at), sight, (), jnp.zeros(3, bool))
        drawn.append(np.asarray(action))
        np.testing.assert_allclose(given, np.clip(action, -1.0, 1.0))
    assert (np.stack(drawn)[..., 0] > 1.0).any()
    assert len(np.unique(np.stack(drawn))) == 4 * 3 * 2


def test_training_evaluations_and_agents_of_a_run_draw_apart() -> None:
    """Keys of evaluations differ by their place in the run, and from all other streams."""
    key = jax.random.key(3)
    keys = [evaluation_key(key, i) for i in (0, 10, 20)]
    keys += [jax.random.fold_in(key, stream) for stream in range(8)] + [key]
    assert len({tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in keys}) == len(keys)
    numbers = [value for value in vars(Streams).values() if isinstance(value, int)]
    assert len(set(numbers)) == len(numbers) == 8


@pytest.mark.parametrize(("num_envs", "expected"), [(5, [2, 3]), (4, [2, 2]), (1, [0, 1])])
def test_groups_are_of_nearly_the_same_size(num_envs: int, expected: list[int]) -> None:
    assert hosted.sizes(num_envs, 2) == expected
