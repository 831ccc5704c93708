"""The settings of agents that learn from the rollouts of parallel actors, one frozen dataclass each; the
defaults are published settings."""

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

from sparse_rl.extensions import OwnCode
from sparse_rl.settings.common import (
    ExploringConfig,
    ParametrisedConfig,
    RememberingConfig,
    TeamAgentConfig,
)
from sparse_rl.settings.schema import (
    ConfigError,
    at_least,
    check_multiple,
    later,
    limited,
    positive,
    share,
)
from sparse_rl.settings.widths import beside

Network = Literal["simba", "mlp", "minatar", "minigrid", "nips", "nature"] | OwnCode
"""What they may read observations with."""


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig(RememberingConfig, ParametrisedConfig):
    """What agents have in common that learn from the rollouts of parallel actors."""

    network: Network = "mlp"
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
        self.check_memory("sequence_length")
        if self.sequence_length is not None:
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
class ChoosingConfig(ExploringConfig, OnPolicyConfig):
    """What those of them have in common that choose by values."""

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
    network: Network = "simba"
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
