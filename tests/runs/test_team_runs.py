"""Whole runs of teams, and cross-play of what they trained."""

import functools
import json
from pathlib import Path
from typing import Any

import crew
import interrupting
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from interrupting import outcome

from sparse_rl import crossplay
from sparse_rl.agents import acting
from sparse_rl.analysis import crossplay as analysis
from sparse_rl.loops import Whole
from sparse_rl.records import checkpoints, results
from sparse_rl.records.checkpoints import to_arrays
from sparse_rl.runs import CannotTryError, cross_play, pack, prepare_pack
from sparse_rl.runs import crossplay as ours
from sparse_rl.runs.trained import actor_of
from sparse_rl.settings.run import RunConfig, run_config

PPO = {"num_envs": 4, "num_steps": 8, "minibatches": 2, "epochs": 2, "learning_rate": 1e-2}
REPLAY = {
    "num_envs": 4, "sequence_length": 4, "batch_size": 6, "replay_size": 80, "target_every": 7,
    "random_interactions": 6, "updates_per_interaction": 0.5, "learning_rate": 1e-2,
}  # fmt: skip
AGENTS: dict[str, dict[str, Any]] = {
    "ippo": {"name": "ippo", "memory": "gru", "normalise_rewards": True, **PPO},
    "mappo": {
        "name": "mappo",
        "sharing": "none",
        "identify": True,
        "normalise_observations": True,
        **PPO,
    },
    "pqn_vdn": {"name": "pqn_vdn", "sharing": "masks", **PPO},
    "iql": {"name": "iql", "sharing": "none", **REPLAY},
    "qmix": {"name": "qmix", "identify": True, "memory": "lstm", **REPLAY},
    "vdn": {"name": "vdn", "memory": "none", "sharing": "masks", **REPLAY},
}


@pytest.fixture(autouse=True)
def _crew(monkeypatch: pytest.MonkeyPatch) -> None:
    crew.install(monkeypatch)


def config_of(name: str, **changes: Any) -> RunConfig:
    env = {"source": "jaxmarl", "task": "crew", "eval_episodes": 6}
    budget = {"env_steps": 256, "log_every": 64, "eval_every": 128}
    return run_config(
        {"agent": AGENTS[name], "env": env, "width": 8, "sparsity": 0.5, **budget, **changes}
    )


train = functools.partial(interrupting.train, every=64)


@pytest.mark.usefixtures("programs_once")
@pytest.mark.parametrize("name", AGENTS)
def test_interrupted_teams_end_with_the_bytes_of_undisturbed_ones(tmp_path: Path, name: str) -> None:
    configs = [config_of(name, seed=seed) for seed in (0, 1)]
    train(configs, tmp_path / "calm")
    for until in (64, 128, None):
        train(configs, tmp_path / "disturbed", until)
    for config in configs:
        assert outcome(tmp_path / "calm", config) == outcome(tmp_path / "disturbed", config)
    rows = results.read_metrics(tmp_path / "calm" / configs[0].run_id)
    assert list(rows["env_steps"]) == [64, 128, 192, 256]  # of teams, not of their agents
    # a rollout is 32 env steps and makes 4 updates; from a buffer, half of what is not random: 64 less 6
    made = [5, 13, 21, 29] if "replay_size" in AGENTS[name] else [8, 16, 24, 32]
    assert list(rows["updates"]) == made
    told = rows[rows["return_mean"].notna()]
    assert list(told["env_steps"]) == [128, 256]
    for column in ("win_rate", "drawn/return_mean", "drawn/win_rate", "drawn/episode_length_mean"):
        assert told[column].notna().all(), column
    # the agents' actions are worth 2, 1 and ½ at most, in four steps at most; one of them can be dead
    assert told["return_mean"].between(0.0, 14.0).all()
    assert told["episode_length_mean"].between(3.0, 4.0).all()


