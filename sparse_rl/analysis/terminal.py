"""Tables on a terminal."""

import pandas as pd
from rich.console import Console
from rich.table import Table


def show(out: Console, frame: pd.DataFrame, title: str) -> None:
    """A table on the terminal."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for name in frame:
        table.add_column(str(name), overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*("" if v is None or v != v else _text(v) for v in row))
    out.print(table, "")


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
