"""Packs that are trained, and asked to stop on the way; what they leave behind."""

import threading
from pathlib import Path
from typing import Any

from sparse_rl.records import results
from sparse_rl.runs.lockstep import Policy, Progress
from sparse_rl.runs.pack import prepare_pack, train_pack
from sparse_rl.settings.run import RunConfig


def train(
    pack: list[RunConfig], study: Path, until: int | None = None, *, every: int, **options: Any
) -> list[Progress]:
    """Train a pack with a checkpoint ``every`` so many env steps, asking it to stop at ``until``; what
    it told."""
    return keeping(pack, study, until, every=every, best=False, **options)


def keeping(
    pack: list[RunConfig],
    study: Path,
    until: int | None = None,
    *,
    every: int,
    best: bool,
    **options: Any,
) -> list[Progress]:
    """The same; ``best``: what the best evaluation saw is kept."""
    stop, told = threading.Event(), []

    def watch(progress: Progress) -> None:
        told.append(progress)
        if until is not None and progress.env_steps >= until:
            stop.set()

    train_pack(
        prepare_pack(pack),
        study,
        watch=watch,
        policy=Policy(every=every, best=best),
        stop=stop,
        **options,
    )
    return told


def outcome(study: Path, config: RunConfig) -> tuple[bytes, bytes]:
    """The bytes of a run's rows and of its trained parameters."""
    run_dir = study / config.run_id
    return (run_dir / results.METRICS).read_bytes(), (run_dir / results.PARAMETERS).read_bytes()
