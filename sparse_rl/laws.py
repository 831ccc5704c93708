"""``python -m sparse_rl.laws``: which scaling law do runs follow, ours or other people's?"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from sparse_rl.analysis import (
    allocation,
    answers,
    choices,
    findings,
    fits,
    keys,
    laws,
    profiles,
    scores,
    series,
    shared,
    surface,
    tables,
    tuning,
)
from sparse_rl.analysis.figures import held_out
from sparse_rl.analysis.fits import Points
from sparse_rl.analysis.laws import Law
from sparse_rl.analysis.scores import RETURN
from sparse_rl.analysis.selection import (
    choose_rows,
    ranges_of,
    read_told,
    refuse_mixtures,
    score_table,
)
from sparse_rl.analysis.statistics import counted
from sparse_rl.analysis.terminal import show
from sparse_rl.records.console import console, one_line, program
from sparse_rl.records.options import check_numbers

SIZES = ("width", "parameters_total", "parameters_nonzero", "flops", "train_seconds")
FORMATS = (".png", ".svg", ".pdf")


def report(
    out: Console, final: pd.DataFrame, size: str, hold_out: int, figure: Path | None = None
) -> None:
    """Scores by size, laws on the smaller sizes, and what they say about the held-out ones.

    Raises:
        ValueError: the data carry no law, do not know the size, or have cells of different tasks.
    """
    if size not in final or final[size].isna().any():
        raise ValueError(f"these runs do not say their {size}; use --size width")
    if not pd.api.types.is_numeric_dtype(final[size]) or (final[size] <= 0).any():
        there = ", ".join(sorted(final[size].astype(str).unique()))
        raise ValueError(f"a law is of positive numbers; {size} is {there}")
    scores.refuse_uneven_tasks(final, [size])
    tasks = counted(final["env"].nunique(), "task")
    what = "normalised score" if final["env"].nunique() > 1 else "return"
    table = scores.summary(final, RETURN, [size])
    kind = scores.interval_words(final, RETURN, [size])
    show(out, table, f"interquartile mean {what}, {kind}, {tasks}")
    for doubt in scores.interval_doubts(final, RETURN, [size]):
        out.print(doubt, "")
    cells = scores.cell_estimates(final, RETURN, [size], resamples=tables.RESAMPLES)
    points = answers.points(list(cells.values()), [cell[0] for cell in cells])
    candidates = laws.NORMALISED if final["env"].nunique() > 1 else laws.CURVES
    choice = choices.choose(candidates, points, hold_out)
    told = tables.law_table(choice, points)
    show(
        out, told, f"laws fitted without the largest {hold_out}, N = {size}; error in units of the score"
    )
    out.print(findings.law_words(choice, counted(len(points.size), "size")))
    if figure is not None:
        axis = {"width": "width (units)"}.get(size, size)
        drawn = held_out(points, choice, axis, f"interquartile mean {what}", f"{what}, {tasks}")
        drawn.savefig(figure, dpi=150)
    told_of_all(out, candidates, points, choice)


def told_of_all(out: Console, candidates: Sequence[Law], points: Points, choice: choices.Choice) -> None:
    """Each law fitted to all sizes, its rolling hold-outs, and what all say of a larger size."""
    out.print("Fitted to all sizes:")
    found = []
    for law in candidates:
        reason = fits.unsupported(law, points)
        if reason:
            out.print(f"  {law.name}, {law.formula}: {reason}")
            continue
        found.append(fits.fit(law, points))
        words = tables.parameters(found[-1])
        if any(value.problem for value in fits.values(found[-1]).values()):
            ranges = profiles.range_words(profiles.profile(found[-1], points))
            words = f"{words}; by the profile of the likelihood {ranges}"
        off = ", ".join(f"{error:.4g}" for error in profiles.rolling(law, points))
        rolled = f"; off by {off} with the 1, 2, … largest sizes held out" if off else ""
        out.print(f"  {law.name}, {law.formula}: {words}{rolled}")
    try:
        next_ = profiles.averaged(found, choice.whole, 2.0 * float(points.size.max()))
    except ValueError as error:
        out.print(f"No average over laws: {error}.")
        return
    weights = ", ".join(f"{name} {weight:.0%}" for name, weight in next_.weights.items())
    value = tables.spread(next_.value, next_.low, next_.high)
    fits_none = max(whole.misfit for whole in choice.whole.values()) < 0.05
    doubt = ", but no law fits, so it holds less than it says" if fits_none else ""
    words = (
        f"At N = {next_.size:g}, twice the largest, by the laws' weights ({weights}): {value}{doubt}."
    )
    out.print(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program("laws"),
        usage="%(prog)s [options] paths [paths ...]",
        description="Score against network size, laws fitted to the smaller sizes, held-out prediction.",
    )
    parser.add_argument(
        "paths", type=Path, nargs="+", help="studies, CSV files or a folder of such files"
    )
    parser.add_argument("--tasks", nargs="+", metavar="GLOB", help="of these names, e.g. 'dog-*'")
    parser.add_argument("--sparsity", type=float, default=0.0, help="of the runs (default: 0)")
    parser.add_argument("--seeds", nargs="+", type=int, help="only these")
    parser.add_argument(
        "--only", nargs="+", metavar="COLUMN=VALUE", help="of these runs, e.g. agent=sac pattern=block"
    )
    parser.add_argument(
        "--ranges", nargs="+", metavar="TASK=LOW:HIGH", help="returns that count as 0 and 1"
    )
    parser.add_argument(
        "--at-steps", type=float, help="score at so many env steps (default: the last fifth)"
    )
    parser.add_argument("--shared-seeds", action="store_true", help="only seeds that all widths have")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--size", choices=SIZES, default="width", help="what N counts (default: width)")
    what.add_argument(
        "--by", metavar="KEY", help="N is a key that was swept, e.g. agent.batch_size or env_steps"
    )
    tuning.add_options(parser)
    parser.add_argument(
        "--hold-out", type=int, default=1, help="so many of the largest sizes (default: 1)"
    )
    parser.add_argument(
        "--with-data",
        action="store_true",
        help="laws of size, data and sparsity together, how the best size grows with the budget, and "
        "what many returns take",
    )
    parser.add_argument(
        "--thresholds",
        type=float,
        nargs="+",
        metavar="RETURN",
        default=[],
        help="returns for --with-data (default: four of each task's own)",
    )
    parser.add_argument("--figure", type=Path, help="draw the laws there (.png, .svg, .pdf)")
    return parser


def with_data(out: Console, rows: pd.DataFrame, level: float, thresholds: Sequence[float] = ()) -> None:
    """Each task's laws of size, data and sparsity; at one sparsity the exponents of the best size, and
    those of what many returns take, shared over tasks.

    Raises:
        ValueError: no run has the sparsity.
    """
    choose_rows(rows, (), level, False)
    grids = list(series.split(rows))
    for grid in grids:
        try:
            show(out, surface.law_table(surface.surface(grid)), f"{grid.label}: {surface.TITLE}")
        except ValueError as error:
            out.print(f"{grid.label}: no law of size and data: {error}.", "")
        try:
            found = surface.surface(grid, level, allocation.FINE)
            title = f"{grid.label}, sparsity {level:g}: {allocation.TITLE}"
            show(out, allocation.table(found), title)
        except ValueError as error:
            out.print(f"{grid.label}: no exponent of the best size: {error}.", "")
    for unit, name in (("env_steps", "env steps"), ("flops", "training FLOPs")):
        every = [shared.reached(grid, level, thresholds, unit) for grid in grids]
        try:
            told, words = shared.table(every)
            show(out, told, f"{name} to a return ∝ N^−b at sparsity {level:g}. {words}")
        except ValueError as error:
            out.print(f"{name} to a return: {error}.", "")


def check(options: argparse.Namespace) -> None:
    """Refuse before anything is read what cannot end well.

    Raises:
        ValueError: nothing would be held out, a number means nothing, a key is tuned and an axis, seeds
            choose nothing, options do not go together, or the figure has an unknown ending.
    """
    check_numbers(options, counts=["hold_out"], positive=["at_steps"], finite=["sparsity", "thresholds"])
    if options.tune_seeds and not options.tune:
        raise ValueError("--tune-seeds choose a setting of --tune KEY, which is not given")
    if options.tune and options.tune == options.by:
        raise ValueError(f"--tune and --by are both {options.tune}: it is an axis, or it is tuned")
    others = {"--by": options.by, "--tune": options.tune, "--figure": options.figure}
    given = [name for name, value in {**others, "--at-steps": options.at_steps}.items() if value]
    if options.with_data and given:
        raise ValueError(f"--with-data has its own tables and takes no {', '.join(given)}")
    if options.thresholds and not options.with_data:
        raise ValueError("--thresholds are returns for --with-data, which is not given")
    if options.figure and options.figure.suffix not in FORMATS:
        raise ValueError(f"--figure ends in {', '.join(FORMATS)}, got {options.figure.name}")


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    options = _parser().parse_args(arguments)
    try:
        check(options)
        given = ranges_of(options.ranges or ())
        swept = [key for key in (options.by, options.tune) if key]
        rows = read_told("laws", options.paths, options.only or (), swept)
        axis = [options.by] if options.by else []
        size = keys.column_of(options.by or "width")
        level = None if options.with_data else options.sparsity
        rows = choose_rows(
            rows, options.tasks or (), level, options.shared_seeds, options.seeds or (), size
        )
        if options.with_data:
            with_data(console(), rows, options.sparsity, options.thresholds)
            return
        refuse_mixtures(rows, ["width"] if axis and options.by != "width" else [])
        if options.tune:
            tuned = tuning.tune(rows, options.tune, options.tune_seeds, axis)
            rows = tuned.rows
            show(console(), tuned.choices, " ".join(tuned.words))
        final = keys.beside(score_table(rows, options.at_steps, given), rows, axis)
        size = size if axis else options.size
        report(console(), final, size, options.hold_out, options.figure)
    except (FileNotFoundError, ValueError) as error:
        print(f"sparse_rl.laws: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    with one_line("sparse_rl.laws"):
        main()
