"""Levels in the vector layer and in the loops: on which level episodes begin, and when it is drawn."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig, off_policy, on_policy

from sparse_rl import envs
from sparse_rl.agents import Streams
from sparse_rl.envs import Env, Step, registry, vector
from sparse_rl.envs.contract import Levels
from sparse_rl.envs.hiding import hide
from sparse_rl.envs.sticky import sticky
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops.replaying import InteractionKeys
from sparse_rl.records import results

KEY = jax.random.key(4)


class Rail(NamedTuple):
    """A level: frames to its end, and a number that nothing but it has."""

    length: Any
    mark: Any


def _see(level: Rail, time: Any) -> jax.Array:
    return jnp.stack([level.mark, 0.5 * time, 3.0 + 0.0 * level.mark]).astype(jnp.float32)


def rails(discrete: bool = True) -> Env:
    """Episodes of 2 to 4 frames, truncated after 3, that show whose level they are in."""

    def sample(key: jax.Array) -> Rail:
        length, mark = jax.random.split(key)
        return Rail(
            jax.random.randint(length, (), 2, 5), jax.random.uniform(mark, minval=1.0, maxval=9.0)
        )

    def begin(level: Rail) -> tuple[Any, jax.Array]:
        return (level, jnp.int32(0)), _see(level, 0)

    def step(key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        level, time = state[0], state[1] + 1
        return (level, time), Step(_see(level, time), level.mark, time >= level.length)

    def nothing(*_: Any) -> Any:
        raise AssertionError("of no use here")

    return Env(
        name="rails",
        observation_size=3,
        action_size=2,
        episode_length=3,
        discrete=discrete,
        reset=lambda key: begin(sample(key)),
        step=step,
        levels=Levels(
            sample=sample,
            begin=begin,
            mutate=nothing,
            describe=nothing,
            best=nothing,
            solved=nothing,
            sets=nothing,
        ),
    )


def without_draws(env: Env) -> Env:
    """The same, in which nothing may be sampled."""
    assert env.levels is not None

    def refuse(key: jax.Array) -> Any:
        raise AssertionError("a level was drawn")

    return dataclasses.replace(env, reset=refuse, levels=dataclasses.replace(env.levels, sample=refuse))


GIVEN = Rail(jnp.array([2, 4, 3, 9]), jnp.array([1.5, 2.5, 4.25, 7.0]))


def play(env: Env, state: Any, steps: int) -> tuple[Any, np.ndarray, Any]:
    """The state after so many interactions, what was seen before each, and what each brought."""
    n = len(state.elapsed)

    def one(state: Any, key: jax.Array) -> Any:
        after, brought = vector.step(env, key, state, jnp.zeros(n, jnp.int32), 1)
        return after, (state.observation, brought)

    after, (seen, brought) = jax.jit(lambda s: jax.lax.scan(one, s, jax.random.split(KEY, steps)))(state)
    return after, np.asarray(seen), jax.tree.map(np.asarray, brought)


def test_every_episode_begins_on_the_actors_own_level_and_nothing_is_drawn() -> None:
    """Ends of both kinds, at different times; marks say on which level each actor is."""
    env = without_draws(rails())
    state, seen, brought = play(env, vector.begin(env, GIVEN), 7)
    assert (seen[..., 0] == np.asarray(GIVEN.mark)).all()
    assert (2 * seen[..., 1]).astype(int).T.tolist() == [
        [0, 1, 0, 1, 0, 1, 0], [0, 1, 2, 0, 1, 2, 0], [0, 1, 2, 0, 1, 2, 0], [0, 1, 2, 0, 1, 2, 0]
    ]  # fmt: skip
    assert brought.terminated[:3].T.tolist() == [
        [False, True, False], [False] * 3, [False, False, True], [False] * 3
    ]  # fmt: skip
    assert brought.truncated[2].tolist() == [False, True, False, True]
    np.testing.assert_allclose(brought.episode_return[2], [1.5, 7.5, 12.75, 21.0])
    np.testing.assert_array_equal(state.elapsed, [1, 1, 1, 1])
    np.testing.assert_allclose(state.episode_return, GIVEN.mark)
    for now, given in zip(state.level, GIVEN, strict=True):
        np.testing.assert_array_equal(now, given)


def test_without_a_curriculum_each_episode_has_another_level_than_the_one_before() -> None:
    """Six actors begin on six levels, and go on on six others: no two alike."""
    env = rails()
    start = vector.reset(env, KEY, 6)
    assert len({*np.asarray(start.observation)[:, 0], *np.asarray(start.level.mark)}) == 12
    _, seen, _ = play(without_draws(env), start, 8)
    first, last = seen[0, :, 0], seen[-1, :, 0]
    np.testing.assert_array_equal(first, start.observation[:, 0])
    np.testing.assert_array_equal(last, start.level.mark)


def test_levels_drawn_ahead_change_what_begins_and_not_what_goes_on() -> None:
    env = rails()
    start, _, _ = play(env, vector.reset(env, KEY, 6), 1)
    ahead = vector.draw_ahead(env, jax.random.key(9), start)
    for old, new in zip(start[:-1], ahead[:-1], strict=True):
        assert jax.tree.all(jax.tree.map(lambda a, b: (np.asarray(a) == b).all(), old, new))
    marks = np.concatenate([start.observation[:, 0], start.level.mark, ahead.level.mark])
    assert len(np.unique(marks)) == 18
    _, seen, _ = play(without_draws(env), ahead, 3)
    np.testing.assert_array_equal(seen[0, :, 0], start.observation[:, 0])
    np.testing.assert_array_equal(seen[-1, :, 0], ahead.level.mark)


def test_levels_drawn_ahead_are_the_generators() -> None:
    env, n = rails(), 6000
    for level in (
        vector.reset(env, KEY, n).level,
        vector.draw_ahead(env, KEY, vector.reset(env, KEY, n)).level,
    ):
        shares = np.bincount(np.asarray(level.length), minlength=5)[2:] / n
        np.testing.assert_allclose(shares, 1 / 3, atol=4 * (2 / 9 / n) ** 0.5)
        assert abs(float(level.mark.mean()) - 5.0) < 4 * 8 / 12**0.5 / n**0.5


def test_the_first_levels_of_a_reset_are_those_of_its_environments() -> None:
    env = rails()
    _, alone = jax.vmap(env.reset)(jax.random.split(KEY, 3))
    np.testing.assert_array_equal(vector.reset(env, KEY, 3).observation, alone)


def test_where_there_are_no_levels_there_is_nothing_more() -> None:
    env = envs.make("probe", "truncation")
    assert isinstance(env, Env)
    state = vector.reset(env, KEY, 2)
    assert state.level == ()
    assert len(jax.tree.leaves(state)) == 5


def test_stacked_observations_begin_with_the_first_again_and_again() -> None:
    env = dataclasses.replace(rails(), observation_size=6, frames=2)
    _, seen, _ = play(env, vector.begin(env, GIVEN), 3)
    np.testing.assert_array_equal(seen[0, :, :3], seen[0, :, 3:])
    np.testing.assert_array_equal(seen[1, :, :3], seen[0, :, 3:])
    assert seen[2, 0].tolist() == [1.5, 0.0, 3.0, 1.5, 0.0, 3.0]  # its episode ended


def test_what_wraps_an_environment_begins_on_levels_too() -> None:
    """Sticky actions and hidden components, one in the other."""
    env = sticky(hide(rails(), [1]), 0.3)
    assert env.levels is not None
    state = vector.begin(env, GIVEN)
    assert state.observation.tolist() == [[mark, 3.0] for mark in GIVEN.mark.tolist()]
    np.testing.assert_array_equal(state.env.action, np.zeros(4))
    _, seen, _ = play(without_draws(env), state, 5)
    assert (seen[..., 0] == np.asarray(GIVEN.mark)).all()
    begun, first = env.levels.begin(Rail(jnp.int32(2), jnp.float32(6.0)))
    assert int(begun.action) == 0
    assert first.tolist() == [6.0, 3.0]
    plain = envs.make("probe", "choice")
    assert isinstance(plain, Env)
    assert sticky(plain, 0.3).levels is None


def ahead(seed: int, time: int, n: int) -> Any:
    """The levels that are drawn for n actors, from the run's key."""
    key = jax.random.fold_in(jax.random.fold_in(key_of(seed), Streams.LEVELS), time)
    levels = rails().levels
    assert levels is not None
    return jax.vmap(levels.sample)(jax.random.split(key, n))


