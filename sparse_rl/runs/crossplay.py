"""Finished runs of teams play together that never trained together (Hu et al. 2020, arXiv 2003.02979).

Each seat is taken by a run: its own network of whatever width, sparsity and storage, its own statistics,
its own memory. A run with itself is self-play; two runs are cross-play, in every order of seats.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl import envs
from sparse_rl.agents import actions_of
from sparse_rl.envs import TeamEnv, vector
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops import Whole, view_of, whole_episodes
from sparse_rl.networks import Memory
from sparse_rl.runs.pack import compiler_options, program_of
from sparse_rl.runs.trained import Actor, CannotTryError, Which, actor_of, check_done, runs_of
from sparse_rl.settings.common import TeamAgentConfig
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError

SEED = 78
"""Of the episodes: all teams play the same ones, as far as what they do lets them be the same."""
PAIRS = ("all", "within")
"""Which runs meet: all, or those that differ in seeds alone."""
POLICIES = ("drawn", "greedy")


class Player(NamedTuple):
    """A finished run."""

    study: str
    config: RunConfig
    actor: Actor
    trained: Any

    @property
    def cell(self) -> str:
        """The same for runs that differ in seeds alone, and for no others."""
        return dataclasses.replace(self.config, seed=0, mask_seed=0).run_id


class Match(NamedTuple):
    """Seats of a team: the first ``first`` are one run's, the others another's."""

    one: int
    other: int
    """Indices of players."""
    first: int


def players(
    studies: Sequence[Path], say: Callable[[str], None], which: Which = "last"
) -> tuple[list[Player], TeamEnv]:
    """The finished runs of teams in these studies, and the environment that they share.

    Args:
        studies: folders.
        say: tells of runs that are left out.
        which: as they ended, or at their best evaluations.

    Raises:
        ConfigError: they are of several environments, or there is none.
        FileNotFoundError: a folder holds no run.
    """
    found: list[Player] = []
    known: dict[str, Path] = {}
    programs: dict[RunConfig, Actor] = {}
    for study in studies:
        for folder, config in runs_of(study, say):
            try:
                if config.run_id in known:  # with itself it would be self-play that is called cross-play
                    raise CannotTryError(f"it is the one of {known[config.run_id]}")
                check_done(folder)
                if not isinstance(config.agent, TeamAgentConfig):
                    raise CannotTryError(f"agent={config.agent.name} is not of a team")
                program = program_of(config)
                if program not in programs:
                    programs[program] = actor_of(config)
                actor = programs[program]
                found.append(Player(str(study), config, actor, actor.read(folder, which)))
                known[config.run_id] = study
            except CannotTryError as why:
                say(f"{config.run_id} is left out: {why}")
    names = sorted({player.config.env.name for player in found})
    if len(names) != 1:
        of = f"these are of {', '.join(names)}" if names else "no run of a team has ended"
        raise ConfigError(f"cross-play is of finished runs of one environment; {of}")
    first = found[0].config.env
    env = envs.make(first.source, first.task, **first.options)
    assert isinstance(env, TeamEnv)
    return found, env


def matches(of: Sequence[Player], agents: int, pairs: str, sample: int | None) -> list[Match]:
    """Who meets whom: everybody alone, and pairs in every order with every number of seats.

    Args:
        of: the players.
        agents: seats.
        pairs: one of :data:`PAIRS`.
        sample: so many pairs at most, drawn at random; ``None``: all.
    """
    alone = [Match(i, i, agents) for i in range(len(of))]
    met = [
        (i, j)
        for i, j in itertools.combinations(range(len(of)), 2)
        if pairs == "all" or of[i].cell == of[j].cell
    ]
    if sample is not None and sample < len(met):
        chosen = np.random.default_rng(SEED).choice(len(met), sample, replace=False)
        met = [met[k] for k in sorted(chosen)]
    both = [pair for i, j in met for pair in ((i, j), (j, i))]
    return alone + [Match(i, j, k) for i, j in both for k in range(1, agents)]


def program(env: TeamEnv, one: Actor, other: Actor, episodes: int, greedy: bool) -> Callable[..., Whole]:
    """``(trained of one, trained of the other, seats of the first, key) → episodes``, compiled.

    Args:
        env: the environment that both know, without names.
        one, other: their programs; actions are asked of both for all seats.
        episodes: how many, all at once.
        greedy: whether both take their most likely actions.
    """
    actors = (one, other)
    to_env = actions_of(env).to_env

    def played(first: Any, second: Any, seats: Array, key: Array) -> Whole:
        learners = [actor.learner(held) for actor, held in zip(actors, (first, second), strict=True)]
        acts = [actor.policy(learner, greedy) for actor, learner in zip(actors, learners, strict=True)]
        mine = jnp.tile(jnp.arange(env.agents) < seats, episodes)

        def act(
            batch: vector.VectorState, memory: tuple[Memory, Memory], key: Array
        ) -> tuple[Array, tuple[Memory, Memory]]:
            view, chosen, after = view_of(env, batch), [], []
            for i, (actor, does) in enumerate(zip(actors, acts, strict=True)):
                seen = actor.seen(env, view)
                action, kept = does(seen, memory[i], jax.random.fold_in(key, i))
                chosen.append(to_env(action))
                after.append(kept)
            where = mine.reshape(-1, *(1,) * (chosen[0].ndim - 1))
            return jnp.where(where, chosen[0], chosen[1]), (after[0], after[1])

        n = env.agents * episodes
        memory = tuple(actor.begin(n) for actor in actors)
        repeat = one.loop.config.env.action_repeat
        return whole_episodes(env, act, key, memory, episodes, repeat)

    made: Callable[..., Whole] = jax.jit(played, compiler_options=compiler_options(one.loop))
    return made


def _described(player: Player, prefix: str) -> dict[str, Any]:
    """A player's axes, for a row."""
    config = player.config
    return {
        f"{prefix}/study": player.study, f"{prefix}/run_id": config.run_id,
        f"{prefix}/agent": config.agent.name, f"{prefix}/width": config.width,
        f"{prefix}/sparsity": config.sparsity, f"{prefix}/seed": config.seed,
        f"{prefix}/mask_seed": config.mask_seed, f"{prefix}/cell": player.cell,
    }  # fmt: skip


