"""Group the runs of a grid into packs: runs that share one compiled program."""

from collections.abc import Iterable

from sparse_rl.runs import program_of
from sparse_rl.settings.run import RunConfig

Pack = list[RunConfig]


def unique(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """The runs without repetitions, in order."""
    return list({config.run_id: config for config in configs}.values())


def packs(configs: Iterable[RunConfig]) -> list[Pack]:
    """Runs grouped by program, in order of first appearance."""
    groups: dict[RunConfig, Pack] = {}
    for config in configs:
        groups.setdefault(program_of(config), []).append(config)
    return list(groups.values())
