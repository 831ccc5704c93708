"""A study's report: notebooks, executed into one HTML page that opens from a file."""

import ast
import html
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sparse_rl.analysis import interactive, levels, lqr, origins, page, teams, tuning
from sparse_rl.analysis.load import Problem, load_all
from sparse_rl.analysis.scores import RETURN
from sparse_rl.analysis.statistics import counted

NOTEBOOKS = ("overview", "scaling_curves", "network_health", "laws", "compute_optimal")
BENCH = "lqr"
"""The notebook of runs whose optimum is known; they have no part in the others, nor other runs in it."""
LEVELS = "levels"
"""The notebook of runs in environments with levels."""
TEAMS = "teams"
"""The notebook of runs of teams."""
BY, TUNED = "by_key", "tuned"
"""The notebooks of a key that was swept, where one is asked for: as an axis, and chosen per cell."""
RUNS = "runs"
"""The notebook that lists every run."""
FAILED = "This section could not be made"
"""Beginning of what stands in place of a section whose code failed."""

TITLES = {
    "overview": "answer", "scaling_curves": "curves", "network_health": "health",
    "compute_optimal": "compute",
}  # fmt: skip
"""Notebook → its name in the navigation, where that is another."""
ALLOWED = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What a report may load: what is in it."""

CELL_TEMPLATE = """
{%- extends 'basic/index.html.j2' -%}
{%- block input_group -%}{%- endblock -%}
"""
"""A reader sees what the code found; the code itself stands folded at the end of its section."""


def check_available() -> None:
    """Raise a clear error, before anything starts, if a package that executes notebooks is missing."""
    needed = ("jupytext", "nbconvert", "plotly")
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if absent:
        raise ModuleNotFoundError(
            f"a report needs {', '.join(absent)}; install them with: pip install 'sparse_rl[report]'"
        )


def notebook(name: str, parameters: dict[str, Any]) -> Any:
    """The notebook as it is kept, with its parameters set."""
    import jupytext

    text = files("sparse_rl.analysis.notebooks").joinpath(f"{name}.py").read_text()
    book = jupytext.reads(text, fmt="py:percent")
    (cell,) = (c for c in book.cells if "parameters" in c.metadata.get("tags", []))
    given = [f"{key} = {value!r}" for key, value in parameters.items()]
    cell.source = "\n".join([cell.source, *given])  # what is not given is as it stands there
    return book


def execute(books: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, str]:
    """Run notebooks one after the other in one namespace of this interpreter; their cells as HTML.

    No kernel is started: it would load again what is loaded here. A cell that fails says so in its
    place, with its error and no traceback, and the others are run.

    Args:
        books: name → notebook; each loads what it needs, and sees what those before it left.
        say: told which notebook begins.
    """
    space: dict[str, Any] = {}
    exporter = _exporter()
    sections = {}
    for name, book in books.items():
        say(name)
        for cell in (c for c in book.cells if c.cell_type == "code"):
            cell.outputs = list(_outputs(cell.source, name, space))
        sections[name] = _section(name, book, exporter)
    return sections


def _outputs(source: str, name: str, space: dict[str, Any]) -> Iterator[Any]:
    """What a cell shows: its last expression; of an error, a sentence."""
    from nbformat.v4 import new_output

    try:
        text = _run(source, name, space)
    except Exception as error:  # whatever it is, the other sections are made
        told = html.escape(f"{type(error).__name__}: {error}")
        text = f"<p><strong>{FAILED}</strong> ({told}).</p>"
    if text:
        yield new_output("display_data", data={"text/html": text})


def _run(source: str, name: str, space: dict[str, Any]) -> str:
    """Run a cell of ours; its last expression as HTML, nothing where it ends in none."""
    cell = ast.parse(source)
    last = cell.body.pop() if cell.body and isinstance(cell.body[-1], ast.Expr) else None
    exec(compile(cell, name, "exec"), space)
    if not isinstance(last, ast.Expr):
        return ""
    value = eval(compile(ast.Expression(last.value), name, "eval"), space)
    return "" if value is None else str(value._repr_html_())


def _exporter() -> Any:
    """Makes HTML of a notebook's cells, without the page around them."""
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter

    return HTMLExporter(
        extra_loaders=[DictLoader({"cells.html.j2": CELL_TEMPLATE})],
        template_file="cells.html.j2",
        template_name="basic",
    )


def _section(name: str, book: Any, exporter: Any) -> str:
    """A notebook's cells as HTML: headings one level down, and ids that no other section has."""
    body, _ = exporter.from_notebook_node(book)
    lowered = re.sub(r"<(/?)h([1-4])\b", lambda tag: f"<{tag[1]}h{int(tag[2]) + 1}", str(body))
    lowered = re.sub(r'<a class="anchor-link".*?</a>', "", lowered)
    code = "\n\n".join(cell.source for cell in book.cells if cell.cell_type == "code")
    fold = f"<details><summary>code of this section</summary><pre>{html.escape(code)}</pre></details>"
    return re.sub(r'(<h[2-5] [^>]*?id=")', rf"\g<1>{name}-", lowered) + fold


