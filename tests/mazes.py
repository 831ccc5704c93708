"""Mazes in plain Python."""

import collections

import numpy as np

from sparse_rl.envs.maze import Level

SHOWN = {".": (0.1, 0.0, 0.0), "#": (0.2, 0.5, 0.0), "G": (0.8, 0.1, 0.0)}
"""What a cell of a picture shows, as in MiniGrid."""
WAYS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Right, down, left, up: what a step adds to a column and a row."""


def bfs(level: Level) -> int:
    """Actions of the shortest solution, by a queue; −1 if there is none."""
    walls, goal = np.asarray(level.walls), tuple(np.asarray(level.goal).tolist())
    start = (*np.asarray(level.agent).tolist(), int(level.direction))
    came, queue = {start: 0}, collections.deque([start])
    while queue:
        x, y, way = now = queue.popleft()
        ahead = (x + WAYS[way][0], y + WAYS[way][1])
        if ahead == goal:
            return came[now] + 1
        inside = 0 <= ahead[0] < walls.shape[1] and 0 <= ahead[1] < walls.shape[0]
        next_ = [(x, y, (way + 1) % 4), (x, y, (way - 1) % 4)]
        if inside and not walls[ahead[1], ahead[0]]:
            next_.append((*ahead, way))
        for then in next_:
            if then not in came:
                came[then] = came[now] + 1
                queue.append(then)
    return -1


def each(levels: Level) -> list[Level]:
    return [Level(*leaves) for leaves in zip(*map(np.asarray, levels), strict=True)]


def picture_of(text: str) -> np.ndarray:
    return np.array([SHOWN[cell] for cell in text], np.float32).reshape(-1)
