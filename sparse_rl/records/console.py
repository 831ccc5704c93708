"""Where commands write."""

import contextlib
import io
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from rich.console import Console

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Hydra's variable: with it a command shows where an error came from."""

UNKNOWN = "–"
"""What stands for a number that nobody knows yet."""


def duration(seconds: float) -> str:
    """Seconds for people: ``1h05m``, ``2m10s``."""
    if not math.isfinite(seconds):
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def console() -> Console:
    """A console that stays readable in a log file: no colours, and wide enough for its tables. In a
    notebook it writes where all is printed, so that a caller can turn it away."""
    plain: dict[str, Any] = {"highlight": False, "file": _Harmless(sys.stdout), "force_jupyter": False}
    made = Console(**plain)
    return made if made.is_terminal else Console(width=140, **plain)


def program(command: str) -> str:
    """How a command of this package was called, and is called again."""
    path = Path(sys.argv[0])
    if path.name == "sparse-rl":
        return f"sparse-rl {command.replace('_', '-')}"
    if path.parts[-2:] == ("sparse_rl", "__main__.py"):
        return f"python -m sparse_rl {command.replace('_', '-')}"
    return f"python -m sparse_rl.{command}"


class _Harmless:
    """A stream that a full disk, a closed terminal or a poor encoding does not break: what cannot be
    written is lost, and what cannot be encoded is escaped."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def words(error: BaseException) -> str:
    """An error in one line, with its kind where the message alone does not say what is wrong."""
    said = " ".join(str(error).split())
    plain = isinstance(error, ValueError | FileNotFoundError | ModuleNotFoundError | PermissionError)
    return said if plain and said else f"{type(error).__name__}: {said}".removesuffix(": ")


def _let_go(stream: IO[str]) -> None:
    """Forget what cannot be written, or Python would end with a status of its own."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def one_line(command: str) -> Iterator[None]:
    """Whatever goes wrong inside ends the command with one line and status 2; Ctrl-C with 130.

    Args:
        command: how the line begins.
    """
    try:
        try:
            yield
        finally:
            _let_go(sys.stdout)
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever read this has seen enough
        sys.exit(0)
    except Exception as error:
        if os.environ.get(FULL_ERROR, "0") not in ("", "0"):
            raise
        print(f"{command}: {words(error)}", file=sys.stderr)
        sys.exit(2)
