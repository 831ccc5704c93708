"""The loop on levels that a curriculum chooses."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from conftest import MakeConfig

from sparse_rl.agents import RunInputs
from sparse_rl.curricula import KINDS
from sparse_rl.loops.curriculum import CurriculumLoop
from sparse_rl.records import results
from sparse_rl.runs.pack import prepare_pack, train_pack
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError

pytestmark = pytest.mark.usefixtures("without_health")
NEW, REPLAYED, MUTATED, SCOUTED = range(len(KINDS))
N, STEPS = 4, 10
SMALL: dict[str, Any] = {"buffer_size": 12, "minimum_fill": 0.5, "staleness": 0.2}


def config_of(make_config: MakeConfig, curriculum: dict[str, Any], **changes: Any) -> RunConfig:
    actors = {"plr_parallel": 2, "accel_parallel": 3, "sfl": 2}.get(curriculum["method"], 1)
    cycle = actors * N * STEPS
    small = {} if curriculum["method"] in ("dr", "sfl") else SMALL
    agent = {"name": "paac", "num_envs": N, "num_steps": STEPS, "learning_rate": 0.003}
    given: dict[str, Any] = {
        "agent": agent | changes.pop("agent", {}),
        "env": {"source": "maze", "task": "4", "walls": 3, "episode_length": 6, "eval_episodes": 2},
        "curriculum": small | curriculum,
        "env_steps": 12 * cycle,
        "log_every": 3 * cycle,
        "eval_every": 12 * cycle,
    }
    return make_config(**given | changes)


def loop_of(config: RunConfig) -> tuple[CurriculumLoop, RunInputs]:
    loop, (run,) = prepare_pack([config])
    assert isinstance(loop, CurriculumLoop)
    return loop, run.inputs


def bytes_of(tree: Any) -> list[bytes]:
    def raw(leaf: Any) -> bytes:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf).tobytes()

    return [raw(leaf) for leaf in jax.tree.leaves(tree)]


PARALLEL = {"method": "accel_parallel", "edits": 2}
ACCEL = {"method": "accel", "edits": 2}


@pytest.fixture(scope="module")
def cycles(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Cycles of robust replay with edits, one by one: before, proposal, after, sums, what was seen."""
    from conftest import make_config as fixture

    agent = {"memory": "gru", "name": "ppo", "minibatches": 2, "epochs": 2}
    config = config_of(fixture.__wrapped__(), ACCEL, agent=agent)  # type: ignore[attr-defined]
    loop, inputs = loop_of(config)
    state, made = jax.jit(loop.init)(inputs), []

    @jax.jit
    def one(state: Any, i: jax.Array) -> Any:
        proposal = loop.propose(state, i)
        return proposal, loop.iterate(state, i)

    for i in range(14):
        proposal, (after, sums, seen) = one(state, jnp.int32(i))
        made.append((state, proposal, after, sums, seen))
        state = after
    return {"loop": loop, "made": made, "iterate": one}


def test_nothing_is_learned_from_new_levels_and_edits(cycles: dict[str, Any]) -> None:
    learned = 0
    for before, proposal, after, sums, _ in cycles["made"]:
        kind = set(proposal.kind.tolist())
        same = bytes_of(before._replace(curriculum=())) == bytes_of(after._replace(curriculum=()))
        assert same == (kind != {REPLAYED})
        updates = int(sums.learned.learned.updates)
        assert updates == (4 if kind == {REPLAYED} else 0)
        learned += updates
    assert 0 < learned < 4 * len(cycles["made"])
    assert {k for _, p, *_ in cycles["made"] for k in p.kind.tolist()} == {NEW, REPLAYED, MUTATED}


def test_every_frame_is_counted_once_by_what_it_was_for(cycles: dict[str, Any]) -> None:
    for _, proposal, _, sums, _ in cycles["made"]:
        kinds = [int(np.sum(proposal.kind == k)) for k in range(len(KINDS))]
        assert [float(sums.steps[name]) for name in KINDS] == [STEPS * k for k in kinds]
        assert float(sums.steps["trained"]) == STEPS * N * bool(proposal.learns)


def test_the_highest_return_of_a_level_is_never_forgotten(cycles: dict[str, Any]) -> None:
    """Public code stores the newest rollout's."""
    highest: dict[bytes, float] = {}
    for _, _, after, *_ in cycles["made"]:
        buffer = after.curriculum.kept.buffer
        for i in np.flatnonzero(buffer.filled):
            word = np.asarray(buffer.hash[i]).tobytes()
            now = float(buffer.highest[i])
            assert now >= highest.get(word, -np.inf)
            highest[word] = now
    assert max(highest.values()) > 0


