"""The maze of autocurricula (Dennis et al. 2020, arXiv 2012.02096), as in minimax (Jiang et al. 2023,
arXiv 2311.12716): a grid with walls in which an agent that sees little of it looks for a goal.

A level is data (:mod:`~sparse_rl.envs.maze.level`), what happens in it is one pure function
(:mod:`~sparse_rl.envs.maze.game`), and how it is best solved is known exactly
(:mod:`~sparse_rl.envs.maze.solver`).
"""

from sparse_rl.envs.maze.game import Playing, make
from sparse_rl.envs.maze.level import Level, mutate, parse, sample
from sparse_rl.envs.maze.solver import shortest

__all__ = ["Level", "Playing", "make", "mutate", "parse", "sample", "shortest"]
