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
from effects import difference, programs_of, reached

from sparse_rl import envs
from sparse_rl.envs import HostEnv, HostStep, workers
from sparse_rl.loops.hosted.hosting import Living
from sparse_rl.loops.zero_order import master
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.agents import AGENT_CONFIGS
from sparse_rl.settings.curricula import CURRICULUM_CONFIGS, ReplayingConfig
from sparse_rl.settings.envs import ENV_CONFIGS, EnvConfig
from sparse_rl.settings.off_policy import IqlConfig
from sparse_rl.settings.on_policy import IppoConfig, PpoConfig
from sparse_rl.settings.pruning import PruningConfig
from sparse_rl.settings.run import BUDGET, DiagnosticsConfig, RunConfig, run_config, schema_keys
from sparse_rl.settings.schema import fields_of, fits

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
    "ippo": ("jaxmarl", "switch_riddle"),
    "mappo": ("jaxmarl", "switch_riddle"),
    "pqn_vdn": ("jaxmarl", "switch_riddle"),
    **dict.fromkeys(("iql", "vdn", "qmix"), ("jaxmarl", "switch_riddle")),
    "stream_ac": ("probe", "truncation"),
    "stream_q": ("probe", "discrete_truncation"),
}
"""Agent → where it learns here."""
RUN: Settings = {"width": 12, "sparsity": 0.5, "env_steps": 200, "log_every": 100, "eval_every": 100}

