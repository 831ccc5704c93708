"""Every key of the schema has an effect: another value changes what a run does, or is refused.

Keys are found in the schema, so one that nobody reads fails here on the day it is added. What a run
does are its programs and what they are given (:mod:`effects`): no run is trained.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin

import jax
import numpy as np
import pytest
from conftest import SMALL
from effects import FIRST, difference, programs_of, reached

from sparse_rl.envs import HostEnv, HostStep, workers
from sparse_rl.loops.hosted import sessions
from sparse_rl.loops.hosted.hosting import Living
from sparse_rl.loops.zero_order import master
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.agents import AGENT_CONFIGS
from sparse_rl.settings.envs import ENV_CONFIGS, EnvConfig
from sparse_rl.settings.pruning import PruningConfig
from sparse_rl.settings.run import BUDGET, DiagnosticsConfig, RunConfig, run_config
from sparse_rl.settings.schema import ConfigError, fields_of, fits

Settings = dict[str, Any]
"""Dotted key → value."""

TASKS = {
    "sac": ("probe", "truncation"),
    "ddpg": ("probe", "truncation"),
    "drq": ("probe", "picture"),
    "ppo": ("probe", "truncation"),
    "paac": ("probe", "discrete_truncation"),
    "dqn": ("probe", "discrete_truncation"),
    "azopg": ("lqr", "chain"),
}
"""Agent → where it learns here."""
RUN: Settings = {"width": 12, "sparsity": 0.5, "env_steps": 200, "log_every": 100, "eval_every": 100}

NEEDS: dict[str, Settings] = {
    **{
        f"{agent}.{part}_blocks": {"agent.network": "simba"}
        for agent in ("sac", "ddpg", "ppo", "paac", "dqn")
        for part in ("actor", "critic")
    },
    **{f"{agent}.replay_size": {"agent.replay_size": 100} for agent in ("sac", "ddpg", "drq")},
    "paac.learning_rate_per_env": {"agent.learning_rate": None},
    "azopg.master": {"agent.workers": 4},
    "azopg.durations": {"agent.workers": 4},
    "azopg.work": {"agent.clock": "real"},
    "azopg.estimate_seconds": {"agent.clock": "real"},
    "pruning.change_every": {"pruning.method": "set", "pruning.change_every": 40},
    "pruning.change_until": {"pruning.method": "set", "pruning.change_every": 40},
    "pruning.drop_share": {"pruning.method": "set", "pruning.change_every": 40},
    "pruning.method": {"pruning.change_every": 40},
    "pruning.block_fan_in": {"pruning.pattern": "block", "width": 64},
    "pruning.storage": {"pruning.storage": "compact"},
    "diagnostics.max_samples": {"diagnostics.max_samples": 64},
}
"""Key → in what run it is read, where that is not the plain one."""


def nested(settings: Settings) -> dict[str, Any]:
    """Dotted keys as what Hydra composes."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        where = found
        for name in parents:
            where = where.setdefault(name, {})
        where[last] = value
    return found


def base(agent: str = "sac", source: str | None = None, task: str | None = None) -> Settings:
    """A small run."""
    small = {f"agent.{name}": value for name, value in SMALL.get(agent, {}).items()}
    small |= {"agent.network": "mlp", "agent.actor_width_ratio": 0.5} if agent in ("sac", "ddpg") else {}
    source, task = (source, task) if source else TASKS[agent]
    env = {"env.source": source, "env.task": task, "env.eval_episodes": 3}
    width = {"width": 3} if agent == "azopg" else {}
    return {**RUN, **width, "agent.name": agent, **small, **env}


