"""The one schema of ``conf/``: frozen dataclasses, checked before anything starts.

The settings of agents and environments have files of their own; what they share is in
:mod:`sparse_rl.settings.schema`.

:func:`run_config` turns a composed configuration into a :class:`RunConfig`, or raises one
:class:`ConfigError` that names the key, what was wrong and what is allowed.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from sparse_rl.kernels.products import Products
from sparse_rl.networks import ROUNDING
from sparse_rl.pruning import StorageChoice, choose_storage
from sparse_rl.settings.agents import AgentConfig, build_agent
from sparse_rl.settings.checks import (
    check_curriculum,
    check_method,
    check_own,
    check_parametrisation,
    check_sharing,
    check_sparsities,
    check_updates,
    check_width,
)
from sparse_rl.settings.common import ParametrisedConfig, sharing_of
from sparse_rl.settings.curricula import CurriculumConfig, NoCurriculum, build_curriculum
from sparse_rl.settings.envs import (
    AtariConfig,
    DelayedConfig,
    DmControlPixelsConfig,
    EnvConfig,
    LqrConfig,
    MazeConfig,
    PixelsConfig,
    TeamConfig,
    build_env,
    of_width,
)
from sparse_rl.settings.pruning import PruningConfig
from sparse_rl.settings.schema import (
    ConfigError,
    at_least,
    build,
    decisive,
    fields_of,
    fits,
    later,
    limited,
    share,
    whole,
)
from sparse_rl.settings.streaming import StreamingConfig


@dataclass(frozen=True)
class DiagnosticsConfig:
    """Thresholds and sample sizes of the health measurements."""

    dormant_threshold: float = at_least(0, default=0.1)
    srank_threshold: float = limited("0 < value < 1", lambda v: 0 < v < 1, default=0.01)
    max_samples: int = at_least(2, default=2048)
    preactivations: bool = later(dataclasses.field(default=False))

    def samples(self, width: int) -> int:
        """Probe samples for a network of this width: twice the width, within [256, max_samples]."""
        return min(max(2 * width, 256), self.max_samples)


@dataclass(frozen=True)
class RunConfig:
    """One run: everything that decides its numbers, and nothing else."""

    agent: AgentConfig
    env: (
        EnvConfig
        | DelayedConfig
        | AtariConfig
        | LqrConfig
        | MazeConfig
        | PixelsConfig
        | DmControlPixelsConfig
        | TeamConfig
    )
    pruning: PruningConfig
    diagnostics: DiagnosticsConfig
    width: int = at_least(1)
    sparsity: float = share()
    seed: int = limited("0 <= value < 2**32", lambda v: 0 <= v < 2**32)
    mask_seed: int = limited("0 <= value < 2**32", lambda v: 0 <= v < 2**32)
    env_steps: int = at_least(1)
    log_every: int = at_least(1)
    eval_every: int = at_least(1)
    products: Products = "float32"
    curriculum: CurriculumConfig = later(dataclasses.field(default=NoCurriculum()))  # noqa: RUF009

    @property
    def actors(self) -> int:
        """Environments that act at once, those whose levels are only scored included."""
        return self.curriculum.actors(self.agent.num_envs)

    @property
    def frames_per_interaction(self) -> int:
        """Env steps that one interaction of all environments simulates."""
        return self.actors * self.env.action_repeat

    @property
    def frames_per_round(self) -> int:
        """Env steps of a round of interacting and learning."""
        return self.frames_per_interaction * self.agent.interactions_per_round

    @property
    def interactions(self) -> int:
        """Interactions in the whole run."""
        return self.env_steps // self.frames_per_interaction

    @property
    def actor_sparsity(self) -> float:
        return self.sparsity if self.pruning.actor_sparsity is None else self.pruning.actor_sparsity

    @property
    def critic_sparsity(self) -> float:
        return self.sparsity if self.pruning.critic_sparsity is None else self.pruning.critic_sparsity

    @property
    def sparsities(self) -> dict[str, float]:
        """Network → share of its prunable weights to remove."""
        mixer = self.pruning.mixer_sparsity
        every = {
            "actor": self.actor_sparsity,
            "critic": self.critic_sparsity,
            "encoder": self.pruning.encoder_sparsity,
            "mixer": self.sparsity if mixer is None else mixer,
        }
        return {name: every[name] for name in self.agent.NETWORKS}

    @property
    def storage(self) -> StorageChoice:
        """How pruned tensors are held, and why."""
        if self.pruning.method != "static" and self.pruning.storage == "auto":
            return StorageChoice("masked", "masks that change are held whole")
        if sharing_of(self.agent) == "masks" and self.pruning.storage == "auto":
            choose_storage("masked", self.pruning.pattern, self.width)  # refused if there is no such
            return StorageChoice("masked", "each agent has a mask of its own for the same weights")
        if isinstance(self.agent, StreamingConfig) and self.pruning.storage == "auto":
            choose_storage("compact", self.pruning.pattern, self.width)  # refused with blocks
            return StorageChoice("compact", self.agent.COMPACT)
        return choose_storage(self.pruning.storage, self.pruning.pattern, self.width)

    @property
    def multiplies_stored(self) -> bool:
        """Whether products read what is stored of a kernel and no dense array made of it."""
        streams = isinstance(self.agent, StreamingConfig) and self.agent.network == "stream_mlp"
        storage = self.storage.storage
        return storage == "block" or (storage == "compact" and streams)

    @functools.cached_property
    def run_id(self) -> str:
        """Readable axes and a hash of all settings that decide numbers: the same run has the same id."""
        read = dataclasses.replace(self, pruning=self.pruning.as_read())
        text = json.dumps(read, default=decisive, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        return f"w{self.width}_s{self.sparsity:g}_seed{self.seed}_{digest}"


def named(config: RunConfig, run_id: str) -> RunConfig:
    """The same run under the id that an earlier version gave it: its folder keeps its name."""
    same = dataclasses.replace(config)
    vars(same)["run_id"] = run_id
    return same


Settings = TypeVar("Settings")


def agent_settings(config: RunConfig, kind: type[Settings]) -> Settings:
    """The settings of a run's agent, known to be of this kind."""
    if not isinstance(config.agent, kind):
        raise TypeError(f"{config.agent.name} has no {kind.__name__}")
    return config.agent