PARAMETRISED = ("sac", "ddpg", "drq", "ppo", "paac", "dqn", "ippo", "mappo", "pqn_vdn", "iql")
NEEDS: dict[str, Settings] = {
    **{
        f"{agent}.{part}_blocks": {"agent.network": "simba"}
        for agent in ("sac", "ddpg", "ppo", "paac", "dqn", "ippo", "mappo", "pqn_vdn", "iql")
        for part in ("actor", "critic")
    },
    **{f"{agent}.replay_size": {"agent.replay_size": 100} for agent in ("sac", "ddpg", "drq", "iql")},
    **{
        f"{agent}.{key}": {"agent.memory": "gru", "agent.num_envs": 4}
        for agent in ("ppo", "paac", "dqn", "ippo", "mappo", "pqn_vdn")
        for key in ("memory_width_ratio", "memory_span", "sequence_length")
    },
    **{f"{agent}.memory": {"agent.num_envs": 4} for agent in ("ppo", "ippo", "mappo", "pqn_vdn")},
    # read of sparse runs only: smup and mup are one where nothing is pruned
    **{f"{agent}.parametrisation": {"agent.base_width": 24, "sparsity": 0.5} for agent in PARAMETRISED},
    **{
        f"{agent}.{key}": {"agent.parametrisation": "smup", "agent.base_width": 24}
        for agent in PARAMETRISED
        for key in ("base_width", "base_density")
    },
    # masks of an agent's own, and other names for levers that are the same
    **{f"{agent}.sharing": {"sparsity": 0.5} for agent in ("ippo", "pqn_vdn", "iql")},
    **{
        f"{agent}.other_play": {"env.source": "probe", "env.task": "levers"}
        for agent in ("ippo", "pqn_vdn", "iql")
    },
    **{
        f"{agent}.{key}_share": {"agent.step_rule": "intentional"}
        for agent, key in (("stream_ac", "value"), ("stream_ac", "policy"), ("stream_q", "value"))
    },
    **{
        f"{agent}.network": {
            "env.source": "gymnax",
            "env.task": "Breakout-MinAtar",
            "agent.time_feature": False,
        }
        for agent in ("stream_ac", "stream_q")
    },
    "jaxmarl.shaping_steps": {"env.task": "overcooked_cramped_room"},
    "probe.delay": {"env.task": "cue"},
    "probe.hidden": {"env.source": "gymnax", "env.task": "CartPole-v1"},
    "paac.learning_rate_per_env": {"agent.learning_rate": None},
    "atari.noop_starts": {"env.noop_starts": 20},
    "azopg.master": {"agent.workers": 4},
    "azopg.durations": {"agent.workers": 4},
    "azopg.work": {"agent.clock": "real"},
    "azopg.estimate_seconds": {"agent.clock": "real"},
    "pruning.change_every": {"pruning.method": "set", "pruning.change_every": 40},
    "pruning.change_until": {"pruning.method": "set", "pruning.change_every": 40},
    "pruning.drop_share": {"pruning.method": "set", "pruning.change_every": 40},
    "pruning.method": {"pruning.change_every": 40},
    "pruning.pattern": {"width": 64, "pruning.distribution": "uniform"},
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
    own: Settings = {"width": 3} if agent == "azopg" else {}
    if agent.startswith("stream"):  # compact storage puts numbers of survivors into the program
        own = {"pruning.storage": "masked"}
    return {**RUN, **own, "agent.name": agent, **small, **env}


def numbers(now: Any) -> list[Any]:
    """Other numbers near one, the likeliest to be allowed first."""
    if not now:
        return [1, 3, 0.2, 0.7]
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


@pytest.fixture(autouse=True, scope="module")
def traced_programs_go_with_this_file() -> Iterator[None]:
    yield
    programs_of.cache_clear()


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


def names_of(schema: Any) -> set[str]:
    """Of the fields of a dataclass."""
    return {field.name for field in dataclasses.fields(schema)}


def agent_keys() -> list[Key]:
    keys: list[Key] = []
    for name, schema in AGENT_CONFIGS.items():
        # for a team PPO is PPO, a central critic reads what another reads, and how values are joined
        # changes nothing else
        like = {
            "ippo": PpoConfig, "mappo": IppoConfig, "vdn": IqlConfig, "qmix": IqlConfig,
        }.get(name)  # fmt: skip
        same = tuple(names_of(schema) & names_of(like)) if like else ()
        dense = base(name) | {"sparsity": 0.0}  # masks are of all agents, and take half of the time
        keys += keys_of(name, "agent.", schema, dense, but=("name", "width", *same))
    return keys


def curriculum_keys() -> list[Key]:
    keys: list[Key] = []
    for method, schema in CURRICULUM_CONFIGS.items():
        run = base("paac", "maze", "5") | {"curriculum.method": method}
        if issubclass(schema, ReplayingConfig):
            run |= {"curriculum.buffer_size": 20}
        but: tuple[str, ...] = () if method == "plr" else ("method",)
        if method not in ("plr", "accel_parallel"):  # what all have that replay is read in one place
            but += tuple(names_of(schema) & names_of(ReplayingConfig))
        keys += keys_of(method, "curriculum.", schema, run, but=but)
    return keys


OTHERS = {"encoder_sparsity": "drq", "mixer_sparsity": "qmix"}
"""Settings of pruning → the agent that reads them."""


def other_keys() -> list[Key]:
    keys = [
        *keys_of("pruning", "pruning.", PruningConfig, base(), but=tuple(OTHERS)),
        *keys_of("diagnostics", "diagnostics.", DiagnosticsConfig, base(), but=()),
        *keys_of("run", "", RunConfig, base(), but=("agent", "env", "curriculum", *BUDGET)),
    ]
    for key, agent in OTHERS.items():
        but = tuple(names_of(PruningConfig) - {key})
        keys += keys_of("pruning", "pruning.", PruningConfig, base(agent), but=but)
    return keys


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
        except ValueError:  # refused: ConfigError is one
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


def test_every_key_of_a_curriculum_changes_its_runs() -> None:
    silent = []
    for key in curriculum_keys():
        silent += without_effect(key, difference)
    assert not silent


def test_every_key_of_pruning_and_of_a_run_changes_it() -> None:
    silent = []
    for key in other_keys():
        health = key.setting.startswith("diagnostics.")
        silent += without_effect(key, functools.partial(difference, health=health))
    assert not silent


class _Ending:
    """Environments of the host whose every interaction is an episode."""

    def __init__(self, env: HostEnv, num_envs: int) -> None:
        self._seen: np.ndarray = np.zeros((num_envs, env.observation_size), env.observation_dtype)

    def seed(self, seeds: np.ndarray, where: np.ndarray) -> np.ndarray:
        return self._seen

    def send(self, action: np.ndarray) -> None:
        pass

    def receive(self) -> HostStep:
        ended = np.ones(len(self._seen), bool)
        return HostStep(self._seen, ended.astype(np.float32), ended, ~ended, self._seen)


class _Told(Exception):  # noqa: N818
    """What a worker process would be started with."""


def _play(env: HostEnv, settings: EnvConfig) -> list[Any]:
    """What environments do with settings of theirs, or what their processes are told."""
    try:
        actors = env.open(settings, 2, 1)
    except _Told as told:
        return list(told.args)
    seen = [actors.seed(np.arange(2), np.ones(2, bool))]
    for t in range(60):
        actors.send(np.full(2, t % env.action_size, np.int32))
        seen += actors.receive()[:2]
    return [x.tobytes() for x in seen]


def on_the_host(config: RunConfig) -> Any:
    """What a run does with an environment of the host: what that is, how it is opened and evaluated."""
    env: Any = envs.make(config.env.source, config.env.task, **config.env.options)
    opened = []

    def ending(settings: EnvConfig, num_envs: int, threads: int) -> _Ending:
        opened.append(num_envs)
        return _Ending(env, num_envs)

    fields = {"_config": config, "_env": dataclasses.replace(env, open=ending), "_seed": 0}
    living = object.__new__(Living)
    living.__dict__.update(fields, _threads=1, _evaluating=None, _restarts=0, groups=[])
    evaluated = living.evaluate(0, lambda: lambda seen: np.zeros(len(seen), np.int32))
    shown = {f.name: getattr(env, f.name) for f in dataclasses.fields(env) if f.name != "open"}
    return str(shown), opened, str(evaluated), _play(env, config.env)


SOURCES: dict[str, tuple[str, str]] = {
    "atari": ("pong", "ppo"),
    "dm_control_pixels": ("cartpole_swingup", "drq"),
    "gymnasium": ("inverted_pendulum", "ppo"),
    "lqr": ("chain", "ddpg"),
    "jaxmarl": ("overcooked_cramped_room", "ippo"),
    "maze": ("5", "ppo"),
    "pixels": ("cartpole_swingup", "drq"),
    "probe": ("truncation", "ppo"),
}
"""A source for every kind of settings that environments have → a task, and who learns on it."""


def env_keys(source: str) -> list[Key]:
    task, agent = SOURCES[source]
    run = {k: v for k, v in base(agent, source, task).items() if k not in BUDGET}
    run |= {"env.env_steps": 800, "env.log_every": 400, "env.eval_every": 800}
    if source in ("atari", "pixels", "dm_control_pixels"):
        run |= {"agent.network": "nature" if agent == "ppo" else "drq_strided", "env.size": 20}
        run = run if agent == "drq" else {k: v for k, v in run.items() if k != "env.size"}
    schema = ENV_CONFIGS.get(source, EnvConfig)
    return list(keys_of(source, "env.", schema, run, but=("source", "task")))


def budget(config: RunConfig) -> tuple[int, ...]:
    return tuple(getattr(config, name) for name in BUDGET)


@pytest.mark.parametrize("source", SOURCES)
def test_every_key_of_an_environment_changes_runs_in_it(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(command: list[str], fd: int, variables: Mapping[str, str]) -> None:
        raise _Told(command[3:-1])

    monkeypatch.setattr(workers, "_start", start)
    told = functools.cache(on_the_host)

    def differ(one: RunConfig, two: RunConfig) -> bool:
        if budget(one) != budget(two):
            return True
        if source in ("atari", "dm_control_pixels", "gymnasium"):
            return bool(told(one) != told(two))
        return difference(one, two) is not None

    silent = []
    try:
        for key in env_keys(source):
            silent += without_effect(key, differ)
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
    assert not silent


def test_every_kind_of_settings_is_among_these() -> None:
    kinds = {kind for source in SOURCES for kind in ENV_CONFIGS.get(source, EnvConfig).mro()}
    assert kinds >= {EnvConfig, *ENV_CONFIGS.values()}
    of_envs = {f"env.{name}" for kind in kinds if kind is not object for name in fields_of(kind)}
    assert of_envs <= set(schema_keys()), "the command would not know them"
    assert set(TASKS) == set(AGENT_CONFIGS)


@pytest.mark.parametrize("agent", AGENT_CONFIGS)
def test_what_tells_runs_of_a_pack_apart_reaches_their_rows(agent: str) -> None:
    """Seeds, learning rate, numbers of survivors: each is read by the program that all of them share."""
    loop: Any
    loop, (run,) = prepare_pack([run_config(nested(base(agent)))])
    program = jax.make_jaxpr(lambda inputs: loop.chunk(0, loop.init(inputs))[1])(run.inputs)
    leaves = jax.tree_util.tree_leaves_with_path(run.inputs)
    silent = []
    for i, (path, _) in enumerate(leaves):
        given = [j == i for j in range(len(leaves))]
        if not any(reached(program.jaxpr, given)):
            silent.append(jax.tree_util.keystr(path))
    assert not silent
    assert len(leaves) > 3


def test_a_program_without_a_number_is_told_from_one_with_it() -> None:
    """The measure itself: loops, branches and calls pass on what they are given, and nothing else."""

    def program(a: Any, b: Any, c: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            return (carry[0] + x * b, carry[1]), carry[1]

        (total, same), kept = jax.lax.scan(step, (0.0, c), jax.numpy.ones(3))
        chosen = jax.lax.cond(a > 0, lambda: total, lambda: 0.0)
        counted = jax.lax.while_loop(lambda x: x[0] < 3, lambda x: (x[0] + 1, x[1] + c), (0, 0.0))
        return chosen, same, kept, counted[0], counted[1], jax.jit(lambda x: x * 2)(b)

    made = jax.make_jaxpr(program)(1.0, 2.0, 3.0).jaxpr
    assert reached(made, [True, False, False]) == [True, False, False, False, False, False]
    assert reached(made, [False, True, False]) == [True, False, False, False, False, True]
    assert reached(made, [False, False, True]) == [False, True, True, False, True, False]
