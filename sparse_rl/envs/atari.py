"""Atari 2600 games, real ones, on worker threads: ale-py's vector environment (Bellemare et al. 2013).

Needs the extra ``atari``; the games are in its wheel. Preprocessing as in DQN (Mnih et al. 2015): each
action for four frames, the larger of the last two, grey, 84×84, four of these stacked, at first the
first one over and over. Rewards are the game's own; whoever learns may clip them. An episode is a game,
not a life.
"""

from typing import Any

import numpy as np

from sparse_rl.envs.contract import HostActors, HostEnv, HostStep
from sparse_rl.settings.envs import AtariConfig, EnvConfig

SIDE, STACK, BLOCK = 84, 4, 4
"""Pixels of a side; pictures in an observation; pixels of the side of a block."""
PICTURE = (SIDE // BLOCK, SIDE // BLOCK, STACK * BLOCK * BLOCK)
EPISODE_LENGTH = 18_000
"""Frames: five minutes of play, as in Machado et al. 2018."""
SEED_EVERY = 16_384
"""Interactions. To seed an environment costs as much as 230 interactions (the game is loaded anew)."""


def _library() -> Any:
    try:
        import ale_py.roms
        import ale_py.vector_env
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "env=atari/… needs ale-py; install it with: pip install 'sparse_rl[atari]'"
        ) from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return ale_py


def in_blocks(frames: np.ndarray) -> np.ndarray:
    """Pictures as the networks read them: blocks of 4×4 pixels as channels.

    Four pixels of a row are moved as one number, which takes half the time of single bytes.

    Args:
        frames: uint8 ``[N, 4, 84, 84]``.

    Returns:
        uint8 ``[N, 28224]``: ``[21, 21, 4 · 4 · 4]``, channels in the order (frame, row, column).
    """
    rows = np.ascontiguousarray(frames).view(np.uint32).reshape(-1, STACK, PICTURE[0], BLOCK, PICTURE[1])
    return np.ascontiguousarray(rows.transpose(0, 2, 4, 1, 3)).view(np.uint8).reshape(len(frames), -1)


def from_the_first(frames: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Stacks in which the first picture of an episode stands where ale-py has black ones before it.

    Args:
        frames: uint8 ``[N, 4, 84, 84]``.
        pictures: int ``[N]``: pictures since the episode began, at least 1.
    """
    short = np.flatnonzero(pictures < STACK)
    if not len(short):
        return frames
    frames = frames.copy()
    for i in short:
        first = STACK - pictures[i]
        frames[i, :first] = frames[i, first]
    return frames


class _Actors:
    """N copies of a game."""

    def __init__(self, task: str, settings: EnvConfig, num_envs: int, threads: int) -> None:
        if not isinstance(settings, AtariConfig):
            raise TypeError(f"env={settings.name} has no settings of Atari")
        self._envs = _library().vector_env.AtariVectorEnv(
            task,
            num_envs,
            num_threads=threads,
            frameskip=settings.action_repeat,
            repeat_action_probability=settings.sticky_actions,
            noop_max=settings.noop_starts,
            use_fire_reset=settings.fire_starts,
            max_num_frames_per_episode=EPISODE_LENGTH,
            reward_clipping=False,
            autoreset_mode="SameStep",
            full_action_space=settings.full_action_space,
        )
        self._pictures = np.ones(num_envs, np.int64)

    def seed(self, seeds: np.ndarray, where: np.ndarray) -> np.ndarray:
        frames, _ = self._envs.reset(seed=seeds[where], options={"reset_mask": where})
        self._pictures[where] = 1
        return in_blocks(from_the_first(frames, self._pictures))

    def send(self, action: np.ndarray) -> None:
        self._envs.send(action)

    def receive(self) -> HostStep:
        frames, reward, terminated, truncated, info = self._envs.recv()
        ended = terminated | truncated
        lasted = self._pictures + 1
        self._pictures = np.where(ended, 1, lasted)
        observation = final = in_blocks(from_the_first(frames, self._pictures))
        if ended.any():
            final = observation.copy()
            final[ended] = in_blocks(from_the_first(info["final_obs"][ended], lasted[ended]))
        return HostStep(observation, reward.astype(np.float32), terminated, truncated, final)


def make(task: str, *, full_action_space: bool = False) -> HostEnv:
    """One of ALE's games by its name in snake case, e.g. ``ms_pacman``.

    Args:
        task: the game.
        full_action_space: all 18 actions (Machado et al. 2018) instead of those that the game knows.

    Raises:
        ValueError: there is no such game; the message lists them.
        ModuleNotFoundError: the extra ``atari`` is not installed.
    """
    library = _library()
    games = library.roms.get_all_rom_ids()
    if task not in games:
        raise ValueError(f"Atari game {task!r} is unknown; choose one of {', '.join(sorted(games))}")
    emulator = library.ALEInterface()
    emulator.loadROM(library.roms.get_rom_path(task))

    actions = emulator.getLegalActionSet() if full_action_space else emulator.getMinimalActionSet()

    def open_actors(settings: EnvConfig, num_envs: int, threads: int) -> HostActors:
        return _Actors(task, settings, num_envs, threads)

    return HostEnv(
        name=f"atari/{task}",
        observation_size=SIDE * SIDE * STACK,
        action_size=len(actions),
        episode_length=EPISODE_LENGTH,
        discrete=True,
        picture=PICTURE,
        open=open_actors,
        seed_every=SEED_EVERY,
        observation_dtype=np.uint8,
    )
