"""``python -m sparse_rl.crossplay results/<name> …``: trained teams play with members of others."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from sparse_rl.analysis.crossplay import summary
from sparse_rl.kernels.compilation import use_cache
from sparse_rl.records import results
from sparse_rl.records.console import console, one_line, program
from sparse_rl.runs import PAIRS, WHICH, cross_play
from sparse_rl.settings.schema import ConfigError

SAMPLE = "sample="


def _pairs(text: str) -> tuple[str, int | None]:
    """``all``, ``within`` or ``sample=K``."""
    if text in PAIRS:
        return text, None
    number = text.removeprefix(SAMPLE)
    if text.startswith(SAMPLE) and number.isdecimal() and int(number) > 0:
        return "all", int(number)
    raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(PAIRS)}, {SAMPLE}K")


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog=program("crossplay"),
        description="Returns of teams whose members were trained apart, and of those trained together.",
        epilog="Writes crossplay.parquet and .jsonl: a row per order of seats and policy.",
    )
    parser.add_argument("studies", type=Path, nargs="+", help="results/<name> …, of one environment")
    parser.add_argument(
        "--episodes", type=int, default=128, help="of each order of seats (default: 128)"
    )
    parser.add_argument(
        "--pairs", type=_pairs, default=("all", None), metavar="all|within|sample=K",
        help="all runs with all, those that differ in seeds alone, or K pairs (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--which", choices=WHICH, default="last",
        help="runs as they ended, or at their best evaluations, if keep_best=true kept these "
        "(default: last)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder of the rows (default: that of the first study)")
    options = parser.parse_args(arguments)
    if options.episodes < 1:
        parser.error("--episodes must be at least 1")
    use_cache()
    out = console()
    pairs, sample = options.pairs
    try:
        rows = list(
            cross_play(
                options.studies,
                episodes=options.episodes,
                pairs=pairs,
                sample=sample,
                say=out.print,
                which=options.which,
            )
        )
    except (FileNotFoundError, ConfigError) as error:
        print(f"sparse_rl.crossplay: {error}", file=sys.stderr)
        sys.exit(2)
    path = (options.out or options.studies[0]) / "crossplay.parquet"
    table = pd.DataFrame(rows)
    results.write_aside(path, lambda aside: table.to_parquet(aside, index=False))
    results.write_text(path.with_suffix(".jsonl"), table.to_json(orient="records", lines=True))
    out.print(summary(table).to_string(index=False))
    out.print(f"→ {path}")


if __name__ == "__main__":
    with one_line("sparse_rl.crossplay"):
        main()
