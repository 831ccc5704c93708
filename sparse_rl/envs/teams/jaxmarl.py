"""JaxMARL's environments (Rutherford et al. 2023, arXiv 2311.10090), through the library.

Time limits are taken out of them, so that a time limit and a termination are two things; where a limit
is part of what is seen (Overcooked's last 40 steps), it stays and terminates nothing.
"""

import contextlib
import io
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.envs.contract import Symmetries, TeamEnv, TeamStep
from sparse_rl.envs.teams import symmetric
from sparse_rl.envs.teams.shapes import (
    NEVER,
    all_see,
    allowed_of,
    find,
    for_all,
    kinds_of,
    needing,
    settled,
    sizes_of,
    together,
)
from sparse_rl.kernels.keys import key_of


@dataclass(frozen=True, kw_only=True)
class Task:
    """One of the library's, and what it does not say of itself in one way."""

    library: str
    options: Mapping[str, Any] = field(default_factory=dict)
    length: int
    """Frames before time runs out."""
    shared: bool = True
    """Whether all agents have one reward."""
    endless: bool = False
    """Whether what it calls an end is time that ran out, and nothing else."""
    legal: str = ""
    """Name of the function that tells which actions are allowed."""
    turns: bool = False
    """Whether agents wait while others act."""
    outcome: str = ""
    """What winning is: ``battle`` or ``reward``; nothing where there is nothing to win."""
    shapes: bool = False
    agents: str = "agents"
    """Name of the list of those who learn."""
    symmetries: Callable[[], Symmetries] | None = None


def _mpe(name: str, version: int = 3, **more: Any) -> Task:
    options = {"max_steps": NEVER}
    return Task(library=f"MPE_simple_{name}_v{version}", options=options, length=25, **more)


SMAX = (
    "3m", "2s3z", "25m", "3s5z", "8m", "5m_vs_6m", "10m_vs_11m", "27m_vs_30m", "3s5z_vs_3s6z",
    "3s_vs_5z", "6h_vs_8z", "smacv2_5_units", "smacv2_10_units", "smacv2_20_units",
)  # fmt: skip
KITCHENS = ("cramped_room", "asymm_advantages", "coord_ring", "forced_coord", "counter_circuit")
KITCHENS_V2 = (
    *KITCHENS, "grounded_coord_simple", "grounded_coord_ring", "test_time_simple", "test_time_wide",
    "demo_cook_simple", "demo_cook_wide",
)  # fmt: skip
SMALL_HANABI = {"num_colors": 2, "hand_size": 3}


def _longest(colours: int = 5, hand: int = 5, players: int = 2, tokens: int = 8) -> int:
    """Turns of Hanabi, at most: each card that is played or discarded is drawn again until one turn each
    is left, and gives back one hint at the most. Ten cards of each colour."""
    cards = 10 * colours - hand * players + players
    return tokens + 2 * cards


TASKS: dict[str, Task] = {
    "spread": _mpe("spread", shared=False, symmetries=symmetric.spread),
    "tag": _mpe("tag", shared=False),
    "speaker_listener": _mpe("speaker_listener", 4),
    "reference": _mpe("reference", shared=False),
    "facmac": _mpe("facmac", 1, agents="adversaries"),
    **{
        f"smax_{name}": Task(
            library="HeuristicEnemySMAX", options={"scenario": name, "max_steps": NEVER}, length=100,
            legal="get_avail_actions", turns=True, outcome="battle",
        )
        for name in SMAX
    },
    **{
        f"overcooked_{name}": Task(
            library="overcooked", options={"layout": name}, length=400, endless=True, shapes=True,
        )
        for name in KITCHENS
    },
    **{
        f"overcooked_v2_{name}": Task(
            library="overcooked_v2",
            options={"layout": name, "agent_view_size": None if name in KITCHENS else 2},
            length=400, endless=True, shapes=True,
        )
        for name in KITCHENS_V2
    },
    "hanabi": Task(
        library="hanabi", length=_longest(), legal="get_legal_moves", turns=True,
        symmetries=symmetric.hanabi,
    ),
    "hanabi_small": Task(
        library="hanabi", options=SMALL_HANABI, length=_longest(2, hand=3),
        legal="get_legal_moves", turns=True, symmetries=lambda: symmetric.hanabi(2, hand=3),
    ),
    "switch_riddle": Task(library="switch_riddle", length=6, outcome="reward"),
}  # fmt: skip
"""By the names that they have here."""


