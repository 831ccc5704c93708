"""Trained agents in levels that nobody trained on: every held-out set, with drawn and with greedy
actions, and the worst of many random levels."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl.agents import actions_of
from sparse_rl.envs import Env, HeldOut, vector
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops import (
    Attempts,
    HostLoop,
    regret,
    try_set,
    view_of,
    worst,
)
from sparse_rl.pruning import path_name
from sparse_rl.records import results
from sparse_rl.runs.pack import compiler_options, program_of
from sparse_rl.runs.trained import Actor, CannotTryError, Replaying, actor_of, check_done, runs_of
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import unknown

FILE = "held_out.json"
"""Of a run: what was found."""
SEED = 77
"""Of the levels whose worst are looked for."""
SHARES = (0.01, 0.05, 0.1, 1.0)
"""Of these levels, the worst that are looked at, and all."""
BATCH = 1000
"""Random levels that are described at once."""


WORST = "worst"
"""What they are called in tables."""


class Asked(NamedTuple):
    """What a run's agent is tried on."""

    sets: list[str] | None
    """Names; ``None``: all that its environment has."""
    episodes: int
    """In each level."""
    random: int
    """Levels of which the worst are looked for; 0: they are not."""


class Played(NamedTuple):
    """An episode in one level, to be looked at."""

    pictures: np.ndarray
    """uint8 ``[T, height, width, 3]``: before each interaction."""
    way: np.ndarray
    """int32 ``[T, 2]``: column and row of the agent then."""
    score: float
    """Its return."""


def arrays_of(held: HeldOut, number: int) -> dict[str, np.ndarray]:
    """One of a set's levels: name → array."""
    leaves = jax.tree_util.tree_leaves_with_path(held.levels)
    return {path_name(path): np.asarray(leaf)[number] for path, leaf in leaves}


class Tried:
    """What is compiled once for all runs of a program.

    Args:
        actor: theirs.
        asked: what is tried.

    Raises:
        CannotTryError: they are of another kind.
        ConfigError: there is no set of such a name.
    """

    def __init__(self, actor: Actor, asked: Asked) -> None:
        self.actor = actor
        loop = self.actor.loop
        if isinstance(loop, Replaying | HostLoop) or loop.env.levels is None:
            raise CannotTryError("it is in no environment with levels")
        self._loop, self._env, self._levels, self._asked = loop, loop.env, loop.env.levels, asked
        self.held_out = functools.cache(self._held_out)
        self.program = functools.cache(self._program)
        self.best = functools.cache(self._best)
        for name in asked.sets or ():
            if name not in self._levels.sets:
                raise unknown("set of levels", name, list(self._levels.sets))

    def _held_out(self, name: str) -> HeldOut:
        """A set's levels, or random ones of which the worst are looked for."""
        return solvable(self._env, self._asked.random) if name == WORST else self._levels.sets[name]()

    def _program(self, name: str, greedy: bool) -> Callable[[Any, Any], Attempts]:
        """``(what was trained, key) → attempts [M, E]``."""
        held = self.held_out(name)

        def played(trained: Any, key: Any) -> Attempts:
            learner, episodes = self.actor.learner(trained), self._asked.episodes
            return try_set(
                self._loop.learning, self._env, held, learner, key, greedy=greedy, episodes=episodes
            )

        made: Callable[[Any, Any], Attempts] = jax.jit(
            played, compiler_options=compiler_options(self._loop)
        )
        return made

    def _best(self, name: str) -> Callable[[Attempts], Any]:
        """``attempts → regret [M]``."""
        return jax.jit(functools.partial(regret, self._levels, self.held_out(name)))

    def rows(self, trained: Any) -> Iterator[dict[str, Any]]:
        """A row for each level, policy and horizon."""
        for name in self._asked.sets or self._levels.sets:
            held = self.held_out(name)
            for i, how in enumerate(("drawn", "greedy")):
                key = jax.random.fold_in(key_of(SEED), i)
                attempts = self.program(name, how == "greedy")(trained, key)
                lost = np.asarray(self.best(name)(attempts))
                returns = np.asarray(attempts.episode_return).mean(axis=1)
                for horizon in held.horizons:
                    solved = np.asarray(attempts.within(horizon)).mean(axis=1)
                    for m, level in enumerate(held.names):
                        yield {
                            "set": name, "level": level, "policy": how, "horizon": horizon,
                            "solve_rate": float(solved[m]), "return_mean": float(returns[m]),
                            "regret": float(lost[m]),
                        }  # fmt: skip

    @property
    def shows_ways(self) -> bool:
        """Whether the environment draws its levels, and tells where in them the agent is."""
        return self._levels.draw is not None and self._levels.place is not None

    def episode(self, trained: Any, name: str, number: int, key: Any) -> Played:
        """An episode in one level of a set, with drawn actions.

        Raises:
            CannotTryError: there is no such level, or the environment draws none.
        """
        held, draw, place = self.held_out(name), self._levels.draw, self._levels.place
        if draw is None or place is None:
            raise CannotTryError(f"env={self._env.name} draws no pictures of its levels")
        if not 0 <= number < len(held.names):
            raise CannotTryError(f"{name} has levels 0 to {len(held.names) - 1}, and no {number}")
        env = dataclasses.replace(self._env, episode_length=max(held.horizons))
        repeat = self.actor.config.env.action_repeat
        act = self.actor.policy(self.actor.learner(trained), greedy=False)
        to_env = actions_of(env).to_env

        @jax.jit
        def interact(envs: vector.VectorState, memory: Any, key: Any) -> Any:
            key_act, key_env = jax.random.split(key)
            now = jax.tree.map(lambda x: x[0], envs.env)
            seen_before = draw(now), place(now)
            action, memory = act(view_of(env, envs), memory, key_act)
            envs, seen = vector.step(env, key_env, envs, to_env(action), repeat)
            over = (seen.terminated | seen.truncated)[0]
            return envs, memory, seen_before, seen.episode_return[0], over

        level = jax.tree.map(lambda x: jnp.asarray(x)[number : number + 1], held.levels)
        envs, memory = vector.begin(env, level), self.actor.begin(1)
        shown, over = [], False
        while not over:
            key, now = jax.random.split(key)
            envs, memory, before, score, over = interact(envs, memory, now)
            shown.append(jax.device_get(before))
        pictures, way = (np.stack(parts) for parts in zip(*shown, strict=True))
        return Played(pictures, way, float(score))

    def worst(self, trained: Any) -> Iterator[dict[str, Any]]:
        """A row for each share of the worst random levels: ranked by some episodes, told of others."""
        played = self.program(WORST, False)
        one, two = (
            jnp.mean(played(trained, key).solved.astype(jnp.float32), axis=1)
            for key in jax.random.split(key_of(SEED))
        )
        for share in SHARES:
            yield {
                "set": WORST, "level": f"{share:g}", "policy": "drawn",
                "horizon": self._env.episode_length, "solve_rate": float(worst(one, two, share)),
            }  # fmt: skip


