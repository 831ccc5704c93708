"""What notebooks show: figures, tables and words as HTML that needs nothing beside itself."""

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222 }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100%; height: auto }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0; font-size: .85rem }
p code { font-size: .75rem; overflow-wrap: anywhere }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th { text-align: right } td code { font-size: .75rem }
figure { margin: 1.5rem 0 } figcaption { color: #555 } code { background: #f4f4f4; padding: 0 .2rem }
pre { overflow-x: auto; background: #f4f4f4; padding: .5rem; font-size: .8rem }
details { color: #777; font-size: .8rem; margin: .3rem 0 } nav a { margin-right: 1rem }
a.anchor-link, .prompt { display: none } h1 { border-top: 1px solid #ddd; padding-top: 1rem }
"""


class Html(str):
    """A piece of a page, as notebooks show it."""

    def _repr_html_(self) -> str:
        return str(self)


def show(figure: Figure, name: str, caption: str, out: str | Path | None = None) -> Html:
    """A figure with its caption; written to ``out`` as ``<name>.png`` and ``<name>.svg`` too."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    where = ""
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(buffer.getvalue())
        figure.savefig(folder / f"{name}.svg")
        where = f" (<code>{html.escape(name)}.png, .svg</code>)"
    data = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption)
    return Html(
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}{where}</figcaption></figure>"
    )


def table(frame: pd.DataFrame, note: str = "", rows: str = "") -> Html:
    """A table under a note and the query of its rows; queries in a column ``rows`` are code too."""
    texts = [name for name in frame if frame[name].dtype == object]
    text = frame.to_html(
        index=False, border=0, na_rep="", escape=False, float_format=lambda x: f"{x:.4g}",
        formatters={name: _code if name == "rows" else _escaped for name in texts},
    )  # fmt: skip
    about = [html.escape(note), f"<code>{html.escape(rows)}</code>" if rows else ""]
    words = "<br>".join(part for part in about if part)
    return Html((f"<p>{words}</p>" if words else "") + text)


def _code(query: object) -> str:
    return f"<code>{_escaped(query)}</code>"


def _escaped(value: object) -> str:
    return "" if value is None or value != value else html.escape(str(value))


def words(sentences: Iterable[str]) -> Html:
    """Sentences as a list."""
    return Html("<ul>" + "".join(f"<li>{html.escape(s)}</li>" for s in sentences) + "</ul>")


def heading(text: str, rows: str = "") -> Html:
    """A heading, and the query of the rows below it."""
    query = f"<p><code>{html.escape(rows)}</code></p>" if rows else ""
    return Html(f"<h3>{html.escape(text)}</h3>{query}")


def together(parts: Iterable[str]) -> Html:
    """One piece after the other."""
    return Html("".join(parts))


def slug(label: str) -> str:
    """A series' name as part of a file name."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in label)
