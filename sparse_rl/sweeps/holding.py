"""Who holds a run, as its lock tells: for whoever asks and trains nothing. Nothing here is heavy."""

import fcntl
import os
from pathlib import Path

LOCK = ".lock"
FOLDER = ".sweep"
"""Of a study: what belongs to its sweeps and to no run."""


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
