"""``python -m sparse_rl.report results/<name>``: figures and one HTML page for a study."""

import argparse
import sys
from pathlib import Path

from sparse_rl.analysis import tuning
from sparse_rl.analysis.report import Swept, write_report
from sparse_rl.records.console import one_line, program
from sparse_rl.records.options import check_numbers


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog=program("report"),
        description="Execute the notebooks: report.html (self-contained), PNG and SVG figures.",
    )
    parser.add_argument("studies", type=Path, nargs="+", help="folders of studies, e.g. results/demo")
    parser.add_argument("--out", type=Path, help="where to write (default: the first study's folder)")
    parser.add_argument(
        "--margin",
        type=float,
        help="differences in return within it do not matter (default: 5 %% of the range)",
    )
    parser.add_argument(
        "--thresholds", type=float, nargs="+", metavar="RETURN", default=[],
        help="returns to which data are counted, the same for every study that is to be compared",
    )  # fmt: skip
    parser.add_argument(
        "--by", metavar="KEY", help="a key that was swept is an axis too, e.g. agent.batch_size"
    )
    tuning.add_options(parser)
    options = parser.parse_args(arguments)
    if options.tune_seeds and not options.tune:
        parser.error("--tune-seeds choose a setting of --tune KEY, which is not given")
    try:
        check_numbers(options, positive=["margin"], finite=["thresholds"])
        page = write_report(
            options.studies,
            options.out,
            say=lambda what: print(f"report: {what}"),
            margin=options.margin,
            thresholds=options.thresholds,
            swept=Swept(options.by, options.tune, tuple(options.tune_seeds)),
        )
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        print(f"sparse_rl.report: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"report: {page.resolve().as_uri()}")


if __name__ == "__main__":
    with one_line("sparse_rl.report"):
        main()
