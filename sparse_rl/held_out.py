"""``python -m sparse_rl.held_out results/<name>``: trained agents in levels that nobody trained on."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from sparse_rl.analysis.held_out import summary
from sparse_rl.kernels.compilation import use_cache
from sparse_rl.records import results
from sparse_rl.records.console import console, one_line, program
from sparse_rl.runs import Asked, keep_failures, try_study
from sparse_rl.settings.schema import ConfigError


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog=program("held_out"),
        description="Solve rates in held-out levels, with drawn and with greedy actions.",
        epilog="Writes held_out.parquet: a row per run, level, policy and horizon; and failures.arrow: "
        "what was solved least often, for the report.",
    )
    parser.add_argument("study", type=Path, help="results/<name>")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="of levels (default: all there are)")
    parser.add_argument(
        "--episodes", type=int, default=10, help="in each level, all at once (default: 10)"
    )
    parser.add_argument(
        "--random", type=int, default=1000,
        help="solvable random levels whose worst are told of; 0: none (default: 1000)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.episodes < 1 or options.random < 0:
        parser.error("--episodes must be at least 1, and --random at least 0")
    use_cache()
    out = console()
    asked = Asked(options.sets, options.episodes, options.random)
    try:
        rows = list(try_study(options.study, asked, out.print))
    except (FileNotFoundError, ConfigError) as error:
        print(f"sparse_rl.held_out: {error}", file=sys.stderr)
        sys.exit(2)
    if not rows:
        print("sparse_rl.held_out: no run could be tried", file=sys.stderr)
        sys.exit(1)
    table = pd.DataFrame(rows)
    results.write_aside(
        options.study / "held_out.parquet", lambda path: table.to_parquet(path, index=False)
    )
    out.print(summary(table).to_string())
    keep_failures(options.study, table, out.print)


if __name__ == "__main__":
    with one_line("sparse_rl.held_out"):
        main()