@pytest.mark.usefixtures("programs_once")
def test_the_first_of_the_best_evaluations_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that are as good; the run goes on afterwards, is interrupted, and taken up again."""
    config, compiled = config_of("pqn_vdn"), pack.compile_programs
    scores = {128: 5.0, 256: 5.0}

    def scored(*of: Any) -> Any:
        programs = compiled(*of)
        return programs._replace(
            evaluate=lambda at, state: programs.evaluate(at, state) | {
                "return_mean": np.float32(scores[int(at) * 4])
            }
        )  # fmt: skip

    monkeypatch.setattr(pack, "compile_programs", scored)
    kept = functools.partial(interrupting.keeping, [config], every=64, best=True)
    kept(tmp_path, until=128)
    folder = tmp_path / config.run_id
    there = checkpoints.read_arrays(checkpoints.path_of(folder, 128))
    kept(tmp_path)
    best = checkpoints.read_arrays(folder / results.BEST)
    last = checkpoints.read_arrays(folder / results.PARAMETERS)
    assert set(best) == {*last, results.AT}
    assert best[results.AT] == 128
    weights = [name for name in last if name.startswith("parameters/")]
    for name in weights:
        own = there[name.replace("parameters/critic/", "agent/critic/")]
        np.testing.assert_array_equal(best[name], own)
    assert any(np.any(best[name] != last[name]) for name in weights)
    actor = actor_of(config)
    read = actor.read(folder, "best")["parameters"]["critic"]
    name = weights[0].removeprefix("parameters/critic/")
    found = dict(to_arrays(read))[name]
    np.testing.assert_array_equal(found, best[weights[0]])
    scores[256] = 6.0  # rows that say another one was best: what is kept is not it
    rows = results.read_metrics(folder)
    rows.loc[rows["env_steps"] == 256, "return_mean"] = 6.0
    told: Any = rows.to_dict("records")
    results.write_metrics(folder, told)
    with pytest.raises(CannotTryError, match="at env_steps=256, and what was kept is of env_steps=128"):
        actor.read(folder, "best")
    (folder / results.BEST).unlink()
    with pytest.raises(CannotTryError, match="train it with keep_best=true"):
        actor.read(folder, "best")


def test_the_best_is_the_first_of_the_largest() -> None:
    nan = float("nan")
    rows = [(10, nan), (20, -3.0), (30, nan), (40, -1.5), (50, -1.5), (60, -2.0)]
    told = [{"env_steps": at, "return_mean": score} for at, score in rows]
    assert results.best_of(told) == 40
    assert results.best_of(told[:1]) is None
    assert results.best_of([{"env_steps": 10}, *told[1:2]]) == 20


def always(config: RunConfig, action: int) -> Any:
    """What was trained, as if it liked nothing but this action."""
    actor = actor_of(config)
    learner = jax.jit(actor.loop.init)(prepare_pack([config]).runs[0].inputs)
    networks = jax.tree.map(jnp.zeros_like, learner.agent.networks)
    networks["actor"]["logits"]["bias"] = 5.0 * (jnp.arange(3) == action)
    return {
        "parameters": networks, "supports": learner.agent.supports, "normaliser": learner.normaliser,
    }  # fmt: skip


@pytest.mark.parametrize("seats", [0, 1, 2, 3])
def test_each_seat_is_taken_by_its_run(seats: int) -> None:
    """Runs of another width and with a memory of their own; one likes action 1, the other action 0."""
    one = config_of("ippo", width=4)
    other = run_config(
        {
            **_plain(config_of("mappo", width=6)),
            "agent": AGENTS["mappo"] | {"identify": False, "sharing": "all"},
        }
    )
    actors = actor_of(one), actor_of(other)
    play = ours.program(crew.crew(), *actors, episodes=5, greedy=True)
    played: Whole = play(always(one, 1), always(other, 0), jnp.int32(seats), jax.random.key(3))
    # who likes action 1 earns 1, ½ or ¼ a step, unless it waits (the first at time 1) or is dead (the
    # last from time 2 on); three or four steps
    lengths = np.asarray(played.lengths)
    worth = np.zeros(5)
    for t in range(4):
        acts = np.array([t != 1, True, t < 2])
        earned = np.array([1.0, 0.5, 0.25]) * acts * (np.arange(3) < seats)
        worth += (t < lengths) * earned.sum()
    np.testing.assert_allclose(played.returns, worth, rtol=1e-6)


def _plain(config: RunConfig) -> dict[str, Any]:
    return {
        "env": {"source": "jaxmarl", "task": "crew"}, "width": config.width, "sparsity": 0.5,
        "env_steps": 256, "log_every": 64, "eval_every": 128,
    }  # fmt: skip


def test_finished_runs_meet_in_every_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds of one cell, one of another agent, and one that never ended."""
    train([config_of("mappo", seed=s) for s in (0, 1)], tmp_path / "a")
    train([config_of("pqn_vdn")], tmp_path / "b")
    train([config_of("mappo", seed=7)], tmp_path / "a", until=64)
    said: list[str] = []
    studies = [tmp_path / "a", tmp_path / "b"]
    rows = list(cross_play(studies, episodes=4, pairs="all", sample=None, say=said.append))
    assert any("is left out: it is preempted" in line for line in said)
    table = pd.DataFrame(rows)
    # 3 alone; 3 pairs in 2 orders with 1 or 2 seats for the first; two policies
    assert len(table) == (3 + 3 * 2 * 2) * 2
    assert table["self_play"].sum() == 6
    assert set(table["which"]) == {"last"}
    apart = table[~table["self_play"] & (table["policy"] == "greedy")]
    assert set(apart["seats_of_one"]) == {1, 2}
    assert not apart.duplicated(["one/run_id", "other/run_id", "seats_of_one"]).any()
    assert set(table["one/agent"]) == {"mappo", "pqn_vdn"}
    twice = list(
        cross_play([*studies, tmp_path / "b"], episodes=4, pairs="all", sample=None, say=said.append)
    )
    assert len(twice) == len(rows)  # a run in two studies is one, and never a stranger to itself
    assert any(f"it is the one of {tmp_path / 'b'}" in line for line in said)
    within = list(cross_play(studies, episodes=4, pairs="within", sample=None, say=said.append))
    assert len(within) == (3 + 2 * 2) * 2
    some = list(cross_play(studies, episodes=4, pairs="all", sample=1, say=said.append))
    assert len(some) == (3 + 2 * 2) * 2
    crossplay.main([str(tmp_path / "a"), "--episodes", "4"])
    assert "cross-play" in capsys.readouterr().out
    written = pd.read_parquet(tmp_path / "a" / "crossplay.parquet")
    assert len(written) == (2 + 2 * 2) * 2
    lines = (tmp_path / "a" / "crossplay.jsonl").read_text().splitlines()
    assert [json.loads(line)["return_mean"] for line in lines] == pytest.approx(written["return_mean"])
    for arguments, message in (
        ([str(tmp_path / "none")], "no runs in"),
        ([str(tmp_path / "a"), "--pairs", "some"], "'some' is not one of all, within, sample=K"),
    ):
        with pytest.raises(SystemExit) as ended:
            crossplay.main(arguments)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pqn_vdn", "qmix"])
