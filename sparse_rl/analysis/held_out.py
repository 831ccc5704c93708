"""Held-out levels: what trained agents solve, by cell."""

from collections.abc import Mapping

import pandas as pd

from sparse_rl.analysis.tables import over_runs

CELL = ["env", "curriculum", "agent", "width", "sparsity"]
ROOMS = ("SixteenRooms", "SixteenRooms2", "Labyrinth", "Labyrinth2", "StandardMaze", "StandardMaze2")
PANELS: Mapping[str, tuple[tuple[str, str | None], ...]] = {
    "panel of 8": (("rooms", None),),
    "panel of 12": (
        *(("rooms", level) for level in (*ROOMS, "StandardMaze3")),
        *((name, None) for name in ("crossing", "four_rooms")),
        *((name, None) for name in ("small_corridor", "large_corridor", "perfect19")),
    ),
}
"""Published means over mazes (JaxUED's, minimax's): of what they consist, a set or one level of it."""


def by_set(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per run, set, policy and horizon: means over the set's levels. The worst random levels are
    sets of their own."""
    rows = rows.assign(set=rows["set"].where(rows["set"] != "worst", "worst " + rows["level"]))
    keys = ["run_id", *CELL, "seed", "set", "policy", "horizon"]
    return rows.groupby(keys, sort=False)[["solve_rate", "regret"]].mean().reset_index()


def panels(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per run, panel, policy and convention of time for which all of its parts were tried: each
    part weighs the same."""
    told = []
    keys = ["run_id", *CELL, "seed", "policy"]
    for cell, group in rows.groupby(keys, sort=False):
        for shortest in (True, False):  # 250 frames where there is a choice, or 450
            for name, parts in PANELS.items():
                rates = [_rate(group, *part, shortest=shortest) for part in parts]
                if None in rates or (name == "panel of 12" and shortest):
                    continue
                rate = sum(rates) / len(rates)  # type: ignore[arg-type]
                told.append(dict(zip(keys, cell, strict=True)) | {"set": name, "solve_rate": rate})
                told[-1]["horizon"] = _horizon(group, shortest)
    return pd.DataFrame(told)


def _rate(group: pd.DataFrame, name: str, level: str | None, shortest: bool) -> float | None:
    part = group[group["set"] == name]
    part = part if level is None else part[part["level"] == level]
    if part.empty:
        return None
    horizon = part["horizon"].min() if shortest else part["horizon"].max()
    return float(part[part["horizon"] == horizon]["solve_rate"].mean())


def _horizon(group: pd.DataFrame, shortest: bool) -> int:
    rooms = group[group["set"] == "rooms"]["horizon"]
    return int(rooms.min() if shortest else rooms.max())


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Interquartile mean over seeds with a 95 % interval of the solve rate: a row per set, policy and
    horizon, a column per cell."""
    told = []
    both = pd.concat([by_set(rows), panels(rows)], ignore_index=True)
    for key, group in both.groupby([*CELL, "set", "policy", "horizon"], sort=False):
        names = [*CELL, "set", "policy", "horizon"]
        said = over_runs(group["solve_rate"].to_numpy())
        told.append(dict(zip(names, key, strict=True)) | {"solved": said})
    varied = [name for name in CELL if both[name].nunique() > 1] or CELL[-2:]
    return pd.DataFrame(told).pivot_table(
        index=["set", "policy", "horizon"], columns=varied, values="solved", aggfunc="first", sort=False
    )
