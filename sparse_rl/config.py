"""The one schema of ``conf/``: frozen dataclasses, checked before anything starts.

:func:`run_config` turns a composed configuration into a :class:`RunConfig`, or raises one
:class:`ConfigError` that names the key, what was wrong and what is allowed.
"""

import dataclasses
import difflib
import functools
import hashlib
import json
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sparse_rl.pruning import Distribution, Pattern, Storage, StorageChoice, choose_storage


class ConfigError(ValueError):
    """A setting is unknown, of the wrong type or out of range."""


def _limited(allowed: str, test: Any, **default: Any) -> Any:
    """A dataclass field with a range: ``allowed`` is its description for people."""
    return dataclasses.field(metadata={"allowed": allowed, "test": test}, **default)


def _at_least(low: float, **default: Any) -> Any:
    return _limited(f">= {low}", lambda v: v >= low, **default)


def _positive(**default: Any) -> Any:
    return _limited("> 0", lambda v: v > 0, **default)


def _share(**default: Any) -> Any:
    return _limited("0 <= value < 1", lambda v: 0 <= v < 1, **default)


def _check_multiple(key: str, value: int, of: str, unit: int) -> None:
    if value % unit:
        below, above = value // unit * unit, (value // unit + 1) * unit
        near = f"{below} or {above}" if below else f"{above}"
        raise ConfigError(f"{key}={value} must be a multiple of {of} (= {unit}); the nearest are {near}")


@dataclass(frozen=True)
class SacConfig:
    """SAC. The defaults are SimBa's published settings (SAC on DM Control)."""

    name: Literal["sac"] = "sac"
    network: Literal["simba", "mlp"] = "simba"
    width: int = _at_least(1, default=512)
    actor_width_ratio: float = _positive(default=0.25)
    actor_blocks: int = _at_least(1, default=1)
    critic_blocks: int = _at_least(1, default=2)
    clipped_double_q: bool = False
    learning_rate: float = _positive(default=1e-4)
    weight_decay: float = _at_least(0, default=1e-2)
    batch_size: int = _at_least(1, default=256)
    replay_size: int = _at_least(1, default=1_000_000)
    num_envs: int = _at_least(1, default=1)
    updates_per_interaction: float = _positive(default=2.0)
    random_interactions: int = _at_least(0, default=5000)
    target_rate: float = _limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.005)
    discount: float | None = _share(default=None)
    initial_temperature: float = _positive(default=0.01)
    target_entropy_per_action: float = -0.5

    ROUND: ClassVar[str] = "agent.num_envs × env.action_repeat"
    """What makes a round of interacting and learning, in words: log points fall between rounds."""
    NETWORKS: ClassVar[tuple[str, ...]] = ("actor", "critic")
    """What is trained and pruned."""

    @property
    def interactions_per_round(self) -> int:
        return 1

    def check(self) -> None:
        """Raise :class:`ConfigError` if settings do not fit each other."""
        _check_multiple("agent.replay_size", self.replay_size, "agent.num_envs", self.num_envs)

    def actor_width(self, width: int) -> int:
        """Hidden size of the actor beside a critic of the given width."""
        return max(1, round(self.actor_width_ratio * width))


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig:
    """What agents have in common that learn from the rollouts of parallel actors."""

    network: Literal["simba", "mlp", "minatar", "nips", "nature"] = "mlp"
    width: int = _at_least(1, default=64)
    critic_blocks: int = _at_least(1, default=2)
    num_envs: int = _at_least(1)
    num_steps: int = _at_least(1)
    discount: float = _share(default=0.99)
    gae_lambda: float = _limited("0 <= value <= 1", lambda v: 0 <= v <= 1)
    learning_rate: float = _positive()
    learning_rate_schedule: Literal["constant", "linear"] = "linear"
    max_grad_norm: float = _positive()
    normalise_observations: bool = False
    normalise_rewards: bool = False
    reward_clip: float | None = _positive(default=None)

    ROUND: ClassVar[str] = "agent.num_envs × agent.num_steps × env.action_repeat"
    NETWORKS: ClassVar[tuple[str, ...]] = ("actor", "critic")

    @property
    def interactions_per_round(self) -> int:
        return self.num_steps

    def check(self) -> None:
        """Raise :class:`ConfigError` if settings do not fit each other."""


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig(OnPolicyConfig):
    """What those of them have in common that have an actor."""

    actor_width_ratio: float = _positive(default=1.0)
    actor_blocks: int = _at_least(1, default=1)
    entropy_coefficient: float = _at_least(0, default=0.01)
    value_coefficient: float = _at_least(0, default=0.5)

    def actor_width(self, width: int) -> int:
        """Hidden size of the actor beside a critic of the given width."""
        return max(1, round(self.actor_width_ratio * width))


