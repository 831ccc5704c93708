"""What drives off-policy agents, beside plain Python: what is acted on, stored, drawn, learned from and
recorded, in episodes of unequal lengths, compiled and on the host."""

import itertools
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from diary import TREMBLE, Diary, diarist
from scipy import stats
from uneven import LIMIT, pays, shows, uneven, uneven_on_host
from watching import watched

from sparse_rl.agents.contract import RunInputs
from sparse_rl.experience import Transition
from sparse_rl.loops.hosted.off_policy import HostOffPolicyLoop, OnDevice
from sparse_rl.loops.off_policy import OffPolicyLoop
from sparse_rl.settings.run import RunConfig, run_config

ENVS, BATCH, CHUNKS, PER_CHUNK, RANDOM = 2, 5, 4, 30, 12
INTERACTIONS = CHUNKS * PER_CHUNK
UPDATES = 189
"""⌊1.75 · (120 − 12)⌋."""
CLOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3}
"""Statistics in float32 of numbers in the thousands."""
INPUTS = RunInputs(np.uint32(5), np.uint32(6), np.float32(0.1), {})


class Run(NamedTuple):
    """A run from its start to its end, on the host."""

    rows: list[dict[str, Any]]
    diary: Diary
    held: Transition
    """All that was stored: ``[interactions, environments, …]``."""
    shown: np.ndarray
    """All that was shown: ``[interactions and maybe one, environments, 3]``."""
    late: int
    """Interactions that a batch is behind: on the host what just happened is not stored yet."""
    loop: Any
    state: Any


def config_of() -> RunConfig:
    """120 interactions of two environments and two frames, the first twelve random."""
    agent = {
        "name": "ddpg",
        "num_envs": ENVS,
        "batch_size": BATCH,
        "updates_per_interaction": 1.75,
        "random_interactions": 20,
        "replay_size": 1000,
    }
    env = {"source": "probe", "task": "policy", "action_repeat": 2}
    budget = dict.fromkeys(("log_every", "eval_every"), 4 * PER_CHUNK)
    data = {"agent": agent, "env": env, "env_steps": 4 * INTERACTIONS, "width": 16, **budget}
    return run_config(data)


@pytest.fixture(scope="module", params=["compiled", "host"])
def run(request: pytest.FixtureRequest) -> Run:
    config, agent = config_of(), diarist(BATCH, every=9, total=UPDATES)
    loop: Any
    if request.param == "host":
        loop = HostOffPolicyLoop(config, uneven_on_host(), agent)
        init, chunk, _ = loop.compile(INPUTS, {})
    else:
        loop = OffPolicyLoop(config, uneven(), agent)
        init, chunk = jax.jit(loop.init), jax.jit(loop.chunk)
    state, rows = init(INPUTS), []
    for first in range(0, INTERACTIONS, PER_CHUNK):
        state, row = chunk(np.int32(first), state)
        rows.append(jax.device_get(row))
    learner = getattr(state, "learner", state)
    assert (int(learner.replay.size), int(learner.replay.position)) == (ENVS * INTERACTIONS, 0)
    held = jax.tree.map(
        lambda x: np.asarray(x).reshape(INTERACTIONS, ENVS, *x.shape[1:]), learner.replay.storage
    )
    on_host = request.param == "host"  # there what is shown last was not answered, and is not counted
    last = held.observation[:0] if on_host else np.asarray(state.envs.observation)[None]
    shown = np.concatenate([held.observation, last]).astype(np.float64)
    return Run(rows, jax.device_get(learner.agent), held, shown, on_host, loop, state)


def normalised(run: Run, until: int, observation: Any) -> np.ndarray:
    """Observations as seen after everything that was shown before interaction ``until``, inclusive."""
    shown = run.shown[: until + 1].reshape(-1, 3)
    return (observation - shown.mean(0)) / np.sqrt(shown.var(0) + 1e-8)


