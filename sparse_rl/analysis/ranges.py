"""Which returns count as 0 and 1: scores of different tasks on one scale."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

import pandas as pd

from sparse_rl.analysis.atari_scores import RANDOM_AND_HUMAN

Ranges = Mapping[str, tuple[float, float]]

SCORE_RANGES: dict[str, tuple[float, float]] = {
    "playground/*": (0.0, 1000.0),
    "dm_control/*": (0.0, 1000.0),
    "dm_control_pixels/*": (0.0, 1000.0),
    "pixels/*": (0.0, 1000.0),
    "maze/*": (0.0, 1.0),
    "classic/pendulum": (-1200.0, 0.0),
    "classic/cartpole": (0.0, 500.0),
    "dog-*": (0.0, 1000.0),
    "humanoid-*": (0.0, 1000.0),
    "gymnax/Pendulum-v1": (-1200.0, 0.0),
    "gymnax/MountainCarContinuous-v0": (0.0, 100.0),
    "gymnax/CartPole-v1": (0.0, 500.0),
    "gymnax/Acrobot-v1": (-500.0, -100.0),
    **{f"atari/{game}": scores for game, scores in RANDOM_AND_HUMAN.items()},
}
"""Task (with wildcards) → returns that count as 0 and 1.

DM Control's rewards lie in [0, 1] for 1000 frames (Tassa et al. 2018). Pendulum's are ≤ 0, and a random
policy has −1202 ± 17 (1,000 episodes); mountain car pays 100 for the goal. Cart-pole's and Acrobot's are
the episode's limit and gymnasium's threshold. Atari's are a random and a human player's. MinAtar,
gymnasium's MuJoCo and HumanoidBench have no standard range: give one.
"""


def score_range(env: str, ranges: Ranges = SCORE_RANGES) -> tuple[float, float]:
    """Returns that count as 0 and 1 on a task.

    Raises:
        ValueError: none is known.
    """
    for pattern, bounds in ranges.items():
        if fnmatchcase(env, pattern):
            return bounds
    how = f"give --ranges {env}=LOW:HIGH, or ranges={{{env!r}: (low, high)}}"
    names = dict.fromkeys("atari/…" if name.startswith("atari/") else name for name in ranges)
    raise ValueError(f"no score range is known for {env}; {how} ({', '.join(names)})")


def normalised(
    frame: pd.DataFrame, metric: str = "return_mean", ranges: Ranges = SCORE_RANGES
) -> pd.DataFrame:
    """A copy with ``metric`` as a score: 0 and 1 at the ends of its task's range.

    Raises:
        ValueError: a task has no known range.
    """
    known = {**ranges, **SCORE_RANGES, **ranges}  # those that are given come first, and hold
    bounds = {env: score_range(str(env), known) for env in frame["env"].unique()}
    low, high = (frame["env"].map({env: b[i] for env, b in bounds.items()}) for i in (0, 1))
    return frame.assign(**{metric: (frame[metric] - low) / (high - low)})
