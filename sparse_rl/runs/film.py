"""Films of runs that ended: an episode of a trained agent, as a GIF.

The environment must show pictures (``env=pixels/…``, ``env=dm_control_pixels/…``), or draw its levels
(``env=maze/…``). Pillow writes it, which Matplotlib stands on: nothing else is needed.
"""

import functools
from pathlib import Path

import jax
import numpy as np
from jax import Array
from PIL import Image

from sparse_rl.agents import Streams
from sparse_rl.envs import Env, HeldOut, vector
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops import HostOffPolicyLoop, OffPolicyLoop, RunState, seeds_of
from sparse_rl.records import results
from sparse_rl.runs.held_out import Asked, Played, Tried, arrays_of
from sparse_rl.runs.trained import Which, actor_of
from sparse_rl.settings.run import run_config
from sparse_rl.settings.schema import ConfigError

FILE = "episode.gif"
STILL = "episode.png"
"""A whole episode in a maze, as one picture."""
NOT_SHOWN = "env={} shows no pictures; videos are of env=pixels/… and env=dm_control_pixels/…"
LEAST_SIDE = 192
"""Pixels of a side at least: small pictures are enlarged by a whole number."""
MILLISECONDS = 20
"""Between pictures; browsers slow down what is faster."""
MILLISECONDS_A_CELL = 120
"""The same where each picture is a decision."""


def episode(loop: OffPolicyLoop, state: RunState, key: Array) -> tuple[np.ndarray, float]:
    """One episode of a compiled environment with the deterministic policy.

    Returns:
        A picture per interaction, uint8 ``[interactions, height, width, channels]``, and the return.

    Raises:
        ConfigError: the environment shows none.
    """
    env, repeat, draw = loop.env, loop.config.env.action_repeat, loop.env.draw
    if draw is None:
        raise ConfigError(NOT_SHOWN.format(env.name))
    key_reset, key_steps = jax.random.split(key)

    def interact(envs: vector.VectorState, key: Array) -> tuple[vector.VectorState, tuple[Array, ...]]:
        picture = draw(jax.tree.map(lambda x: x[0], envs.env))
        envs, seen = vector.step(
            env, key, envs, loop.learning.act_greedily(state, envs.observation), repeat
        )
        return envs, (picture, seen.episode_return[0], (seen.terminated | seen.truncated)[0])

    keys = jax.random.split(key_steps, -(-env.episode_length // repeat))
    _, (pictures, returns, ended) = jax.jit(
        lambda envs: jax.lax.scan(interact, envs, keys)
    )(vector.reset(env, key_reset, 1))  # fmt: skip
    last = int(np.argmax(ended))
    return np.asarray(pictures[: last + 1]), float(returns[last])


def episode_on_host(loop: HostOffPolicyLoop, state: RunState, seed: int) -> tuple[np.ndarray, float]:
    """The same of an environment of the host; its pictures are those that the agent sees.

    Raises:
        ConfigError: the environment shows none.
    """
    env, act = loop.env, jax.jit(functools.partial(loop.learning.act_greedily, state))
    if env.picture is None:
        raise ConfigError(NOT_SHOWN.format(env.name))
    actors, channels = env.open(loop.config.env, 1, 1), env.picture[2] // env.frames
    seen = actors.seed(seeds_of(seed, Streams.EVALUATION, [(0,)]), np.ones(1, bool))
    pictures, score, ended = [], 0.0, False
    while not ended:
        pictures.append(seen.reshape(env.picture)[..., -channels:])
        actors.send(np.asarray(act(seen)))
        step = actors.receive()
        seen, ended = step.observation, bool(step.terminated[0] | step.truncated[0])
        score += float(step.reward[0])
    return np.stack(pictures), score


def write_gif(path: Path, pictures: np.ndarray, milliseconds: int = MILLISECONDS) -> None:
    """Write pictures ``[n, height, width, 1 or 3]`` as an animation."""
    times = -(-LEAST_SIDE // pictures.shape[1])
    large = pictures.repeat(times, axis=1).repeat(times, axis=2)
    first, *others = (Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x) for x in large)

    def write(aside: Path) -> None:
        first.save(aside, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)

    results.write_aside(path, write)


def write_way(path: Path, held: HeldOut, number: int, played: Played) -> None:
    """Write an episode in a level of a set as one picture; nothing where the levels are no mazes."""
    from sparse_rl.analysis.mazes import episode, maze_of  # Matplotlib takes a second to import

    maze = maze_of(arrays_of(held, number))
    if maze is not None:
        words = f"{held.names[number]}: {len(played.way)} actions, return {played.score:.2f}"
        figure = episode(maze, played.way, words)
        results.write_aside(path, lambda aside: figure.savefig(aside, format="png", dpi=150))


def film(
    run_dir: Path, seed: int, levels: str | None = None, number: int = 0, which: Which = "last"
) -> tuple[Path, float]:
    """Write a video beside a run's results; where it is, and the episode's return.

    Args:
        run_dir: the run's.
        seed: of what is drawn.
        levels: where the environment has levels: the held-out set; ``None``: the first that is watched.
        number: which of its levels.
        which: as the run ended, or at its best evaluation.

    Raises:
        CannotTryError: there is no such level, the agent is of a kind that is not filmed, or its
            parameters cannot be read.
        ConfigError: the environment shows no pictures, or there is no such set.
    """
    config = run_config(results.read_config(run_dir))
    actor = actor_of(config)
    loop = actor.loop
    has = loop.env.levels if isinstance(loop.env, Env) else None
    if has is not None:
        name = levels or has.watched[0]
        tried = Tried(actor, Asked([name], 1, 0))
        played = tried.episode(tried.actor.read(run_dir, which), name, number, key_of(seed))
        write_gif(run_dir / FILE, played.pictures, MILLISECONDS_A_CELL)
        write_way(run_dir / STILL, tried.held_out(name), number, played)
        return run_dir / FILE, played.score
    if levels or number:
        raise ConfigError(f"env={config.env.name} has no levels")
    if isinstance(loop, HostOffPolicyLoop):
        pictures, score = episode_on_host(loop, actor.learner(actor.read(run_dir, which)), seed)
    elif isinstance(loop, OffPolicyLoop):
        pictures, score = episode(loop, actor.learner(actor.read(run_dir, which)), key_of(seed))
    else:
        raise ConfigError(f"agent={loop.config.agent.name}: videos are of drq, and of mazes")
    write_gif(run_dir / FILE, pictures)
    return run_dir / FILE, score
