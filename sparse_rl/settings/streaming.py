"""The settings of agents that learn from each transition once and keep none, one frozen dataclass each;
the defaults are published settings."""

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

from sparse_rl.settings.common import ExploringConfig
from sparse_rl.settings.schema import ConfigError, at_least, limited, positive, share
from sparse_rl.settings.widths import beside

PICTURES = "stream_minatar"
"""The network that reads pictures."""
OF_RULES = {"obgd": "kappa", "intentional": "share"}
"""Step rule → what its settings end with."""


@dataclass(frozen=True, kw_only=True)
class StreamingConfig:
    """What agents have in common that learn from a stream: batch 1, eligibility traces, one step rule
    for each network. The defaults are those of Elsayed et al. 2024 (arXiv 2410.14606), and for
    shares of Sharifnassab et al. 2026 (arXiv 2604.19033)."""

    network: Literal["stream_mlp", "stream_minatar"] = "stream_mlp"
    width: int = at_least(1, default=128)
    learning_rate: float = positive(default=1.0)
    discount: float = share(default=0.99)
    trace_decay: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.8)
    step_rule: Literal["obgd", "intentional"] = "obgd"
    value_kappa: float = positive(default=2.0)
    value_share: float = positive(default=0.5)
    initial_zeros: float = share(default=0.9)
    normalise_observations: bool = True
    normalise_rewards: bool = True
    time_feature: bool = field(default=True)

    ROUND: ClassVar[str] = "env.action_repeat"
    NETWORKS: ClassVar[tuple[str, ...]] = ("critic",)
    RECORDED: ClassVar[tuple[str, ...]] = ("step_rule", "value_kappa", "value_share", "trace_decay")
    COMPACT: ClassVar[str] = "traces and steps of one sample touch surviving weights only"
    """Why ``pruning.storage=auto`` is ``compact`` at every width."""

    alone = False
    num_envs = 1
    """A stream has one."""
    interactions_per_round = 1

    def program(self) -> Self:
        """What the compiled program depends on: no number that is an array in it."""
        return dataclasses.replace(self, learning_rate=1.0)

    def check(self) -> None:
        """Raise :class:`ConfigError` if settings do not fit each other."""
        if self.time_feature and self.network == PICTURES:
            raise ConfigError(
                "agent.time_feature=true puts a number beside what is seen, and "
                f"agent.network={PICTURES} reads nothing but pictures; give agent.time_feature=false"
            )


@dataclass(frozen=True, kw_only=True)
class StreamAcConfig(StreamingConfig):
    """Stream AC(λ)."""

    name: Literal["stream_ac"] = "stream_ac"
    actor_width_ratio: float = positive(default=1.0)
    policy_kappa: float = positive(default=3.0)
    policy_share: float = positive(default=0.05)
    entropy_coefficient: float = at_least(0, default=0.01)

    NETWORKS: ClassVar[tuple[str, ...]] = ("actor", "critic")
    RECORDED: ClassVar[tuple[str, ...]] = (*StreamingConfig.RECORDED, "policy_kappa", "policy_share")

    def actor_width(self, width: int) -> int:
        """Hidden size of the actor beside a critic of the given width."""
        return beside(width, self.actor_width_ratio, True)


@dataclass(frozen=True, kw_only=True)
class StreamQConfig(ExploringConfig, StreamingConfig):
    """Stream Q(λ). The defaults are those on MinAtar."""

    name: Literal["stream_q"] = "stream_q"
    network: Literal["stream_mlp", "stream_minatar"] = "stream_minatar"
    time_feature: bool = field(default=False)
    value_share: float = positive(default=0.25)
    final_exploration: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.01)
    exploration_share: float = limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.2)
