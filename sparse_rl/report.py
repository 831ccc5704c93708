"""``python -m sparse_rl.report results/<name>``: figures and one HTML page for a study."""

import argparse
import sys
from pathlib import Path

from sparse_rl.analysis.report import write_report


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m sparse_rl.report",
        description="Write report.html (self-contained) and PNG figures for a study.",
    )
    parser.add_argument("study", type=Path, help="folder of the study, e.g. results/demo")
    parser.add_argument("--out", type=Path, help="where to write (default: the study's folder)")
    options = parser.parse_args(arguments)
    try:
        page = write_report(options.study, options.out)
    except (FileNotFoundError, ValueError) as error:
        print(f"sparse_rl.report: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"report: {page.resolve().as_uri()}")


if __name__ == "__main__":
    main()
