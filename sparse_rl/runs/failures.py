"""Held-out levels that a study's agents solve least often, each with an episode of one of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from sparse_rl.kernels.keys import key_of
from sparse_rl.records import failures, results
from sparse_rl.records.arrays import CheckpointError
from sparse_rl.runs.held_out import WORST, Asked, Tried, arrays_of
from sparse_rl.runs.trained import CannotTryError, actor_of
from sparse_rl.settings.run import run_config

KEPT, PER_SET = 6, 2
"""Levels of an environment, and of one of its sets: else all would be of the hardest set."""
LONGEST = 1000
"""Frames of an episode that is played for a picture: longer ones are a knot."""
SEED = 78
"""Of the episodes' actions."""


def hardest(rows: pd.DataFrame) -> pd.DataFrame:
    """The levels of one environment that were solved least often, and not always, the hardest first.

    Args:
        rows: of all runs, as the command writes them.

    Returns:
        ``set``, ``level`` and ``solve_rate``: mean over runs of drawn actions and the longest horizon,
        if that is not beyond :data:`LONGEST`.
    """
    drawn = rows[(rows["policy"] == "drawn") & (rows["set"] != WORST)]
    longest = drawn.groupby("set")["horizon"].transform("max")
    drawn = drawn[(drawn["horizon"] == longest) & (longest <= LONGEST)]
    means = drawn.groupby(["set", "level"], sort=False)["solve_rate"].mean().reset_index()
    failed = means[means["solve_rate"] < 1].sort_values("solve_rate", kind="stable")
    return failed.groupby("set", sort=False).head(PER_SET).head(KEPT).reset_index(drop=True)


def best_run(rows: pd.DataFrame) -> str:
    """The run that solves most, over the levels that all were tried in alike: its failures are not for
    want of training."""
    drawn = rows[(rows["policy"] == "drawn") & (rows["set"] != WORST)]
    rates = drawn.groupby("run_id", sort=True)["solve_rate"].mean()
    return str(rates.idxmax())


def _of(study: Path, run_id: str, levels: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The failures of one environment, each with an episode of its best run."""
    run_dir = study / run_id
    config = run_config(results.read_config(run_dir))
    tried = Tried(actor_of(config), Asked(sorted(set(levels["set"])), 1, 0))
    if not tried.shows_ways:
        return
    trained = tried.actor.read(run_dir)
    for name, level, rate in levels.itertuples(index=False):
        held = tried.held_out(name)
        number = held.names.index(level)
        played = tried.episode(trained, name, number, key_of(SEED))
        yield {
            "env": config.env.name, "name": f"{name}/{level}", "run_id": run_id,
            "solve_rate": float(rate), "way": played.way,
            "level": arrays_of(held, number),
        }  # fmt: skip


def keep_failures(study: Path, rows: pd.DataFrame, say: Callable[[str], None]) -> None:
    """Look for what a study's agents fail in, and keep it beside its table, unless that is what is kept.

    Args:
        study: its folder.
        rows: of its runs, as the command writes them.
        say: told what cannot be played.
    """
    every = [(env, best_run(group), hardest(group)) for env, group in rows.groupby("env", sort=False)]
    wanted = [
        (env, f"{name}/{level}", run_id, rate)
        for env, run_id, levels in every
        for name, level, rate in levels.itertuples(index=False)
    ]
    try:
        kept = [(x["env"], x["name"], x["run_id"], x["solve_rate"]) for x in failures.read(study)]
    except CheckpointError as error:
        say(f"{study / failures.FILE} cannot be read ({error}); it is made anew")
        kept = []
    if wanted == kept:
        return
    found: list[dict[str, Any]] = []
    for _, run_id, levels in every:
        try:
            found += _of(study, run_id, levels) if len(levels) else ()
        except (CannotTryError, results.RecordError, FileNotFoundError) as why:
            say(f"no pictures of failures of {run_id}: {why}")
    if found:
        failures.write(study, found)
    else:
        (study / failures.FILE).unlink(missing_ok=True)