SWEEP_KEYS = (
    "name", "results_dir", "plan", "logging", "checkpoint_every", "max_runs_per_pack", "retry_failed",
    "keep_state", "keep_best", "plan_tflops", "devices_per_pack", "question",
)  # fmt: skip
"""Settings of the sweep: they do not change a run's numbers, so they are not part of its identity."""


def schema_keys(cls: type = RunConfig, where: str = "") -> list[str]:
    """Every dotted key of the schema."""
    keys = []
    for name, (hint, _) in fields_of(cls).items():
        keys.append(where + name)
        for schema in get_args(hint) or (hint,):
            if dataclasses.is_dataclass(schema):
                keys += schema_keys(schema, f"{where}{name}.")  # type: ignore[arg-type]
    return keys


BUDGET = ("env_steps", "log_every", "eval_every")


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


MOST_BEYOND = 1.05
"""A run may become so many times as long as it was asked for, to end at a log point that is a preset."""


def _log_every(config: RunConfig, given: bool) -> int:
    """Env steps between log points: whole rounds, as many as asked for or one more.

    A preset gives way where the run would become longer than :data:`MOST_BEYOND` allows: there are as
    many log points, closer together, and the last is at the first round that is enough. Whoever asks for
    the run that comes of it gets the same one.
    """
    log_every = _up(config.log_every, config.frames_per_round)
    points = -(-config.env_steps // log_every)
    closer = _up(-(-config.env_steps // points), config.frames_per_round)
    return log_every if given or log_every <= MOST_BEYOND * closer else closer


def _in_whole_rounds(config: RunConfig, given: Collection[str]) -> RunConfig:
    """The run with log points between rounds, evaluations at log points, and its end at one: what does
    not fit is rounded up. An evaluation's preset takes the log point before it, at least the first.

    Args:
        config: as it was asked for.
        given: keys that are no presets.
    """
    log_every = _log_every(config, "log_every" in given)
    up = -(-config.eval_every // log_every)
    evals = up if "eval_every" in given else max(config.eval_every // log_every, 1)
    env_steps = _up(config.env_steps, log_every)
    return dataclasses.replace(
        config, env_steps=env_steps, log_every=log_every, eval_every=evals * log_every
    )


def _asked(data: Mapping[str, Any], env: EnvConfig) -> dict[str, Any]:
    """The budget as it was asked for: what is not given is the environment's, no longer than the run."""
    env_steps = data.get("env_steps", env.env_steps)
    longest = env_steps if fits(env_steps, int) else env.env_steps  # or about to be refused
    return {
        "env_steps": env_steps,
        "log_every": data.get("log_every", min(env.log_every, longest)),
        "eval_every": data.get("eval_every", min(env.eval_every, longest)),
    }


def rounding(composed: Mapping[str, Any], config: RunConfig) -> str | None:
    """In words, what of a run's budget is not as it was asked for; ``None`` if all is.

    Args:
        composed: what :func:`run_config` made ``config`` from.
        config: the run.
    """
    asked = _asked(_given(composed), config.env)
    changed = [
        f"{k}={asked[k]} is {getattr(config, k)}" for k in BUDGET if asked[k] != getattr(config, k)
    ]
    if not changed:
        return None
    round_ = config.agent.ROUND
    if config.actors != config.agent.num_envs:
        beside = f"agent.num_envs and those of curriculum.method={config.curriculum.method} beside"
        round_ = round_.replace("agent.num_envs", f"{config.actors} actors ({beside})")
    return (
        f"{config.agent.name} on {config.env.name}, in whole rounds of {round_} "
        f"(= {config.frames_per_round}): {', '.join(changed)}"
    )


def _check_products(config: RunConfig) -> None:
    """Only dense layers round what they multiply."""
    network = config.agent.network
    if config.products != "float32" and network not in ROUNDING:
        raise ConfigError(
            f"products={config.products} is for agent.network={' and '.join(ROUNDING)}; "
            f"{network} multiplies in float32"
        )


def _given(composed: Mapping[str, Any]) -> dict[str, Any]:
    """The run's own settings, without those of which nothing was said."""
    data = {key: value for key, value in composed.items() if key not in SWEEP_KEYS}
    for key in ("width", "sparsity", "seed", "mask_seed", *BUDGET):
        if data.get(key) in (None, "???"):
            data.pop(key, None)
    return data | {key: whole(data[key]) for key in BUDGET if key in data}


def _as_scaled(config: RunConfig) -> RunConfig:
    """The same run, with nothing said of scales that it does not read: so it has one id."""
    agent, pruning = config.agent, config.pruning
    if isinstance(agent, ParametrisedConfig):
        agent = agent.as_parametrised()
    if not any(config.sparsities.values()):
        pruning = dataclasses.replace(pruning, initial_scale="dense")
    return dataclasses.replace(config, agent=agent, pruning=pruning)


def run_config(composed: Mapping[str, Any]) -> RunConfig:
    """Fill in what follows from other settings, check everything, and build the run's configuration.

    Args:
        composed: the composed configuration as plain containers. Missing or null ``width``,
            ``sparsity``, ``seed``, ``mask_seed``, ``log_every`` and ``eval_every`` take the agent's
            preset, 0, 0, the seed, and the environment's presets (no longer than the run). Budgets that
            are not whole rounds are rounded up; :func:`rounding` says so.

    Raises:
        ConfigError: one message for the first thing that is wrong.
    """
    data = _given(composed)
    agent = build_agent(data.get("agent") or {})
    env = build_env(data.get("env") or {})
    data |= {"agent": agent, "env": env, "curriculum": build_curriculum(data.get("curriculum") or {})}
    data.setdefault("width", agent.width)
    data.setdefault("sparsity", 0.0)
    data.setdefault("seed", 0)
    data.setdefault("mask_seed", data["seed"])
    given = set(data)
    data |= _asked(data, env)
    if isinstance(env, LqrConfig):
        data["env"] = of_width(env, data["width"], agent.name)
    config = _as_scaled(_in_whole_rounds(build(RunConfig, data, ""), given))
    config.agent.check()
    check_curriculum(config.curriculum, config.agent)
    try:
        config.storage  # noqa: B018
    except ValueError as error:
        raise ConfigError(f"pruning.{error}") from None
    check_method(config.pruning, config.agent, config.storage.storage)
    check_sharing(config.agent, config.storage.storage, config.sparsities)
    check_sparsities(config.pruning, config.agent, config.sparsity, config.sparsities)
    check_parametrisation(config.pruning, config.agent, config.sparsities)
    check_width(config.agent, config.width)
    check_own(config.agent, config.storage.storage)
    check_updates(config.agent, config.interactions, config.env_steps)
    _check_products(config)
    return config
