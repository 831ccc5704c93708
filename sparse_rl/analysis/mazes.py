"""Mazes as pictures: where walls, goal and agent are, and the way that an episode took."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

COLOURS = ListedColormap(["#ecece7", "#404048"])
"""Free, wall: as in films."""
GOAL, AGENT, WAY = "#2ca054", "#c43a31", "#0173b2"
STEPS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
"""Direction → what a step that way adds to column and row, which grows downwards."""
INCHES = 1.25
"""Side of a maze in figures of many."""


class Maze(NamedTuple):
    """A level. Places are column and row, from the upper left."""

    walls: np.ndarray
    """bool ``[H, W]``."""
    goal: np.ndarray
    """int ``[2]``."""
    agent: np.ndarray
    """int ``[2]``."""
    direction: int
    """0 right, 1 down, 2 left, 3 up."""


def maze_of(leaves: Mapping[str, np.ndarray]) -> Maze | None:
    """A level from its arrays by name; ``None``: they are no maze's."""
    if set(leaves) != set(Maze._fields):
        return None
    return Maze(leaves["walls"], leaves["goal"], leaves["agent"], int(leaves["direction"]))


def draw_maze(
    ax: Axes,
    maze: Maze,
    way: np.ndarray | None = None,
    at: tuple[float, float] = (0.0, 0.0),
    side: float = 1.0,
) -> None:
    """Draw a maze into a square of an axes: walls dark, the goal green, the agent a red triangle that
    looks ahead.

    Args:
        ax: its y grows downwards (:func:`blank`).
        maze: of any size.
        way: int ``[T, 2]``, where the agent was before each action: cells are the bluer, the more of the
            episode was spent there, and a line goes through them.
        at: upper left corner.
        side: of the square, whose longer side the maze fills.
    """
    rows, columns = maze.walls.shape
    cell, (x, y) = side / max(rows, columns), at
    spread = (x, x + columns * cell, y + rows * cell, y)
    ax.imshow(maze.walls, cmap=COLOURS, vmin=0, vmax=1, extent=spread, interpolation="nearest")

    def middle(place: np.ndarray) -> np.ndarray:
        return np.asarray(at) + (np.asarray(place) + 0.5) * cell

    if way is not None:
        share = np.zeros((rows, columns))
        np.add.at(share, (way[:, 1], way[:, 0]), 1.0 / len(way))
        alpha = np.where(share > 0, 0.25 + 0.6 * share / share.max(), 0.0)
        ax.imshow(
            np.ones_like(share), cmap=ListedColormap([WAY]), alpha=alpha, extent=spread,
            interpolation="nearest",
        )  # fmt: skip
        ax.plot(*middle(way).T, color=WAY, linewidth=1.0, solid_capstyle="round")
    corner = middle(maze.goal) - cell / 2
    ax.fill(*(corner + cell * np.array([(0, 0), (1, 0), (1, 1), (0, 1)])).T, color=GOAL, linewidth=0)
    ahead = STEPS[maze.direction] * cell * 0.45
    aside = ahead[::-1] * 0.8
    here = middle(maze.agent)
    ax.fill(*np.array([here + ahead, here - ahead + aside, here - ahead - aside]).T, color=AGENT, lw=0)


def blank(ax: Axes, width: float, height: float) -> None:
    """An axes for pictures: so wide and high, y downwards, nothing around it."""
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_aspect("equal")
    ax.axis("off")


def sheet(rows: Mapping[str, list[tuple[Maze, str, np.ndarray | None]]]) -> Figure:
    """Rows of mazes, each row with its name and each maze with a line of words below.

    Args:
        rows: name → mazes, with their words and, maybe, the way of an episode.
    """
    most, pitch = max(map(len, rows.values())), 1.2
    width, height = 0.8 + most * pitch, len(rows) * (pitch + 0.12)
    figure = Figure(figsize=(INCHES * width, INCHES * height), layout="constrained")
    ax = figure.subplots()
    for i, (name, mazes) in enumerate(rows.items()):
        top = i * (pitch + 0.12)
        ax.text(0, top + 0.5, name, fontsize=8, va="center")
        for j, (maze, words, way) in enumerate(mazes):
            left = 0.8 + j * pitch
            draw_maze(ax, maze, way, (left, top))
            ax.text(left, top + 1.04, words, fontsize=6, va="top", linespacing=1.1)
    blank(ax, width, height)
    return figure


def episode(maze: Maze, way: np.ndarray, words: str) -> Figure:
    """One episode as one picture.

    Args:
        maze: its level.
        way: int ``[T, 2]``: where the agent was before each action.
        words: above it.
    """
    figure = Figure(figsize=(4.2, 4.5), layout="constrained")
    ax = figure.subplots()
    draw_maze(ax, maze, way)
    rows, columns = maze.walls.shape
    blank(ax, columns / max(rows, columns), rows / max(rows, columns))
    ax.set_title(words, fontsize=9)
    return figure


def scatter(moments: Mapping[int, Mapping[str, Any]], words: str) -> Figure:
    """Levels that are numbers: a panel per number, what the levels of each moment have of it.

    Args:
        moments: env steps → name → float ``[K]``.
        words: of what they are, below each panel's title.
    """
    names = list(next(iter(moments.values())))
    figure = Figure(figsize=(2.7 * len(names), 2.8), layout="constrained")
    for name, ax in zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True):
        for env_steps, told in moments.items():
            ax.plot(np.full(len(told[name]), env_steps), told[name], "o", color=WAY, alpha=0.6, ms=4)
        ax.set_title(name, fontsize=9)
        ax.set_xlabel("env steps", fontsize=8)
        ax.tick_params(labelsize=7)
    figure.suptitle(words, fontsize=9)
    return figure