def test_every_level_is_begun_without_memory_and_stays_with_its_actor(cycles: dict[str, Any]) -> None:
    loop = cycles["loop"]
    state, proposal, *_ = cycles["made"][-1]
    _, rollout = jax.jit(loop.play)(state, proposal.levels, jax.random.key(0))
    assert float(jnp.abs(rollout.memory[0]).max()) == 0
    assert float(jnp.abs(rollout.memory[1:]).max()) > 0
    begun = jax.vmap(loop.levels.begin)(proposal.levels)[1]
    over = np.asarray(rollout.terminated | rollout.truncated)
    assert over.sum() >= N
    np.testing.assert_array_equal(rollout.view.observation[0], begun)
    for t, n in np.argwhere(over[:-1]):
        np.testing.assert_array_equal(rollout.view.observation[t + 1, n], begun[n])
        assert float(jnp.abs(rollout.memory[t + 1, n]).max()) == 0


def test_scores_are_those_of_the_rollout(cycles: dict[str, Any]) -> None:
    """max_mc in plain Python: highest so far less the critic's values, episode by episode."""
    loop = cycles["loop"]
    for state, proposal, *_ in cycles["made"][-3:]:
        envs, rollout = jax.jit(loop.play)(state, proposal.levels, jax.random.key(1))
        views = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollout.view)
        last = type(rollout.view)(envs.observation)
        valued = loop.learning.value(state, views, last, rollout)
        outcome = loop.outcome(state, proposal, rollout, valued)
        known = np.asarray(loop.method.highest(state.curriculum, proposal))
        over = np.asarray(rollout.terminated | rollout.truncated)
        for n in range(N):
            ends = np.flatnonzero(over[:, n])
            returns = np.asarray(rollout.episode_return)[ends, n]
            assert float(outcome.highest[n]) == returns.max()
            highest = max(known[n], returns.max())
            starts = [0, *(ends[:-1] + 1)]
            values = np.asarray(valued.values)[:, n]
            means = [np.mean(highest - values[a : b + 1]) for a, b in zip(starts, ends, strict=True)]
            assert float(outcome.score[n]) == pytest.approx(np.mean(means), rel=1e-4, abs=1e-5)
            assert float(outcome.solved[n]) == pytest.approx(np.mean(returns > 0))


def test_learning_on_the_slice_is_learning_on_a_rollout_of_it(make_config: MakeConfig) -> None:
    loop, inputs = loop_of(config_of(make_config, PARALLEL, agent={"memory": "gru"}))

    @jax.jit
    def both(inputs: RunInputs) -> Any:
        state = loop.init(inputs)
        proposal, key = loop.propose(state, jnp.int32(0)), jax.random.key(8)
        state = state._replace(curriculum=())
        envs, rollout = loop.play(state, proposal.levels, jax.random.key(9))
        own = jax.tree.map(lambda x: x[:, :N], rollout)
        last = type(rollout.view)(envs.observation)
        first = type(last)(last.observation[:N])
        alone, _, _ = loop.learning.learn(state, first, own, jnp.int32(0), key)
        ready = proposal._replace(learns=jnp.bool(True))
        sliced, _, seen = loop.learn(state, ready, envs, rollout, jnp.int32(0), key)[:3]
        return state.agent, alone.agent, sliced.agent, seen

    before, alone, sliced, seen = both(inputs)
    assert bytes_of(before) != bytes_of(sliced)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(sliced), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert seen.view.observation.shape[0] == N * STEPS


