"""``python -m sparse_rl.claim results/<name>``: do dense networks stop where sparse ones go on?"""

import argparse
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console

from sparse_rl.analysis import budgets, claims, scores, tuning
from sparse_rl.analysis.figures import scaling_curves
from sparse_rl.analysis.page import slug
from sparse_rl.analysis.scores import RETURN
from sparse_rl.analysis.selection import read_told
from sparse_rl.analysis.series import Series, split
from sparse_rl.analysis.terminal import show
from sparse_rl.records.console import console, one_line, program
from sparse_rl.records.options import check_numbers
from sparse_rl.records.results import QUESTIONS, RecordError, read_words


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program("claim"),
        usage="%(prog)s [options] studies [studies ...]",
        description="Does more width still pay, dense and sparse? At three times of looking, and at "
        "equal width, surviving parameters, FLOPs and seconds.",
    )
    parser.add_argument("studies", type=Path, nargs="+", help="folders of studies, e.g. results/minatar")
    parser.add_argument(
        "--beyond", type=float, default=0.0, metavar="WIDTH",
        help="judge growth from this width on, named before the runs (default: from the narrowest)",
    )  # fmt: skip
    parser.add_argument(
        "--margin", type=float, help="the smallest difference in return that matters "
        "(default: 0.05 of the task's range)",
    )  # fmt: skip
    tuning.add_options(parser)
    parser.add_argument(
        "--base", type=float, metavar="WIDTH", help="the dense cell whose best setting of --tune is "
        "tried on all others (default: the narrowest)",
    )  # fmt: skip
    parser.add_argument(
        "--only", nargs="+", metavar="COLUMN=VALUE", help="of these runs, e.g. agent=ppo"
    )
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="draw the curves there (PNG)")
    return parser


def _questions(out: Console, studies: list[Path]) -> None:
    for study in studies:
        try:
            asked = read_words(study / QUESTIONS)
        except RecordError as error:
            print(f"sparse_rl.claim: {error}", file=sys.stderr)
            continue
        for words, when in asked.items():
            out.print(f"asked {when}: {' '.join(words.split())}", markup=False)


def _tell(
    out: Console, grid: Series, options: argparse.Namespace, how: str = "", kind: str = ""
) -> None:
    """One grid: its verdicts, what equal means, its picture.

    Args:
        how: in words, which of its runs these are.
        kind: the same in the picture's name.
    """
    margin = budgets.margin_or(grid, options.margin)
    title = f"{grid.label}, {how}" if how else grid.label
    show(out, claims.table(grid.rows, margin, options.beyond), f"{title}: width, margin {margin:.4g}")
    equal = claims.equal_table(scores.final_values(grid.rows, RETURN), margin)
    show(out, equal, f"{title}: sparse less dense, margin {margin:.4g}")
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
        file = options.figures / f"{'_'.join(filter(None, ('claim', slug(grid.label), kind)))}.png"
        scaling_curves(grid.rows, title, [RETURN]).savefig(file, dpi=150)
        out.print(f"drawn: {file}", "")


def _ended(rows: pd.DataFrame) -> list[Series]:
    return [grid for grid in split(rows) if grid.rows["status"].isin(["done", "diverged"]).any()]


def _tuned(out: Console, rows: pd.DataFrame, options: argparse.Namespace) -> int:
    """Every grid twice: each cell at its own setting, and all at the one that serves them best."""
    tuned = tuning.tune(rows, options.tune, options.tune_seeds)
    show(out, tuned.choices, " ".join(tuned.words))
    grids = _ended(tuned.rows)
    for grid in grids:
        _tell(out, grid, options, f"each cell at its own {options.tune}", "own")
        apart = rows.query(grid.query())
        try:
            moved = claims.transfer(apart, options.tune, options.base)
            show(out, moved, f"{grid.label}: does the base's {options.tune} serve all cells?")
            same, words = claims.common(apart, options.tune, options.tune_seeds)
        except ValueError as error:
            out.print(f"{grid.label}: no setting for all cells: {error}", "")
            continue
        _tell(out, grid._replace(rows=same), options, words, "common")
    return len(grids)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    options = _parser().parse_args(arguments)
    out = console()
    try:
        if options.tune_seeds and not options.tune:
            raise ValueError("--tune-seeds choose a setting of --tune KEY, which is not given")
        if options.base is not None and not options.tune:
            raise ValueError(
                "--base is the cell whose setting of --tune KEY is tried, which is not given"
            )
        check_numbers(options, positive=["margin", "base"], finite=["beyond"])
        if options.figures and options.figures.exists() and not options.figures.is_dir():
            raise ValueError(f"--figures takes a folder, and {options.figures} is a file")
        tuned = [options.tune] if options.tune else []
        rows = read_told("claim", options.studies, options.only or (), tuned)
        _questions(out, options.studies)
        if options.tune:
            told = _tuned(out, rows, options)
        else:
            grids = _ended(rows)
            told = len(grids)
            for grid in grids:
                _tell(out, grid, options)
        if not told:
            raise ValueError("no run has ended: there is nothing to judge")
    except (FileNotFoundError, ValueError) as error:
        print(f"sparse_rl.claim: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    with one_line("sparse_rl.claim"):
        main()
