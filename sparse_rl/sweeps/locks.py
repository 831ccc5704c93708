"""Who trains a run: locks in the folders of runs. Nothing here is heavy: ``status`` asks, too."""

import fcntl
import os
import tempfile
from pathlib import Path

from filelock import FileLock

from sparse_rl.settings.schema import ConfigError

LOCK = ".lock"
FOLDER = ".sweep"
"""Of a study: what belongs to its sweeps and to no run."""


def lock_of(run_dir: Path) -> FileLock:
    """The lock of a run, in a folder that is made if there is none."""
    run_dir.mkdir(parents=True, exist_ok=True)
    return FileLock(run_dir / LOCK)


def check_locks(study_dir: Path) -> None:
    """Raise :class:`ConfigError` if the file system of a study knows no locks: two sweeps would train
    the same run."""
    study_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=study_dir) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"the file system of {study_dir} knows no locks ({error.strerror}); give a results_dir "
                "on one that does"
            ) from error


def is_owned(run_dir: Path) -> bool:
    """Whether a living process trains this run. The lock of a dead one is free.

    Nothing is written: a colleague may ask.
    """
    try:
        handle = os.open(run_dir / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # nobody who may not look can say that it is free
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
