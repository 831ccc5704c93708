"""``python -m sparse_rl.status results/<name>``: what of a study is done, under way and in trouble."""

import argparse
import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from sparse_rl.records.console import console, one_line, program
from sparse_rl.sweeps.status import show, survey

REFRESH_SECONDS = 5.0


def _follow(out: Console, study: Path) -> None:
    """Redraw until nothing is left to do."""
    with Live(show(survey(study)), console=out, auto_refresh=False) as live:
        while True:
            found = survey(study)
            live.update(show(found), refresh=True)
            if not {"pending", "running", "preempted"} & set(found["counts"]):
                return
            time.sleep(REFRESH_SECONDS)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog=program("status"),
        description="Show a study by width and sparsity; on a terminal, live until all runs have ended.",
    )
    parser.add_argument("study", type=Path, help="folder of the study, e.g. results/demo")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, for scripts")
    parser.add_argument("--once", action="store_true", help="print once and stop")
    options = parser.parse_args(arguments)
    out = console()
    try:
        if options.json:
            print(json.dumps(survey(options.study), indent=2))
        elif options.once or not out.is_terminal:
            out.print(show(survey(options.study)))
        else:
            _follow(out, options.study)
    except FileNotFoundError as error:
        print(f"sparse_rl.status: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    with one_line("sparse_rl.status"):
        main()
