"""The settings of agents that learn from a replay buffer, one frozen dataclass each; the defaults are
published settings."""

import dataclasses
from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar, Literal, Self

from sparse_rl.extensions import OwnCode
from sparse_rl.settings.common import (
    ExploringConfig,
    ParametrisedConfig,
    RememberingConfig,
    TeamAgentConfig,
)
from sparse_rl.settings.schema import (
    at_least,
    check_multiple,
    limited,
    positive,
    share,
)
from sparse_rl.settings.widths import beside


@dataclass(frozen=True, kw_only=True)
class ReplayConfig(ParametrisedConfig):
    """What agents have in common that learn from a replay buffer."""

    width: int = at_least(1)
    learning_rate: float = positive(default=1e-4)
    batch_size: int = at_least(1, default=256)
    replay_size: int = at_least(1, default=1_000_000)
    num_envs: int = at_least(1, default=1)
    updates_per_interaction: float = positive()
    random_interactions: int = at_least(0)
    target_rate: float = limited("0 < value <= 1", lambda v: 0 < v <= 1)

    ROUND: ClassVar[str] = "agent.num_envs × env.action_repeat"
    """What makes a round of interacting and learning, in words: log points fall between rounds."""
    NETWORKS: ClassVar[tuple[str, ...]] = ("actor", "critic")
    """What is trained and pruned."""
    RECORDED: ClassVar[tuple[str, ...]] = ()
    """Settings that stand in a run's record, beside those of every agent."""

    MOST_INTERACTIONS: ClassVar[int] = 1000
    """Interactions at most of which updates are a whole number: the loop counts in int32."""

    NORMALISED: ClassVar[bool] = True
    """Whether networks see numbers normalised by their statistics so far."""

    alone = False
    """Whether a run wants the machine for itself."""

    @property
    def updates_ratio(self) -> Fraction:
        """Updates per interaction, as the loop makes them."""
        return Fraction(self.updates_per_interaction).limit_denominator(self.MOST_INTERACTIONS)

    @property
    def interactions_per_round(self) -> int:
        return 1

    def random_of(self, interactions: int) -> int:
        """Interactions of a run that are random and teach nothing: at most a tenth of a short one."""
        return min(self.random_interactions, interactions // 10)

    def check(self) -> None:
        """Raise :class:`ConfigError` if settings do not fit each other."""
        check_multiple("agent.replay_size", self.replay_size, "agent.num_envs", self.num_envs)

    def program(self) -> Self:
        """What the compiled program depends on: no number that is an array in it."""
        return dataclasses.replace(self, learning_rate=1.0)


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig(ReplayConfig):
    """What those of them have in common that read numbers. The defaults are SimBa's published settings
    on DM Control."""

    network: Literal["simba", "mlp"] | OwnCode = "simba"
    width: int = at_least(1, default=512)
    actor_width_ratio: float = positive(default=0.25)
    actor_blocks: int = at_least(1, default=1)
    critic_blocks: int = at_least(1, default=2)
    clipped_double_q: bool = False
    weight_decay: float = at_least(0, default=1e-2)
    updates_per_interaction: float = positive(default=2.0)
    random_interactions: int = at_least(0, default=5000)
    target_rate: float = limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.005)
    discount: float | None = share(default=None)
    reset_every: int | None = at_least(1, default=None)

    def actor_width(self, width: int) -> int:
        """Hidden size of the actor beside a critic of the given width."""
        return beside(width, self.actor_width_ratio, self.network == "simba")


@dataclass(frozen=True, kw_only=True)
class SacConfig(OffPolicyConfig):
    """SAC. The defaults are SimBa's published settings (SAC on DM Control)."""

    name: Literal["sac"] = "sac"
    initial_temperature: float = positive(default=0.01)
    target_entropy_per_action: float = -0.5


@dataclass(frozen=True, kw_only=True)
class DdpgConfig(OffPolicyConfig):
    """DDPG. The defaults are SimBa's published settings (DDPG on DM Control)."""

    name: Literal["ddpg"] = "ddpg"
    exploration_noise: float = at_least(0, default=0.1)


