"""Mazes as pictures, cell by cell."""

import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.envs.maze import parse
from sparse_rl.envs.maze.drawn import AGENT, FREE, GOAL, SIDE, WALL, draw

LEVEL = parse(""">..
#.G""")


def cell(picture: np.ndarray, column: int, row: int) -> np.ndarray:
    return picture[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]


def test_walls_goal_and_agent_are_where_they_are() -> None:
    picture = np.asarray(draw(LEVEL, jnp.int32([1, 0]), jnp.int32(0)))
    assert picture.shape == (2 * SIDE, 3 * SIDE, 3)
    for column, row, colour in ((0, 0, FREE), (0, 1, WALL), (2, 1, GOAL), (1, 1, FREE), (2, 0, FREE)):
        assert (cell(picture, column, row) == colour).all()
    here = (cell(picture, 1, 0) == AGENT).all(axis=-1)
    assert 0.2 < here.mean() < 0.8


@pytest.mark.parametrize(("direction", "ahead"), [(0, (1, 0)), (1, (0, 1)), (2, (-1, 0)), (3, (0, -1))])
def test_the_tip_of_the_arrow_says_where_it_looks(direction: int, ahead: tuple[int, int]) -> None:
    picture = np.asarray(draw(LEVEL, jnp.int32([1, 1]), jnp.int32(direction)))
    red = (cell(picture, 1, 1) == AGENT).all(axis=-1)
    rows, columns = np.nonzero(red)
    along = columns * ahead[0] + rows * ahead[1]
    # narrow in front, wide behind
    wide = [(along == along.min()).sum(), (along == along.max()).sum()]
    assert wide[0] > 3 * wide[1]
