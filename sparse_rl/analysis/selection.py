"""Which rows a law is fitted to: of studies or of published files, chosen by task, sparsity and seed."""

import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from sparse_rl.analysis import load_all, scores
from sparse_rl.analysis.load import CURRICULUM, Problem
from sparse_rl.analysis.ranges import SCORE_RANGES, Ranges, normalised
from sparse_rl.analysis.scores import RETURN
from sparse_rl.settings.schema import rounded


def read(paths: Sequence[Path], by: Sequence[str] = ()) -> tuple[pd.DataFrame, list[Problem]]:
    """Rows of studies (folders with a grid), or of other people's files (:mod:`.foreign`); what is wrong
    with them.

    Args:
        by: keys of the configurations that become columns.

    Raises:
        FileNotFoundError: a path does not exist or holds neither.
        ValueError: studies and files are mixed, a file is of no known kind, or no run has a key.
    """
    loaded = load_all(*paths, by=by)
    return loaded.rows, loaded.problems


def read_told(
    command: str, paths: Sequence[Path], chosen: Sequence[str] = (), by: Sequence[str] = ()
) -> pd.DataFrame:
    """Rows of studies or files for a command; what is wrong with them is said on its standard error.

    Args:
        command: its name.
        paths: as of :func:`read`.
        chosen: as of :func:`only`; keys of the configurations among them become columns.
        by: further keys that do.

    Raises:
        FileNotFoundError, ValueError: as :func:`read` and :func:`only`.
    """
    named = [text.partition("=")[0] for text in chosen]
    rows, problems = read(paths, [*by, *(key for key in named if "." in key)])
    for problem in problems:
        print(f"sparse_rl.{command}: {problem.file}: {problem.reason}", file=sys.stderr)
    return only(rows, chosen)


APART = ("agent", "network", "pattern", "distribution", "method", "variant", CURRICULUM)
"""Runs that differ in one of these belong on no common curve; a pruned and a dense one may in the middle
two."""


def only(rows: pd.DataFrame, chosen: Sequence[str]) -> pd.DataFrame:
    """Rows whose columns hold what was asked for.

    Args:
        chosen: ``column=value``, with wildcards.

    Raises:
        ValueError: it is written otherwise, there is no such column, or nothing is left.
    """
    for text in chosen:
        name, sign, value = text.partition("=")
        if not sign or name not in rows:
            known = ", ".join(column for column in APART if column in rows)
            raise ValueError(
                f"--only takes column=value, of {known} and the other columns; got {text!r}"
            )
        there = rows[name].astype(str)
        kept = there.map(lambda own, value=value: fnmatchcase(own, value))
        if not kept.any():
            raise ValueError(f"no run has {text}; there are {', '.join(sorted(there.unique()))}")
        rows = rows[kept]
    return rows


def refuse_mixtures(rows: pd.DataFrame, further: Sequence[str] = ()) -> None:
    """One law is of one agent, network, way to prune and variant.

    Args:
        further: columns in which the runs must not differ either.

    Raises:
        ValueError: the runs differ in one of these; it says in which, and how to choose.
    """
    for name in (*APART, *further):
        if name in rows and rows[name].nunique() > 1:
            there = sorted(rows[name].astype(str).unique())
            raise ValueError(
                f"these runs differ in {name} ({', '.join(repr(own) for own in there)}), and are not "
                f"averaged; choose with --only {name}={there[0]!r}"
            )


def choose_rows(
    rows: pd.DataFrame,
    tasks: Sequence[str],
    sparsity: float | None,
    shared_seeds: bool,
    seeds: Sequence[int] = (),
    size: str = "width",
) -> pd.DataFrame:
    """Tasks, sparsity and seeds that were asked for.

    Args:
        sparsity: ``None``: all.
        size: the column whose values must share their seeds.

    Raises:
        ValueError: nothing is left.
    """
    if tasks:
        kept = rows["env"].map(lambda env: any(fnmatchcase(env, task) for task in tasks))
        if not kept.any():
            raise ValueError(f"no task matches; there are {', '.join(sorted(rows['env'].unique()))}")
        rows = rows[kept]
    if sparsity is not None:
        levels = ", ".join(f"{level:g}" for level in sorted(rows["sparsity"].unique()))
        rows = rows[rows["sparsity"].map(rounded) == rounded(sparsity)]
        if rows.empty:
            raise ValueError(f"no run has sparsity {sparsity:g}; there are {levels}")
    if seeds:
        there = sorted(rows["seed"].unique())
        rows = rows[rows["seed"].isin(seeds)]
        if rows.empty:
            raise ValueError(f"no run has one of these seeds; there are {', '.join(map(str, there))}")
    if shared_seeds:
        sizes = rows[size].nunique()
        in_all = rows.groupby(["env", "seed"])[size].transform("nunique") == sizes
        if not in_all.any():
            raise ValueError(f"no task has a seed that all {size}s share")
        rows = rows[in_all]
    return rows


def ranges_of(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """``TASK=LOW:HIGH`` → ranges of scores.

    Raises:
        ValueError: it is written otherwise, or high is not above low.
    """
    found = {}
    for text in texts:
        task, sign, ends = text.rpartition("=")
        low, colon, high = ends.partition(":")
        try:
            found[task] = float(low), float(high)
        except ValueError:
            sign = ""
        if not (sign and colon and task and found[task][0] < found[task][1]):
            raise ValueError(f"--ranges takes TASK=LOW:HIGH, e.g. 'dog-*=0:1000'; got {text!r}")
    return found


def score_table(
    rows: pd.DataFrame, at_steps: float | None, given: Ranges = SCORE_RANGES
) -> pd.DataFrame:
    """One row per run: its return at ``at_steps``, or its final one; normalised if tasks are several.

    Raises:
        ValueError: no run has a return there, or a task has no known range.
    """
    if RETURN not in rows:
        raise ValueError(f"these runs have no column {RETURN}")
    if at_steps is None:
        final = scores.final_values(rows, RETURN)
    else:
        final = scores.at_budget(rows, "env_steps", at_steps)
        final = final[final["status"].isin(["done", "diverged"])]
    if final.empty:
        raise ValueError("no run has a value there")
    return normalised(final, ranges=given) if final["env"].nunique() > 1 else final
