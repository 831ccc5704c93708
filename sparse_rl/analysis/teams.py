"""Runs of teams: what they earn with their likeliest and with drawn actions, and how often they win."""

import pandas as pd

from sparse_rl.analysis import scores
from sparse_rl.analysis.tables import over_runs

DRAWN = "drawn/"
"""Beginning of the columns of episodes with drawn actions."""
COLUMNS = {
    "return_mean": "return, greedy",
    f"{DRAWN}return_mean": "return, drawn",
    "win_rate": "wins, greedy",
    f"{DRAWN}win_rate": "wins, drawn",
    "episode_length_mean": "frames of an episode, greedy",
}


def played(rows: pd.DataFrame) -> bool:
    """Whether any of these runs are of teams."""
    return f"{DRAWN}return_mean" in rows and bool(rows[f"{DRAWN}return_mean"].notna().any())


def finals(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per agent, width and sparsity: means over the last fifth of training, interquartile over
    runs, with a 95 % interval; and the best of all evaluations of a run, which was chosen on itself.

    Args:
        rows: of one environment.
    """
    told = []
    done = rows[rows["status"] == "done"]
    for cell, group in done.groupby(["agent", "width", "sparsity"], sort=False):
        row = dict(zip(("agent", "width", "sparsity"), cell, strict=True))
        row["runs"] = group["run_id"].nunique()
        for column, name in COLUMNS.items():
            if column in group and group[column].notna().any():
                row[name] = over_runs(scores.final_values(group, column)[column].to_numpy())
        best = group.groupby("run_id")["return_mean"].max()
        told.append(row | {"best of a run's evaluations, greedy": over_runs(best.to_numpy())})
    return pd.DataFrame(told)
