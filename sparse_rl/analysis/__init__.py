"""From runs on disk to tables and figures. Imports nothing that trains."""

from sparse_rl.analysis.load import load, load_all, load_runs
from sparse_rl.analysis.scores import final_values

__all__ = ["final_values", "load", "load_all", "load_runs"]
