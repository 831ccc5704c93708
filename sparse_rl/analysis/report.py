"""A study's report: PNG figures, and one HTML page that opens from a file."""

import base64
import html
import io
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from sparse_rl.analysis import figures
from sparse_rl.analysis.load import final_values, load, load_runs

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222 }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100%; height: auto }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0 }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
figure { margin: 1.5rem 0 } figcaption { color: #555 } code { background: #f4f4f4; padding: 0 .2rem }
"""


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _spread(values: pd.Series) -> str:
    return f"{values.mean():.4g} [{values.min():.4g}, {values.max():.4g}]"


def final_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean [lowest, highest seed] of each metric per environment, pattern, width and sparsity."""
    keys = ["env", "pattern", "width", "sparsity", "parameters_total", "parameters_nonzero"]
    tables = [
        final_values(rows, metric).groupby(keys)[metric].agg(_spread) for metric in figures.METRICS
    ]
    seeds = final_values(rows, "return_mean").groupby(keys)["run_id"].nunique().rename("seeds")
    return pd.concat([seeds, *tables], axis=1).reset_index()


def _unfinished(runs: pd.DataFrame) -> str:
    """What is missing from the curves, and why."""
    missing = runs[runs["status"] != "done"]
    if missing.empty:
        return "<p>Every run ended <code>done</code>.</p>"
    table = missing[["run_id", "env", "width", "sparsity", "seed", "status", "reason"]]
    return (
        f"<p>{len(missing)} of {len(runs)} runs did not end <code>done</code> and are left out of the "
        f"scaling curves:</p>{table.to_html(index=False, border=0)}"
    )


def _figure_html(name: str, png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)} (<code>{html.escape(name)}</code>)</figcaption></figure>"
    )


def _series(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """What belongs in one figure: an environment's rows, each pattern with the dense runs beside it."""
    for env, of_env in rows.groupby("env"):
        pruned = of_env["sparsity"] > 0
        patterns = sorted(of_env.loc[pruned, "pattern"].unique())
        if len(patterns) < 2:
            yield str(env), of_env
            continue
        for pattern in patterns:
            label = f"{env}, {pattern}"
            yield label, of_env[~pruned | (of_env["pattern"] == pattern)].assign(env=label)


def _figures(rows: pd.DataFrame) -> dict[str, tuple[bytes, str]]:
    """File name → (PNG, caption), per environment and pattern."""
    drawn = {}
    for label, series in _series(rows):
        slug = label.replace("/", "_").replace(", ", "_")
        if (series["status"] == "done").any():
            png = _png(figures.scaling_curves(series[series["status"] == "done"]))
            drawn[f"scaling_{slug}.png"] = (png, f"Scaling curves on {label}, dense beside sparse")
        png = _png(figures.learning_curves(series))
        drawn[f"learning_{slug}.png"] = (png, f"Learning curves on {label}")
    return drawn


def write_report(study: str | Path, out: str | Path | None = None) -> Path:
    """Write the figures and ``report.html``.

    Args:
        study: ``results/<name>``.
        out: where to write; by default into the study's folder.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: no run has written a row yet.
    """
    folder = Path(study)
    target = Path(out) if out else folder
    runs, rows = load_runs(folder), load(folder)
    if rows.empty or rows["return_mean"].notna().sum() == 0:
        raise ValueError(f"no run in {folder} has an evaluation yet")
    target.mkdir(parents=True, exist_ok=True)
    parts = [
        f"<h1>{html.escape(folder.name)}</h1>",
        f"<p>{len(runs)} runs on {html.escape(', '.join(sorted(runs['env'].unique())))}; "
        f"agent {html.escape(', '.join(sorted(runs['agent'].unique())))}; "
        f"{runs['seed'].nunique()} seeds.</p>",
    ]
    for name, (png, caption) in _figures(rows).items():
        (target / name).write_bytes(png)
        parts.append(_figure_html(name, png, caption))
    parts.append(
        "<h2>Final values</h2><p>Mean [lowest, highest seed] over the last fifth of training.</p>"
    )
    parts.append(final_table(rows).to_html(index=False, border=0))
    parts.append("<h2>What is missing</h2>" + _unfinished(runs))
    page = target / "report.html"
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(folder.name)}</title>'
        f"<style>{STYLE}</style><body>{''.join(parts)}</body></html>"
    )
    return page
