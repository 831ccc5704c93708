"""What a study of the calibration bench says, in sentences."""

import numpy as np
import pandas as pd

from sparse_rl.analysis import lqr


def _curve_words(curve: pd.DataFrame) -> str:
    """What one curve over numbers of workers says."""
    ordered = curve.sort_values("workers")
    first, most = ordered.iloc[0], ordered.iloc[-1]
    name = f"{first['master']}, {first['durations']} durations, {first['choice']} step"
    if not np.isfinite(most["speed_up"]):
        return f"{name}: fewer than half of the runs with {most['workers']} workers got there."
    times = f"{most['speed_up']:.3g} times as fast [{most['low']:.3g}, {most['high']:.3g}]"
    updates = f"{most['updates'] / first['updates']:.2g} times the updates of one"
    theory = f"theory: {most['theory']:.3g} in estimates per time"
    return f"{name}: {times} with {most['workers']} workers ({theory}), in {updates}."


def words(found: pd.DataFrame) -> list[str]:
    """What a study of the bench says, in sentences."""
    said = []
    curves = lqr.speed_up(found)
    simulated = curves[curves["clock"] == "simulated"] if len(curves) else curves
    for _, curve in simulated.groupby([*lqr.CURVE, "choice"], dropna=False) if len(curves) else ():
        if curve["pattern"].iloc[0] == "dense":
            said.append(_curve_words(curve))
    for _, line in lqr.slopes(found).iterrows():
        said.append(
            f"Updates grow with free entries to the power {line['slope']:.2f} [{line['low']:.2f}, "
            f"{line['high']:.2f}] with {line['pattern']} masks at width {line['width']}; beside the "
            f"exact gradient flow of each mask {line['at_equal_flow']:.2f} [{line['flow_low']:.2f}, "
            f"{line['flow_high']:.2f}] (theory: 1)."
        )
    table = lqr.joint(found)
    if len(table):
        sparse = table[table["sparsity"] == table["sparsity"].max()].sort_values("workers")
        few, many = sparse.iloc[0], sparse.iloc[-1]
        said.append(
            f"Sparsity {few['sparsity']:g} ({few['free_entries']:.0f} entries) is {few['gain']:.2g} "
            f"times as fast as dense with {few['workers']} worker(s) and {many['gain']:.2g} times with "
            f"{many['workers']}, each at its best step."
        )
    for _, line in lqr.throughput(found).iterrows():
        if line["workers"] > 1:
            said.append(
                f"{line['workers']} real workers, {line['work']}-bound, {line['master']}: "
                f"{line['speed_up']:.2f} times the estimates per second, efficiency "
                f"{line['efficiency']:.2f}."
            )
    return said
