"""Run a sweep: check, plan, leave out what is finished, hand the rest to a launcher, report."""

import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from filelock import FileLock
from rich.console import Console

from sparse_rl.records import results
from sparse_rl.records.console import console, program
from sparse_rl.records.views import VIEWS, check_available
from sparse_rl.runs import (
    PreparedPack,
    check_devices,
    code_here,
    code_of,
    parts_that_fit,
    prepare_pack,
)
from sparse_rl.settings.run import SWEEP_KEYS, RunConfig, rounding, run_config
from sparse_rl.settings.schema import ConfigError, fits, whole
from sparse_rl.sweeps.grid import Pack, packs, unique
from sparse_rl.sweeps.locks import check_locks, is_owned
from sparse_rl.sweeps.names import as_on_disk
from sparse_rl.sweeps.plan import print_plan
from sparse_rl.sweeps.tasks import Settings, status_of


class Ended(SystemExit):
    """How a sweep ended: raised by launchers, which do not return to Hydra."""

    INTERRUPTED = 130
    """Its status where it was interrupted."""

    def __init__(self, status: int, study_dir: Path, run_ids: Sequence[str]) -> None:
        super().__init__(status)
        self.study_dir, self.run_ids = study_dir, list(run_ids)


class Launcher(NamedTuple):
    """Where packs are trained."""

    train: Callable[[Console, Sequence[PreparedPack], Settings], None]
    """Returns when all runs have ended or nothing more can be done; results are on disk."""
    describe: Callable[[Sequence[PreparedPack], Settings], Sequence[str]] = lambda packs, settings: ()
    """Lines for the plan; raises ``ValueError`` for a parameter that is not allowed."""


def study_folder(results_dir: Any, name: Any) -> Path:
    """``results_dir/name``; a name is one folder and cannot lead out of ``results_dir``.

    Raises:
        ConfigError: the name is missing or is not the name of one folder, or there is no path.
    """
    name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name  # name=2024
    if not isinstance(name, str) or not name or name.startswith(".") or Path(name).name != name:
        raise ConfigError(
            f"name={name!r} is not allowed; give a folder name without '/' that does not start with '.'"
        )
    if not isinstance(results_dir, str) or not results_dir or "\0" in results_dir:
        raise ConfigError(f"results_dir={results_dir!r} is not allowed; give the path of a folder")
    return Path(results_dir) / name


def _choice(settings: dict[str, Any], key: str, allowed: Sequence[Any], words: str) -> Any:
    if settings[key] not in allowed:
        raise ConfigError(f"{key}={settings[key]!r}; choose {words}")
    return settings[key]


def _number(settings: dict[str, Any], key: str) -> int | None:
    value = whole(settings[key])
    return None if value is None else _count(settings, key, "null or ")


def _count(settings: dict[str, Any], key: str, else_: str = "") -> int:
    value = whole(settings[key])
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{key}={value!r} is not allowed; give {else_}a whole number > 0")
    return value


class Prepared(NamedTuple):
    """A checked sweep: what to train, and where it goes."""

    configs: list[RunConfig]
    finished: dict[str, str]
    """run_id → status of those whose result is on disk already."""
    packs: list[PreparedPack]
    """Of the others."""
    notes: list[str]
    """What the plan says of budgets that were rounded."""
    settings: Settings
    plan: bool
    plan_tflops: float
    question: str | None


def _sweep_settings(every: Sequence[dict[str, Any]], configs: Sequence[RunConfig]) -> Settings:
    """What holds for the whole sweep, checked."""
    settings = every[0]
    for key in SWEEP_KEYS:
        values = {str(one[key]) for one in every}
        if len(values) > 1:
            raise ConfigError(
                f"{key} holds for the whole sweep; give one of {', '.join(sorted(values))}"
            )
    logging = _choice(settings, "logging", VIEWS, f"one of {', '.join(VIEWS)}")
    check_available(logging)
    checkpoint_every = _number(settings, "checkpoint_every")
    for config in configs if checkpoint_every else ():
        if checkpoint_every and checkpoint_every % config.log_every:
            raise ConfigError(
                f"checkpoint_every={checkpoint_every} must be a multiple of log_every "
                f"(= {config.log_every})"
            )
    return Settings(
        study_folder(settings["results_dir"], settings["name"]),
        logging,
        checkpoint_every,
        _choice(settings, "retry_failed", (True, False), "true or false"),
        _choice(settings, "keep_state", (True, False), "true or false"),
        _choice(settings, "keep_best", (True, False), "true or false"),
        _count(settings, "devices_per_pack"),
    )


