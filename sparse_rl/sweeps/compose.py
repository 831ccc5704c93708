"""From the overrides of a grid's jobs to their settings, fast enough for grids of many thousand jobs."""

import copy
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from sparse_rl.settings.run import run_config, schema_keys
from sparse_rl.settings.schema import ConfigError
from sparse_rl.settings.unread import POSSIBLE, unread


def _plain_keys() -> frozenset[str]:
    """Keys with one value: setting such a key changes that value and nothing else."""
    keys = schema_keys()
    return frozenset(k for k in keys if not any(other.startswith(f"{k}.") for other in keys))


@functools.lru_cache(maxsize=65536)
def _parse(override: str) -> Override:
    return OverridesParser.create().parse_override(override)


def _set(settings: dict[str, Any], override: Override) -> None:
    *parents, last = override.key_or_group.split(".")
    for name in parents:
        settings = settings.setdefault(name, {})
        if not isinstance(settings, dict):
            raise ConfigError(f"{override.key_or_group}: {name}={settings!r} has no settings of its own")
    settings[last] = override.value()


def _resolved(settings: dict[str, Any]) -> dict[str, Any]:
    if "${" not in str(settings):
        return settings
    return OmegaConf.to_container(OmegaConf.create(settings), resolve=True)  # type: ignore[return-value]


def compose(
    load: Callable[[list[str]], DictConfig], jobs: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """Each job's settings as plain containers, without Hydra's own part.

    Hydra composes once for each choice of config groups; what the other overrides set is set directly,
    for a composition takes a tenth of a second.

    Args:
        load: Hydra's composition of one job.
        jobs: each job's overrides.
    """
    plain = _plain_keys()
    composed: dict[tuple[str, ...], dict[str, Any]] = {}
    settings = []
    for job in jobs:
        overrides = [_parse(override) for override in job]
        values = [o for o in overrides if o.key_or_group in plain]
        rest = tuple(o.input_line or "" for o in overrides if o.key_or_group not in plain)
        if rest not in composed:
            config = load(list(rest))
            OmegaConf.set_struct(config, False)
            config.pop("hydra")
            composed[rest] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
        mine = copy.deepcopy(composed[rest])
        for override in values:
            _set(mine, override)
        settings.append(_resolved(mine))
    return settings


def as_read(
    load: Callable[[list[str]], DictConfig], jobs: Sequence[Sequence[str]], typed: Collection[str]
) -> list[dict[str, Any]]:
    """Each job's settings, without what was typed and this job does not read (:mod:`~..unread`).

    Args:
        load: Hydra's composition of one job.
        jobs: each job's overrides.
        typed: keys on the command line.

    Raises:
        ConfigError: a setting is wrong, or none of the jobs reads one that was typed.
    """
    settings = compose(load, jobs)
    asked = POSSIBLE.intersection(typed)
    if not asked:
        return settings
    why = [unread(one, run_config(one)) for one in settings]
    for key in sorted(asked):
        if all(key in reasons for reasons in why):
            reasons = dict.fromkeys(one[key] for one in why)
            raise ConfigError(f"{key} changes nothing here: {'; '.join(reasons)}")
    some = {i: asked & set(one) for i, one in enumerate(why) if asked & set(one)}
    left = [[o for o in jobs[i] if _parse(o).key_or_group not in out] for i, out in some.items()]
    for i, one in zip(some, compose(load, left), strict=True):
        settings[i] = one
    return settings