@dataclass(frozen=True, kw_only=True)
class DrqConfig(ReplayConfig):
    """DrQ-v2. The defaults are the published settings of easy tasks."""

    name: Literal["drq"] = "drq"
    network: Literal["drq", "drq_strided"] = "drq"
    width: int = at_least(1, default=1024)
    actor_width_ratio: float = positive(default=1.0)
    encoder_width_ratio: float = positive(default=1 / 32)
    feature_width_ratio: float = positive(default=50 / 1024)
    updates_per_interaction: float = positive(default=0.5)
    random_interactions: int = at_least(0, default=2000)
    target_rate: float = limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.01)
    discount: float = share(default=0.99)
    n_steps: int = at_least(1, default=3)
    shift: int = at_least(0, default=4)
    initial_noise: float = at_least(0, default=1.0)
    final_noise: float = at_least(0, default=0.1)
    noise_steps: int = at_least(1, default=200_000)
    noise_clip: float = positive(default=0.3)

    NETWORKS: ClassVar[tuple[str, ...]] = ("actor", "critic", "encoder")

    def actor_width(self, width: int) -> int:
        """Hidden size of the actor beside a critic of the given width."""
        return beside(width, self.actor_width_ratio, False)

    def encoder_width(self, width: int) -> int:
        """Channels of the convolutions beside a critic of the given width."""
        return beside(width, self.encoder_width_ratio, False)

    def feature_width(self, width: int) -> int:
        """Numbers to which actor and critic each reduce what the encoder sees."""
        return beside(width, self.feature_width_ratio, True)


@dataclass(frozen=True, kw_only=True)
class MixingConfig(TeamAgentConfig, ExploringConfig, RememberingConfig, ReplayConfig):
    """What agents of teams have in common that learn values from a replay buffer. The defaults are
    JaxMARL's on MPE, but for updates (five times as many) and the size of the buffer."""

    network: Literal["mlp", "simba"] | OwnCode = "mlp"
    width: int = at_least(1, default=64)
    critic_blocks: int = at_least(1, default=1)
    memory: Literal["none", "gru", "lstm"] = field(default="gru")
    sequence_length: int = at_least(1, default=25)
    discount: float = share(default=0.9)
    gae_lambda: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.0)
    learning_rate: float = positive(default=5e-3)
    learning_rate_schedule: Literal["constant", "linear"] = "linear"
    max_grad_norm: float = positive(default=25.0)
    batch_size: int = at_least(1, default=32)
    replay_size: int = at_least(1, default=50_000)
    num_envs: int = at_least(1, default=8)
    updates_per_interaction: float = positive(default=0.2)
    random_interactions: int = at_least(0, default=1250)
    target_rate: float = limited("0 < value <= 1", lambda v: 0 < v <= 1, default=1.0)
    target_every: int = at_least(1, default=200)
    final_exploration: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.05)
    exploration_share: float = limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.1)

    NETWORKS: ClassVar[tuple[str, ...]] = ("critic",)
    NORMALISED: ClassVar[bool] = False
    MIXED: ClassVar[Literal["apart", "summed", "mixer"]] = "apart"
    """How the values of a team's agents become one, if they do."""

    def check(self) -> None:
        """Raise :class:`ConfigError` if settings do not fit each other."""
        super().check()
        self.check_memory()


@dataclass(frozen=True, kw_only=True)
class IqlConfig(MixingConfig):
    """Independent Q-learning: each agent learns from its own reward."""

    name: Literal["iql"] = "iql"


@dataclass(frozen=True, kw_only=True)
class VdnConfig(MixingConfig):
    """Value decomposition: a team's value is the sum of its agents'."""

    name: Literal["vdn"] = "vdn"

    MIXED: ClassVar[Literal["apart", "summed", "mixer"]] = "summed"


@dataclass(frozen=True, kw_only=True)
class QmixConfig(MixingConfig):
    """QMIX: a team's value is made of its agents' by a network that sees the state of all."""

    name: Literal["qmix"] = "qmix"
    mixer_width_ratio: float = positive(default=0.5)
    mixer_hidden_ratio: float = positive(default=2.0)

    NETWORKS: ClassVar[tuple[str, ...]] = ("critic", "mixer")
    CENTRAL: ClassVar[bool] = True
    MIXED: ClassVar[Literal["apart", "summed", "mixer"]] = "mixer"

    def mixer_width(self, width: int) -> int:
        """Units of the layer that mixes, beside a critic of the given width."""
        return beside(width, self.mixer_width_ratio, False)

    def mixer_hidden(self, width: int) -> int:
        """Units of the layers that make its weights."""
        return beside(width, self.mixer_hidden_ratio, False)
