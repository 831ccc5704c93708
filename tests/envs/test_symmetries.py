"""What is the same but for its name: with other names a transcript is one of the environment too."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl import envs
from sparse_rl.envs import TeamEnv, levers, relabelled
from sparse_rl.envs.teams import relabelling, symmetric
from sparse_rl.envs.teams.jaxmarl import TASKS
from sparse_rl.loops import making

KEY = jax.random.key(5)


def group(tables: Any) -> set[tuple[int, ...]]:
    return {tuple(map(int, row)) for row in tables}


@pytest.mark.parametrize(
    ("made", "count"),
    [
        (symmetric.spread(), 12),
        (symmetric.hanabi(2, hand=3), 2),
        (levers.symmetries(), 9),
    ],
)
def test_relabellings_are_a_group(made: envs.Symmetries, count: int) -> None:
    both = np.concatenate([made.observation, made.observation.shape[1] + made.action], axis=1)
    every = group(both)
    assert len(every) == len(both) == count
    assert tuple(range(both.shape[1])) == tuple(both[0])  # the first changes nothing
    assert {tuple(row[other] for other in also) for row in every for also in every} == every


def test_one_relabelling_after_another_is_the_same_for_what_is_seen_and_done() -> None:
    """The first two change places, then the last two: what comes out depends on which was first."""
    first, second = (np.array([[0, 1, 2], swap]) for swap in ([1, 0, 2], [0, 2, 1]))
    found = relabelling.product(envs.Symmetries(first, first), envs.Symmetries(second, second))
    np.testing.assert_array_equal(found.observation, [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0]])
    np.testing.assert_array_equal(found.action, found.observation)


def test_five_colours_have_all_their_orders() -> None:
    made = symmetric.hanabi()
    assert made.observation.shape == (120, 658)
    assert made.action.shape == (120, 21)
    assert all(len(set(row)) == 658 for row in made.observation)
    # what is called the first colour is hinted at by the tenth action, whichever it is
    assert {int(row[10]) for row in made.action} == {10, 11, 12, 13, 14}
    np.testing.assert_array_equal(made.action[:, :10], np.tile(np.arange(10), (120, 1)))


def other_spread(state: Any, order: list[int], turned: bool) -> Any:
    """The state in which landmarks and axes are what they are called."""
    places = state.p_pos[jnp.array([0, 1, 2, *(3 + i for i in order)])]
    axes = slice(None, None, -1 if turned else 1)
    return state.replace(p_pos=places[:, axes], p_vel=state.p_vel[:, axes])


def other_hanabi(state: Any, order: list[int]) -> Any:
    colours = jnp.array(order)
    return state.replace(deck=state.deck[:, colours], player_hands=state.player_hands[:, :, colours])


@pytest.mark.parametrize(
    ("task", "number", "other"),
    [
        # of 6 orders times 2 of axes, the 8th: landmarks 1, 2, 0 and axes turned
        ("spread", 7, lambda state: other_spread(state, [1, 2, 0], True)),
        ("hanabi_small", 1, lambda state: other_hanabi(state, [1, 0])),
    ],
)
def test_a_relabelled_transcript_is_a_transcript(task: str, number: int, other: Any) -> None:
    """What agents see and earn who name things anew and say the same, is what they would see and earn in
    the world that is as they call it."""
    env = envs.make("jaxmarl", task)
    assert isinstance(env, TeamEnv)
    assert env.symmetries is not None
    seen_by, done_by = (table[number] for table in env.symmetries)
    state, _ = env.reset(KEY)
    called = other(state)
    step, legal = jax.jit(env.step), env.legal_actions
    rng, changed, earned = np.random.default_rng(1), 0, 0.0
    for t in range(12):
        if legal is None:
            allowed = np.ones((env.agents, env.action_size), bool)
        else:
            real = np.asarray(legal(state))
            allowed = np.asarray(legal(called))
            np.testing.assert_array_equal(real[:, done_by], allowed)
        said = np.array([rng.choice(np.flatnonzero(row)) for row in allowed])
        changed += int(np.any(done_by[said] != said))
        key = jax.random.fold_in(KEY, t)
        state, now = step(key, state, jnp.asarray(done_by[said]))
        called, then = step(key, called, jnp.asarray(said))
        np.testing.assert_allclose(now.observation[:, seen_by], then.observation, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(now.reward, then.reward, rtol=1e-5, atol=1e-6)
        assert bool(now.terminated) == bool(then.terminated)
        earned += float(np.abs(np.asarray(now.reward)).sum())
    assert changed > 1
    assert np.any(np.asarray(now.observation)[:, seen_by] != np.asarray(now.observation))
    if task == "spread":
        assert earned > 0


def test_each_agent_has_its_own_names_for_an_episode() -> None:
    """By hand, with three relabellings of two agents; names of agents and a central view stay."""
    seen_by, done_by = [[0, 1, 2], [1, 2, 0], [2, 0, 1]], [[0, 1], [1, 0], [0, 1]]
    tables = envs.Symmetries(np.array(seen_by, np.int32), np.array(done_by, np.int32))
    asked: list[Any] = []

    def step(key: Any, state: Any, action: Any) -> Any:
        asked.append(action)
        nothing = jnp.zeros(2)
        return state, envs.TeamStep(seen + 1.0, nothing, jnp.bool_(False), nothing, jnp.float32(0))

    seen = jnp.float32([[10, 20, 30], [40, 50, 60]])
    plain = TeamEnv(
        name="probe/two", observation_size=3, action_size=2, episode_length=9, discrete=True,
        kinds=(0, 0), critic_size=6, step=step, symmetries=tables,
        reset=lambda key: (jnp.int32(0), seen),
        legal_actions=lambda state: jnp.array([[True, False], [True, False]]),
        state=lambda state, observation: jnp.tile(observation.reshape(-1), (2, 1)),
        alive=lambda state: jnp.array([True, False]),
    )  # fmt: skip
    env = relabelled(envs.named(plain))
    state = relabelling.Relabelled(jnp.int32(0), jnp.array([1, 2]))
    after, now = env.step(KEY, state, jnp.array([0, 1]))
    np.testing.assert_array_equal(asked[0], [1, 1])  # the first says 0 and does 1
    np.testing.assert_array_equal(now.observation, [[21, 31, 11, 1, 0], [61, 41, 51, 0, 1]])
    np.testing.assert_array_equal(after.which, [1, 2])
    assert env.legal_actions is not None
    np.testing.assert_array_equal(env.legal_actions(state), [[False, True], [True, False]])
    assert env.state is not None
    central = env.state(state, now.observation)
    np.testing.assert_array_equal(central[:, :6], np.tile([11, 21, 31, 41, 51, 61], (2, 1)))
    assert env.alive is not None
    np.testing.assert_array_equal(env.alive(state), [True, False])
    assert env.as_is is not None
    assert env.as_is.names == 2
    # drawn anew in each episode, of all relabellings, and by each agent for itself
    drawn = np.asarray(jax.vmap(lambda key: env.reset(key)[0].which)(jax.random.split(KEY, 900)))
    pairs = np.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=9)
    assert np.all(np.abs(pairs - 100) < 4 * np.sqrt(900 / 9 * 8 / 9))


def test_those_that_are_named_have_symmetries_and_no_others_do() -> None:
    told = {f"jaxmarl/{name}" for name, task in TASKS.items() if task.symmetries}
    assert {*told, "probe/levers"} == set(making.SYMMETRIC.split(", "))


def test_levers_pay_who_agree() -> None:
    env = envs.make("probe", "levers")
    state, _ = env.reset(KEY)
    for pulled, pays in (((3, 3), 1.0), ((9, 9), 0.9), ((3, 4), 0.0), ((9, 3), 0.0), ((0, 9), 0.0)):
        step: Any = env.step(KEY, state, jnp.array(pulled))[1]
        np.testing.assert_array_equal(step.reward, np.full(2, pays, np.float32))
        assert step.terminated


def test_what_is_of_one_agent_is_refused_by_a_team() -> None:
    with pytest.raises(ValueError, match=r"env.frames are for one agent, and probe/levers is of a team"):
        envs.make("probe", "levers", stacked=2)