@dataclass(frozen=True, kw_only=True)
class PpoConfig(ActorCriticConfig):
    """PPO. The defaults suit classic control."""

    name: Literal["ppo"] = "ppo"
    num_envs: int = _at_least(1, default=8)
    num_steps: int = _at_least(1, default=128)
    gae_lambda: float = _limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.95)
    learning_rate: float = _positive(default=2.5e-4)
    max_grad_norm: float = _positive(default=0.5)
    epochs: int = _at_least(1, default=4)
    minibatches: int = _at_least(1, default=4)
    clip_ratio: float = _positive(default=0.2)
    value_clip: float | None = _positive(default=None)
    normalise_advantages: bool = True
    target_kl: float | None = _positive(default=None)

    def check(self) -> None:
        """Raise :class:`ConfigError` if settings do not fit each other."""
        samples, words = self.num_envs * self.num_steps, "agent.num_envs × agent.num_steps"
        _check_multiple(words, samples, "agent.minibatches", self.minibatches)


@dataclass(frozen=True, kw_only=True)
class PaacConfig(ActorCriticConfig):
    """PAAC, the parallel advantage actor-critic. The defaults are the published settings."""

    name: Literal["paac"] = "paac"
    num_envs: int = _at_least(1, default=32)
    num_steps: int = _at_least(1, default=5)
    gae_lambda: float = _limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=1.0)
    learning_rate_per_env: float = _positive(default=0.0007)
    max_grad_norm: float = _positive(default=40.0)
    reward_clip: float | None = _positive(default=1.0)
    rmsprop_decay: float = _share(default=0.99)
    rmsprop_epsilon: float = _positive(default=0.1)
    loss_scale: float = _positive(default=1.0)


@dataclass(frozen=True, kw_only=True)
class DqnConfig(OnPolicyConfig):
    """n-step deep Q-learning on parallel actors."""

    name: Literal["dqn"] = "dqn"
    num_envs: int = _at_least(1, default=16)
    num_steps: int = _at_least(1, default=5)
    gae_lambda: float = _limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=1.0)
    learning_rate: float = _positive(default=3e-3)
    max_grad_norm: float = _positive(default=10.0)
    reward_clip: float | None = _positive(default=1.0)
    target_rate: float = _limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.05)
    final_exploration: float = _limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.05)
    exploration_share: float = _limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.5)

    NETWORKS: ClassVar[tuple[str, ...]] = ("critic",)


AgentConfig = SacConfig | PpoConfig | PaacConfig | DqnConfig
AGENT_CONFIGS: dict[str, type[AgentConfig]] = {
    "sac": SacConfig, "ppo": PpoConfig, "paac": PaacConfig, "dqn": DqnConfig,
}  # fmt: skip


@dataclass(frozen=True)
class EnvConfig:
    """An environment and the budgets that go with it, in env steps (frames)."""

    source: Literal["atari", "gymnax", "playground", "probe"]
    task: str
    action_repeat: int = _at_least(1, default=1)
    env_steps: int = _at_least(1, default=1_000_000)
    log_every: int = _at_least(1, default=10_000)
    eval_every: int = _at_least(1, default=10_000)
    eval_episodes: int = _at_least(1, default=10)

    @property
    def name(self) -> str:
        return f"{self.source}/{self.task}"


@dataclass(frozen=True)
class AtariConfig(EnvConfig):
    """Atari. The defaults are those of Machado et al. 2018 (arXiv 1709.06009)."""

    action_repeat: int = _at_least(1, default=4)
    sticky_actions: float = _share(default=0.25)
    noop_starts: int = _at_least(0, default=0)
    fire_starts: bool = False


ENV_CONFIGS: dict[str, type[EnvConfig]] = {"atari": AtariConfig}
"""Source → its settings, where it has more than others."""


