"""Simulators of one environment each, in plain Python and numpy, and the process that steps some.

Nothing here imports jax: a worker process starts in a second and is as large as its simulators.
"""

from sparse_rl.simulators.contract import Frame, Simulator
from sparse_rl.simulators.registry import make

__all__ = ["Frame", "Simulator", "make"]
