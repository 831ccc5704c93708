"""What many parallel actors buy: PAAC's return and speed by number of actors.

    python -m sparse_rl.sweep study=paac_actors
    python benchmarks/actors.py results/paac_actors docs/paac_actors.png

Return of training episodes, interquartile mean over seeds with 95 % bootstrap intervals, per fifth of
training (Clemente et al. 2017, figure 3, counts time steps too); env steps per second and run.
"""

import argparse

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import ticker
from matplotlib.figure import Figure

from sparse_rl.analysis import curves, intervals, load, statistics

FIFTHS = 5
RETURN = "train_return_mean"


def by_fifth(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per run: mean return of the training episodes of each fifth, and its speed."""
    end = rows.groupby("run_id")["env_steps"].transform("max")
    fifth = pd.Series(np.ceil(FIFTHS * rows["env_steps"] / end), rows.index, dtype=int, name="fifth")
    runs = rows.groupby(["num_envs", "run_id", fifth])[RETURN].mean().unstack()
    return runs.assign(speed=rows.groupby(["num_envs", "run_id"])["env_steps_per_second"].first())


def table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per number of actors."""
    lines = []
    for actors, group in runs.groupby("num_envs"):
        line: dict[str, object] = {"actors": actors, "seeds": len(group)}
        for fifth in range(1, FIFTHS + 1):
            estimate = intervals.estimate(statistics.scores({"": group[fifth].to_numpy()}))
            value, low, high = map(float, estimate[:3])
            line[f"fifth {fifth}"] = f"{value:.2f} [{low:.2f}, {high:.2f}]"
        line["env steps/s"] = f"{group['speed'].median():,.0f}"
        lines.append(line)
    return pd.DataFrame(lines)


def draw(rows: pd.DataFrame, path: str) -> None:
    """Learning curves, one per number of actors."""
    figure = Figure(figsize=(6.8, 4.0), layout="constrained")
    ax = figure.subplots()
    groups = list(rows.groupby("num_envs"))
    colours = sns.color_palette("viridis", len(groups) + 1)
    for (actors, group), colour in zip(groups, colours, strict=False):
        curve = curves.sample_efficiency(group, RETURN)
        steps = curve["env_steps"]
        ax.plot(steps, curve[RETURN], color=colour, label=f"{actors}")
        ax.fill_between(steps, curve["low"], curve["high"], color=colour, alpha=0.2, linewidth=0)
    ax.set_xlabel("env steps (frames)")
    ax.set_ylabel("return of training episodes")
    ax.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    ax.grid(alpha=0.3, linewidth=0.6)
    sns.despine(ax=ax)
    figure.legend(title="actors", loc="outside right center", frameon=False)
    seeds = rows.groupby("num_envs")["seed"].nunique().min()
    figure.suptitle(
        f"{rows['env'].iloc[0]}: interquartile mean of {seeds} seeds; band: 95 % bootstrap interval",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", help="results/paac_actors")
    parser.add_argument("figure", nargs="?", help="where to draw it, a PNG")
    options = parser.parse_args()
    rows = load(options.study)
    done = rows[rows["status"] == "done"]
    print(table(by_fifth(done)).to_string(index=False))
    if options.figure:
        draw(done, options.figure)


if __name__ == "__main__":
    main()
