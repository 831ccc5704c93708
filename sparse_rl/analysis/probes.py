"""What probes of a study's runs found, by cell."""

import pandas as pd

from sparse_rl.analysis.tables import over_runs

CELL = ["env", "agent", "width", "sparsity"]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Interquartile mean over seeds with a 95 % interval, a row per cell and quantity."""
    told = []
    for cell, group in rows.groupby(CELL):
        for name in rows.columns.drop([*CELL, "run_id", "seed"]):
            what = over_runs(group[name].to_numpy())
            told.append(
                dict(zip(CELL, cell, strict=True)) | {"what": name, "seeds": len(group), "": what}
            )
    table = pd.DataFrame(told)
    return table.pivot_table(index="what", columns=CELL, values="", aggfunc="first", sort=False)
