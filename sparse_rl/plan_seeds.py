"""``python -m sparse_rl.plan_seeds results/<name> --delta 0.05``: how many seeds would tell that?"""

import argparse
import sys
from pathlib import Path

from sparse_rl.analysis import planning, series
from sparse_rl.analysis.selection import read_told
from sparse_rl.analysis.terminal import show
from sparse_rl.records.console import console, one_line, program


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog=program("plan_seeds"),
        description="Seeds that tell a difference, at the noise that the runs of a study have.",
    )
    parser.add_argument("studies", type=Path, nargs="+", help="folders of studies, e.g. results/demo")
    parser.add_argument(
        "--delta", type=float, default=0.05,
        help="the difference, as a share of the task's range (default: 0.05)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    out, told = console(), 0
    try:
        for grid in series.split(read_told("plan_seeds", options.studies)):
            try:
                found = planning.plan(grid, options.delta)
            except ValueError as error:
                print(f"sparse_rl.plan_seeds: {grid.label}: {error}", file=sys.stderr)
                continue
            told += 1
            show(out, found.table, " ".join(found.words))
    except (FileNotFoundError, ValueError) as error:
        print(f"sparse_rl.plan_seeds: {error}", file=sys.stderr)
    if not told:
        sys.exit(2)


if __name__ == "__main__":
    with one_line("sparse_rl.plan_seeds"):
        main()
