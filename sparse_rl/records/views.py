"""Optional views beside the rows on disk. A view never decides anything: the disk is the record."""

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

VIEWS = ("none", "wandb")
_WANDB_LOCK = threading.Lock()


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


def check_available(logging: str) -> None:
    """Raise a clear error, before anything starts, if the view's package is missing."""
    if logging == "wandb":
        try:
            import wandb  # noqa: F401
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "logging=wandb needs Weights & Biases; install it with: pip install 'sparse_rl[wandb]'"
            ) from error


def open_view(logging: str, run_dir: Path, record: Mapping[str, Any], config: Mapping[str, Any]) -> View:
    """The view called ``logging`` for one run; it honours ``WANDB_MODE`` (``offline``, ``disabled``)."""
    return _WandbView(run_dir, record, config) if logging == "wandb" else _NoView()
