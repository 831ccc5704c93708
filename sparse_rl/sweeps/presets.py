"""Which presets ``conf/`` has. Nothing here is heavy: help and completion ask, too."""

import functools
from pathlib import Path

GROUPS = ("agent", "env", "pruning", "curriculum", "study")
CONF = Path(__file__).resolve().parents[1] / "conf"
"""Beside this code, whatever the working folder has of the same name."""


@functools.cache
def presets(group: str) -> list[str]:
    """Names of the files below ``conf/group``: ``dm_control/humanoid_run``."""
    folder = CONF / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
