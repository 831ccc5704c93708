"""Levels as pictures: where things are drawn, and which levels."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from sparse_rl.analysis import gallery, mazes
from sparse_rl.analysis.gallery import Shown
from sparse_rl.records import failures, levels

NAN = float("nan")


def maze(**but: Any) -> mazes.Maze:
    """Two rows of four, a wall at the upper right."""
    walls = np.zeros((2, 4), bool)
    walls[0, 3] = True
    made: dict[str, Any] = {
        "walls": walls,
        "goal": np.array([2, 1]),
        "agent": np.array([0, 1]),
        "direction": 3,
    }
    return mazes.Maze(**made | but)


def corners(patch: Any) -> list[list[float]]:
    return np.round(patch.get_xy(), 6).tolist()


@pytest.mark.parametrize(
    ("direction", "tip"), [(0, (0.225, 0)), (1, (0, 0.225)), (2, (-0.225, 0)), (3, (0, -0.225))]
)
def test_walls_goal_and_agent_are_where_they_are(direction: int, tip: tuple[float, float]) -> None:
    ax = Figure().subplots()
    # 4 columns in a side of 2: a cell is half as wide
    mazes.draw_maze(ax, maze(direction=direction), at=(10.0, 20.0), side=2.0)
    (image,) = ax.images
    assert list(image.get_extent()) == [10.0, 12.0, 21.0, 20.0]  # y grows downwards
    shown = np.asarray(image.get_array())
    assert shown.tolist() == maze().walls.tolist()
    goal, agent = ax.patches
    assert corners(goal)[:4] == [[11, 20.5], [11.5, 20.5], [11.5, 21], [11, 21]]
    ahead = np.array(corners(agent)[0]) - (10.25, 20.75)
    np.testing.assert_allclose(ahead, tip, atol=1e-6)
    assert goal.get_facecolor() != agent.get_facecolor()


def test_a_way_is_a_line_through_its_cells_and_bluer_where_it_stayed() -> None:
    ax = Figure().subplots()
    way = np.array([(0, 1), (1, 1), (1, 1), (1, 1), (2, 1)])
    mazes.draw_maze(ax, maze(), way)
    (line,) = ax.lines
    np.testing.assert_allclose(np.asarray(line.get_xydata(), float), (way + 0.5) / 4)
    _, visited = ax.images
    alpha = np.asarray(visited.get_alpha())
    assert alpha[1, 1] == alpha.max()
    assert 0 < alpha[1, 0] == alpha[1, 2] < alpha[1, 1]
    assert alpha[0].max() == alpha[1, 3] == 0


def test_what_is_no_maze_is_none() -> None:
    leaves = maze()._asdict()
    assert mazes.maze_of(leaves) is not None
    assert mazes.maze_of({"powers": np.zeros(4), "start": np.zeros(4)}) is None


def run_of(study: Path, curriculum: str, seed: int, rate: float, status: str = "done") -> pd.DataFrame:
    told = {
        "study": str(study),
        "run_id": f"{curriculum}{seed}",
        "curriculum": curriculum,
        "status": status,
    }
    frame = pd.DataFrame([told] * 2)
    return frame.assign(env_steps=[100, 200], **{"solve_rate/random": [0.9, rate]})


RATES = "solve_rate/random"


def test_the_run_in_the_middle_is_shown(tmp_path: Path) -> None:
    """By its last solve rate, of runs that are done."""
    rates = {0: 0.5, 1: 0.1, 2: 0.3, 3: 0.2}
    made = [run_of(tmp_path, "plr", seed, rate) for seed, rate in rates.items()]
    made.append(run_of(tmp_path, "plr", 4, 0.25, "running"))
    found = gallery.middle_run(pd.concat(made, ignore_index=True), [RATES])
    assert found == (tmp_path / "plr3", "plr3")
    five = pd.concat([*made[:4], run_of(tmp_path, "plr", 5, 0.6)], ignore_index=True)
    found = gallery.middle_run(five, [RATES])
    assert found == (tmp_path / "plr2", "plr2")
    assert gallery.middle_run(made[-1], [RATES]) is None


def exhibits(
    kind: str, shortest: list[float], highest: list[float], there: list[bool]
) -> dict[str, Any]:
    n = len(shortest)
    leaves = {name: np.stack([np.asarray(x)] * n) for name, x in maze()._asdict().items()}
    return {
        **{f"{kind}/levels/{name}": x for name, x in leaves.items()},
        f"{kind}/there": np.array(there),
        f"{kind}/score": np.zeros(n, np.float32),
        f"{kind}/highest": np.array(highest, np.float32),
        f"{kind}/edited": np.arange(n) == 1,
        f"{kind}/told/shortest": np.array(shortest, np.float32),
        f"{kind}/told/solvable": np.ones(n, np.float32),
    }


def words_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_gallery_has_a_row_for_each_moment_and_the_hardest_of_the_last(tmp_path: Path) -> None:
    rows = pd.concat([run_of(tmp_path, "plr", 0, 0.5), run_of(tmp_path, "dr", 0, 0.5)])
    for when, first in ((300_000, 5), (600_000, 6)):
        held = {
            **exhibits("wanted", [first, 8, 3], [0.25, NAN, 0.5], [True, True, False]),
            **exhibits("hardest", [10 + first, NAN], [0.125, 0.75], [True, True]),
        }
        levels.add(tmp_path / "plr0", when, held)
    (shown,) = gallery.galleries(rows, [RATES])
    assert isinstance(shown, Shown)
    assert shown.name == "plr"
    assert "plr0" in shown.caption
    assert words_of(shown.figure) == [
        "0.3M", "5, 0.25", "8, none, edit",
        "0.6M", "6, 0.25", "8, none, edit",
        "hardest\nsolved", "16, 0.12", "∞, 0.75, edit",
    ]  # fmt: skip
    (tmp_path / "plr0" / levels.FILE).write_bytes(b"x" * 100)
    (said,) = gallery.galleries(rows, [RATES])
    assert str(said).startswith(str(tmp_path / "plr0" / levels.FILE))
    assert not list(gallery.galleries(rows.drop(columns="curriculum"), [RATES]))


def test_levels_that_are_numbers_are_points_over_time(tmp_path: Path) -> None:
    for when, gravity in ((100, [9.0, 4.0, 7.0]), (200, [5.0, 6.0, 7.0])):
        held: dict[str, np.ndarray] = {
            "wanted/levels/powers": np.zeros((3, 2)), "wanted/there": np.array([True, True, False]),
            "wanted/told/gravity": np.array(gravity, np.float32),
            "wanted/told/length": np.array([1, 2, 3], np.float32),
            "wanted/told/solvable": np.ones(3), "wanted/highest": np.zeros(3),
            "wanted/edited": np.zeros(3, bool),
        }  # fmt: skip
        levels.add(tmp_path / "plr0", when, held)
    (shown,) = gallery.galleries(run_of(tmp_path, "plr", 0, 0.5), [RATES])
    assert isinstance(shown, Shown)
    assert [ax.get_title() for ax in shown.figure.axes] == ["gravity", "length"]
    points = [line.get_xydata().tolist() for line in shown.figure.axes[0].lines]  # type: ignore[union-attr]
    assert points == [[[100, 9], [100, 4]], [[200, 5], [200, 6]]]


def test_failures_are_shown_with_how_often_they_were_solved(tmp_path: Path) -> None:
    assert gallery.failed(tmp_path) is None
    way = np.array([(0, 1), (0, 0), (1, 0)], np.int32)
    one = {
        "env": "maze/9", "name": "rooms/Labyrinth", "run_id": "a", "solve_rate": 0.25, "way": way,
        "level": maze()._asdict(),
    }  # fmt: skip
    failures.write(tmp_path, [one])
    figure = gallery.failed(tmp_path)
    assert isinstance(figure, Figure)
    assert words_of(figure) == ["maze/9", "rooms/Labyrinth\nsolved 25%; here 3 actions"]
    assert len(figure.axes[0].lines) == 1
    (tmp_path / failures.FILE).write_bytes(b"x" * 100)
    assert "cannot be read" in str(gallery.failed(tmp_path))