def notebooks_of(runs: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """The notebooks that have something to say of these runs."""
    bench = runs["agent"] == lqr.AGENT
    plain = [*(NOTEBOOKS if not bench.all() else ()), *([BENCH] if bench.any() else ())]
    more = [*([LEVELS] if levels.sets_of(rows) else ()), *([TEAMS] if teams.played(rows) else ())]
    first = plain.index(NOTEBOOKS[0]) + 1 if NOTEBOOKS[0] in plain else 0
    return [*plain[:first], *more, *plain[first:], RUNS]


def refuse_nothing(
    runs: pd.DataFrame,
    rows: pd.DataFrame,
    problems: Sequence[Problem],
    studies: Sequence[str | Path],
) -> None:
    """Refuse runs of which there is nothing to report.

    Raises:
        ValueError: none is done with a return; it says how they ended, and what cannot be read.
    """
    scored = rows[rows["status"] == "done"] if len(rows) else rows
    if RETURN in scored and scored[RETURN].notna().any():
        return
    counts = runs["status"].value_counts()
    how = ", ".join(f"{number} {status}" for status, number in counts.items())
    first = f"; {problems[0].file}: {problems[0].reason}" if problems else ""
    where = ", ".join(map(str, studies))
    raise ValueError(f"no run in {where} is done with a {RETURN} ({how}){first}")


class Swept(NamedTuple):
    """Keys beside width and sparsity that have a section in a report."""

    by: str | None = None
    """One that is an axis too, as ``agent.batch_size``."""
    tune: str | None = None
    """One of which every cell has its best setting (:func:`.tuning.tune`)."""
    tune_seeds: tuple[int, ...] = ()
    """Seeds that choose it; none: each seed's others."""


NO_KEYS = Swept()


def swept_notebooks(swept: Swept, studies: Sequence[str | Path]) -> list[str]:
    """The notebooks of keys that were asked for.

    Raises:
        ValueError: no run has a key, or it cannot be tuned.
    """
    if swept.by:
        load_all(*studies, by=[swept.by])
    if swept.tune:
        rows = load_all(*studies, by=[swept.tune]).rows
        tuning.tune(rows, swept.tune, swept.tune_seeds)
    return [*([BY] if swept.by else ()), *([TUNED] if swept.tune else ())]


def write_report(
    studies: Sequence[str | Path],
    out: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    margin: float | None = None,
    thresholds: Sequence[float] = (),
    swept: Swept = NO_KEYS,
) -> Path:
    """Execute the notebooks, write the figures (PNG and SVG) and ``report.html``.

    Args:
        studies: ``results/<name>``, one or more.
        out: where to write; by default into the first study's folder.
        say: told what is being done.
        margin: differences in return within it do not matter; ``None``: a twentieth of the task's range.
        thresholds: returns to which data are counted; by default two of each task's own.
        swept: keys beside width and sparsity that have a section.

    Returns:
        Path of the page.

    Raises:
        ModuleNotFoundError: the extra ``report`` is not installed.
        FileNotFoundError: a folder holds no run.
        ValueError: no run is done with a return, no run has a key, or it cannot be tuned.
    """
    check_available()
    runs, rows, problems = load_all(*studies)
    refuse_nothing(runs, rows, problems, studies)
    *names, last = notebooks_of(runs, rows)
    names += [*swept_notebooks(swept, studies), last]
    first = Path(studies[0])
    target = Path(out) if out else first if first.is_dir() else first.parent
    target.mkdir(parents=True, exist_ok=True)
    parameters = {
        "studies": [str(Path(s).resolve()) for s in studies],
        "out": str(target.resolve()),
        "margin": margin,
        "thresholds": list(thresholds),
        **swept._asdict(),
    }
    books = {name: notebook(name, parameters) for name in names}

    def begun(name: str) -> None:
        say(f"{names.index(name) + 1} of {len(names)}: {name}")

    sections = execute(books, begun)
    title = ", ".join(Path(study).resolve().name for study in studies)
    told = origins.shown(origins.facts(runs, rows, studies))
    page_file = target / "report.html"
    page_file.write_text(whole_page(title, about(runs), told, sections))
    return page_file


def about(runs: pd.DataFrame) -> str:
    """How many runs of what, in one sentence."""
    tasks, agents = (", ".join(sorted(map(str, runs[key].unique()))) for key in ("env", "agent"))
    many = counted(len(runs), "run"), counted(runs["seed"].nunique(), "seed")
    return f"{many[0]} on {tasks}; agent {agents}; {many[1]}."


def whole_page(title: str, sentence: str, facts: str, sections: Mapping[str, str]) -> str:
    """One page that needs nothing beside itself, and is not allowed to ask for anything."""
    names = {name: TITLES.get(name, name.replace("_", " ")) for name in sections}
    links = "".join(f'<a href="#{name}">{words}</a>' for name, words in names.items())
    body = "".join(f'<section id="{name}">{text}</section>' for name, text in sections.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{ALLOWED}">'
        f"<title>{html.escape(title)}</title><style>{page.asset('report.css')}</style></head><body>"
        f'<a class="skip" href="#main">to the answer</a><div class="bar"><nav aria-label="Sections">'
        f'{links}</nav><button class="theme" type="button" aria-label="light or dark">◐</button></div>'
        f'<main id="main">'
        f'<h1>{html.escape(title)}</h1><p class="about">{html.escape(sentence)}</p>{facts}{body}</main>'
        f'<script type="text/plain" id="library">{interactive.library()}</script>'
        f"<script>{page.asset('report.js')}</script></body></html>"
    )