def ends(run: Run, env: int) -> list[tuple[int, float, bool]]:
    """The environment's episodes: their last interaction, return, and whether the task ended by itself.
    What is stored is what physics say."""
    found: list[tuple[int, float, bool]] = []
    returned, following = 0.0, None
    for t in range(INTERACTIONS):
        now: Any = Transition(*(field[t, env] for field in run.held))
        time = round(float(now.observation[0] - 30) / 7)
        life = round(float(now.observation[1] + 0.2) / 0.03)
        assert time == 0 if following is None else np.array_equal(now.observation, following)
        np.testing.assert_allclose(now.observation, shows(time, life), rtol=1e-5, atol=1e-6)
        frames = min(2, LIMIT - time, life - time)
        reward = sum(pays(time + i, now.action) for i in range(frames))
        assert now.reward == pytest.approx(reward, rel=1e-5)
        np.testing.assert_allclose(
            now.next_observation, shows(time + frames, life), rtol=1e-5, atol=1e-6
        )
        terminated = time + frames >= life
        assert now.terminated == terminated
        returned += reward
        following = now.next_observation
        if terminated or time + frames >= LIMIT:
            found.append((t, returned, terminated))
            returned, following = 0.0, None
    return found


def test_what_is_stored_is_what_happened(run: Run) -> None:
    """Successors are true ones, rewards of all frames are summed, only terminations are called so."""
    both = [ends(run, env) for env in range(ENVS)]
    assert both[0] != both[1]
    for found in both:
        assert {terminated for *_, terminated in found} == {True, False}


def test_the_first_actions_are_uniform_and_the_others_the_agents(run: Run) -> None:
    first = run.held.action[:RANDOM].ravel()
    assert first.min() < -0.5
    assert stats.kstest(first, stats.uniform(-1, 2).cdf).pvalue > 0.01
    assert len(np.unique(first)) == len(first)
    noise = []
    for t in range(RANDOM, INTERACTIONS):
        best = 0.5 * np.tanh(normalised(run, t, run.held.observation[t])[:, :2])
        noise.append((run.held.action[t] - best) / TREMBLE)
    tremble = np.array(noise).ravel()
    assert stats.kstest(tremble, stats.uniform(0, 1).cdf).pvalue > 0.01
    assert -0.3 < tremble.min() < tremble.max() < 1.3  # float32 of what is divided by a hundredth
    assert len(np.unique(np.round(tremble, 3))) > 0.7 * len(tremble)


