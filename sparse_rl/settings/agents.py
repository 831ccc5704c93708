"""The settings of an agent: which there are, and how they are found by name."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from sparse_rl.extensions import OwnCode, pinned
from sparse_rl.settings.common import ParametrisedConfig
from sparse_rl.settings.off_policy import (
    DdpgConfig,
    DrqConfig,
    IqlConfig,
    QmixConfig,
    SacConfig,
    VdnConfig,
)
from sparse_rl.settings.on_policy import (
    DqnConfig,
    IppoConfig,
    MappoConfig,
    PaacConfig,
    PpoConfig,
    PqnVdnConfig,
)
from sparse_rl.settings.schema import (
    ConfigError,
    at_least,
    build,
    fields_of,
    fits,
    limited,
    positive,
    whole,
)
from sparse_rl.settings.streaming import StreamAcConfig, StreamQConfig


@dataclass(frozen=True, kw_only=True)
class AzopgConfig:
    """Asynchronous zero-order policy gradient on a linear-quadratic regulator."""

    name: Literal["azopg"] = "azopg"
    network: Literal["linear"] = "linear"
    width: int = at_least(1, default=4)
    estimator: Literal["two_point", "one_point"] = "two_point"
    radius: float = positive(default=1e-3)
    learning_rate: float = positive(default=5e-4)
    learning_rate_over: Literal["one", "free_entries"] = "one"
    target: float = limited("0 < value < 1", lambda v: 0 < v < 1, default=0.01)
    workers: int = at_least(1, default=1)
    master: Literal["asynchronous", "synchronous"] = "asynchronous"
    durations: Literal["constant", "exponential", "lognormal"] = "exponential"
    clock: Literal["simulated", "real"] = "simulated"
    work: Literal["latency", "compute"] = "latency"
    estimate_seconds: float = positive(default=0.02)

    ROUND: ClassVar[str] = "rollouts per estimate"
    NETWORKS: ClassVar[tuple[str, ...]] = ("actor",)
    RECORDED: ClassVar[tuple[str, ...]] = (
        "workers", "master", "durations", "estimator", "learning_rate_over", "clock", "work",
    )  # fmt: skip
    MIN_SLOTS: ClassVar[int] = 64

    @property
    def num_envs(self) -> int:
        """Rollouts of an estimate."""
        return 2 if self.estimator == "two_point" else 1

    @property
    def alone(self) -> bool:
        """Whether a run wants the machine for itself: its workers are timed."""
        return self.clock == "real"

    @property
    def slots(self) -> int:
        """Workers that the compiled program has room for: so many programs for all their numbers."""
        return max(self.MIN_SLOTS, 1 << (self.workers - 1).bit_length())

    @property
    def interactions_per_round(self) -> int:
        return 1

    def program(self) -> Self:
        """What the compiled program depends on: of the workers, only how many it has room for."""
        if self.clock == "real":
            return dataclasses.replace(self, learning_rate=1.0)
        changes: dict[str, Any] = {"master": "asynchronous", "durations": "constant"}
        return dataclasses.replace(self, learning_rate=1.0, workers=self.slots, **changes)

    def check(self) -> None:
        """Raise :class:`ConfigError` if settings do not fit each other."""


AgentConfig = (
    SacConfig | DdpgConfig | DrqConfig | PpoConfig | PaacConfig | DqnConfig | AzopgConfig
    | IppoConfig | MappoConfig | PqnVdnConfig | IqlConfig | VdnConfig | QmixConfig
    | StreamAcConfig | StreamQConfig
)  # fmt: skip
AGENT_CONFIGS: dict[str, type[AgentConfig]] = {
    "sac": SacConfig, "ddpg": DdpgConfig, "drq": DrqConfig,
    "ppo": PpoConfig, "paac": PaacConfig, "dqn": DqnConfig, "azopg": AzopgConfig,
    "ippo": IppoConfig, "mappo": MappoConfig, "pqn_vdn": PqnVdnConfig,
    "iql": IqlConfig, "vdn": VdnConfig, "qmix": QmixConfig,
    "stream_ac": StreamAcConfig, "stream_q": StreamQConfig,
}  # fmt: skip


def build_agent(data: Mapping[str, Any]) -> AgentConfig:
    """The settings of the agent that ``data`` names; SAC's if it names none."""
    name = data.get("name", SacConfig.name)
    if name not in AGENT_CONFIGS:
        raise ConfigError(f"agent.name={name!r} is not allowed; give one of {', '.join(AGENT_CONFIGS)}")
    settings = AGENT_CONFIGS[name]
    if not issubclass(settings, ParametrisedConfig):
        for key in fields_of(ParametrisedConfig).keys() & data.keys():
            raise ConfigError(
                f"agent.{key} is for agents that learn with Adam or RMSProp, not for {name}; "
                "leave it out"
            )
    if name == PaacConfig.name and data.get("learning_rate") is None:
        per_env = data.get("learning_rate_per_env", PaacConfig.learning_rate_per_env)
        num_envs = whole(data.get("num_envs", PaacConfig.num_envs))
        if fits(per_env, float) and fits(num_envs, int):  # else it is about to be refused
            data = {**data, "learning_rate": per_env * num_envs}
    if isinstance(data.get("network"), OwnCode):
        data = {**data, "network": pinned(data["network"])}
    return build(settings, data, "agent")
