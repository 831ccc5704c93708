"""JaxMARL's and Jumanji's teams, beside the libraries themselves."""

import contextlib
import io
import itertools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl import envs
from sparse_rl.envs import TeamEnv, named, vector
from sparse_rl.envs.teams import jaxmarl as ours
from sparse_rl.envs.teams import jumanji as others
from sparse_rl.loops import view_of

KEY = jax.random.key(2)


def make(name: str) -> TeamEnv:
    source = "jumanji" if name in others.TASKS else "jaxmarl"
    made = envs.make(source, name)
    assert isinstance(made, TeamEnv)
    return made


def library(name: str, **options: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ours._library().make(name, **options)


def random_actions(env: TeamEnv, state: Any, key: Any) -> Any:
    """``[A]``, of what is allowed."""
    if not env.discrete:
        return jax.random.uniform(key, (env.agents, env.action_size), minval=-1.0)
    logits = jnp.zeros((env.agents, env.action_size))
    if env.legal_actions is not None:
        logits = jnp.where(env.legal_actions(state), 0.0, -1e9)
    return jax.random.categorical(key, logits).astype(jnp.int32)


def form_of(state: Any) -> Any:
    """The types of all that it holds, and whether they are weak."""
    return jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), state)


@pytest.mark.parametrize(
    ("name", "agents", "seen", "actions", "kinds", "central"),
    [
        ("spread", 3, 18, 5, 1, 54),
        ("tag", 4, 16, 5, 2, 64),
        ("speaker_listener", 2, 11, 5, 2, 22),
        ("reference", 2, 21, 50, 1, 42),
        ("facmac", 3, 16, 5, 1, 48),
        ("switch_riddle", 3, 2, 3, 1, 6),
        ("smax_3m", 3, 75, 8, 1, 72),
        ("overcooked_cramped_room", 2, 520, 6, 1, 1040),
        ("overcooked_v2_grounded_coord_simple", 2, 1000, 6, 1, 2000),
        ("hanabi_small", 2, 222, 14, 1, 444),
        ("lbf_8x8_2p_2f_coop", 2, 12, 6, 1, 24),
        ("rware_2ag", 2, 66, 5, 1, 132),
    ],
)
def test_sizes_are_those_of_what_is_computed_and_types_never_change(
    name: str, agents: int, seen: int, actions: int, kinds: int, central: int
) -> None:
    """A program that is fed what it returned is compiled once; nothing is of a weak type."""
    env = make(name)
    assert (env.agents, env.observation_size, env.action_size) == (agents, seen, actions)
    assert (max(env.kinds) + 1, env.critic_size) == (kinds, central)
    step = jax.jit(lambda key, state, action: vector.step(env, key, state, action, 1))
    state = jax.jit(lambda key: vector.reset(env, key, 2))(KEY)
    form = form_of(state)
    for t in range(2):
        key = jax.random.fold_in(KEY, t)
        pick = jax.vmap(lambda s, k: random_actions(env, s, k))
        action = vector.join(env, pick(state.env, jax.random.split(key, 2)))
        state, now = step(key, state, action)
        assert form_of(state) == form
        assert now.next_observation.dtype == jnp.float32
        assert now.reward.shape == (2 * agents,)
    assert step._cache_size() == 1  # type: ignore[attr-defined]


def test_spread_is_the_librarys_own_and_lasts_25_steps() -> None:
    env, theirs = make("spread"), library("MPE_simple_spread_v3")
    state, seen = env.reset(KEY)
    shown, inside = theirs.reset(KEY)
    np.testing.assert_array_equal(seen, np.stack([shown[a] for a in theirs.agents]))
    action = jnp.array([1, 4, 2], jnp.int32)
    _, now = env.step(KEY, state, action)
    shown, _, reward, _, _ = theirs.step_env(KEY, inside, dict(zip(theirs.agents, action, strict=True)))
    np.testing.assert_allclose(now.observation, np.stack([shown[a] for a in theirs.agents]), rtol=1e-6)
    np.testing.assert_allclose(now.reward, np.stack([reward[a] for a in theirs.agents]), rtol=1e-6)
    assert not env.shared_reward
    batch: Any = vector.reset(env, KEY, 2)

    def run(state: Any, key: Any) -> Any:
        state, now = vector.step(env, key, state, jnp.zeros(6, jnp.int32), 1)
        return state, (now.truncated, now.terminated, now.reward, now.episode_return)

    _, (truncated, terminated, rewards, returns) = jax.lax.scan(run, batch, jax.random.split(KEY, 51))
    # theirs would count 26
    np.testing.assert_array_equal(np.flatnonzero(truncated[:, 0]), [24, 49])
    assert not np.asarray(terminated).any()
    np.testing.assert_allclose(returns[24, 0], np.asarray(rewards)[:25, :3].sum(), rtol=1e-4)


