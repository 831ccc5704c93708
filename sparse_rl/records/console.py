"""Where commands write."""

from rich.console import Console


def console() -> Console:
    """A console that stays readable in a log file: no colours, and wide enough for its tables."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(width=140, highlight=False)