def cross_play(
    studies: Sequence[Path],
    *,
    episodes: int,
    pairs: str,
    sample: int | None,
    say: Callable[[str], None],
    which: Which = "last",
) -> Iterator[dict[str, Any]]:
    """Have finished runs play together.

    Args:
        studies: folders of runs of one environment.
        episodes: of each match and policy, all at once.
        pairs, sample: as of :func:`matches`.
        say: tells of progress.
        which: as of :func:`players`. What was best in a run's own evaluations plays new episodes here.

    Yields:
        A row per match and policy: who sits where, the team's return (mean, standard error over
        episodes), its win rate where there is something to win, and how many episodes.

    Raises:
        ConfigError, FileNotFoundError: as of :func:`players`.
    """
    of, env = players(studies, say, which)
    met = matches(of, env.agents, pairs, sample)
    compiled: dict[tuple[int, int, bool], Callable[..., Whole]] = {}
    for number, match in enumerate(met, 1):
        one, other = of[match.one], of[match.other]
        say(f"{number}/{len(met)} {one.config.run_id} × {other.config.run_id}")
        for i, how in enumerate(POLICIES):
            programs = (id(one.actor), id(other.actor), how == "greedy")
            if programs not in compiled:
                compiled[programs] = program(env, one.actor, other.actor, episodes, how == "greedy")
            key = jax.random.fold_in(key_of(SEED), i)
            seats = jnp.int32(match.first)
            played = jax.tree.map(np.asarray, compiled[programs](one.trained, other.trained, seats, key))
            yield _row(env, one, other, match, how, played) | {"which": which}


def _row(
    env: TeamEnv, one: Player, other: Player, match: Match, how: str, played: Whole
) -> dict[str, Any]:
    """What is written of a match."""
    returns = played.returns
    error = float(np.std(returns, ddof=1) / np.sqrt(len(returns))) if len(returns) > 1 else float("nan")
    return {
        **_described(one, "one"), **_described(other, "other"),
        "env": one.config.env.name, "seats": env.agents, "seats_of_one": match.first, "policy": how,
        "self_play": match.one == match.other, "episodes": len(returns),
        "return_mean": float(np.mean(returns)), "return_error": error,
        **({} if played.won is None else {"win_rate": float(np.mean(played.won))}),
    }  # fmt: skip
