"""DrQ-v2 on cart-pole from pixels: our learning curve beside the one that comes with the public code.

    python -m sparse_rl.sweep study=drq width=128 sparsity=0 'seed=range(5)'
    python benchmarks/drq_against_public.py results/drq CURVES docs/drq_curves.png

CURVES is ``curves/dmc_cartpole_swingup.csv`` of the public repository. Returns of evaluation episodes at
the points that both have: interquartile means over seeds with 95 % intervals (t below ten seeds, else
percentile bootstrap), over all points, the last fifth of training and the last point.
"""

import argparse

import matplotlib.pyplot as plt
import pandas as pd
from patterns import difference, estimate, with_interval

from sparse_rl.analysis import load

PUBLIC, OURS = "DrQ-v2, public", "ours"


def curves(study: str, csv: str, width: int) -> dict[str, pd.DataFrame]:
    """Whose → returns, a row per seed and a column per number of frames."""
    rows = load(study)
    rows = rows[(rows["width"] == width) & (rows["sparsity"] == 0)].dropna(subset="return_mean")
    ours = rows.pivot_table(index="seed", columns="env_steps", values="return_mean")
    public = pd.read_csv(csv).pivot_table(index="seed", columns="frame", values="episode_reward")
    both = ours.columns.intersection(public.columns)
    if both.empty or ours[both].isna().to_numpy().any():
        raise SystemExit(
            f"{study}: a dense run of width {width} was not evaluated at each of {list(both)}"
        )
    return {PUBLIC: public[both], OURS: ours[both]}


def by_frames(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row per number of frames: mean [lowest, highest] of each curve's seeds."""
    spread = {
        f"{whose}, {len(returns)} seeds": [
            with_interval(".0f", seeds.mean(), seeds.min(), seeds.max()) for _, seeds in returns.items()
        ]
        for whose, returns in found.items()
    }
    return pd.DataFrame(spread, index=found[OURS].columns)


def compared(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row per part of training: both interquartile means, and ours minus the public one."""
    frames = found[OURS].columns.to_numpy()
    parts = {
        "all points": frames,
        "last fifth": frames[frames > 0.8 * frames[-1]],
        "last point": frames[-1:],
    }
    table = []
    for part, points in parts.items():
        values = {whose: returns[points].mean(axis=1).to_numpy() for whose, returns in found.items()}
        row = {"part": part}
        for whose, runs in values.items():
            row[whose] = with_interval(".0f", *estimate(runs)[:3])
        row["difference"] = with_interval("+.0f", *difference(values[OURS], values[PUBLIC]))
        table.append(row)
    return pd.DataFrame(table)


def draw(found: dict[str, pd.DataFrame], path: str) -> None:
    """Both curves with their intervals, and every seed."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for whose, returns in found.items():
        value, low, high = estimate(returns.T.to_numpy())[:3]
        (line,) = axes.plot(returns.columns, value, marker="o", label=f"{whose} ({len(returns)} seeds)")
        axes.fill_between(returns.columns, low, high, color=line.get_color(), alpha=0.2)
        axes.plot(returns.columns, returns.T, color=line.get_color(), linewidth=0.6, alpha=0.4)
    axes.set(xlabel="env steps (frames of 0.01 s)", ylabel="return per episode of 1000 frames")
    axes.set_title("cart-pole swing-up from pixels: interquartile mean, 95 % interval, seeds")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", help="results/drq")
    parser.add_argument("curves", help="the public learning curves, CSV")
    parser.add_argument("picture", nargs="?", help="where to draw both curves")
    parser.add_argument("--width", type=int, default=128, help="of our dense runs")
    options = parser.parse_args()
    found = curves(options.study, options.curves, options.width)
    print(by_frames(found).to_string(), end="\n\n")
    print(compared(found).to_string(index=False))
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()