def test_a_central_critic_sees_what_all_see_and_then_a_name() -> None:
    env = named(make("spread"))
    state = vector.reset(env, KEY, 2)
    central = view_of(env, state).critic_observation
    assert central is not None
    assert central.shape == (6, env.critic_size)
    seen = np.asarray(vector.split(env, state.observation))
    for e in range(2):
        np.testing.assert_array_equal(central[3 * e, :54], seen[e, :, :18].reshape(-1))
        np.testing.assert_array_equal(central[3 * e : 3 * e + 3, 54:], np.eye(3))


def test_those_who_see_less_see_zeros_and_cannot_do_what_others_can() -> None:
    env = make("speaker_listener")
    state, seen = env.reset(KEY)
    assert not np.asarray(seen)[0, 3:].any()
    assert np.asarray(seen)[1, 3:].any()
    assert env.legal_actions is not None
    np.testing.assert_array_equal(np.asarray(env.legal_actions(state)).sum(axis=1), [3, 5])
    assert env.kinds == (0, 1)


def test_a_battle_ends_by_itself_and_says_who_won() -> None:
    """All shoot at what they can: some die, somebody wins, and no step is a time limit."""
    env = make("smax_3m")
    legal_actions, alive = env.legal_actions, env.alive
    assert legal_actions is not None
    assert alive is not None

    def shoot(state: Any) -> Any:
        legal = jax.vmap(legal_actions)(state.env)
        return vector.join(env, jnp.argmax(legal * (1 + jnp.arange(8)), axis=2)).astype(jnp.int32)

    def run(state: Any, key: Any) -> Any:
        living, before = jax.vmap(alive)(state.env), shoot(state)
        state, now = vector.step(env, key, state, before, 1)
        return state, (living, before, now)

    start = vector.reset(env, KEY, 16)
    _, (living, action, now) = jax.jit(
        lambda s: jax.lax.scan(run, s, jax.random.split(jax.random.fold_in(KEY, 1), 60))
    )(start)
    ended = np.asarray(now.terminated)[:, ::3]
    assert ended.sum() > 8
    won = np.asarray(now.outcome)[:, ::3][ended]
    # a win is worth 1 more than the damage of a step
    assert set(won.tolist()) == {0.0, 1.0}
    assert (np.asarray(now.reward)[:, ::3][ended][won == 1.0] > 1.0).all()
    assert (np.asarray(now.reward)[:, ::3][ended][won == 0.0] < 1.0).all()
    dead = ~np.asarray(living).reshape(60, -1)
    assert 0.02 < dead.mean() < 0.8
    assert set(np.asarray(action)[dead].tolist()) == {4}  # the one thing that the dead may do
    assert not np.asarray(now.truncated).any() or np.asarray(now.elapsed)[now.truncated].min() == 100


@pytest.mark.parametrize(
    ("dead", "won"), [(slice(3, 6), 1.0), (slice(0, 6), 0.0), (slice(0, 3), 0.0), (slice(0, 0), 0.0)]
)
def test_a_battle_is_won_by_those_who_are_left(dead: slice, won: float) -> None:
    """Where all of both sides die at once nobody has won."""
    env = make("smax_3m")
    state, _ = env.reset(KEY)
    inner = state.state
    inner = inner.replace(unit_health=inner.unit_health.at[dead].set(0.0))
    _, now = env.step(KEY, state.replace(state=inner), jnp.full(3, 4, jnp.int32))
    assert float(now.outcome) == won
    assert bool(now.terminated) == (dead != slice(0, 0))


