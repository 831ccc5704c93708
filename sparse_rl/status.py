"""``python -m sparse_rl.status results/<name>``: what of a study is done, under way and in trouble."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from sparse_rl.records import results
from sparse_rl.records.console import console, one_line, program
from sparse_rl.sweeps.status import is_over, show, survey, totals

REFRESH_SECONDS = 5.0


def _follow(
    out: Console, study: Path, seen: Callable[[dict[str, Any]], None] = lambda found: None
) -> None:
    """Redraw until nothing is left to do; in a log file, a line whenever something has changed.

    Args:
        seen: told what was found, each time.
    """
    live = Live(show(survey(study)), console=out, auto_refresh=False) if out.is_terminal else None
    said = ""
    with live or contextlib.nullcontext():
        while True:
            found = survey(study)
            seen(found)
            if live:
                live.update(show(found), refresh=True)
            elif totals(found) != said:
                said = totals(found)
                out.print(said)
            if is_over(found):
                break
            time.sleep(REFRESH_SECONDS)
    if not live:
        out.print(show(found))


def _page_of(study: Path, file: Path | None, out: Console) -> Callable[[dict[str, Any]], None]:
    """Writes the page of what is found.

    Raises:
        PermissionError, OSError: it cannot be written there.
    """
    from sparse_rl.sweeps import live

    read, target = live.reader(study), file or study / live.PAGE
    out.print(f"status: {target.resolve().as_uri()}", soft_wrap=True)

    def write(found: dict[str, Any]) -> None:
        results.write_text(target, live.page(found, read, REFRESH_SECONDS))

    return write


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("status"),
        description="Show a study by width and sparsity; on a terminal, live until all runs have ended.",
    )
    parser.add_argument("study", type=Path, help="folder of the study, e.g. results/demo")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print everything as JSON, for scripts")
    how.add_argument("--once", action="store_true", help="print once and stop")
    how.add_argument(
        "--watch", action="store_true",
        help="follow, and keep a page with learning curves that reloads itself: status.html",
    )  # fmt: skip
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="with --watch: where the page goes instead"
    )
    options = parser.parse_args(arguments)
    if options.page and not options.watch:
        parser.error("--page says where --watch writes its page; give both")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    options = _options(arguments)
    out = console()
    try:
        if options.json:
            print(json.dumps(survey(options.study), indent=2))
        elif options.watch:
            survey(options.study)  # a folder that is no study is refused before a page is promised
            _follow(out, options.study, _page_of(options.study, options.page, out))
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
