"""What does structure cost? Returns and dormant ratios by pattern, with intervals.

    make patterns
    python benchmarks/patterns.py results/patterns docs/patterns.png

Reads the runs of the studies patterns and patterns_cartpole. A run's value is the mean over the last
fifth of its training; a group's the interquartile mean over seeds with a 95 % percentile bootstrap
interval. The difference to unstructured is resampled over seeds of both.
"""

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd
import seaborn as sns
from scipy import stats

from sparse_rl.analysis import final_values, load

METRICS = {
    "return_mean": "return (per episode)",
    "dormant_ratio/critic": "dormant ratio, critic (share)",
}
ORDER = ("dense", "unstructured", "constant_fan_in", "block")


def iqm(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Interquartile mean: of the middle half."""
    return np.asarray(stats.trim_mean(values, 0.25, axis=axis))


def difference(one: np.ndarray, two: np.ndarray, axis: int = -1) -> np.ndarray:
    return iqm(one, axis) - iqm(two, axis)


def interval(*samples: np.ndarray) -> tuple[float, float, float]:
    """Statistic of one group, or difference of two, and its interval."""
    statistic: Callable[..., np.ndarray] = iqm if len(samples) == 1 else difference
    found = stats.bootstrap(
        samples, statistic, method="percentile", n_resamples=10_000, rng=np.random.default_rng(0)
    )
    low, high = found.confidence_interval
    return float(statistic(*samples)), float(low), float(high)


def table(final: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row per task, width and pattern: value, interval and difference to unstructured."""
    rows = []
    for (env, width), group in final.groupby(["env", "width"]):
        by_pattern = {name: part[metric].to_numpy() for name, part in group.groupby("how")}
        for name in ORDER:
            if name in by_pattern:
                value = by_pattern[name]
                row = {"env": env, "width": width, "pattern": name, "seeds": len(value)}
                row[metric] = "{:.3g} [{:.3g}, {:.3g}]".format(*interval(value))
                against = interval(value, by_pattern["unstructured"])
                row["minus unstructured"] = "{:+.2g} [{:+.2g}, {:+.2g}]".format(*against)
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
        estimator=iqm,
        errorbar=lambda values: interval(values.to_numpy())[1:],
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
    finals = {}
    for metric in METRICS:
        final = final_values(rows, metric)
        final["how"] = final["pattern"].where(final["sparsity"] > 0, "dense")
        finals[metric] = final
        print(table(final, metric).to_string(index=False), end="\n\n")
    if options.figure:
        draw(finals, options.figure)


if __name__ == "__main__":
    main()
