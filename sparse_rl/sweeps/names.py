"""Names that earlier versions gave to runs which have another now.

An id is a hash of settings, and what is in it has changed: 0 is 0.0 now, and settings that a run does
not read are refused. A run that is on disk under such an id keeps its folder.
"""

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from sparse_rl.records import results
from sparse_rl.settings.run import RunConfig, named, run_config
from sparse_rl.settings.schema import ConfigError
from sparse_rl.settings.unread import what_is_read


def _begin(run_id: str) -> str:
    """The readable part of an id, which is the same in all versions."""
    return run_id.rpartition("_")[0]


def _found(study: Path, folders: Sequence[str]) -> dict[str, str]:
    """What runs on disk read → their folders; those that cannot be read are nobody's."""
    found = {}
    for folder in folders:
        with contextlib.suppress(results.RecordError, ConfigError, OSError, TypeError):
            found[what_is_read(run_config(results.read_config(study / folder)))] = folder
    return found


def as_on_disk(configs: Sequence[RunConfig], study: Path) -> list[RunConfig]:
    """The same runs, those that are in the study under an earlier id by that."""
    if not study.is_dir():
        return list(configs)
    folders = {path.name for path in study.iterdir()}
    wanted = {config.run_id for config in configs}
    missing = {_begin(config.run_id) for config in configs if config.run_id not in folders}
    by_begin: dict[str, list[str]] = defaultdict(list)
    for folder in sorted(folders - wanted):
        if _begin(folder) in missing:
            by_begin[_begin(folder)].append(folder)
    known = {begin: _found(study, some) for begin, some in by_begin.items()}
    named_now = []
    for config in configs:
        same = known.get(_begin(config.run_id), {}) if config.run_id not in folders else {}
        earlier = same.pop(what_is_read(config), None) if same else None
        named_now.append(config if earlier is None else named(config, earlier))
    return named_now
