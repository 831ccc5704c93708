"""What runs by curricula keep for people, and what held-out levels are shown."""

import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from compilations import count_compilations
from conftest import MakeConfig
from interrupting import train

from sparse_rl.loops import CurriculumLoop
from sparse_rl.records import levels
from sparse_rl.runs.failures import best_run, hardest
from sparse_rl.runs.lockstep import Lockstep, Policy, Programs
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.run import RunConfig

pytestmark = pytest.mark.usefixtures("without_health")
CYCLE = 4 * 10


def config_of(make_config: MakeConfig, curriculum: dict[str, Any], **changes: Any) -> RunConfig:
    return make_config(
        agent={"name": "paac", "num_envs": 4, "num_steps": 10},
        env={"source": "maze", "task": "4", "walls": 3, "actions": 3, "episode_length": 9},
        curriculum=curriculum, env_steps=14 * CYCLE, log_every=2 * CYCLE, eval_every=14 * CYCLE,
        **changes,
    )  # fmt: skip


ACCEL = {"method": "accel", "edits": 2, "buffer_size": 12, "minimum_fill": 0.5}
MOMENTS = [160, 240, 320, 400, 480, 560]
"""Seven log points of 80 frames, in six parts."""


def test_levels_are_kept_at_six_moments_by_one_program_and_a_resume_changes_nothing(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = config_of(make_config, ACCEL)
    with count_compilations() as compiled:
        train([config], tmp_path / "whole", every=80)
    assert compiled.count("jit(show)") == 1
    kept = levels.read(tmp_path / "whole" / config.run_id)
    assert list(kept) == MOMENTS
    for held in kept.values():
        there, score = held["wanted/there"], held["wanted/score"]
        assert held["wanted/levels/walls"].shape == (6, 4, 4)
        assert (np.diff(score[there]) <= 0).all()
        assert (held["hardest/highest"][held["hardest/there"]] > 0).all()
        ways = held["hardest/told/shortest"][held["hardest/there"]]
        assert (np.diff(ways) <= 0).all()
    assert kept[560]["wanted/there"].all()
    assert kept[560]["hardest/there"].any()
    scores = {tuple(held["wanted/score"].tolist()) for held in kept.values()}
    assert len(scores) > 1  # a buffer changes
    train([config], tmp_path / "killed", until=320, every=80)
    assert list(levels.read(tmp_path / "killed" / config.run_id)) == MOMENTS[:3]
    train([config], tmp_path / "killed", every=80)
    whole, killed = (tmp_path / w / config.run_id / levels.FILE for w in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()


def test_each_run_of_a_batched_pack_keeps_its_own(make_config: MakeConfig, tmp_path: Path) -> None:
    """Programs that compute nothing; what they show is the run's number and the interaction."""
    _, runs = prepare_pack([config_of(make_config, ACCEL, seed=seed) for seed in (0, 1)])

    def chunk(first: Any, state: Any) -> Any:
        return state, {"updates_in_chunk": np.ones(2)}

    def show(interactions: Any, state: Any) -> Any:
        return {"made": {"levels": np.array([[10, 11], [20, 21]]) * 1000 + int(interactions)}}

    programs = Programs(
        lambda inputs: np.zeros(2), chunk, lambda *_: {"return_mean": np.zeros(2)}, 1.0, show
    )
    still: Any = _Still()
    together = Lockstep(
        still, programs, runs, tmp_path, "vmap", "none", lambda _: None, Policy(), threading.Event()
    )
    assert together.train() == ["done", "done"]
    for i, run in enumerate(runs):
        kept = levels.read(tmp_path / run.config.run_id)
        assert list(kept) == MOMENTS
        for when, held in kept.items():
            first = 10_000 * (i + 1) + when // 4  # four actors
            assert held["made/levels"].tolist() == [first, first + 1000]


class _Still(NamedTuple):
    """A loop that is not asked anything but what it trained."""

    def trained(self, state: Any) -> dict[str, np.ndarray]:
        return {"state": np.array(state)}


def test_domain_randomisation_keeps_nothing(make_config: MakeConfig) -> None:
    loop, _ = prepare_pack([config_of(make_config, {"method": "dr"})])
    assert isinstance(loop, CurriculumLoop)
    assert loop.show(None, None) == {}  # type: ignore[arg-type]


def rows(
    run_id: str, rates: dict[tuple[str, str], float], horizon: int = 250, policy: str = "drawn"
) -> Any:
    return pd.DataFrame(
        [
            {"run_id": run_id, "set": s, "level": level, "policy": policy, "horizon": horizon,
             "solve_rate": rate}
            for (s, level), rate in rates.items()
        ]
    )  # fmt: skip


def test_failures_are_what_all_runs_solve_least_often_within_the_longest_time() -> None:
    a = {("rooms", "x"): 0.1, ("rooms", "y"): 0.4, ("rooms", "z"): 0.5, ("perfect9", "0"): 1.0}
    b = {("rooms", "x"): 0.7, ("rooms", "y"): 0.2, ("rooms", "z"): 0.3, ("perfect9", "0"): 1.0}
    far = {("perfect101", "0"): 0.0}
    told = pd.concat(
        [
            rows("a", dict.fromkeys(a, 0.0), horizon=100),  # too early to tell
            rows("a", dict.fromkeys(a, 0.0), policy="greedy"),
            rows("a", a), rows("b", b), rows("a", far, 21218), rows("b", far, 21218),
            rows("b", {("worst", "0.01"): 0.0}), rows("a", {("four", "3"): 0.9}),
            rows("b", {("four", "3"): 0.7}),
        ]
    )  # fmt: skip
    found = hardest(told)
    assert list(zip(found["set"], found["level"], strict=True)) == [
        ("rooms", "y"), ("rooms", "x"), ("four", "3"),
    ]  # fmt: skip
    np.testing.assert_allclose(found["solve_rate"], [0.3, 0.4, 0.8])
    assert best_run(told) == "b"
