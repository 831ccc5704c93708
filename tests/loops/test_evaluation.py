"""How many of an evaluation's episodes differ."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig
from host_env import on_host

from sparse_rl import envs
from sparse_rl.envs import Env, Step
from sparse_rl.envs.sticky import sticky
from sparse_rl.loops.evaluation import alike, distinct_episodes, evaluate
from sparse_rl.loops.hosted import sessions
from sparse_rl.loops.hosted.hosting import Living
from sparse_rl.records import results
from sparse_rl.runs.lockstep import NOT_COMPILED, Lockstep, Policy, Progress, Run

KEY = jax.random.key(2)


def walk(draws: bool) -> Env:
    """Eight steps to where the action says, from 0 or from somewhere; all rewards are 1."""

    def reset(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = jax.random.normal(key, (1,)) if draws else jnp.zeros(1)
        return x, x

    def step(key: jax.Array, x: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        x = x + action
        return x, Step(x, jnp.float32(1), jnp.bool_(False))

    return Env(
        name="probe/walk", observation_size=1, action_size=1, episode_length=8, reset=reset, step=step
    )


def compiled(config: Any, env: Env) -> dict[str, Any]:
    """An evaluation of a policy that goes further to the right at every step."""
    return dict(evaluate(config, env, lambda seen, *_: (1.0 * seen.elapsed[:, None], ()), KEY))


@pytest.mark.parametrize(
    ("env", "distinct"), [(walk(False), 1), (walk(True), 6), (sticky(walk(False), 0.5), 6)]
)
def test_a_compiled_evaluation_counts_its_distinct_episodes(
    make_config: MakeConfig, env: Env, distinct: int
) -> None:
    row = compiled(make_config(env={"eval_episodes": 6}), env)
    assert row[results.EPISODES_DISTINCT] == distinct
    assert (row["return_mean"], row["return_std"]) == (8.0, 0.0)  # these tell nothing of it


@pytest.mark.parametrize(("draws", "distinct"), [(False, 1), (True, 6)])
def test_an_evaluation_on_the_host_counts_them_too(
    make_config: MakeConfig, draws: bool, distinct: int
) -> None:
    config = make_config(env={"eval_episodes": 6})
    env = on_host(lambda task: walk(draws))("walk")
    living = Living(config, env, 3, sessions.begin(env, config.env, 1), 1)
    row = living.evaluate(10, lambda: lambda seen: np.ones((len(seen), 1), np.float32))
    assert row[results.EPISODES_DISTINCT] == distinct


def test_rounding_is_no_difference_and_order_is_one() -> None:
    seen = np.array([[1.0, 2.0, 0.0], [1.0, 2.0 + 3e-7, 0.0], [2.0, 1.0, 0.0]], np.float32)
    np.testing.assert_array_equal(alike(seen), [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    pictures = np.zeros((2, 48 * 48), np.uint8)
    pictures[0, 700], pictures[1, 701] = 255, 255
    assert not alike(pictures)[0, 1]
    np.testing.assert_array_equal(alike(jnp.asarray(seen)), alike(seen))


def test_episodes_differ_by_what_was_seen_or_by_how_they_ended() -> None:
    every = np.ones((4, 4), bool)
    returns, lengths = np.array([-150.0, -150.0001, -150.0, -140.0]), np.array([9, 9, 9, 9])
    assert distinct_episodes(every, returns, lengths) == 2
    assert distinct_episodes(every, returns, np.array([9, 8, 9, 9])) == 3
    two = every.copy()
    two[0, 2] = two[2, 0] = two[1, 2] = two[2, 1] = False
    assert distinct_episodes(two, np.zeros(4), lengths) == 2


def test_an_evaluation_of_one_episode_over_and_over_is_said_once(make_config: MakeConfig) -> None:
    config = make_config(env={"eval_episodes": 5})
    said: list[Progress] = []
    none: Any = None
    lockstep = Lockstep(
        none, NOT_COMPILED, [Run(config, none, none)], none, "map", "none", said.append, Policy(), none
    )
    for step, distinct in ((1, 2.0), (2, 1.0), (3, 1.0)):
        lockstep._remark(config, {results.EPISODES_DISTINCT: distinct}, step)
    (progress,) = said
    assert progress.note is not None
    assert progress.note.startswith("one distinct episode of 5 in the evaluation at env_steps=2")
    alone = make_config(env={"eval_episodes": 1})
    lockstep._remark(alone, {results.EPISODES_DISTINCT: 1.0}, 2)
    assert len(said) == 1


def test_minatar_is_not_the_same_game_over_and_over(make_config: MakeConfig) -> None:
    """A policy that stays where it is: SpaceInvaders as gymnax has it, and with its sticky actions."""
    config = make_config(env={"eval_episodes": 4})

    def distinct(**options: Any) -> float:
        env = envs.make("gymnax", "SpaceInvaders-MinAtar", **options)

        def act(seen: Any, memory: Any, key: Any) -> tuple[jax.Array, Any]:
            return (seen.elapsed // 3 % 4).astype(jnp.int32), memory

        return float(
            jax.jit(lambda key: evaluate(config, env, act, key))(KEY)[results.EPISODES_DISTINCT]
        )

    assert distinct() == 1.0
    assert distinct(sticky_actions=0.1) == 4.0