def _library() -> Any:
    """The library, imported without what it prints.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to get it.
    """
    said = io.StringIO()
    with (
        needing("jaxmarl"),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        mock.patch.multiple(sys, __stdout__=said, __stderr__=said),  # it goes back to these
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        import jaxmarl
    return jaxmarl


def _options(task: Task) -> dict[str, Any]:
    """Those of the library, its layouts and scenarios looked up."""
    options = dict(task.options)
    if task.library == "overcooked":
        from jaxmarl.environments.overcooked import overcooked_layouts

        options["layout"] = overcooked_layouts[options["layout"]]
    if task.library == "HeuristicEnemySMAX":
        from jaxmarl.environments.smax import map_name_to_scenario

        options["scenario"] = map_name_to_scenario(options["scenario"])
    return options


def _source(task: Task) -> Any:
    library = _library()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Overcooked advertises its successor
        return library.make(task.library, **_options(task))


def _choices(source: Any, names: list[str]) -> list[int] | None:
    """How many actions each agent chooses from; ``None`` where they are numbers."""
    spaces = [source.action_space(name) for name in names]
    return [int(space.n) for space in spaces] if hasattr(spaces[0], "n") else None


def _legal(
    source: Any, task: Task, names: list[str], choices: list[int]
) -> Callable[[Any], Array] | None:
    """``state → bool [A, a]``; ``None``: always all."""
    allowed = allowed_of(choices)
    if task.legal:
        told = getattr(source, task.legal)

        def legal(state: Any) -> Array:
            now = told(state)
            each = [jnp.asarray(now[name], bool).reshape(-1) for name in names]
            return jnp.stack([jnp.pad(x, (0, max(choices) - len(x))) for x in each])

        return legal
    return None if allowed.all() else lambda state: jnp.asarray(allowed)


def _outcome(task: Task, state: Any, reward: Array, agents: int) -> Array:
    """float32 scalar: 1 where the team has won."""
    if task.outcome == "battle":
        alive = state.state.unit_alive
        return (jnp.any(alive[:agents]) & ~jnp.any(alive[agents:])).astype(jnp.float32)
    if task.outcome == "reward":
        return (reward[0] > 0).astype(jnp.float32)
    return jnp.float32(0.0)


def _dynamics(
    source: Any, task: Task, names: list[str], discrete: bool, size: int
) -> tuple[Callable[[Array], Any], Callable[[Array, Any, Array], Any]]:
    """``reset`` and ``step`` of the environment, whose agents see ``size`` numbers."""
    shape = source.action_space(names[0]).shape
    idle = {other: jnp.zeros(shape) for other in source.agents if other not in names}

    def raw(key: Array, state: Any, action: Array) -> Any:
        own = action if discrete else (action + 1.0) / 2.0  # boxes are [0, 1]
        acts = {each: own[i] for i, each in enumerate(names)}
        return source.step_env(key, state, acts | idle)

    nothing = jnp.zeros(len(names), jnp.int32) if discrete else jnp.zeros((len(names), *shape))
    like = jax.eval_shape(lambda key: raw(key, source.reset(key)[1], nothing)[1], key_of(0))

    def reset(key: Array) -> tuple[Any, Array]:
        seen, state = source.reset(key)
        return settled(state, like), together(seen, names, size)

    def step(key: Array, state: Any, action: Array) -> tuple[Any, TeamStep]:
        seen, state, rewards, ended, told = raw(key, state, action)
        reward = jnp.stack([jnp.asarray(rewards[each], jnp.float32).reshape(()) for each in names])
        shaping = jnp.zeros(len(names))
        if task.shapes:
            shaping = jnp.stack([jnp.float32(told["shaped_reward"][each]) for each in names])
        over = jnp.bool_(False) if task.endless else jnp.asarray(ended["__all__"], bool).reshape(())
        outcome = _outcome(task, state, reward, len(names))
        shown = together(seen, names, size)
        return settled(state, like), TeamStep(shown, reward, over, shaping, outcome)

    return reset, step


def make(name: str) -> TeamEnv:
    """Build one of :data:`TASKS`. Continuous actions are rescaled to ``[-1, 1]``.

    Raises:
        ValueError: ``name`` is not one of them.
        ModuleNotFoundError: the library is not installed.
    """
    task = find("jaxmarl", name, TASKS)
    source = _source(task)
    names = list(getattr(source, task.agents))
    choices = _choices(source, names)
    seen, _ = jax.eval_shape(source.reset, key_of(0))
    sizes = sizes_of(seen, names)
    kinds = kinds_of(sizes, choices or [0] * len(names))
    given = source.action_space(names[0]).shape
    reset, step = _dynamics(source, task, names, choices is not None, max(sizes))
    central, critic_size = _state(source, task, len(names) * max(sizes), seen)
    return TeamEnv(
        name=f"jaxmarl/{name}",
        observation_size=max(sizes),
        action_size=max(choices) if choices else int(np.prod(given)),
        episode_length=task.length,
        discrete=choices is not None,
        kinds=kinds,
        critic_size=critic_size,
        reset=reset,
        step=step,
        legal_actions=_legal(source, task, names, choices) if choices else None,
        alive=_alive(len(names)) if task.outcome == "battle" else None,
        turns=task.turns,
        state=central,
        shared_reward=task.shared,
        wins=bool(task.outcome),
        shapes=task.shapes,
        symmetries=None if task.symmetries is None else task.symmetries(),
    )


def _alive(agents: int) -> Callable[[Any], Array]:
    return lambda state: state.state.unit_alive[:agents]


def _state(
    source: Any, task: Task, together: int, seen: Mapping[str, Any]
) -> tuple[Callable[[Any, Array], Array], int]:
    """What a central critic sees, and how much that is: the simulator's state where it tells of it, else
    what all agents see."""
    if task.outcome != "battle":
        return lambda state, observation: all_see(observation), together

    def told(state: Any, observation: Array) -> Array:
        return for_all(jnp.float32(source.get_world_state(state)), len(observation))

    return told, int(np.prod(seen["world_state"].shape))
