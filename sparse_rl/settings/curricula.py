"""The settings of curricula: which levels an agent trains on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sparse_rl.settings.schema import ConfigError, at_least, build, limited, positive

Score = Literal["max_mc", "positive_value_loss", "l1_value_loss", "learnability", "regret"]
Prioritisation = Literal["rank", "proportional"]


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """What the settings of all curricula answer."""

    def actors(self, num_envs: int) -> int:
        """Levels that are played at once."""
        return num_envs

    def check(self, num_envs: int) -> None:
        """Raise :class:`ConfigError` if settings do not fit each other."""


@dataclass(frozen=True, kw_only=True)
class NoCurriculum(Curriculum):
    """Levels are the environment's own affair."""

    method: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class DrConfig(Curriculum):
    """Domain randomisation: new levels in every cycle."""

    method: Literal["dr"] = "dr"


@dataclass(frozen=True, kw_only=True)
class ReplayingConfig(Curriculum):
    """What curricula have in common that play levels again. Defaults are minimax's for robust PLR."""

    score: Score = "max_mc"
    buffer_size: int = at_least(2, default=4000)
    minimum_fill: float = limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.5)
    prioritisation: Prioritisation = "rank"
    temperature: float = positive(default=0.3)
    staleness: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.3)
    replacement: bool = True

    GROUPS: ClassVar[int] = 1

    @property
    def needed(self) -> int:
        """Levels from which on there are replays."""
        return max(1, round(self.minimum_fill * self.buffer_size))

    def actors(self, num_envs: int) -> int:
        """Levels that are played at once."""
        return self.GROUPS * num_envs

    def check(self, num_envs: int) -> None:
        """Raise :class:`ConfigError` if settings do not fit each other."""
        if not self.replacement and self.needed < num_envs:
            raise ConfigError(
                f"curriculum.replacement=false: {num_envs} different levels are to be replayed at once "
                f"(agent.num_envs), but replays begin with {self.needed} (curriculum.minimum_fill × "
                "curriculum.buffer_size); give more of these, or curriculum.replacement=true"
            )


@dataclass(frozen=True, kw_only=True)
class PlrConfig(ReplayingConfig):
    """Prioritised level replay: a cycle plays new levels or old ones. The robust one learns from old
    ones alone."""

    method: Literal["plr", "plr_robust"] = "plr_robust"
    replay_probability: float = limited("0 < value < 1", lambda v: 0 < v < 1, default=0.5)


@dataclass(frozen=True, kw_only=True)
class PlrParallelConfig(ReplayingConfig):
    """The robust one with new and old levels in every cycle."""

    method: Literal["plr_parallel"] = "plr_parallel"
    staleness: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.5)

    GROUPS: ClassVar[int] = 2


@dataclass(frozen=True, kw_only=True)
class AccelConfig(ReplayingConfig):
    """Robust PLR whose replays are followed by edits of what was replayed."""

    method: Literal["accel"] = "accel"
    replay_probability: float = limited("0 < value < 1", lambda v: 0 < v < 1, default=0.8)
    staleness: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.5)
    edits: int = at_least(1, default=20)


@dataclass(frozen=True, kw_only=True)
class AccelParallelConfig(ReplayingConfig):
    """The same with new levels, old ones and edits of these in every cycle."""

    method: Literal["accel_parallel"] = "accel_parallel"
    staleness: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.5)
    edits: int = at_least(1, default=20)

    GROUPS: ClassVar[int] = 3


@dataclass(frozen=True, kw_only=True)
class SflConfig(Curriculum):
    """Sampling for learnability: half of the levels are the most learnable of those that were scouted
    lately. The paper scouts 5,000 levels every 50 cycles, beside 256 that are learned from, and keeps
    1,000; here as many are scouted, some in every cycle."""

    method: Literal["sfl"] = "sfl"
    scouts: float = positive(default=100 / 256)
    period: int = at_least(1, default=50)
    kept: float = limited("0 < value < 1", lambda v: 0 < v < 1, default=0.2)
    replayed: float = limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.5)

    def scouted(self, num_envs: int) -> int:
        """Levels that are scouted in a cycle."""
        return max(1, round(self.scouts * num_envs))

    def actors(self, num_envs: int) -> int:
        """Levels that are played at once."""
        return num_envs + self.scouted(num_envs)

    def kept_levels(self, num_envs: int) -> int:
        """Levels from which replays are drawn."""
        return max(1, round(self.kept * self.period * self.scouted(num_envs)))

    def replays(self, num_envs: int) -> int:
        """Levels that are replayed in a cycle."""
        return round(self.replayed * num_envs)

    def check(self, num_envs: int) -> None:
        """Raise :class:`ConfigError` if settings do not fit each other."""
        if not 1 <= self.replays(num_envs) <= self.kept_levels(num_envs):
            raise ConfigError(
                f"curriculum.replayed={self.replayed:g} of {num_envs} levels (agent.num_envs) is "
                f"{self.replays(num_envs)}; it must be at least one, and at most the "
                f"{self.kept_levels(num_envs)} that curriculum.kept × curriculum.period × "
                "curriculum.scouts × agent.num_envs are"
            )


@dataclass(frozen=True, kw_only=True)
class PairedConfig(Curriculum):
    """A teacher designs levels in which a second student does better than the first."""

    method: Literal["paired"] = "paired"
    teacher_width: int = at_least(1, default=128)
    teacher_entropy: float = at_least(0, default=0.05)

    def actors(self, num_envs: int) -> int:
        """Levels that are played at once: each by both students."""
        return 2 * num_envs


CurriculumConfig = (
    NoCurriculum
    | DrConfig
    | PlrConfig
    | PlrParallelConfig
    | AccelConfig
    | AccelParallelConfig
    | SflConfig
    | PairedConfig
)
CURRICULUM_CONFIGS: dict[str, type[CurriculumConfig]] = {
    "none": NoCurriculum,
    "dr": DrConfig,
    "plr": PlrConfig,
    "plr_robust": PlrConfig,
    "plr_parallel": PlrParallelConfig,
    "accel": AccelConfig,
    "accel_parallel": AccelParallelConfig,
    "sfl": SflConfig,
    "paired": PairedConfig,
}
"""Method → its settings."""


def build_curriculum(data: Mapping[str, Any]) -> CurriculumConfig:
    """The settings of the curriculum that ``data`` names; none if it names none.

    Raises:
        ConfigError: as of :func:`~.schema.build`.
    """
    method = data.get("method", "none")
    if method not in CURRICULUM_CONFIGS:
        raise ConfigError(
            f"curriculum.method={method!r} is not allowed; give one of {', '.join(CURRICULUM_CONFIGS)}"
        )
    built: CurriculumConfig = build(CURRICULUM_CONFIGS[method], data, "curriculum")
    return built
