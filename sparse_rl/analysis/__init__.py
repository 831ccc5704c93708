"""From runs on disk to tables and figures. Imports nothing that trains."""

from sparse_rl.analysis.load import final_values, load, load_runs

__all__ = ["final_values", "load", "load_runs"]
