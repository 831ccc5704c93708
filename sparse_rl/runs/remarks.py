"""What people should know of a run while it trains, though it stops nothing."""

from collections.abc import Mapping

from sparse_rl.records import results
from sparse_rl.settings.run import RunConfig

MOSTLY = 0.99
"""Share of a critic's memory beyond which it tells next to nothing apart. Critics that learned had at
most 0.01 of it there, those that said one number of all 0.96 to 1 (docs/memory.md)."""


def remarks(run: RunConfig, numbers: Mapping[str, float], env_steps: int) -> dict[str, str]:
    """What a row shows of a run: name → words.

    Args:
        run: the run.
        numbers: of its row, column → value.
        env_steps: at which the row was written.
    """
    found = {}
    episodes = run.env.eval_episodes
    if episodes > 1 and numbers.get(results.EPISODES_DISTINCT) == 1:
        found["one episode"] = (
            f"one distinct episode of {episodes} in the evaluation at env_steps={env_steps}: "
            "nothing in it is random, and return_mean is the return of that one"
        )
    share = numbers.get("saturation/critic", 0.0)
    if share >= MOSTLY:
        large = not getattr(run.agent, "normalise_rewards", True)
        found["saturated critic"] = (
            f"saturation/critic is {share:.2f} at env_steps={env_steps}: what the critic remembers is "
            "at its bounds, so it says nearly the same of whatever it sees; its targets are large for "
            "units between -1 and 1"
            + (" (agent.normalise_rewards=true makes them small)" if large else "")
        )
    return found
