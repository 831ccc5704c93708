"""What runs by curricula keep for people, and what held-out levels are shown."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from compilations import count_compilations
from conftest import MakeConfig
from interrupting import train

from sparse_rl.records import levels
from sparse_rl.runs.failures import best_run, hardest
from sparse_rl.runs.pack import prepare_pack, train_pack
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


def test_each_run_of_a_batched_pack_keeps_its_own_and_domain_randomisation_nothing(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    teacher = {"method": "paired", "teacher_width": 8}
    pack = [config_of(make_config, teacher, seed=seed) for seed in (0, 1)]
    train_pack(prepare_pack(pack), tmp_path, layout="vmap")
    one, two = (levels.read(tmp_path / config.run_id) for config in pack)
    assert list(one) == list(two) == MOMENTS
    for held in (one[560], two[560]):
        assert held["made/levels/walls"].shape == (4, 4, 4)
        assert held["made/there"].all()
    assert (one[560]["made/levels/goal"] != two[560]["made/levels/goal"]).any()
    assert (one[560]["made/levels/goal"] != one[480]["made/levels/goal"]).any()  # drawn anew
    dr = config_of(make_config, {"method": "dr"})
    with count_compilations() as compiled:
        train_pack(prepare_pack([dr]), tmp_path)
    assert "jit(show)" not in compiled
    assert not (tmp_path / dr.run_id / levels.FILE).exists()


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