def test_an_on_policy_loop_draws_levels_before_each_rollout(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.SOURCES, "probe", lambda task: rails())
    agent = {"name": "ppo", "num_envs": 4, "num_steps": 6, "minibatches": 2, "epochs": 1}
    sizes = {"env_steps": 48, "log_every": 24, "eval_every": 48}
    config = make_config(agent=agent, env={"source": "probe", "task": "rails"}, seed=3, width=8, **sizes)
    loop, inputs = on_policy(config)
    iterate = jax.jit(lambda state, i: loop.iterate(state, i))
    state = loop.init(inputs)
    for i in range(2):
        state, _, seen = iterate(state, jnp.int32(i))
        np.testing.assert_array_equal(state.envs.level.mark, ahead(3, i, 4).mark)
        marks = np.asarray(seen.view.observation)[:, 0].reshape(6, 4)
        for actor in range(4):
            assert ahead(3, i, 4).mark[actor] in marks[:, actor]
            assert len(set(marks[:, actor])) == 2  # the episode that was going on, and those that began


def test_an_off_policy_loop_draws_levels_before_each_interaction(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no two episodes of an actor are on one level."""
    monkeypatch.setitem(registry.SOURCES, "probe", lambda task: rails(discrete=False))
    config = make_config(env={"source": "probe", "task": "rails"}, seed=5, width=8)
    loop, inputs = off_policy(config)
    interact = jax.jit(loop.interact)
    state, marks = loop.init(inputs), []
    key = jax.random.key(2)
    for i in range(12):
        keys = InteractionKeys(*jax.random.split(jax.random.fold_in(key, i), 3))
        state, _ = interact(state, jnp.int32(i), keys)
        np.testing.assert_array_equal(state.envs.level.mark, ahead(5, i, 1).mark)
        marks.append(float(state.envs.observation[0, 0]))
    begun = [mark for i, mark in enumerate(marks) if i == 0 or mark != marks[i - 1]]
    assert 4 <= len(begun) == len(set(begun))


def test_levels_are_part_of_a_checkpoint(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.SOURCES, "probe", lambda task: rails())
    agent = {"name": "ppo", "num_envs": 4, "num_steps": 6, "minibatches": 2, "epochs": 1}
    sizes = {"env_steps": 48, "log_every": 24, "eval_every": 48}
    config = make_config(agent=agent, env={"source": "probe", "task": "rails"}, width=8, **sizes)
    loop, inputs = on_policy(config)
    state = loop.init(inputs)
    arrays = loop.to_disk(state)
    assert {"envs/level/length", "envs/level/mark"} <= set(arrays)
    again = loop.from_disk(arrays, inputs)
    np.testing.assert_array_equal(again.envs.level.mark, state.envs.level.mark)


def test_an_evaluation_draws_levels_at_its_beginning_alone(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole episodes on random levels: as many draws in the program as environments begin, twice."""
    drawn = []
    env = rails()
    assert env.levels is not None
    sample = env.levels.sample

    def counted(key: jax.Array) -> Any:
        drawn.append(1)
        return sample(key)

    begin = env.levels.begin
    env = dataclasses.replace(
        env,
        reset=lambda key: begin(counted(key)),
        levels=dataclasses.replace(env.levels, sample=counted),
    )
    monkeypatch.setitem(registry.SOURCES, "probe", lambda task: env)
    agent = {"name": "ppo", "num_envs": 4, "num_steps": 6, "minibatches": 2, "epochs": 1}
    sizes = {"env_steps": 48, "log_every": 24, "eval_every": 48}
    task = {"source": "probe", "task": "rails", "eval_episodes": 40}
    loop, inputs = on_policy(make_config(agent=agent, env=task, width=8, **sizes))
    state = loop.init(inputs)
    drawn.clear()
    found = jax.jit(lambda s: loop.evaluate(jnp.int32(0), s))(state)
    assert len(drawn) == 2
    assert float(found[results.EPISODES_DISTINCT]) == 40.0