def test_who_chooses_by_values_tries_as_often_as_in_the_end(name: str) -> None:
    actor = actor_of(config_of(name, agent=AGENTS[name] | {"final_exploration": 0.3}))
    learner = actor.learner(acting(actor.loop.agent, actor.shapes))
    assert float(learner.agent.exploration) == pytest.approx(0.3)


def test_runs_of_a_cell_differ_in_seeds_alone() -> None:
    """Another learning rate is another cell, though agent, width and sparsity are the same."""
    one, seed, rate = (
        ours.Player("", config, None, None)  # type: ignore[arg-type]
        for config in (
            config_of("pqn_vdn"),
            config_of("pqn_vdn", seed=3, mask_seed=5),
            config_of("pqn_vdn", agent=AGENTS["pqn_vdn"] | {"learning_rate": 0.5}),
        )
    )
    assert one.cell == seed.cell != rate.cell
    assert [ours.Match(0, 1, 1), ours.Match(1, 0, 1)] == ours.matches(
        [one, seed, rate], 2, "within", None
    )[3:]
    table = rows_of([[1, 9, 9], [9, 2, 9], [9, 9, 4]], [8, 8, 8])
    table["one/cell"] = table["one/run_id"].map({"r0": "a", "r1": "a", "r2": "b"})
    assert list(analysis.summary(table)["runs"]) == [2, 1]


def rows_of(returns: Any, cells: list[int]) -> pd.DataFrame:
    """As cross-play writes them: a matrix of returns, and the width of each run."""
    return pd.DataFrame(
        {
            "env": "e", "policy": "drawn", "episodes": 3, "self_play": i == j,
            "one/run_id": f"r{i}", "other/run_id": f"r{j}", "return_mean": float(returns[i][j]),
            "one/agent": "ippo", "one/width": cells[i], "one/sparsity": 0.0, "one/cell": f"w{cells[i]}",
        }
        for i in range(len(cells))
        for j in range(len(cells))
    )  # fmt: skip


def test_gaps_are_of_runs_and_not_of_pairs() -> None:
    """By hand: three runs of width 8, one of width 16."""
    returns = [[10, 4, 6, 1], [2, 8, 0, 1], [4, 2, 12, 1], [3, 3, 3, 20]]
    of = analysis.played(rows_of(returns, [8, 8, 8, 16]), "drawn")
    found = analysis.cell_numbers(of, ("ippo", 8, 0.0, "w8"))
    values = {name: number[0] for name, number in found.items()}
    assert values == {"self-play": 10.0, "cross-play": 3.0, "gap": 7.0, "with others": 2.0}
    # resampled runs: of three, all of one kind in a ninth of cases, which have no pair
    assert found["self-play"][1:] == (8.0, 12.0)
    low, high = found["cross-play"][1:]
    assert (low, high) == (1.0, 5.0)  # two runs only: 2 and 0, or 6 and 4
    alone = analysis.cell_numbers(of, ("ippo", 16, 0.0, "w16"))
    assert np.isnan(alone["cross-play"]).all()
    assert np.isnan(alone["self-play"][1:]).all()
    assert alone["self-play"][0] == 20.0
    told = analysis.summary(rows_of(returns, [8, 8, 8, 16]))
    assert list(told["runs"]) == [3, 1]
    figure = analysis.matrix(rows_of(returns, [8, 8, 8, 16]), "drawn")
    shown = figure.axes[0].collections[0].get_array()
    np.testing.assert_array_equal(np.ravel(np.asarray(shown)), np.ravel(returns))
