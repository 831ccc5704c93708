"""What notebooks show: figures, tables and words as HTML that needs nothing beside itself."""

import base64
import html
import io
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from sparse_rl.analysis.interactive import Plot, as_json

DPI = 150
LONG = 40
"""Characters from which a column of a table is words, and may break into lines."""


class Html(str):
    """A piece of a page, as notebooks show it."""

    def _repr_html_(self) -> str:
        return str(self)


def asset(name: str) -> str:
    """A file of the page: its style or its script."""
    return files("sparse_rl.analysis.assets").joinpath(name).read_text()


def show(
    figure: Figure,
    name: str,
    caption: str,
    out: str | Path | None = None,
    plot: Plot | None = None,
    alt: str = "",
) -> Html:
    """A figure with its caption; written to ``out`` as ``<name>.png`` and ``<name>.svg`` too.

    Args:
        plot: the same to be explored; the page shows the picture where it cannot draw.
        alt: what the figure shows, for who cannot see it; the caption where nothing is said.
    """
    _lay_out(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    links = ""
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(buffer.getvalue())
        figure.savefig(folder / f"{name}.svg")
        file = html.escape(name)
        links = f' For papers: <a href="{file}.png">{file}.png</a>, <a href="{file}.svg">svg</a>.'
    picture, width, height = _small(buffer)
    script = f'<script type="application/json">{as_json(plot)}</script>' if plot else ""
    places = '<div class="chips"></div><div class="panels"></div>' if plot else ""
    hint = " Click a point for its runs; drag to zoom, double-click to go back." if plot else ""
    return Html(
        f'<figure id="figure-{html.escape(name)}"{" class=plot" if plot else ""}>{places}'
        f'<img alt="{html.escape(alt or caption)}" width="{width}" height="{height}" loading="lazy" '
        f'src="data:image/png;base64,{picture}">'
        f"<figcaption>{html.escape(caption)}.{hint}{links}</figcaption>{script}</figure>"
    )


def _lay_out(figure: Figure) -> None:
    """Once for both files: each would draw the figure twice, to lay it out and for good."""
    engine = figure.get_layout_engine()
    if engine is not None:
        figure.set_dpi(DPI)  # as it is drawn
        engine.execute(figure)
        figure.set_layout_engine(None)


def _small(picture: io.BytesIO) -> tuple[str, int, int]:
    """A picture with a palette, a third of its size, as text; its width and height on the page."""
    with Image.open(picture) as whole:
        kept = io.BytesIO()
        whole.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE).save(kept, "PNG", compress_level=6)
        scale = 96 / DPI
        size = round(whole.width * scale), round(whole.height * scale)
    return base64.b64encode(kept.getvalue()).decode(), *size


def _number(value: float) -> str:
    """Four digits; counts up to ten million whole, because 1.772e+04 parameters are not read at once."""
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e7 else f"{value:.4g}"


def table(frame: pd.DataFrame, note: str = "", rows: str = "", about: str = "") -> Html:
    """A table under a note and the query of its rows; queries in a column ``rows`` are folded.

    Args:
        about: what the table is called for who cannot see it; the note where nothing is said.
    """
    texts = [name for name in frame if frame[name].dtype == object]
    text = frame.to_html(
        index=False, border=0, na_rep="", escape=False, float_format=_number,
        formatters={name: _code if name == "rows" else _escaped for name in texts},
    )  # fmt: skip
    text = text.replace("<td><words>", '<td class="words">').replace("</words></td>", "</td>")
    name = html.escape(about or note or rows or "table")
    said = f"<p>{html.escape(note)}</p>" if note else ""
    return Html(f"{said}{framed(text, name)}{query(rows)}")


def framed(text: str, name: str) -> str:
    """A table in a frame that scrolls, by mouse and by keyboard."""
    return f'<div class="frame" role="region" tabindex="0" aria-label="{name}">{text}</div>'


def query(rows: str) -> str:
    """The query of rows, folded."""
    if not rows:
        return ""
    code = f"<code>load(study).query({html.escape(repr(rows))})</code>"
    return f"<details><summary>rows</summary>{code}</details>"


def _code(rows: object) -> str:
    summary = '<summary aria-label="the query of these rows"></summary>'
    return f"<details>{summary}<code>{html.escape(str(rows))}</code></details>"


def _escaped(value: object) -> str:
    if value is None or value != value:
        return ""
    text = html.escape(str(value))
    return f"<words>{text}</words>" if len(text) > LONG else text


def words(sentences: Iterable[str]) -> Html:
    """Sentences as a list."""
    return Html("<ul>" + "".join(f"<li>{html.escape(s)}</li>" for s in sentences) + "</ul>")


def heading(text: str, rows: str = "") -> Html:
    """A heading, and the query of the rows below it."""
    return Html(f"<h3>{html.escape(text)}</h3>{query(rows)}")


def together(parts: Iterable[str]) -> Html:
    """One piece after the other."""
    return Html("".join(parts))


def slug(label: str) -> str:
    """A series' name as part of a file name."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in label)
