"""The default launcher: packs one after the other in this process."""

import threading
from collections.abc import Sequence

from rich.console import Console

from sparse_rl.runs import PreparedPack, devices_here
from sparse_rl.sweeps.progress import PackProgress, label
from sparse_rl.sweeps.tasks import Settings, train_task


def describe(packs: Sequence[PreparedPack], settings: Settings) -> list[str]:
    """Nothing to add to the plan.

    Raises:
        ConfigError: there are fewer devices here than are asked for.
    """
    if packs:
        devices_here(settings.devices_per_pack)
    return []


def train(out: Console, packs: Sequence[PreparedPack], settings: Settings) -> None:
    """Train every pack; one that breaks as a whole does not end the sweep."""
    for number, pack in enumerate(packs, start=1):
        configs = [run.config for run in pack.runs]
        name = f"pack {number}/{len(packs)} {label(configs[0])}"
        with PackProgress(out, name, configs) as progress:
            try:
                train_task(pack, settings, progress, threading.Event())
            except Exception as error:
                out.print(f"{name} failed: {type(error).__name__}: {error}")
