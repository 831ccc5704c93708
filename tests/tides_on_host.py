"""The tides of :mod:`tides` as an environment of the host, in plain Python."""

from typing import Any

import numpy as np
from tides import LIMIT, Twin

from sparse_rl.envs import HostEnv, HostStep


def fresh(seed: int, episode: int) -> Twin:
    """The start of an episode, from an environment's last seed and its episodes since."""
    rng = np.random.default_rng([seed, episode])
    return Twin(float(rng.uniform(2.0, 4.0)), int(rng.integers(2, 8)))


class Scripted:
    """Tides in plain Python, as actors of the host."""

    def __init__(self, num_envs: int, repeat: int) -> None:
        self.repeat = repeat
        self.seeds, self.episodes = np.zeros(num_envs, int), np.zeros(num_envs, int)
        self.twins = [fresh(0, 0) for _ in range(num_envs)]
        self.seeded: list[int] = []

    def look(self) -> np.ndarray:
        return np.array([[w.level, 0.7 * w.time, -0.25 * w.lasts] for w in self.twins], np.float32)

    def seed(self, seeds: np.ndarray, where: np.ndarray) -> np.ndarray:
        for n in np.flatnonzero(where):
            self.seeds[n], self.episodes[n] = seeds[n], 0
            self.twins[n] = fresh(int(seeds[n]), 0)
            self.seeded.append(int(seeds[n]))
        return self.look()

    def send(self, action: np.ndarray) -> None:
        self.given = np.asarray(action)
        assert self.given.shape == (len(self.twins), 2)

    def receive(self) -> HostStep:
        brought = [w.interact(a, self.repeat) for w, a in zip(self.twins, self.given, strict=True)]
        for n, b in enumerate(brought):
            if b.terminated or b.truncated:
                self.episodes[n] += 1
                self.twins[n] = fresh(int(self.seeds[n]), int(self.episodes[n]))
        fields = zip(
            *((b.reward, b.terminated, b.truncated, b.observation) for b in brought), strict=True
        )
        reward, terminated, truncated, final = map(np.array, fields)
        return HostStep(
            self.look(), reward.astype(np.float32), terminated, truncated, final.astype(np.float32)
        )


def env_of(seed_every: int, opened: list[Scripted]) -> HostEnv:
    """The environment of the host; what is opened is added to ``opened``."""

    def opens(settings: Any, num_envs: int, threads: int) -> Any:
        opened.append(Scripted(num_envs, settings.action_repeat))
        return opened[-1]

    return HostEnv(
        name="probe/tides", observation_size=3, action_size=2, episode_length=LIMIT, open=opens,
        seed_every=seed_every,
    )  # fmt: skip
