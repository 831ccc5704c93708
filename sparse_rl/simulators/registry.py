"""Find a simulator by source and task."""

from collections.abc import Callable
from typing import Any

from sparse_rl.simulators import dm_control, dm_control_pixels, gymnasium
from sparse_rl.simulators.contract import Simulator

SIMULATORS: dict[str, Callable[..., Simulator]] = {
    "dm_control": dm_control.make,
    "dm_control_pixels": dm_control_pixels.make,
    "gymnasium": gymnasium.make,
}


def make(source: str, task: str, **options: Any) -> Simulator:
    """The simulator of a task, with the source's own options.

    Raises:
        ValueError: the source has no such task, or an option does not fit it; the message lists what
            there is.
        ModuleNotFoundError: its optional package is missing; the message says how to get it.
    """
    return SIMULATORS[source](task, **options)
