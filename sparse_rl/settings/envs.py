"""The settings of every environment, by source, with the budgets that go with it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sparse_rl.extensions import pinned
from sparse_rl.settings.schema import ConfigError, at_least, build, fits, later, share

Colour = Literal["grey", "rgb"]
Quality = Literal["fast", "full"]


@dataclass(frozen=True)
class EnvConfig:
    """An environment and the budgets that go with it, in env steps (frames)."""

    source: Literal[
        "atari", "classic", "dm_control", "dm_control_pixels", "gymnasium", "gymnax", "jaxmarl",
        "jumanji", "lqr", "maze", "own", "pixels", "playground", "probe",
    ]  # fmt: skip
    task: str
    action_repeat: int = at_least(1, default=1)
    env_steps: int = at_least(1, default=1_000_000)
    log_every: int = at_least(1, default=10_000)
    eval_every: int = at_least(1, default=10_000)
    eval_episodes: int = at_least(1, default=10)

    @property
    def name(self) -> str:
        return f"{self.source}/{self.task}"

    @property
    def options(self) -> dict[str, Any]:
        """What decides how the environment is built, beside source and task."""
        return {}


@dataclass(frozen=True)
class CompiledConfig(EnvConfig):
    """An environment that is compiled into the learner's program."""

    sticky_actions: float = later(share(default=0.0))

    @property
    def options(self) -> dict[str, Any]:
        return {"sticky_actions": self.sticky_actions} if self.sticky_actions else {}


@dataclass(frozen=True)
class ShownConfig(CompiledConfig):
    """One of which it can be chosen what is shown."""

    frames: int = later(at_least(1, default=1))
    hidden: Literal["nothing", "velocities"] = later(dataclasses.field(default="nothing"))

    @property
    def options(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"stacked": self.frames} if self.frames > 1 else {}
        hidden = {} if self.hidden == "nothing" else {"hidden": self.hidden}
        return super().options | shown | hidden


@dataclass(frozen=True)
class DelayedConfig(ShownConfig):
    """One of a source some of whose tasks ask for what was shown long ago; ``null``: the task's own."""

    delay: int | None = later(at_least(1, default=None))

    @property
    def options(self) -> dict[str, Any]:
        return super().options | ({} if self.delay is None else {"delay": self.delay})


@dataclass(frozen=True)
class AtariConfig(EnvConfig):
    """Atari. Of Machado et al. 2018 (arXiv 1709.06009) the defaults have the sticky actions and the
    length of episodes, but four frames an action, not five, and the game's own actions, not all 18."""

    action_repeat: int = at_least(1, default=4)
    sticky_actions: float = share(default=0.25)
    noop_starts: int = at_least(0, default=0)
    fire_starts: bool = False
    full_action_space: bool = later(dataclasses.field(default=False))

    @property
    def options(self) -> dict[str, Any]:
        return {"full_action_space": True} if self.full_action_space else {}


@dataclass(frozen=True)
class PicturesConfig(EnvConfig):
    """Tasks seen through a camera, wherever they run."""

    size: int = at_least(16, default=48)
    colour: Colour = "grey"
    frames: int = at_least(1, default=3)

    @property
    def options(self) -> dict[str, Any]:
        return super().options | {"size": self.size, "colour": self.colour, "frames": self.frames}


@dataclass(frozen=True)
class PixelsConfig(PicturesConfig, CompiledConfig):
    """Tasks seen through a camera, simulated and drawn in the learner's program."""


@dataclass(frozen=True)
class DmControlPixelsConfig(PicturesConfig):
    """The control suite through its own cameras. The defaults are those of DrQ-v2's public code, but for
    the quality."""

    size: int = at_least(16, default=84)
    colour: Colour = "rgb"
    camera: int = at_least(0, default=0)
    quality: Quality = "fast"

    @property
    def options(self) -> dict[str, Any]:
        return super().options | {"camera": self.camera, "quality": self.quality}


@dataclass(frozen=True)
class LqrConfig(CompiledConfig):
    """A chain of masses with a quadratic cost; ``null`` masses: as many as the run's width."""

    masses: int | None = at_least(1, default=None)

    @property
    def options(self) -> dict[str, Any]:
        return super().options | ({} if self.masses is None else {"masses": self.masses})


@dataclass(frozen=True)
class MazeConfig(CompiledConfig):
    """A maze whose side is the task. ``null`` walls: draws as dense as the published 60 at 13×13."""

    walls: int | None = at_least(0, default=None)
    actions: Literal[3, 7] = 7
    episode_length: int = at_least(1, default=250)

    @property
    def options(self) -> dict[str, Any]:
        walls = {} if self.walls is None else {"walls": self.walls}
        own = {"actions": self.actions, "episode_length": self.episode_length}
        return super().options | walls | own


@dataclass(frozen=True)
class TeamConfig(EnvConfig):
    """An environment of many agents. Of a reward that shapes, ``shaping`` parts are learned from, fewer
    and fewer until ``shaping_steps`` env steps; ``null``: as many all the time."""

    shaping: float = at_least(0, default=1.0)
    shaping_steps: int | None = at_least(1, default=None)


def of_width(env: LqrConfig, width: Any, agent: str) -> LqrConfig:
    """The chain of a run of this width; raises :class:`ConfigError` if azopg's gain has another size."""
    if agent == "azopg" and env.masses not in (None, width):
        raise ConfigError(
            f"env.masses={env.masses} and width={width}: agent=azopg takes the width for both"
        )
    return dataclasses.replace(env, masses=width if env.masses is None else env.masses)


ENV_CONFIGS: dict[str, type[EnvConfig]] = {
    "atari": AtariConfig,
    "classic": ShownConfig,
    "dm_control_pixels": DmControlPixelsConfig,
    "gymnax": DelayedConfig,
    "jaxmarl": TeamConfig,
    "jumanji": TeamConfig,
    "lqr": LqrConfig,
    "maze": MazeConfig,
    "own": CompiledConfig,
    "pixels": PixelsConfig,
    "playground": ShownConfig,
    "probe": DelayedConfig,
}
"""Source → its settings, where it has more than others."""


def build_env(data: Mapping[str, Any]) -> EnvConfig:
    """The settings of an environment of the source that ``data`` names."""
    source, task = data.get("source"), data.get("task")
    if source == "maze" and fits(task, int):  # env.task=11: the side of a grid
        data = {**data, "task": str(task)}
    if source == "own" and isinstance(task, str):
        data = {**data, "task": pinned(task)}
    schema = ENV_CONFIGS.get(source, EnvConfig) if isinstance(source, str) else EnvConfig
    built: EnvConfig = build(schema, data, "env")
    return built
