"""PAIRED: who makes the levels, who plays them, and what the teacher learns from."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig

from sparse_rl.curricula import Shown, estimated_regret
from sparse_rl.loops.paired import PairedLoop
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError

N, STEPS, WALLS = 3, 8, 4


def config_of(make_config: MakeConfig, **curriculum: Any) -> RunConfig:
    cycle = 2 * N * STEPS
    return make_config(
        agent={"name": "paac", "num_envs": N, "num_steps": STEPS, "learning_rate": 0.003},
        env={"source": "maze", "task": "4", "walls": WALLS, "episode_length": 5, "eval_episodes": 2},
        curriculum={"method": "paired", "teacher_width": 24} | curriculum,
        width=8, sparsity=0.5, env_steps=6 * cycle, log_every=2 * cycle, eval_every=6 * cycle,
    )  # fmt: skip


def loop_of(config: RunConfig) -> tuple[PairedLoop, Any]:
    loop, (run,) = prepare_pack([config])
    assert isinstance(loop, PairedLoop)
    return loop, run


def leaves(tree: Any) -> list[np.ndarray]:
    def raw(x: Any) -> np.ndarray:
        key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if key else x)

    return [raw(x) for x in jax.tree.leaves(tree)]


def same(one: Any, two: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(leaves(one), leaves(two), strict=True))


def test_regret_is_the_best_of_one_less_the_mean_of_the_other() -> None:
    """By hand; at least 0, and 0 where one of them has not ended an episode."""
    ended = jnp.array([[0, 1, 0, 1], [1, 1, 0, 0], [1, 0, 1, 1]], bool)
    first = jnp.float32([[9, 0.2, 9, 0.9], [0.3, 0.6, 9, 9], [0.5, 9, 0.1, 0.7]])
    other_ended = ended.at[:, 2].set(False)
    other = jnp.float32([[9, 0.7, 9, 0.1], [0.2, 0.5, 9, 9], [0.8, 9, 9, 0.3]])
    got = estimated_regret(Shown(ended, first), Shown(other_ended, other))
    # 0.8 − (0.3 + 0.5)/2; 0.7 − (0.2 + 0.6)/2; nothing known; 0.3 − 0.8 < 0
    np.testing.assert_allclose(got, [0.4, 0.3, 0.0, 0.0], rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """A cycle and its parts."""
    from conftest import make_config as fixture

    loop, run = loop_of(config_of(fixture.__wrapped__()))  # type: ignore[attr-defined]

    @jax.jit
    def parts(state: Any) -> Any:
        levels, envs, rollout = loop.make_levels(state.teacher, jax.random.key(2))
        played = loop.study(state.protagonist, levels, jnp.int32(0))
        regret = jnp.float32([0.25, 0.0, 0.5])
        taught = loop.teach(state.teacher, envs, rollout, regret, jax.random.key(3), jnp.int32(0))
        elsewhere = envs._replace(observation=envs.observation + 3.0)
        again = loop.teach(state.teacher, elsewhere, rollout, regret, jax.random.key(3), jnp.int32(0))
        return levels, rollout, played, taught, again

    state = jax.jit(loop.init)(run.inputs)
    return {"loop": loop, "run": run, "state": state, "parts": parts(state)}


def test_levels_are_what_the_teachers_actions_make(made: dict[str, Any]) -> None:
    """So many walls, a goal, an agent: each where its action says."""
    levels, rollout, *_ = made["parts"]
    actions = np.asarray(rollout.action)
    assert actions.shape == (WALLS + 2, N)
    for n in range(N):
        walls = np.zeros((4, 4), bool)
        walls.flat[actions[:WALLS, n]] = True
        goal = actions[WALLS, n]
        walls.flat[goal] = False
        assert np.asarray(levels.goal)[n].tolist() == [goal % 4, goal // 4]
        agent = actions[WALLS + 1, n]
        if agent != goal:
            walls.flat[agent] = False
            assert np.asarray(levels.agent)[n].tolist() == [agent % 4, agent // 4]
            np.testing.assert_array_equal(np.asarray(levels.walls)[n], walls)
    noise = np.asarray(rollout.view.observation)[:, :, -50:]
    assert len(np.unique(noise[..., 0])) == noise.shape[0] * N  # drawn anew for each action


def test_levels_that_are_shown_are_made_anew_each_time_and_change_nothing(made: dict[str, Any]) -> None:
    loop, state = made["loop"], made["state"]
    show = jax.jit(loop.show)
    one, two, again = (show(jnp.int32(i), state)["made"] for i in (3, 4, 3))
    assert same(one.levels, again.levels)
    assert not same(one.levels.goal, two.levels.goal)
    assert one.levels.walls.shape == (N, 4, 4)
    assert one.there.all()


def test_nothing_follows_the_teachers_last_action(made: dict[str, Any]) -> None:
    """Public code bootstraps from what is seen after the level is finished."""
    _, _, _, (taught, totals), (again, _) = made["parts"]
    assert same(taught, again)
    assert not same(taught.agent, made["state"].teacher.agent)
    assert float(totals.finished_return) == pytest.approx(0.75)
    assert float(totals.finished) == N


def test_three_learners_that_differ(made: dict[str, Any]) -> None:
    state = made["state"]
    one, two = state.protagonist.agent, state.antagonist.agent
    for name in ("actor", "critic"):
        kernels = [jax.tree.leaves(agent.networks[name]) for agent in (one, two)]
        assert not same(*kernels)
        # half of each is pruned, at other places
        masks = [
            np.concatenate([(np.asarray(x) != 0).ravel() for x in k if x.ndim > 1]) for k in kernels
        ]
        assert [mask.mean() for mask in masks] == pytest.approx([0.5, 0.5], abs=0.02)
        assert (masks[0] != masks[1]).mean() > 0.2
    teacher = [np.asarray(x) for x in jax.tree.leaves(state.teacher.agent.networks) if x.ndim > 1]
    assert all((x != 0).all() for x in teacher if x.std() > 0)
    keys = {leaves(learner.key)[0].tobytes() for learner in state}
    assert len(keys) == 3


def test_costs_count_both_students_and_the_teacher(
    made: dict[str, Any], make_config: MakeConfig
) -> None:
    loop, run = made["loop"], made["run"]
    student = made["state"].protagonist.agent
    alone = make_config(
        agent={"name": "paac", "num_envs": N, "num_steps": STEPS, "learning_rate": 0.003},
        env={"source": "maze", "task": "4", "walls": WALLS, "episode_length": 5},
        width=8, sparsity=0.5,
    )  # fmt: skip
    one = prepare_pack([alone]).runs[0].costs
    shapes = [x.shape for x in jax.tree.leaves(made["state"].teacher.agent.networks) if x.ndim > 1]
    # three products with every weight: forward, weights, inputs; 2 FLOPs each and sample
    teacher = 3 * 2 * sum(int(np.prod(s)) for s in shapes) * N * (WALLS + 2)
    assert run.costs.flops_per_update == 2 * one.flops_per_update + teacher
    assert run.costs.flops_per_update_dense == 2 * one.flops_per_update_dense + teacher
    assert run.costs.parameters == one.parameters
    stored = sum(x.nbytes for x in leaves((student, student, made["state"].teacher.agent)))
    assert run.costs.state_bytes == stored
    assert loop.config.actors == 2 * N


def test_it_resumes_and_counts_every_step(made: dict[str, Any]) -> None:
    loop, run, state = made["loop"], made["run"], made["state"]
    chunk = jax.jit(loop.chunk)
    state, row = chunk(jnp.int32(0), state)
    again = loop.from_disk(loop.to_disk(state), run.inputs)
    state, row = chunk(jnp.int32(2 * STEPS), state)
    again, other = chunk(jnp.int32(2 * STEPS), again)
    assert same(state, again)
    assert same(row, other)
    assert float(row["steps_in_chunk/new"]) == 2 * 2 * N * STEPS == loop.config.log_every
    assert float(row["steps_in_chunk/teacher"]) == 2 * N * (WALLS + 2)
    assert 0 <= float(row["curriculum/regret"]) < 1
    assert float(row["teacher/train_return_mean"]) == pytest.approx(float(row["curriculum/regret"]))
    for learner in state:
        assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(learner.reward_scale.running))


def test_a_teacher_needs_levels_that_can_be_made(make_config: MakeConfig) -> None:
    config = make_config(
        agent={"name": "ppo"},
        env={"source": "classic", "task": "cartpole"},
        curriculum={"method": "paired"},
    )
    with pytest.raises(ConfigError, match=r"curriculum.method=paired.*cannot be made step by step"):
        prepare_pack([config])
    with pytest.raises(ConfigError, match=r"paired is for agents with an actor, not for dqn"):
        make_config(
            agent={"name": "dqn"}, env={"source": "maze", "task": "4"}, curriculum={"method": "paired"}
        )
