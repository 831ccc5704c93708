"""A study's report: notebooks, executed into one HTML page that opens from a file."""

import html
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sparse_rl.analysis import levels, lqr, teams, tuning
from sparse_rl.analysis.load import Problem, load_all
from sparse_rl.analysis.page import STYLE
from sparse_rl.analysis.scores import RETURN
from sparse_rl.analysis.statistics import counted

NOTEBOOKS = ("scaling_curves", "network_health", "compute_optimal")
BENCH = "lqr"
"""The notebook of runs whose optimum is known; they have no part in the others, nor other runs in it."""
LEVELS = "levels"
"""The notebook of runs in environments with levels."""
TEAMS = "teams"
"""The notebook of runs of teams."""
BY, TUNED = "by_key", "tuned"
"""The notebooks of a key that was swept, where one is asked for: as an axis, and chosen per cell."""
TIMEOUT_SECONDS = 1800
FAILED = "This section could not be made"
"""Beginning of what stands in place of a section whose code failed."""

CELL_TEMPLATE = """
{%- extends 'basic/index.html.j2' -%}
{%- block input_group -%}<details><summary>code</summary>{{ super() }}</details>{%- endblock -%}
"""
"""Code is folded away: a reader sees what it found, and can look how."""


def check_available() -> None:
    """Raise a clear error, before anything starts, if a package that executes notebooks is missing."""
    needed = ("jupytext", "nbclient", "nbconvert", "ipykernel")
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


def execute(book: Any, folder: Path) -> str:
    """Run a notebook in a fresh kernel of this interpreter; its cells as HTML.

    A cell that fails says so in its place, with its error and no traceback, and the others are run.
    """
    from jinja2 import DictLoader
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python", "language": "python"}
    sockets = str(folder / "kernel")  # files instead of open ports
    options = Config(AsyncKernelManager=Config(transport="ipc", ip=sockets))
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        book, timeout=TIMEOUT_SECONDS, resources=where, config=options, allow_errors=True
    )
    client.execute()
    for cell in (c for c in book.cells if c.cell_type == "code"):
        cell.outputs = [_told(output) for output in cell.get("outputs", [])]
    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"cells.html.j2": CELL_TEMPLATE})],
        template_file="cells.html.j2",
        template_name="basic",
    )
    body, _ = exporter.from_notebook_node(book)
    return str(body)


def _told(output: Any) -> Any:
    """What a cell put out; of an error, a sentence."""
    from nbformat.v4 import new_output

    if output["output_type"] != "error":
        return output
    error = f"{output['ename']}: {output['evalue']}"
    text = f"<p><strong>{FAILED}</strong> ({html.escape(error)}).</p>"
    return new_output("display_data", data={"text/html": text})


def notebooks_of(runs: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """The notebooks that have something to say of these runs."""
    bench = runs["agent"] == lqr.AGENT
    plain = [*(NOTEBOOKS if not bench.all() else ()), *([BENCH] if bench.any() else ())]
    plain = [TEAMS, *plain] if teams.played(rows) else plain
    return [LEVELS, *plain] if levels.sets_of(rows) else plain


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
    names = [*notebooks_of(runs, rows), *swept_notebooks(swept, studies)]
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
    sections = []
    for i, name in enumerate(names):
        say(f"{i + 1} of {len(names)}: {name}")
        with tempfile.TemporaryDirectory() as folder:
            sections.append((name, execute(notebook(name, parameters), Path(folder))))
    title = ", ".join(Path(study).resolve().name for study in studies)
    tasks, agents = (", ".join(sorted(map(str, runs[key].unique()))) for key in ("env", "agent"))
    many = counted(len(runs), "run"), counted(runs["seed"].nunique(), "seed")
    about = f"{many[0]} on {tasks}; agent {agents}; {many[1]}."
    links = "".join(f'<a href="#{name}">{name.replace("_", " ")}</a>' for name, _ in sections)
    body = "".join(f'<section id="{name}">{text}</section>' for name, text in sections)
    page = target / "report.html"
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style><body><h1>{html.escape(title)}</h1><p>{html.escape(about)}</p>"
        f"<nav>{links}</nav>{body}</body></html>"
    )
    return page
