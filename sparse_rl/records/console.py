"""Where commands write."""

import contextlib
import os
import sys
from collections.abc import Iterator

from rich.console import Console

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Hydra's variable: with it a command shows where an error came from."""


def console() -> Console:
    """A console that stays readable in a log file: no colours, and wide enough for its tables."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(width=140, highlight=False)


def words(error: BaseException) -> str:
    """An error in one line, with its kind where the message alone does not say what is wrong."""
    said = " ".join(str(error).split())
    plain = isinstance(error, ValueError | FileNotFoundError | ModuleNotFoundError | PermissionError)
    return said if plain and said else f"{type(error).__name__}: {said}".removesuffix(": ")


@contextlib.contextmanager
def one_line(command: str) -> Iterator[None]:
    """Whatever goes wrong inside ends the command with one line and status 2; Ctrl-C with 130.

    Args:
        command: how the line begins.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever read this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get(FULL_ERROR, "0") not in ("", "0"):
            raise
        print(f"{command}: {words(error)}", file=sys.stderr)
        sys.exit(2)