def test_hunters_act_in_the_range_of_the_library_and_who_flees_by_its_rule() -> None:
    env, theirs = make("facmac"), library("MPE_simple_facmac_v1")
    state, _ = env.reset(KEY)
    action = jax.random.uniform(KEY, (3, 5), minval=-1.0)
    _, now = env.step(KEY, state, action)
    acts = {name: (action[i] + 1) / 2 for i, name in enumerate(theirs.adversaries)}
    _, inside = theirs.reset(KEY)
    shown, _, reward, _, _ = theirs.step_env(KEY, inside, acts | {"agent_0": jnp.ones(5)})
    expected = np.stack([shown[name] for name in theirs.adversaries])
    np.testing.assert_allclose(now.observation, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(now.reward, np.stack([reward[n] for n in theirs.adversaries]))


def test_a_kitchens_time_is_seen_and_ends_nothing() -> None:
    """The last forty steps are marked in what is seen; the step at which it closes is a truncation."""
    env = make("overcooked_cramped_room")
    assert env.shapes

    def run(state: Any, key: Any) -> Any:
        marked = state.observation.reshape(2, 4, 5, 26)[0, ..., 25].mean()
        state, now = vector.step(env, key, state, jnp.full(2, 4, jnp.int32), 1)
        return state, (marked, now.terminated[0], now.truncated[0])

    start = vector.reset(env, KEY, 1)
    _, (marked, terminated, truncated) = jax.jit(
        lambda s: jax.lax.scan(run, s, jax.random.split(KEY, 401))
    )(start)
    assert not np.asarray(terminated).any()
    np.testing.assert_array_equal(np.flatnonzero(truncated), [399])
    np.testing.assert_array_equal(np.flatnonzero(marked), np.arange(361, 400))


def test_one_player_acts_and_the_other_waits() -> None:
    env = make("hanabi_small")
    assert env.turns
    assert env.legal_actions is not None
    state, _ = env.reset(KEY)
    step = jax.jit(env.step)
    turns: list[list[bool]] = []
    total, over, t = 0.0, False, 0
    while not over:
        legal = np.asarray(env.legal_actions(state))
        turns.append([bool(row[:-1].any()) for row in legal])
        np.testing.assert_array_equal(legal[:, -1], ~legal[:, :-1].any(axis=1))
        key = jax.random.fold_in(KEY, t)
        state, now = step(key, state, random_actions(env, state, key))
        total, over, t = total + float(now.reward[0]), bool(now.terminated), t + 1
        assert t <= env.episode_length
    assert all(sorted(turn) == [False, True] for turn in turns)
    assert all(a != b for a, b in itertools.pairwise(turns))


def test_foragers_win_and_their_time_limit_is_no_end() -> None:
    """All who act at random run out of time; where nothing is left to eat, the team has won."""
    env = make("lbf_8x8_2p_2f_coop")

    def run(state: Any, key: Any) -> Any:
        one, two = jax.random.split(key)
        pick = jax.vmap(lambda s, k: random_actions(env, s, k))
        action = vector.join(env, pick(state.env, jax.random.split(one, 8)))
        state, now = vector.step(env, two, state, action, 1)
        return state, now

    _, now = jax.jit(lambda s: jax.lax.scan(run, s, jax.random.split(KEY, 101)))(
        vector.reset(env, KEY, 8)
    )
    truncated, terminated = np.asarray(now.truncated), np.asarray(now.terminated)
    assert (truncated[99] | terminated[:100].any(axis=0)).all()
    assert truncated[99].any()
    assert not truncated[:99].any()
    (inner, mask), _ = env.reset(KEY)
    left = inner.replace(food_items=inner.food_items.replace(eaten=jnp.ones(2, bool)))
    for state, won in (((inner, mask), False), ((left, mask), True)):
        _, seen = env.step(KEY, state, jnp.zeros(2, jnp.int32))
        assert (bool(seen.terminated), float(seen.outcome)) == (won, float(won))


@pytest.mark.parametrize("source", ["jaxmarl", "jumanji"])
def test_what_is_unknown_is_named(source: str) -> None:
    with pytest.raises(ValueError, match=rf"{source} task 'nowhere' is unknown; choose one of "):
        envs.make(source, "nowhere")
