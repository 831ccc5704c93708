"""Ways to have a tenth of the weights: returns and dormant ratios by pattern or method, with intervals.

    make patterns       # what does structure cost?
    make comparators    # what do masks that change bring?
    python benchmarks/patterns.py results/patterns docs/patterns.png

Reads the runs of the studies patterns and patterns_cartpole, or of comparators. A run's value is the
mean over the last fifth of its training; a group's the interquartile mean over seeds with a 95 %
interval (t below ten seeds, percentile bootstrap from there on). So is the difference to static
unstructured masks.
"""

import argparse
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns

from sparse_rl.analysis import final_values, intervals, load, statistics
from sparse_rl.analysis.statistics import Estimate

METRICS = {
    "return_mean": "return (per episode)",
    "dormant_ratio/critic": "dormant ratio, critic (share)",
}
RESET = "dense, with resets"
ORDER = ("dense", RESET, "unstructured", "constant_fan_in", "block", "gradual", "set", "rigl")


def ways(final: pd.DataFrame) -> pd.Series:
    """How each run comes to its weights: by its pattern, or by the method where masks change."""
    dense = final["variant"].str.contains(r"reset_every=\d").map({True: RESET, False: "dense"})
    sparse = final["pattern"].where(final["method"] == "static", final["method"])
    return sparse.where(final["sparsity"] > 0, dense)


def estimate(values: np.ndarray, draw: int = 0) -> Estimate:
    """Interquartile mean of runs of one task."""
    return intervals.estimate(statistics.scores({"": values}), seed=[0, draw])


def difference(one: np.ndarray, two: np.ndarray) -> tuple[float, float, float]:
    """Of two groups' interquartile means, resampled apart; with its interval."""
    a, b = estimate(one), estimate(two, 1)
    low, high = statistics.interval(a.samples - b.samples)
    return float(a.value - b.value), float(low), float(high)


def with_interval(form: str, *numbers: Any) -> str:
    """``value [low, high]``, each in a format such as ``.3g``; the value alone where no interval is
    known."""
    value, low, high = (format(float(number), form) for number in numbers)
    return value if "nan" in (low, high) else f"{value} [{low}, {high}]"


def table(final: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row per task, width and way: value, interval and difference to unstructured."""
    rows = []
    for (env, width), group in final.groupby(["env", "width"]):
        by_way = {name: part[metric].to_numpy() for name, part in group.groupby("how")}
        for name in ORDER:
            if name in by_way:
                value = by_way[name]
                row = {"env": env, "width": width, "way": name, "seeds": len(value)}
                row[metric] = with_interval(".3g", *estimate(value)[:3])
                against = difference(value, by_way["unstructured"])
                row["minus unstructured"] = with_interval("+.2g", *against)
                rows.append(row)
    return pd.DataFrame(rows)


def draw(finals: dict[str, pd.DataFrame], path: str) -> None:
    """Points and intervals: a row of panels per metric, a column per task."""
    long = pd.concat(
        frame.rename(columns={metric: "value"}).assign(metric=METRICS[metric])
        for metric, frame in finals.items()
    ).reset_index(drop=True)
    grid = sns.catplot(
        long,
        kind="point",
        x="width",
        y="value",
        hue="how",
        hue_order=[how for how in ORDER if how in set(long["how"])],
        row="metric",
        col="env",
        sharey=False,
        dodge=0.3,
        linestyle="none",
        marker="o",
        markersize=4,
        estimator=lambda values: float(estimate(values.to_numpy()).value),
        errorbar=lambda values: estimate(values.to_numpy())[1:3],
        palette="colorblind",
        height=2.8,
        aspect=1.4,
    )
    grid.set_axis_labels("critic width (units)", "")
    for (metric, env), ax in grid.axes_dict.items():
        ax.set_title(env)
        ax.set_ylabel(metric)
        ax.grid(alpha=0.3, linewidth=0.6)
    grid.legend.set_title("surviving tenth")
    grid.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", help="results/patterns")
    parser.add_argument("figure", nargs="?", help="where to draw it, a PNG")
    options = parser.parse_args()
    rows = load(options.study)
    methods = rows.groupby("run_id")["method"].first()
    finals = {}
    for metric in METRICS:
        final = final_values(rows, metric).join(methods, on="run_id")
        final["how"] = ways(final)
        finals[metric] = final
        print(table(final, metric).to_string(index=False), end="\n\n")
    if options.figure:
        draw(finals, options.figure)


if __name__ == "__main__":
    main()
