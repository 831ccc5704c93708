"""Settings that agents of several ways of learning share, whatever else they have."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from sparse_rl.settings.schema import ConfigError, at_least, later, limited, positive
from sparse_rl.settings.widths import beside


@dataclass(frozen=True, kw_only=True)
class ParametrisedConfig:
    """What agents have that learn with Adam or RMSProp: how initial variances and rates follow width
    and density (docs/parametrisation.md), and at which of these they are the standard ones."""

    parametrisation: Literal["standard", "mup", "smup"] = later(field(default="standard"))
    base_width: int | None = later(at_least(1, default=None))
    base_density: float = later(limited("0 < value <= 1", lambda v: 0 < v <= 1, default=1.0))

    def without_base(self) -> Self:
        """The standard parametrisation, which is the same at every base."""
        return dataclasses.replace(self, parametrisation="standard", base_width=None, base_density=1.0)

    def as_parametrised(self) -> Self:
        """The same, with what its parametrisation does not read as if nothing were said of it."""
        if self.parametrisation == "standard":
            return self.without_base()
        return dataclasses.replace(self, base_density=1.0) if self.parametrisation == "mup" else self


@dataclass(frozen=True, kw_only=True)
class RememberingConfig:
    """What agents have whose networks may remember."""

    memory: Literal["none", "gru", "lstm"] = later(field(default="none"))
    memory_width_ratio: float = later(positive(default=1.0))
    memory_span: int | None = later(at_least(2, default=None))

    def memory_width(self, width: int) -> int:
        """Units of the memory of a network of the given width."""
        return beside(width, self.memory_width_ratio, False)

    def check_memory(self, *beside: str) -> None:
        """Raise :class:`ConfigError` if something is said of a memory that is not there.

        Args:
            beside: further settings, ``None`` unless given, that are of networks that remember.
        """
        if self.memory != "none":
            return
        unused = {"memory_width_ratio": 1.0, "memory_span": None, **dict.fromkeys(beside)}
        for key, nothing in unused.items():
            if getattr(self, key) != nothing:
                raise ConfigError(
                    f"agent.{key}={getattr(self, key)} is of networks that remember; "
                    "give agent.memory=gru or lstm beside it"
                )


@dataclass(frozen=True, kw_only=True)
class ExploringConfig:
    """What agents have that choose by values, and now and then at random."""

    final_exploration: float = limited("0 <= value <= 1", lambda v: 0 <= v <= 1, default=0.05)
    exploration_share: float = limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.5)


@dataclass(frozen=True, kw_only=True)
class TeamAgentConfig:
    """What agents of teams have beside. Where ``identify`` they are told which of the team they are;
    where ``other_play`` each trains with its own names for what is the same but for its name.
    ``sharing`` says who uses the same networks: all, those of a kind, or nobody; or all use the same
    weights, each agent through a mask of its own."""

    identify: bool = False
    other_play: bool = later(field(default=False))
    sharing: Literal["all", "kind", "none", "masks"] = later(field(default="all"))

    CENTRAL: ClassVar[bool] = False
    """Whether something that learns sees what the whole team sees."""
    RECORDED: ClassVar[tuple[str, ...]] = ("identify", "sharing", "other_play")


def sharing_of(agent: Any) -> str:
    """Who uses the same networks: ``all``, where there is but one agent."""
    return agent.sharing if isinstance(agent, TeamAgentConfig) else "all"
