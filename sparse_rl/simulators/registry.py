"""Find a simulator by source and task."""

from collections.abc import Callable

from sparse_rl.simulators import dm_control, gymnasium
from sparse_rl.simulators.contract import Simulator

SIMULATORS: dict[str, Callable[[str], Simulator]] = {
    "dm_control": dm_control.make,
    "gymnasium": gymnasium.make,
}


def make(source: str, task: str) -> Simulator:
    """The simulator of a task.

    Raises:
        ValueError: the source has no such task; the message lists its tasks.
        ModuleNotFoundError: its optional package is missing; the message says how to get it.
    """
    return SIMULATORS[source](task)