@dataclass(frozen=True)
class PruningConfig:
    """Which weights are removed; how many is ``sparsity``."""

    pattern: Pattern = "unstructured"
    distribution: Distribution = "erdos_renyi"
    storage: Literal["auto"] | Storage = "auto"
    min_fan_in: int = _at_least(0, default=1)
    block_fan_in: int = _at_least(1, default=1)
    actor_sparsity: float | None = _share(default=None)
    critic_sparsity: float | None = _share(default=None)


@dataclass(frozen=True)
class DiagnosticsConfig:
    """Thresholds and sample sizes of the health measurements."""

    dormant_threshold: float = _at_least(0, default=0.1)
    srank_threshold: float = _limited("0 < value < 1", lambda v: 0 < v < 1, default=0.01)
    max_samples: int = _at_least(2, default=2048)

    def samples(self, width: int) -> int:
        """Probe samples for a network of this width: twice the width, within [256, max_samples]."""
        return min(max(2 * width, 256), self.max_samples)


@dataclass(frozen=True)
class RunConfig:
    """One run: everything that decides its numbers, and nothing else."""

    agent: AgentConfig
    env: EnvConfig | AtariConfig
    pruning: PruningConfig
    diagnostics: DiagnosticsConfig
    width: int = _at_least(1)
    sparsity: float = _share()
    seed: int = _limited("0 <= value < 2**32", lambda v: 0 <= v < 2**32)
    mask_seed: int = _limited("0 <= value < 2**32", lambda v: 0 <= v < 2**32)
    env_steps: int = _at_least(1)
    log_every: int = _at_least(1)
    eval_every: int = _at_least(1)

    @property
    def frames_per_interaction(self) -> int:
        """Env steps that one interaction of all environments simulates."""
        return self.agent.num_envs * self.env.action_repeat

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
        every = {"actor": self.actor_sparsity, "critic": self.critic_sparsity}
        return {name: every[name] for name in self.agent.NETWORKS}

    @property
    def storage(self) -> StorageChoice:
        """How pruned tensors are held, and why."""
        return choose_storage(self.pruning.storage, self.pruning.pattern, self.width)

    @functools.cached_property
    def run_id(self) -> str:
        """Readable axes and a hash of the whole configuration: the same run has the same id."""
        text = json.dumps(self, default=vars, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        return f"w{self.width}_s{self.sparsity:g}_seed{self.seed}_{digest}"


Settings = TypeVar("Settings")


def agent_settings(config: RunConfig, kind: type[Settings]) -> Settings:
    """The settings of a run's agent, known to be of this kind."""
    if not isinstance(config.agent, kind):
        raise TypeError(f"{config.agent.name} has no {kind.__name__}")
    return config.agent


SWEEP_KEYS = (
    "name", "results_dir", "plan", "logging", "checkpoint_every", "max_runs_per_pack", "retry_failed",
)  # fmt: skip
"""Settings of the sweep: they do not change a run's numbers, so they are not part of its identity."""


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_describe(option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    return (
        "null"
        if hint is type(None)
        else {"int": "a whole number", "float": "a number"}.get(hint.__name__, hint.__name__)
    )


def unknown_key(key: str, known: list[str]) -> ConfigError:
    """The error for a key that nobody reads, with the nearest known ones first."""
    near = difflib.get_close_matches(key, known, n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return ConfigError(f"unknown key {key!r}.{hint} Allowed: {', '.join(sorted(set(known)))}")


@functools.cache
def _fields(cls: type) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
    """Name → type and field: looked up once, for grids of many thousand runs."""
    hints = get_type_hints(cls)
    return {field.name: (hints[field.name], field) for field in dataclasses.fields(cls)}


def _build(cls: type, data: Mapping[str, Any], where: str) -> Any:
    """Check ``data`` against the dataclass ``cls`` and build it."""
    fields = _fields(cls)
    prefix = f"{where}." if where else ""
    for key in data:
        if key not in fields:
            raise unknown_key(prefix + str(key), [prefix + name for name in fields])
    values = {}
    for name, (hint, field) in fields.items():
        if dataclasses.is_dataclass(hint):
            given = data.get(name) or {}
            schema: type = hint  # type: ignore[assignment]
            built = isinstance(given, schema)
            values[name] = given if built else _build(schema, given, prefix + name)
            continue
        if name not in data:
            if field.default is dataclasses.MISSING:
                raise ConfigError(f"{prefix}{name} is missing; give {_describe(hint)}")
            continue
        value = data[name]
        if not _fits(value, hint):
            raise ConfigError(f"{prefix}{name}={value!r} is not allowed; give {_describe(hint)}")
        test = field.metadata.get("test")
        if test and value is not None and not test(value):
            allowed = field.metadata["allowed"]
            raise ConfigError(f"{prefix}{name}={value!r} is out of range; allowed: {allowed}")
        # 1 and 1.0 are the same setting: they must give the same run id.
        values[name] = float(value) if isinstance(value, int) and hint is float else value
    return cls(**values)


def schema_keys(cls: type = RunConfig, where: str = "") -> list[str]:
    """Every dotted key of the schema."""
    keys = []
    for name, (hint, _) in _fields(cls).items():
        keys.append(where + name)
        for schema in get_args(hint) or (hint,):
            if dataclasses.is_dataclass(schema):
                keys += schema_keys(schema, f"{where}{name}.")  # type: ignore[arg-type]
    return keys


def _check_multiples(config: RunConfig) -> None:
    """Log points must fall between rounds, and the run must end on one."""
    _check_multiple("log_every", config.log_every, config.agent.ROUND, config.frames_per_round)
    _check_multiple("eval_every", config.eval_every, "log_every", config.log_every)
    _check_multiple("env_steps", config.env_steps, "log_every", config.log_every)
    config.agent.check()


def _build_agent(data: Mapping[str, Any]) -> AgentConfig:
    """The settings of the agent that ``data`` names; SAC's if it names none."""
    name = data.get("name", SacConfig.name)
    if name not in AGENT_CONFIGS:
        raise ConfigError(f"agent.name={name!r} is not allowed; give one of {', '.join(AGENT_CONFIGS)}")
    if name == PaacConfig.name and data.get("learning_rate") is None:
        per_env = data.get("learning_rate_per_env", PaacConfig.learning_rate_per_env)
        num_envs = data.get("num_envs", PaacConfig.num_envs)
        if _fits(per_env, float) and _fits(num_envs, int):  # else it is about to be refused
            data = {**data, "learning_rate": per_env * num_envs}
    return _build(AGENT_CONFIGS[name], data, "agent")


def _build_env(data: Mapping[str, Any]) -> EnvConfig:
    """The settings of an environment of the source that ``data`` names."""
    source = data.get("source")
    schema = ENV_CONFIGS.get(source, EnvConfig) if isinstance(source, str) else EnvConfig
    built: EnvConfig = _build(schema, data, "env")
    return built


def _default_eval_every(data: dict[str, Any], wanted: int) -> None:
    """The nearest multiple of ``log_every`` below the preset."""
    log_every = data["log_every"]
    if isinstance(log_every, int) and log_every > 0:
        data.setdefault("eval_every", max(wanted // log_every, 1) * log_every)
    else:
        data.setdefault("eval_every", wanted)  # log_every itself is about to be refused


def run_config(composed: Mapping[str, Any]) -> RunConfig:
    """Fill in what follows from other settings, check everything, and build the run's configuration.

    Args:
        composed: the composed configuration as plain containers. Missing or null ``width``,
            ``sparsity``, ``seed``, ``mask_seed``, ``log_every`` and ``eval_every`` take the agent's
            preset, 0, 0, the seed, and the environment's presets (no longer than the run).

    Raises:
        ConfigError: one message for the first thing that is wrong.
    """
    data = {key: value for key, value in composed.items() if key not in SWEEP_KEYS}
    for key in ("width", "sparsity", "seed", "mask_seed", "env_steps", "log_every", "eval_every"):
        if data.get(key) in (None, "???"):
            data.pop(key, None)
    agent = _build_agent(data.get("agent") or {})
    env = _build_env(data.get("env") or {})
    data |= {"agent": agent, "env": env}
    data.setdefault("width", agent.width)
    data.setdefault("sparsity", 0.0)
    data.setdefault("seed", 0)
    data.setdefault("mask_seed", data["seed"])
    data.setdefault("env_steps", env.env_steps)
    if isinstance(data["env_steps"], int):
        data.setdefault("log_every", min(env.log_every, data["env_steps"]))
        _default_eval_every(data, min(env.eval_every, data["env_steps"]))
    config: RunConfig = _build(RunConfig, data, "")
    _check_multiples(config)
    try:
        config.storage  # noqa: B018
    except ValueError as error:
        raise ConfigError(f"pruning.{error}") from None
    return config
