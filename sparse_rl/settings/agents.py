"""The settings of every agent, one frozen dataclass each; the defaults are published settings."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Literal, Self

from sparse_rl.settings.schema import (
    ConfigError,
    at_least,
    build,
    check_multiple,
    fits,
    later,
    limited,
    positive,
    share,
)

LEAST_NORMED = 3
"""Units under a LayerNorm that say more than a sign: it makes a constant of one number, and of two the
order of the two. Widths that follow from the critic's by a ratio are no smaller where they have one."""


def beside(width: int, ratio: float, normed: bool) -> int:
    """A width that follows from the critic's."""
    return max(LEAST_NORMED if normed else 1, round(ratio * width))


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """What agents have in common that learn from a replay buffer."""

    width: int = at_least(1)
    actor_width_ratio: float = positive()
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

    network: Literal["simba", "mlp"] = "simba"
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
class OnPolicyConfig:
    """What agents have in common that learn from the rollouts of parallel actors."""

    network: Literal["simba", "mlp", "minatar", "minigrid", "nips", "nature"] = "mlp"
    width: int = at_least(1, default=64)
    critic_blocks: int = at_least(1, default=2)
    num_envs: int = at_least(1)
    num_steps: int = at_least(1)
    discount: float = share(default=0.99)
    gae_lambda: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1)
    learning_rate: float = positive()
    learning_rate_schedule: Literal["constant", "linear"] = "linear"
    max_grad_norm: float = positive()
    normalise_observations: bool = False
    normalise_rewards: bool = False
    reward_clip: float | None = positive(default=None)
    memory: Literal["none", "gru", "lstm"] = later(field(default="none"))
    memory_width_ratio: float = later(positive(default=1.0))
    memory_span: int | None = later(at_least(2, default=None))
    sequence_length: int | None = later(at_least(1, default=None))

    ROUND: ClassVar[str] = "agent.num_envs × agent.num_steps × env.action_repeat"
    NETWORKS: ClassVar[tuple[str, ...]] = ("actor", "critic")
    RECORDED: ClassVar[tuple[str, ...]] = ()
    alone = False

    def program(self) -> Self:
        """What the compiled program depends on: no number that is an array in it."""
        return dataclasses.replace(self, learning_rate=1.0)

    @property
    def interactions_per_round(self) -> int:
        return self.num_steps

    def memory_width(self, width: int) -> int:
        """Units of the memory of a network of the given width."""
        return beside(width, self.memory_width_ratio, False)

    @property
    def pieces(self) -> int:
        """What a rollout is shuffled in: samples, or pieces of a column in a row."""
        if self.memory == "none":
            return self.num_envs * self.num_steps
        return self.num_envs * self.num_steps // (self.sequence_length or self.num_steps)

    def check_minibatches(self, minibatches: int) -> None:
        """Raise :class:`ConfigError` if a rollout cannot be cut into so many."""
        words = "agent.num_envs × agent.num_steps"
        if self.memory != "none":
            words = f"{words} / agent.sequence_length" if self.sequence_length else "agent.num_envs"
        check_multiple(words, self.pieces, "agent.minibatches", minibatches)

    def check(self) -> None:
        """Raise :class:`ConfigError` if settings do not fit each other."""
        if self.memory == "none":
            unused = {"memory_width_ratio": 1.0, "memory_span": None, "sequence_length": None}
            for key, nothing in unused.items():
                if getattr(self, key) != nothing:
                    raise ConfigError(
                        f"agent.{key}={getattr(self, key)} is of networks that remember; "
                        "give agent.memory=gru or lstm beside it"
                    )
        elif self.sequence_length is not None:
            of = ("agent.sequence_length", self.sequence_length)
            check_multiple("agent.num_steps", self.num_steps, *of)


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig(OnPolicyConfig):
    """What those of them have in common that have an actor."""

    actor_width_ratio: float = positive(default=1.0)
    actor_blocks: int = at_least(1, default=1)
    entropy_coefficient: float = at_least(0, default=0.01)
    value_coefficient: float = at_least(0, default=0.5)
    initialisation: Literal["orthogonal", "uniform"] = later(field(default="orthogonal"))

    def actor_width(self, width: int) -> int:
        """Hidden size of the actor beside a critic of the given width."""
        return beside(width, self.actor_width_ratio, self.network == "simba")


@dataclass(frozen=True, kw_only=True)
class ClippedConfig(ActorCriticConfig):
    """What those of them have in common that learn with PPO's clipped objective. The defaults suit
    classic control."""

    num_envs: int = at_least(1, default=8)
    num_steps: int = at_least(1, default=128)
    gae_lambda: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.95)
    learning_rate: float = positive(default=2.5e-4)
    max_grad_norm: float = positive(default=0.5)
    epochs: int = at_least(1, default=4)
    minibatches: int = at_least(1, default=4)
    clip_ratio: float = positive(default=0.2)
    value_clip: float | None = positive(default=None)
    normalise_advantages: bool = True
    target_kl: float | None = positive(default=None)

    def check(self) -> None:
        """Raise :class:`ConfigError` if settings do not fit each other."""
        super().check()
        self.check_minibatches(self.minibatches)
        if self.normalise_advantages and self.num_envs * self.num_steps == self.minibatches:
            raise ConfigError(
                f"agent.minibatches={self.minibatches}: a minibatch of one sample has the advantage 0 "
                "after normalisation and teaches the actor nothing; give fewer, or "
                "agent.normalise_advantages=false"
            )


