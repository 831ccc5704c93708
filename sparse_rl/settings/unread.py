"""What a run does not read of its settings.

Such a setting changes no number, and it is part of a run's identity all the same: whoever sets it trains
again what is there already. So a sweep refuses it where it was typed, or leaves it at its preset.

Not here: which pattern, distribution, method or storage a dense run is listed under. They change no
number of it either, and say which curve it begins.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from sparse_rl.settings.agents import AzopgConfig
from sparse_rl.settings.common import ParametrisedConfig
from sparse_rl.settings.on_policy import PaacConfig
from sparse_rl.settings.pruning import READ
from sparse_rl.settings.run import BUDGET, RunConfig
from sparse_rl.settings.streaming import OF_RULES, StreamingConfig

DEFAULTS = ("width", *BUDGET)
"""Settings of a run that take the agent's or the environment's value where they are not given."""
PRESETS = {name: f"{'agent' if name == 'width' else 'env'}.{name}" for name in DEFAULTS}
"""Setting of a run → the key of the preset that it takes otherwise."""
CHANGES = ("change_every", "change_until", "drop_share")
DENSE = ("min_fan_in", "min_fan_out", "block_fan_in", "initial_scale", *CHANGES)
"""Settings of pruning that say nothing of a network that loses no weight."""
REAL_CLOCK = ("work", "estimate_seconds")
BLOCKS = ("actor_blocks", "critic_blocks")
BASE = {"standard": ("base_width", "base_density"), "mup": ("base_density",), "smup": ()}
"""Parametrisation → what it does not read of its base."""
POSSIBLE = frozenset(
    [
        *PRESETS.values(),
        "mask_seed",
        *(f"pruning.{name}" for name in DENSE),
        *(
            f"agent.{name}"
            for name in (*REAL_CLOCK, *BLOCKS, *BASE["standard"], "learning_rate_per_env")
        ),
        *(f"agent.{of}_{part}" for of in ("value", "policy") for part in OF_RULES.values()),
    ]
)
"""Keys that some runs do not read."""


def given(composed: Mapping[str, Any], name: str) -> bool:
    """Whether a setting of a run was given, by a study or whoever started it."""
    return composed.get(name) not in (None, "???")


def unread(composed: Mapping[str, Any], config: RunConfig) -> dict[str, str]:
    """Dotted keys of what a run does not read → why.

    Args:
        composed: what :func:`~sparse_rl.settings.run.run_config` made ``config`` from.
        config: the run.
    """
    return dict(_unread(composed, config))


def _unread(composed: Mapping[str, Any], config: RunConfig) -> Iterator[tuple[str, str]]:
    for name, key in PRESETS.items():
        if given(composed, name):
            yield key, f"it is the preset of {name}, which is given: give {name}=…"
    yield from _unread_of_pruning(config)
    agent, own = config.agent, composed.get("agent") or {}
    if agent.network != "simba":
        for name in BLOCKS:
            if hasattr(agent, name):
                yield f"agent.{name}", f"agent.network={agent.network} has no blocks"
    if isinstance(agent, ParametrisedConfig):
        for name in BASE[agent.parametrisation]:
            why = "is the same everywhere" if name == "base_width" else "does not ask for densities"
            yield f"agent.{name}", f"agent.parametrisation={agent.parametrisation} {why}"
    if isinstance(agent, PaacConfig) and own.get("learning_rate") is not None:
        yield "agent.learning_rate_per_env", "agent.learning_rate is given"
    if isinstance(agent, StreamingConfig):
        for rule, part in OF_RULES.items():
            for name in (f"value_{part}", f"policy_{part}"):
                if rule != agent.step_rule and hasattr(agent, name):
                    yield f"agent.{name}", f"agent.step_rule={agent.step_rule} does not ask for it"
    if isinstance(agent, AzopgConfig) and agent.clock != "real":
        for name in REAL_CLOCK:
            yield f"agent.{name}", f"agent.clock={agent.clock} times no worker"


def _unread_of_pruning(config: RunConfig) -> Iterator[tuple[str, str]]:
    pruning = config.pruning
    if not any(config.sparsities.values()):
        yield "mask_seed", "no network is sparse"
        for name in DENSE:
            yield f"pruning.{name}", "no network is sparse"
        return
    for name in CHANGES:
        if name not in READ[pruning.method]:
            yield f"pruning.{name}", f"pruning.method={pruning.method} does not ask for it"
    if pruning.pattern != "block":
        yield "pruning.block_fan_in", f"pruning.pattern={pruning.pattern} has no blocks"


def what_is_read(config: RunConfig) -> str:
    """All that decides a run's numbers, as text: equal for runs that earlier versions told apart."""
    settings = dataclasses.asdict(config)
    composed = {"agent": settings["agent"], **dict.fromkeys(DEFAULTS, 1)}
    for key in unread(composed, config):
        *parents, last = key.split(".")
        (settings[parents[0]] if parents else settings).pop(last, None)
    return json.dumps(settings, sort_keys=True)