def updates_after(interaction: int) -> int:
    return max(0, 7 * (interaction + 1 - RANDOM) // 4)


def places(run: Run, rewards: Any) -> np.ndarray:
    """Where in the buffer samples come from: their rewards differ."""
    flat = run.held.reward.ravel()
    assert len(np.unique(flat)) == len(flat)
    order = np.argsort(flat)
    found = order[np.searchsorted(flat[order], rewards)]
    np.testing.assert_array_equal(flat[found], rewards)
    return found


def test_batches_are_drawn_from_all_that_is_held_and_normalised_once(run: Run) -> None:
    """1.75 updates for each interaction, and the statistics are those of now."""
    diary, done, shares = run.diary, 0, []
    stored = jax.tree.map(lambda x: x.reshape(ENVS * INTERACTIONS, *x.shape[2:]), run.held)
    for t in range(INTERACTIONS):
        held = t + 1 - run.late
        for i in range(done, updates_after(t)):
            where = places(run, diary.batches.reward[i])
            assert where.max() < ENVS * held
            shares.append((where + 0.5) / (ENVS * held))
            raw = Transition(*(field[where] for field in stored))
            given = Transition(*(field[i] for field in diary.batches))
            np.testing.assert_array_equal(given.action, raw.action)
            np.testing.assert_array_equal(given.terminated, raw.terminated)
            for ours, theirs in (
                (given.observation, raw.observation),
                (given.next_observation, raw.next_observation),
            ):
                np.testing.assert_allclose(ours, normalised(run, t + 1 - run.late, theirs), **CLOSE)
        done = updates_after(t)
    assert done == int(diary.updates) == UPDATES
    assert stats.kstest(np.ravel(shares), stats.uniform(0, 1).cdf).pvalue > 0.01


def test_every_update_has_a_key_and_a_batch_of_its_own(run: Run) -> None:
    keys = {tuple(key) for key in run.diary.keys[:UPDATES]}
    assert len(keys) == UPDATES
    batches = {tuple(batch) for batch in run.diary.batches.reward[:UPDATES]}
    assert len(batches) == UPDATES


def test_what_happens_now_and_then_happens_between_updates_and_never_after_the_last(run: Run) -> None:
    """After each ninth of 189 updates but the last, on a batch that no update has seen."""
    assert int(run.diary.changes) == 20
    assert run.diary.made[:20].tolist() == list(range(9, 189, 9))
    for given, made in zip(run.diary.change_rewards[:20], run.diary.made[:20], strict=True):
        assert set(places(run, given)) != set(places(run, run.diary.batches.reward[made - 1]))
        assert not any(np.array_equal(given, batch) for batch in run.diary.batches.reward)


def test_a_row_is_the_mean_of_its_chunk(run: Run) -> None:
    finished = list(itertools.chain(*(ends(run, env) for env in range(ENVS))))
    before = 0
    for i, row in enumerate(run.rows):
        first, end = i * PER_CHUNK, (i + 1) * PER_CHUNK
        made = updates_after(end - 1)
        assert float(row["updates_in_chunk"]) == made - before
        loss = run.diary.batches.reward[before:made].mean()
        assert float(row["loss/critic"]) == pytest.approx(float(loss), rel=1e-4, abs=1e-4)
        assert float(row["value_mean"]) == pytest.approx(3 + (before + made - 1) / 2, rel=1e-5)
        returns = [returned for t, returned, _ in finished if first <= t < end]
        assert float(row["train_return_mean"]) == pytest.approx(np.mean(returns), rel=1e-4)
        before = made


def test_a_probe_is_drawn_anew_from_what_is_held(run: Run) -> None:
    """256 samples, normalised as the agent sees them."""
    shares = []
    for i, row in enumerate(run.rows):
        end, where = (i + 1) * PER_CHUNK, places(run, row["probe"].reward)
        assert where.shape == (256,)
        assert where.max() < ENVS * end
        shares.append((where + 0.5) / (ENVS * end))
        raw = run.held.observation.reshape(-1, 3)[where]
        seen = normalised(run, end - run.late, raw)
        np.testing.assert_allclose(row["probe"].observation, seen, **CLOSE)
    assert stats.kstest(np.ravel(shares), stats.uniform.cdf).pvalue > 0.01
    assert (
        np.abs(np.asarray(np.corrcoef(shares))[np.triu_indices(CHUNKS, 1)]).max() < 0.2
    )  # one key for all: 1


def test_what_a_run_will_do_is_said(run: Run) -> None:
    work = run.loop.workload(run.state)
    assert (work.updates, work.batch_size, work.samples_at_once) == (UPDATES, BATCH, BATCH)
    said = "the first 12 interactions random (preset 20; at most a tenth of a run); something happens"
    assert run.loop.describe().startswith(said)


def test_a_batch_and_what_an_update_draws_are_from_different_keys() -> None:
    agent = diarist(BATCH, every=9, total=UPDATES)
    agent = agent._replace(update=lambda state, batch, key: (state, {"x": jax.random.normal(key, (3,))}))
    loop = OffPolicyLoop(config_of(), uneven(), agent)
    state, keys = jax.jit(loop.init)(INPUTS), []
    update = jax.jit(watched(loop.learning.update))
    for i in range(3):
        draws = jax.device_get(update(state, jax.random.key(i))[1])
        keys += [tuple(key) for kind in draws.values() for key, _ in kind]
    assert len(set(keys)) == len(keys) == 6


def test_evaluation_acts_on_what_training_sees(run: Run) -> None:
    raw = run.held.observation[-1]
    expected = 0.5 * np.tanh(normalised(run, INTERACTIONS, raw)[:, :2])
    if run.late:
        learner = run.state.learner
        found = OnDevice(run.loop.learning).greedily(learner.agent, learner.normaliser, raw)
    else:
        found = run.loop.learning.act_greedily(run.state, raw)
    np.testing.assert_allclose(found, expected, **CLOSE)
