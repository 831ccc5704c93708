"""Numbers to compare with: teams' returns and wins, a table for each environment.

    make teams-reference
    python benchmarks/teams_reference.py results/teams_reference

A run's value is its mean over the last fifth of training, a cell's the interquartile mean over seeds
with its 95 % interval. Likeliest and drawn actions are told apart, for they differ grossly where greedy
policies block each other. The best of a run's evaluations was chosen on itself. Returns are of the team:
what all share once, or the sum of what each earns (``spread``, where JaxMARL's scripts log the same).
"""

import argparse

import pandas as pd

from sparse_rl.analysis import load
from sparse_rl.analysis.teams import finals


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """environment → a row per agent, width and sparsity."""
    return {str(env): finals(group) for env, group in rows.groupby("env")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", help="results/teams_reference")
    rows = load(parser.parse_args().study)
    for env, table in tables(rows).items():
        print(f"### {env}, {int(rows[rows['env'] == env]['env_steps'].max()):,} frames\n")
        print(table.to_string(index=False), end="\n\n")


if __name__ == "__main__":
    main()
