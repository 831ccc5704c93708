"""Run a sweep in this process: check, plan, skip what is finished, train pack after pack."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from sparse_rl import results
from sparse_rl.config import SWEEP_KEYS, ConfigError, RunConfig, run_config
from sparse_rl.experiment import PreparedPack, prepare_pack, train_pack
from sparse_rl.results import Status
from sparse_rl.sweeps.grid import packs, unique
from sparse_rl.sweeps.plan import console, print_plan
from sparse_rl.sweeps.progress import PackProgress, label
from sparse_rl.views import VIEWS, check_available

FINISHED = ("done", "diverged")
"""Statuses that running again would only repeat."""


def study_folder(results_dir: str, name: Any) -> Path:
    """``results_dir/name``; a name is one folder and cannot lead out of ``results_dir``.

    Raises:
        ConfigError: the name is missing or is not the name of one folder.
    """
    if not isinstance(name, str) or not name or name.startswith(".") or Path(name).name != name:
        raise ConfigError(
            f"name={name!r} is not allowed; give a folder name without '/' that does not start with '.'"
        )
    return Path(results_dir) / name


def _settings(composed: DictConfig) -> dict[str, Any]:
    """A job's composed configuration as plain containers, without Hydra's own part."""
    OmegaConf.set_struct(composed, False)
    composed.pop("hydra")
    return OmegaConf.to_container(composed, resolve=True)  # type: ignore[return-value]


class Prepared(NamedTuple):
    """A checked sweep: what to train, and where it goes."""

    packs: list[PreparedPack]
    study_dir: Path
    plan: bool
    logging: str


def prepare(jobs: Sequence[DictConfig]) -> Prepared:
    """Check every job of a grid and count what it costs, before anything starts.

    Raises:
        ConfigError: the first setting that is wrong.
        ValueError: an environment is unknown.
        ModuleNotFoundError: an optional package is missing; the message says how to get it.
    """
    every = [_settings(job) for job in jobs]
    configs = unique(run_config(settings) for settings in every)
    settings = every[0]
    for key in SWEEP_KEYS:
        values = {str(one[key]) for one in every}
        if len(values) > 1:
            raise ConfigError(
                f"{key} holds for the whole sweep; give one of {', '.join(sorted(values))}"
            )
    if settings["logging"] not in VIEWS:
        raise ConfigError(f"logging={settings['logging']!r}; choose one of {', '.join(VIEWS)}")
    if not isinstance(settings["plan"], bool):
        raise ConfigError(f"plan={settings['plan']!r}; choose true or false")
    check_available(settings["logging"])
    study_dir = study_folder(settings["results_dir"], settings["name"])
    prepared = [prepare_pack(pack) for pack in packs(configs)]
    return Prepared(prepared, study_dir, settings["plan"], settings["logging"])


def sweep(jobs: Sequence[DictConfig]) -> int:
    """Run every job of a grid that is not finished yet.

    Returns:
        Exit status: 0 if every run is ``done`` (or only the plan was asked for), 1 if one failed or
        diverged, 2 if a setting is wrong, 130 if interrupted.
    """
    out = console()
    try:
        prepared = prepare(jobs)
    except (ValueError, ModuleNotFoundError) as error:
        print(f"sparse_rl.sweep: {error}", file=sys.stderr)
        return 2
    configs = [run.config for pack in prepared.packs for run in pack.runs]
    finished = finished_runs(prepared.study_dir, configs)
    print_plan(out, prepared.packs, finished, prepared.study_dir)
    return 0 if prepared.plan else _train(out, prepared, finished)


def finished_runs(study_dir: Path, configs: Sequence[RunConfig]) -> dict[str, str]:
    """run_id → status of those runs whose result is on disk already."""
    records = {config.run_id: results.read_run(study_dir / config.run_id) for config in configs}
    return {i: r["status"] for i, r in records.items() if r and r["status"] in FINISHED}


def _train_one(
    out: Console, name: str, pack: PreparedPack, study_dir: Path, logging: str
) -> dict[str, Status]:
    configs = [run.config for run in pack.runs]
    with PackProgress(out, name, configs) as progress:
        try:
            return train_pack(pack, study_dir, logging=logging, watch=progress)
        except Exception as error:  # one pack's failure is not the end of the sweep
            reason = f"{type(error).__name__}: {error}"
            out.print(f"{name} failed: {reason}")
            return dict.fromkeys((config.run_id for config in configs), "failed")


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(signum).name)


def _train(out: Console, prepared: Prepared, finished: dict[str, str]) -> int:
    statuses: dict[str, str] = dict(finished)
    previous = signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        for number, pack in enumerate(prepared.packs, start=1):
            waiting = [run for run in pack.runs if run.config.run_id not in finished]
            if waiting:
                name = f"pack {number}/{len(prepared.packs)} {label(waiting[0].config)}"
                pack = pack._replace(runs=waiting)
                statuses |= _train_one(out, name, pack, prepared.study_dir, prepared.logging)
    except KeyboardInterrupt:
        out.print("interrupted: unfinished runs are marked preempted; the same command goes on")
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)
    return _report(out, statuses, prepared.study_dir)


def _report(out: Console, statuses: dict[str, str], study_dir: Path) -> int:
    counts = {s: list(statuses.values()).count(s) for s in results.STATUSES if s in statuses.values()}
    out.print(", ".join(f"{count} {status}" for status, count in counts.items()) + f" → {study_dir}")
    for run_id, status in statuses.items():
        if status != "done":
            record = results.read_run(study_dir / run_id) or {}
            out.print(f"  {run_id}: {status}: {record.get('reason') or 'see above'}")
    if statuses and set(statuses.values()) == {"done"}:
        out.print(f"next: python -m sparse_rl.report {study_dir}")
        return 0
    return 1