def solvable(env: Env, count: int) -> HeldOut:
    """So many random levels that can be solved, as the environment draws them, from no run's key."""
    levels = env.levels
    assert levels is not None

    def drawn(key: Any) -> Any:
        level = levels.sample(key)
        return level, levels.describe(level)["solvable"] > 0

    many, found, some, batch = jax.jit(jax.vmap(drawn)), [], 0, 0
    while some < count:
        keys = jax.random.split(jax.random.fold_in(key_of(SEED), batch), BATCH)
        level, can_be = jax.tree.map(np.asarray, many(keys))
        found.append(jax.tree.map(lambda x, can_be=can_be: x[can_be], level))
        some, batch = some + int(can_be.sum()), batch + 1
    together = jax.tree.map(lambda *x: np.concatenate(x)[:count], *found)
    return HeldOut(tuple(f"{WORST}{i}" for i in range(count)), together, (env.episode_length,))


def _try_run(
    run_dir: Path, config: RunConfig, asked: Asked, compiled: dict[Any, Tried]
) -> list[dict[str, Any]]:
    """The rows of one run.

    Raises:
        CannotTryError: it has not ended, is of another kind, or cannot be read.
    """
    check_done(run_dir)
    program = program_of(config)
    if program not in compiled:
        compiled[program] = Tried(actor_of(config), asked)
    tried = compiled[program]
    trained = tried.actor.read(run_dir)
    return [*tried.rows(trained), *(tried.worst(trained) if asked.random else ())]


def try_study(study: Path, asked: Asked, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Try a study's runs one after the other; what was found before is not looked for again.

    Args:
        study: its folder.
        asked: what is tried.
        say: tells of progress.

    Yields:
        The rows of each run that could be tried, with its axes.

    Raises:
        FileNotFoundError: the folder holds no run.
        ConfigError: there is no set of such a name.
    """
    found = list(runs_of(study, say))
    compiled: dict[Any, Tried] = {}
    for i, (run_dir, config) in enumerate(found, 1):
        path, what = run_dir / FILE, asked._asdict()
        known = results.read_found(path, say)
        if known.get("asked") != what:
            say(f"{i}/{len(found)} {config.run_id}")
            try:
                known = {"asked": what, "rows": _try_run(run_dir, config, asked, compiled)}
            except CannotTryError as why:
                say(f"{config.run_id} is left out: {why}")
                continue
            results.write_record(path, known)
        axes = {
            "run_id": config.run_id, "env": config.env.name, "agent": config.agent.name,
            "curriculum": config.curriculum.method, "width": config.width,
            "sparsity": config.sparsity, "seed": config.seed,
        }  # fmt: skip
        yield from (axes | row for row in known["rows"])
