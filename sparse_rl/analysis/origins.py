"""What was run, as the runs' own records tell: command, code, date, device, budget, evaluation."""

import html
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from sparse_rl.analysis import scores
from sparse_rl.analysis.page import Html
from sparse_rl.records import results

MOST_READ = 200
"""Configurations that are looked at: each takes milliseconds."""
AXES = ("status", "env", "agent", "width", "sparsity", "seed", "mask_seed")
"""What the table of runs says of each."""
UNKNOWN = "not recorded"


def _several(values: Iterable[object], most: int = 3) -> str:
    """Different values in order of their first appearance; of many the first ones."""
    seen = list(dict.fromkeys(str(value) for value in values if value is not None and value == value))
    if not seen:
        return UNKNOWN
    more = f" and {len(seen) - most} more" if len(seen) > most else ""
    return ", ".join(seen[:most]) + more


def _column(runs: pd.DataFrame, name: str) -> list[Any]:
    return list(runs[name].dropna()) if name in runs else []


def _said(studies: Sequence[str | Path], name: str, tell: Callable[[str, str], str]) -> str:
    """Words of studies, each with its time as they are to be told; damaged lists are named."""
    told: list[str] = []
    for study in studies:
        try:
            told += [tell(*said) for said in results.read_words(Path(study) / name).items()]
        except results.RecordError as error:
            told.append(str(error))
    return " ; ".join(told)


def _commands(studies: Sequence[str | Path]) -> str:
    told = _said(studies, results.COMMANDS, lambda words, when: words)
    return told or f"{UNKNOWN} (each run's config.yaml has its settings)"


def _questions(runs: pd.DataFrame, studies: Sequence[str | Path]) -> str:
    """What was asked, when, and whether that was before the runs that answer it had begun."""
    begun = [datetime.fromisoformat(str(when)) for when in _column(runs, "started_at")]

    def tell(words: str, when: str) -> str:
        before = sum(start < datetime.fromisoformat(when) for start in begun)
        order = f"{before} of {len(begun)} runs had begun" if before else "before any run had begun"
        return f"{' '.join(words.split())} (Written down {when}, {order}.)"

    return _said(studies, results.QUESTIONS, tell)


def _dates(runs: pd.DataFrame) -> str:
    begun, ended = (
        sorted(str(day)[:10] for day in _column(runs, name)) for name in ("started_at", "ended_at")
    )
    if not begun:
        return UNKNOWN
    last = ended[-1] if ended else begun[-1]
    return begun[0] if begun[0] == last else f"{begun[0]} to {last}"


def _budget(runs: pd.DataFrame, rows: pd.DataFrame) -> str:
    planned = sorted(set(_column(runs, "env_steps_planned")))
    done = rows[rows["status"] == "done"]
    reached = sorted(set(done.groupby("run_id")["env_steps"].max())) if len(done) else []
    steps = [f"{count:,.0f}" for count in planned or reached]
    hours = sum(float(seconds) for seconds in _column(runs, "train_seconds")) / 3600
    most = f"{_several(steps)} env steps a run" if steps else UNKNOWN
    return f"{most}; {hours:,.{1 if hours >= 10 else 2}f} hours of training in all"


def _evaluation(runs: pd.DataFrame) -> str:
    """How often, over how many episodes; of so many runs as were looked at."""
    ended = runs[runs["status"] != "pending"]
    picked = ended.iloc[:: -(-len(ended) // MOST_READ) or 1]
    episodes, every = [], []
    for study, run_id in zip(picked["study"], picked["run_id"], strict=True):
        try:
            config = results.read_config(Path(study) / run_id)
            episodes.append(config["env"]["eval_episodes"])
            every.append(config["eval_every"])
        except (OSError, ValueError, KeyError, TypeError):  # a damaged one is named below the figures
            continue
    if not episodes:
        return UNKNOWN
    looked = "" if len(picked) == len(ended) else f" ({len(picked)} of {len(ended)} runs looked at)"
    return (
        f"{_several(episodes)} episodes, each action the policy's likeliest, every "
        f"{_several(f'{steps:,}' for steps in every)} env steps; a run's score is the mean over the "
        f"last fifth of its training{looked}"
    )


def facts(runs: pd.DataFrame, rows: pd.DataFrame, studies: Sequence[str | Path]) -> dict[str, str]:
    """What was run: word → what the records say; what they do not say is said to be so.

    Args:
        runs: of :func:`.load.load_runs`.
        rows: of :func:`.load.load`.
        studies: their folders.
    """
    commits = [
        str(commit)[:7] + ("+changes" if "+" in str(commit) else "")
        for commit in _column(runs, "git_commit")
    ]
    asked = _questions(runs, studies)
    return {
        **({"Question": asked} if asked else {}),
        "Command": _commands(studies),
        "Runs": f"{(runs['status'] == 'done').sum()} of {len(runs)} done",
        "Commit": _several(commits),
        "Date": _dates(runs),
        "Device": _several(_column(runs, "device")),
        "Budget": _budget(runs, rows),
        "Evaluation": _evaluation(runs),
    }


def shown(told: dict[str, str]) -> Html:
    """The facts as a list that can be folded."""
    parts = []
    for name, words in told.items():
        code = name == "Command" and not words.startswith(UNKNOWN)
        text = f"<code>{html.escape(words)}</code>" if code else html.escape(words)
        parts.append(f"<div><dt>{name}</dt><dd>{text}</dd></div>")
    return Html(
        f'<details class="facts" open><summary>What was run</summary><dl>{"".join(parts)}</dl></details>'
    )


def run_table(runs: pd.DataFrame, rows: pd.DataFrame, metric: str) -> str:
    """A row per run, which clicks on figures lead to; ``rows`` is the query of its rows."""
    final = scores.final_values(rows, metric) if metric in rows else pd.DataFrame(columns=["run_id"])
    score = dict(zip(final["run_id"], final.get(metric, []), strict=True))
    names = [name for name in AXES if name in runs]
    heads = "".join(f"<th>{name}</th>" for name in ["run_id", metric, *names, "rows"])
    lines = []
    for _, run in runs.iterrows():
        run_id = str(run["run_id"])
        told = f"{score[run_id]:.4g}" if run_id in score else ""
        cells = [html.escape(run_id), told, *(_word(run[name]) for name in names)]
        query = html.escape(f"run_id == {run_id!r}")
        fold = f'<summary aria-label="the query of these rows"></summary><code>{query}</code>'
        body = "".join(f"<td>{text}</td>" for text in [*cells, f"<details>{fold}</details>"])
        cell = f"cell-{_word(run.get('width'))}-{_word(run.get('sparsity'))}"
        lines.append(f'<tr id="run-{html.escape(run_id)}" data-cell="{cell}">{body}</tr>')
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _word(value: object) -> str:
    """A value of a record, as a cell; nothing where there is none."""
    if value is None or value != value:
        return ""
    return f"{value:g}" if isinstance(value, float) else html.escape(str(value))