def prepare(jobs: Sequence[dict[str, Any]]) -> Prepared:
    """Check every job of a grid and count what it costs, before anything starts.

    Raises:
        ConfigError: the first setting that is wrong.
        ValueError: an environment is unknown.
        ModuleNotFoundError: an optional package is missing; the message says how to get it.
    """
    if not jobs:
        raise ConfigError("there is nothing to train: an axis has no values")
    every = [run_config(settings) for settings in jobs]
    notes = dict.fromkeys(map(rounding, jobs, every))
    configs = unique(every)
    settings = _sweep_settings(jobs, configs)
    configs = as_on_disk(configs, settings.study_dir)
    plan = _choice(jobs[0], "plan", (True, False), "true or false")
    size = _number(jobs[0], "max_runs_per_pack")
    tflops = jobs[0]["plan_tflops"]
    if not fits(tflops, float) or tflops <= 0:
        raise ConfigError(f"plan_tflops={tflops!r} is not allowed; give a number > 0")
    question = jobs[0]["question"]
    if question is not None and not (isinstance(question, str) and question.strip()):
        raise ConfigError(
            f"question={question!r} is not allowed; give null or what the study asks, in words"
        )
    said = [note for note in notes if note]
    finished = finished_runs(configs, settings, said.append)
    waiting = packs(config for config in configs if config.run_id not in finished)
    devices = settings.devices_per_pack
    counted = [_counted(pack) for pack in waiting]
    for pack in counted:
        check_devices(pack.loop, devices)
    prepared = [part for pack in counted for part in parts_that_fit(pack, devices, size)]
    return Prepared(configs, finished, prepared, said, settings, plan, tflops, question)


def _counted(pack: Pack) -> PreparedPack:
    """A pack with its costs.

    Raises:
        ConfigError: its networks have more weights than can be counted.
    """
    try:
        return prepare_pack(pack)
    except OverflowError as error:
        first = pack[0]
        raise ConfigError(
            f"width={first.width}: {first.agent.name}'s networks on {first.env.name} have too many "
            f"weights to be counted ({error}); give a smaller width"
        ) from error


def finished_runs(
    configs: Sequence[RunConfig], settings: Settings, say: Callable[[str], None] = lambda note: None
) -> dict[str, str]:
    """run_id → status of those runs that will not be trained.

    Args:
        configs, settings: of the sweep.
        say: told of records that cannot be read, and of runs that other code finished.
    """
    finished, codes = {}, Counter[str]()
    for config in configs:
        try:
            record = results.read_run(settings.study_dir / config.run_id) or {}
        except results.RecordError as damaged:
            say(f"{damaged}; the run goes on from its last checkpoint, or starts anew")
            continue
        if record.get("status") in settings.finished:
            finished[config.run_id] = str(record["status"])
            codes[code_of(record)] += 1
    others = {code: count for code, count in codes.items() if code != code_here()} if codes else {}
    if others:
        told = ", ".join(f"{count:,} by {code}" for code, count in others.items())
        say(f"finished by other code than this ({code_here()}): {told}")
    return finished