@dataclass(frozen=True, kw_only=True)
class PpoConfig(ClippedConfig):
    """PPO."""

    name: Literal["ppo"] = "ppo"


@dataclass(frozen=True, kw_only=True)
class TeamAgentConfig:
    """What agents of teams have beside: they are told which of the team they are where ``identify``."""

    identify: bool = False

    CENTRAL: ClassVar[bool] = False
    """Whether the critic sees what the whole team sees."""
    RECORDED: ClassVar[tuple[str, ...]] = ("identify",)


@dataclass(frozen=True, kw_only=True)
class IppoConfig(TeamAgentConfig, ClippedConfig):
    """Independent PPO: each agent's critic sees what the agent sees."""

    name: Literal["ippo"] = "ippo"


@dataclass(frozen=True, kw_only=True)
class MappoConfig(TeamAgentConfig, ClippedConfig):
    """PPO with a central critic, which is not there when agents act."""

    name: Literal["mappo"] = "mappo"

    CENTRAL: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class PaacConfig(ActorCriticConfig):
    """PAAC, the parallel advantage actor-critic. The defaults are the settings of its paper, but for the
    initialisation and rewards, which are not clipped."""

    name: Literal["paac"] = "paac"
    num_envs: int = at_least(1, default=32)
    num_steps: int = at_least(1, default=5)
    gae_lambda: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=1.0)
    learning_rate_per_env: float = positive(default=0.0007)
    max_grad_norm: float = positive(default=40.0)
    rmsprop_decay: float = share(default=0.99)
    rmsprop_epsilon: float = positive(default=0.1)
    loss_scale: float = positive(default=1.0)


@dataclass(frozen=True, kw_only=True)
class ChoosingConfig(OnPolicyConfig):
    """What those of them have in common that choose by values, and now and then at random."""

    final_exploration: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.05)
    exploration_share: float = limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.5)

    NETWORKS: ClassVar[tuple[str, ...]] = ("critic",)


@dataclass(frozen=True, kw_only=True)
class DqnConfig(ChoosingConfig):
    """n-step deep Q-learning on parallel actors."""

    name: Literal["dqn"] = "dqn"
    num_envs: int = at_least(1, default=16)
    num_steps: int = at_least(1, default=5)
    gae_lambda: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=1.0)
    learning_rate: float = positive(default=3e-3)
    max_grad_norm: float = positive(default=10.0)
    target_rate: float = limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.05)


@dataclass(frozen=True, kw_only=True)
class PqnVdnConfig(TeamAgentConfig, ChoosingConfig):
    """Parallelised Q-learning of teams. The defaults are its public code's on MPE, but for the network
    and the number of actors."""

    name: Literal["pqn_vdn"] = "pqn_vdn"
    network: Literal["simba", "mlp", "minatar", "minigrid", "nips", "nature"] = "simba"
    critic_blocks: int = at_least(1, default=1)
    num_envs: int = at_least(1, default=64)
    num_steps: int = at_least(1, default=16)
    discount: float = share(default=0.9)
    gae_lambda: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.3)
    learning_rate: float = positive(default=5e-4)
    max_grad_norm: float = positive(default=1.0)
    epochs: int = at_least(1, default=4)
    minibatches: int = at_least(1, default=16)
    final_exploration: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.1)
    exploration_share: float = limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.1)

    def check(self) -> None:
        """Raise :class:`ConfigError` if settings do not fit each other."""
        super().check()
        self.check_minibatches(self.minibatches)


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
    | IppoConfig | MappoConfig | PqnVdnConfig
)  # fmt: skip
AGENT_CONFIGS: dict[str, type[AgentConfig]] = {
    "sac": SacConfig, "ddpg": DdpgConfig, "drq": DrqConfig,
    "ppo": PpoConfig, "paac": PaacConfig, "dqn": DqnConfig, "azopg": AzopgConfig,
    "ippo": IppoConfig, "mappo": MappoConfig, "pqn_vdn": PqnVdnConfig,
}  # fmt: skip


def build_agent(data: Mapping[str, Any]) -> AgentConfig:
    """The settings of the agent that ``data`` names; SAC's if it names none."""
    name = data.get("name", SacConfig.name)
    if name not in AGENT_CONFIGS:
        raise ConfigError(f"agent.name={name!r} is not allowed; give one of {', '.join(AGENT_CONFIGS)}")
    if name == PaacConfig.name and data.get("learning_rate") is None:
        per_env = data.get("learning_rate_per_env", PaacConfig.learning_rate_per_env)
        num_envs = data.get("num_envs", PaacConfig.num_envs)
        if fits(per_env, float) and fits(num_envs, int):  # else it is about to be refused
            data = {**data, "learning_rate": per_env * num_envs}
    return build(AGENT_CONFIGS[name], data, "agent")