@pytest.mark.parametrize(
    "curriculum",
    [
        {"method": "dr"},
        {"method": "plr", "score": "regret", "prioritisation": "proportional"},
        {"method": "plr_robust", "score": "positive_value_loss", "replacement": False},
        {"method": "plr_parallel", "score": "l1_value_loss"},
        {"method": "sfl", "scouts": 1.0, "period": 4},
    ],
    ids=lambda c: c["method"],
)
def test_every_method_trains_resumes_and_counts(
    make_config: MakeConfig, tmp_path: Path, curriculum: dict[str, Any]
) -> None:
    """A state that was written and read again goes on with the same bytes."""
    config = config_of(make_config, curriculum, sparsity=0.5)
    loop, inputs = loop_of(config)
    chunk = jax.jit(loop.chunk)
    state, first = jax.jit(loop.init)(inputs), 0
    for _ in range(2):
        state, row = chunk(jnp.int32(first), state)
        first += 3 * STEPS
    again = loop.from_disk(loop.to_disk(state), inputs)
    for _ in range(2):
        state, row = chunk(jnp.int32(first), state)
        again, same = chunk(jnp.int32(first), again)
        first += 3 * STEPS
    assert bytes_of(state) == bytes_of(again)
    assert bytes_of(row) == bytes_of(same)
    frames = sum(float(row[f"steps_in_chunk/{name}"]) for name in KINDS)
    assert frames == config.log_every == 3 * config.actors * STEPS
    trained = float(row["steps_in_chunk/trained"])
    always = curriculum["method"] in ("dr", "plr", "sfl")
    assert trained == 3 * N * STEPS if always else trained <= 3 * N * STEPS


def test_killed_in_the_middle_of_edits_it_ends_with_the_same_bytes(cycles: dict[str, Any]) -> None:
    loop = cycles["loop"]
    iterate = cycles["iterate"]
    middle = [i for i, c in enumerate(cycles["made"]) if bool(c[0].curriculum.edits)]
    assert middle
    state = cycles["made"][middle[0]][0]
    inputs = prepare_pack([loop.config]).runs[0].inputs
    resumed = loop.from_disk(loop.to_disk(state), inputs)
    for i in range(middle[0], middle[0] + 3):
        resumed = iterate(resumed, jnp.int32(i))[1][0]
    assert bytes_of(resumed) == bytes_of(cycles["made"][middle[0] + 2][2])


def test_a_pack_whose_runs_are_in_different_branches_is_each_run_alone(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    pack = [config_of(make_config, ACCEL, seed=seed) for seed in (0, 1, 2)]
    train_pack(prepare_pack(pack), tmp_path / "together")
    train_pack(prepare_pack([pack[1]]), tmp_path / "alone")
    together, alone = (
        results.read_metrics(tmp_path / where / pack[1].run_id).drop(columns="wall_time")
        for where in ("together", "alone")
    )
    pd.testing.assert_frame_equal(together, alone, check_exact=True)
    statuses = train_pack(prepare_pack(pack[:2]), tmp_path / "vmap", layout="vmap")
    assert set(statuses.values()) == {"done"}
    batched = results.read_metrics(tmp_path / "vmap" / pack[1].run_id)
    counted = [c for c in alone if str(c).startswith(("steps_in_chunk", "updates"))]
    pd.testing.assert_frame_equal(batched[counted], alone[counted], check_exact=True)
    assert alone["updates"].diff().nunique() > 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"curriculum": {"method": "plrr"}}, "curriculum.method='plrr'.*plr_robust"),
        ({"curriculum": {"method": "dr", "score": "max_mc"}}, "curriculum.score"),
        ({"curriculum": {"method": "plr", "edits": 3}}, "curriculum.edits"),
        (
            {"curriculum": {"method": "plr"}, "agent": {"normalise_rewards": True}},
            "max_mc.*agent.normalise_rewards=True",
        ),
        (
            {"curriculum": {"method": "plr"}, "agent": {"reward_clip": 1.0}},
            "max_mc.*agent.reward_clip=1.0",
        ),
        (
            {"curriculum": {"method": "plr_robust", "buffer_size": 4, "replacement": False}},
            "4 different levels.*begin with 2",
        ),
        ({"curriculum": {"method": "sfl", "replayed": 0.05}}, "curriculum.replayed=0.05.*at least one"),
        ({"curriculum": {"method": "sfl", "period": 1}}, "at most the"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    make_config: MakeConfig, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        config_of(make_config, changes["curriculum"], agent=changes.get("agent", {}))


def test_who_has_no_levels_and_who_has_no_rollouts_is_refused(make_config: MakeConfig) -> None:
    config = make_config(agent={"name": "ppo"}, curriculum={"method": "dr"})
    with pytest.raises(ConfigError, match=r"curriculum.method=dr chooses levels.*gymnax/Pendulum-v1"):
        prepare_pack([config])
    with pytest.raises(ConfigError, match=r"curriculum.method=dr is for agents.*not for sac"):
        make_config(agent={"name": "sac"}, curriculum={"method": "dr"})
