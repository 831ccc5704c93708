"""Trained agents in held-out levels, by the command."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeConfig
from PIL import Image

from sparse_rl import envs, held_out
from sparse_rl.records import failures, results
from sparse_rl.runs import CannotTryError, film
from sparse_rl.runs.held_out import FILE, solvable
from sparse_rl.runs.pack import prepare_pack, train_pack

pytestmark = pytest.mark.usefixtures("programs_once")


def study(make_config: MakeConfig, folder: Path) -> list[str]:
    """Two runs by a curriculum and one by a teacher, all short."""
    base = {
        "agent": {"name": "paac", "num_envs": 3, "num_steps": 8},
        "env": {"source": "maze", "task": "5", "walls": 4, "episode_length": 12, "eval_episodes": 2},
        "env_steps": 96, "log_every": 48, "eval_every": 96,
    }  # fmt: skip
    dr = [make_config(**base, curriculum={"method": "dr"}, sparsity=0.5, seed=seed) for seed in (0, 1)]
    paired = make_config(**base, curriculum={"method": "paired", "teacher_width": 16})
    for pack in (dr, [paired]):
        assert set(train_pack(prepare_pack(pack), folder).values()) == {"done"}
    return [config.run_id for config in (*dr, paired)]


def test_the_command_tries_every_run_once_and_says_who_is_left_out(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = study(make_config, tmp_path)
    unfinished = tmp_path / runs[1] / results.RUN
    record = results.known_run(unfinished.parent)
    results.write_run(unfinished.parent, record | {"status": "preempted"})
    asked = [str(tmp_path), "--sets", "perfect5", "--episodes", "3", "--random", "40"]
    held_out.main(asked)
    said = capsys.readouterr().out
    assert f"{runs[1]} is left out: it is preempted" in said
    rows = pd.read_parquet(tmp_path / "held_out.parquet")
    assert set(rows["run_id"]) == {runs[0], runs[2]}
    assert set(rows["curriculum"]) == {"dr", "paired"}
    mine = rows[(rows["run_id"] == runs[0]) & (rows["set"] == "perfect5")]
    assert len(mine) == 2 * 100  # levels, drawn and greedy
    thirds = mine["solve_rate"] * 3
    np.testing.assert_allclose(thirds, thirds.round(), atol=1e-6)
    assert 0 < mine["solve_rate"].mean() < 1
    # regret and mean return make the best return, which is the level's and not the policy's
    assert (mine["regret"] >= -1e-6).all()
    np.testing.assert_allclose(
        mine["regret"] + mine["return_mean"], mine.groupby("level")["regret"].transform("mean")
        + mine.groupby("level")["return_mean"].transform("mean"), atol=1e-6,
    )  # fmt: skip
    worst = rows[(rows["run_id"] == runs[0]) & (rows["set"] == "worst")]
    assert worst["level"].tolist() == ["0.01", "0.05", "0.1", "1"]
    drawn = rows[(rows["set"] == "perfect5") & (rows["policy"] == "drawn")]
    rates = drawn.groupby("level")["solve_rate"].mean().sort_values()
    failed = failures.read(tmp_path)
    assert [one["solve_rate"] for one in failed] == pytest.approx(rates.iloc[:2].tolist())
    sets = envs.make("maze", "5").levels.sets["perfect5"]()  # type: ignore[union-attr]
    for one in failed:
        assert one["run_id"] == drawn.groupby("run_id")["solve_rate"].mean().idxmax()
        level = one["name"].removeprefix("perfect5/")
        assert rates[level] == pytest.approx(one["solve_rate"])
        at = sets.names.index(level)
        for name, held in sets.levels._asdict().items():
            np.testing.assert_array_equal(one["level"][name], held[at])
        way = one["way"]  # from where the agent begins, a cell at a time, never into a wall
        np.testing.assert_array_equal(way[0], one["level"]["agent"])
        assert np.abs(np.diff(way, axis=0)).sum(axis=1).max() <= 1
        assert not one["level"]["walls"][way[:, 1], way[:, 0]].any()
    kept = (tmp_path / failures.FILE).stat().st_mtime_ns
    before = (tmp_path / runs[0] / FILE).stat().st_mtime_ns
    held_out.main(asked)
    again = capsys.readouterr().out
    assert f"1/3 {runs[0]}" not in again
    assert (tmp_path / runs[0] / FILE).stat().st_mtime_ns == before
    assert (tmp_path / failures.FILE).stat().st_mtime_ns == kept
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "held_out.parquet"), rows)
    results.write_run(unfinished.parent, record)
    path, score = film(tmp_path / runs[2], seed=3, levels="perfect5", number=7)
    with Image.open(path) as shown:
        assert shown.size == (225, 225)  # 5 cells of 9 pixels, enlarged to at least 192
        pictures = 0
        for i in range(shown.n_frames):  # type: ignore[attr-defined]
            shown.seek(i)
            pictures += shown.info["duration"] // 120  # pictures that are alike are one, and stay longer
    assert 1 <= pictures <= 98
    assert (score > 0) == (pictures < 98)
    with Image.open(path.with_name("episode.png")) as still:
        assert still.size == (630, 675)
    with pytest.raises(CannotTryError, match="perfect5 has levels 0 to 99, and no 100"):
        film(tmp_path / runs[2], seed=3, levels="perfect5", number=100)
    with pytest.raises(SystemExit, match="2"):
        held_out.main([str(tmp_path), "--sets", "perfct5"])
    assert "unknown set of levels 'perfct5'. Did you mean perfect5" in capsys.readouterr().err


def test_random_levels_can_all_be_solved_and_are_no_runs_own(make_config: MakeConfig) -> None:
    config = make_config(
        agent={"name": "paac"}, env={"source": "maze", "task": "5", "walls": 12, "episode_length": 30}
    )
    env = prepare_pack([config]).loop.env
    levels = solvable(env, 1500)  # type: ignore[arg-type]
    assert len(levels.names) == len(set(levels.names)) == 1500
    assert levels.horizons == (30,)
    assert all(len(x) == 1500 for x in levels.levels)
    for i in (0, 700, 1499):
        one = type(levels.levels)(*(x[i] for x in levels.levels))
        assert float(env.levels.describe(one)["solvable"]) == 1  # type: ignore[union-attr]


def test_nothing_to_try_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        held_out.main([str(tmp_path)])
    assert "no runs in" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        held_out.main([str(tmp_path), "--episodes", "0"])
    assert "--episodes must be at least 1" in capsys.readouterr().err