def numbers(now: Any) -> list[Any]:
    """Other numbers near one, the likeliest to be allowed first."""
    if not now:
        return [3, 0.2, 0.7]
    whole = isinstance(now, int)
    return [now // 2, now + 1, 2 * now] if whole else [now / 2, 0.9 * now]


def others(hint: Any, field: Any, now: Any) -> list[Any]:
    """Other values of a key that its field allows, some of which a run may refuse."""
    if get_origin(hint) is Literal:
        return [value for value in get_args(hint) if value != now]
    literals = [value for part in get_args(hint) for value in get_args(part)]
    if literals:
        return [value for value in literals if value != now]
    if hint is bool:
        return [not now]
    test = field.metadata.get("test") or (lambda value: True)
    return [value for value in numbers(now) if fits(value, hint) and test(value)]


class Key(NamedTuple):
    """One key of the schema, and the run in which it is tried."""

    name: str
    """``sac.batch_size``: of which agent, source or part."""
    setting: str
    """``agent.batch_size``."""
    hint: Any
    field: Any
    run: Settings


def keys_of(part: str, prefix: str, schema: type, run: Settings, but: tuple[str, ...]) -> Iterator[Key]:
    for name, (hint, field) in fields_of(schema).items():
        if name not in but and not dataclasses.is_dataclass(hint):
            key = f"{part}.{name}"
            yield Key(key, prefix + name, hint, field, run | NEEDS.get(key, {}))


def agent_keys() -> list[Key]:
    keys: list[Key] = []
    for name, schema in AGENT_CONFIGS.items():
        keys += keys_of(name, "agent.", schema, base(name), but=("name", "width"))
    return keys


def other_keys() -> list[Key]:
    drq = base("drq")
    keys = [
        *keys_of("pruning", "pruning.", PruningConfig, base(), but=("encoder_sparsity",)),
        *keys_of("diagnostics", "diagnostics.", DiagnosticsConfig, base(), but=()),
        *keys_of("run", "", RunConfig, base(), but=("agent", "env", *BUDGET)),
    ]
    (encoder,) = (
        k for k in keys_of("pruning", "pruning.", PruningConfig, drq, but=()) if "encoder" in k.name
    )
    return [*keys, encoder]


def value_now(run: RunConfig, setting: str) -> Any:
    found: Any = run
    for name in setting.split("."):
        found = getattr(found, name)
    return found


def on_the_real_clock(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the workers of a run on the real clock are told."""
    told: list[Any] = []

    class Hiring(Exception):  # noqa: N818
        pass

    def crew(job: Any, workers: int, hire: Any) -> Any:
        told.extend([job.to_bytes(), workers])
        raise Hiring

    monkeypatch.setattr(master, "Crew", crew)
    loop: Any
    loop, (run,) = prepare_pack([config])
    with pytest.raises(Hiring):
        loop._chunk(0, jax.jit(loop.init)(run.inputs))
    return told


def without_effect(key: Key, differ: Any) -> list[str]:
    """Values that change nothing; or that there is none which a run takes."""
    plain = run_config(nested(key.run))
    now, silent, accepted = value_now(plain, key.setting), [], 0
    values = others(key.hint, key.field, now)
    for value in values:
        if accepted and get_origin(key.hint) is not Literal:
            break
        try:
            found = differ(plain, run_config(nested(key.run | {key.setting: value})))
        except ConfigError:
            continue
        accepted += 1
        silent += [] if found else [f"{key.name}={value!r} instead of {now!r}"]
    return silent if accepted or not values else [f"{key.name}: no run takes one of {values}"]


@pytest.mark.parametrize("agent", AGENT_CONFIGS)
def test_every_key_of_an_agent_changes_its_runs(agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_the_clock(one: RunConfig, two: RunConfig) -> bool:
        return bool(on_the_real_clock(one, monkeypatch) != on_the_real_clock(two, monkeypatch))

    silent = []
    for key in agent_keys():
        if key.name.startswith(f"{agent}."):
            real = key.run.get("agent.clock") == "real"
            silent += without_effect(key, on_the_clock if real else difference)
    assert not silent


def test_every_key_of_pruning_and_of_a_run_changes_it() -> None:
    silent = []
    for key in other_keys():
        health = key.setting.startswith("diagnostics.")
        silent += without_effect(key, functools.partial(difference, health=health))
    assert not silent
