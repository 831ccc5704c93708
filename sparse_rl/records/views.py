"""Optional views beside the rows on disk. A view never decides anything: the disk is the record."""

import math
import netrc
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import yaml

from sparse_rl.records import results
from sparse_rl.records.console import words

VIEWS = ("none", "wandb", "tensorboard")
EVENTS = "tensorboard"
"""Folder of a run in which TensorBoard's events are: ``tensorboard --logdir results/<name>``."""
_WANDB_LOCK = threading.Lock()
FLUSH_SECONDS = 10


class View(Protocol):
    """Where rows are shown."""

    def log(self, row: Mapping[str, float]) -> None: ...

    def close(self, status: str) -> None: ...


class _NoView:
    def log(self, row: Mapping[str, float]) -> None:
        pass

    def close(self, status: str) -> None:
        pass


class _WandbView:
    """One Weights & Biases run per run of ours, side by side in one process.

    An attempt that goes on from a checkpoint is given the rows before it again.
    """

    def __init__(self, run_dir: Path, record: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        import wandb

        with _WANDB_LOCK:
            self._run = wandb.init(
                project="sparse_rl",
                group=run_dir.parent.name,
                id=record["run_id"],
                name=record["run_id"],
                dir=str(run_dir),
                config={**config, **{k: record[k] for k in ("parameters_total", "parameters_nonzero")}},
                reinit="create_new",
                resume="allow",  # a server drops steps that it has already
                settings=wandb.Settings(silent=True),
            )
            self._run.define_metric("*", step_metric="env_steps")
        if self._run.offline:  # this attempt's log holds all rows: an earlier one would repeat them
            ours = Path(self._run.dir).parent
            for folder in ours.parent.glob("offline-run-*"):
                if folder != ours:
                    shutil.rmtree(folder)

    def log(self, row: Mapping[str, float]) -> None:
        self._run.log(dict(row), step=int(row["env_steps"]))

    def close(self, status: str) -> None:
        with _WANDB_LOCK:
            self._run.summary["status"] = status
            self._run.finish(exit_code=0 if status == "done" else 1)


class _TensorBoardView:
    """An event file for a run, with a tag for each column, by its name.

    An attempt that goes on from a checkpoint is given the rows before it again, and writes a new file in
    the old one's place. Times are those of training: on the axis of relative times interruptions are
    left out.
    """

    def __init__(self, run_dir: Path, record: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        shutil.rmtree(run_dir / EVENTS, ignore_errors=True)
        self._began = datetime.fromisoformat(record["started_at"]).timestamp()
        self._writer = SummaryWriter(str(run_dir / EVENTS), flush_secs=FLUSH_SECONDS)
        told = yaml.safe_dump({"run_id": record["run_id"], **config}, sort_keys=False)
        self._writer.add_text("config", f"```\n{told}\n```", 0, walltime=self._began)

    def log(self, row: Mapping[str, float]) -> None:
        self._last = int(row["env_steps"]), self._began + row.get(results.WALL_TIME, 0.0)
        for name, value in row.items():
            if name != "env_steps" and not math.isnan(value):  # what was not measured has no point
                self._writer.add_scalar(name, value, *self._last)

    def close(self, status: str) -> None:
        step, time = getattr(self, "_last", (0, self._began))
        self._writer.add_text("status", status, step, walltime=time)
        self._writer.close()


class _Guarded:
    """A view that says when it breaks, and is not asked again. The disk is the record."""

    def __init__(self, make: Callable[[], View], say: Callable[[str], None]) -> None:
        self._say = say
        self._view: View = _NoView()
        self._try("opened", lambda: setattr(self, "_view", make()))

    def _try(self, what: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # of any kind: it is another package's, and a network's
            self._view = _NoView()
            self._say(f"the view could not be {what}; the run goes on without it ({words(error)})")

    def log(self, row: Mapping[str, float]) -> None:
        self._try("written to", lambda: self._view.log(row))

    def close(self, status: str) -> None:
        self._try("closed", lambda: self._view.close(status))


OFFLINE = ("offline", "disabled", "dryrun")
"""Values of ``WANDB_MODE`` with which nobody has to log in."""


def check_available(logging: str) -> None:
    """Check, before anything starts, that the view can be opened.

    Raises:
        ModuleNotFoundError: its package is missing.
        ValueError: nobody has logged in.
    """
    if logging == "tensorboard":
        try:
            import tensorboardX  # noqa: F401
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "logging=tensorboard needs a writer: pip install 'sparse_rl[tensorboard]'"
            ) from error
    if logging != "wandb":
        return
    try:
        import wandb  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "logging=wandb needs Weights & Biases; install it with: pip install 'sparse_rl[wandb]'"
        ) from error
    if os.environ.get("WANDB_MODE") in OFFLINE or os.environ.get("WANDB_API_KEY"):
        return
    if not _logged_in():
        raise ValueError(
            "logging=wandb: nobody has logged in here; call 'wandb login', or set WANDB_API_KEY, or "
            "WANDB_MODE=offline"
        )


def _logged_in() -> bool:
    """Whether ``wandb login`` has left a key where Weights & Biases looks for it."""
    try:
        found = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError, RuntimeError):
        return False
    return any("wandb" in host for host in found)


def open_view(
    logging: str,
    run_dir: Path,
    record: Mapping[str, Any],
    config: Mapping[str, Any],
    say: Callable[[str], None] = print,
) -> View:
    """The view called ``logging`` for one run; it honours ``WANDB_MODE`` (``offline``, ``disabled``).
    One that breaks is told of by ``say``."""
    if logging == "none":
        return _NoView()
    view: Any = _WandbView if logging == "wandb" else _TensorBoardView
    return _Guarded(lambda: view(run_dir, record, config), say)
