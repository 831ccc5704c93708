"""``python -m sparse_rl.probe results/<name>``: what trained agents can still learn."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from sparse_rl.analysis.probes import summary
from sparse_rl.kernels.compilation import use_cache
from sparse_rl.records import results
from sparse_rl.records.console import console, one_line, program
from sparse_rl.records.options import check_numbers
from sparse_rl.runs import probe_study


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog=program("probe"),
        description="Reset tests, gradient interference and policy churn of trained agents.",
        epilog="Runs must have been trained with keep_state=true.",
    )
    parser.add_argument("study", type=Path, help="results/<name>")
    parser.add_argument("--updates", type=int, default=2000, help="of retraining (default: 2000)")
    parser.add_argument(
        "--batches", type=int, default=32, help="whose gradients are compared (default: 32)"
    )
    options = parser.parse_args(arguments)
    use_cache()
    out = console()
    try:
        check_numbers(options, counts=["updates", "batches"])
        rows = list(probe_study(options.study, options.updates, options.batches, out.print))
    except (FileNotFoundError, ValueError) as error:
        print(f"sparse_rl.probe: {error}", file=sys.stderr)
        sys.exit(2)
    if not rows:
        print("sparse_rl.probe: no run could be probed", file=sys.stderr)
        sys.exit(1)
    table = pd.DataFrame(rows)
    results.write_aside(
        options.study / "probe.parquet", lambda path: table.to_parquet(path, index=False)
    )
    out.print(summary(table).to_string())


if __name__ == "__main__":
    with one_line("sparse_rl.probe"):
        main()