def sweep(jobs: Sequence[dict[str, Any]], launcher: Launcher, command: str | None = None) -> Ended:
    """Run every job of a grid that is not finished yet.

    Args:
        jobs: each job's settings (:func:`sparse_rl.sweeps.compose.compose`).
        launcher: where they are trained.
        command: what was typed, to be kept with the study.

    Returns:
        How it ended, with an exit status: 0 if every run is ``done`` (or only the plan was asked for),
        1 if one failed or diverged, 130 if interrupted.

    Raises:
        Exception: whatever was wrong, before anything starts (:func:`~..console.one_line`).
    """
    out = console()
    prepared = prepare(jobs)
    lines = launcher.describe(prepared.packs, prepared.settings)
    study_dir = prepared.settings.study_dir

    def ended(status: int) -> Ended:
        return Ended(status, study_dir, [config.run_id for config in prepared.configs])

    devices = prepared.settings.devices_per_pack
    print_plan(out, prepared.packs, prepared.finished, study_dir, prepared.plan_tflops, devices)
    for note in prepared.notes:
        out.print(note, markup=False, soft_wrap=True)
    if prepared.plan:
        for line in lines:
            out.print(line, markup=False, soft_wrap=True)
        return ended(0)
    check_locks(study_dir)
    _list_runs(prepared.configs, study_dir)
    _keep(study_dir, command, prepared.question)
    previous = {
        number: signal.signal(number, _raise_interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # nohup
        and threading.current_thread() is threading.main_thread()  # no other may take signals
    }
    try:
        launcher.train(out, prepared.packs, prepared.settings)
    except KeyboardInterrupt:
        out.print("interrupted: unfinished runs are marked preempted; the same command goes on")
        return ended(Ended.INTERRUPTED)
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
    return ended(_report(out, prepared.configs, prepared.settings))


def _list_runs(configs: Sequence[RunConfig], study_dir: Path) -> None:
    """Add the runs to the study's list, unless all are on it."""
    try:
        known = set(results.read_grid(study_dir))
    except results.RecordError as damaged:
        print(f"{damaged}; it is put aside, and written anew with the runs of this sweep")
        results.put_aside(study_dir / results.GRID)
        known = set()
    if not {config.run_id for config in configs} <= known:
        study_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(study_dir / f".{results.GRID}.lock"):
            results.write_grid(study_dir, {config.run_id: _axes(config) for config in configs})


def _keep(study_dir: Path, command: str | None, question: str | None) -> None:
    """Keep what was typed and what is asked; a damaged list is put aside."""
    said = {results.COMMANDS: command, results.QUESTIONS: question}
    with FileLock(study_dir / f".{results.GRID}.lock"):
        for path, words in ((study_dir / name, words) for name, words in said.items() if words):
            try:
                results.add_words(path, words)
            except results.RecordError as damaged:
                print(f"{damaged}; it is put aside, and begun anew")
                results.put_aside(path)
                results.add_words(path, words)


def _axes(config: RunConfig) -> dict[str, Any]:
    """Where a run stands in its study, and what it was given."""
    return {
        "env": config.env.name,
        "agent": config.agent.name,
        "width": config.width,
        "sparsity": config.sparsity,
        "pattern": config.pruning.pattern,
        "seed": config.seed,
        "env_steps": config.env_steps,
    }


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(signum).name)


def holder(record: dict[str, Any]) -> str:
    """Who trains a run that somebody holds, as its record tells."""
    host = record.get("host") if record.get("status") == "running" else None
    if not isinstance(host, dict) or "process" not in host:
        return "another process"
    return f"process {host['process']} on {host.get('name')}"


def _report(out: Console, configs: Sequence[RunConfig], settings: Settings) -> int:
    study_dir = settings.study_dir
    statuses = {config.run_id: status_of(study_dir, config.run_id) for config in configs}
    counts = Counter(statuses.values())
    ordered = (f"{counts[status]} {status}" for status in results.STATUSES if counts[status])
    out.print(f"{', '.join(ordered)} → {study_dir}")
    for run_id, status in statuses.items():
        if status != "done":
            record = results.known_run(study_dir / run_id)
            elsewhere = f"{holder(record)} trains it" if is_owned(study_dir / run_id) else "see above"
            out.print(f"  {run_id}: {status}: {record.get('reason') or elsewhere}")
    if counts["failed"] and not settings.retry_failed:
        out.print("retry_failed=true trains failed runs again")
    if set(counts) == {"done"}:
        out.print(f"next: {program('report')} {study_dir}")
        return 0
    return 1
