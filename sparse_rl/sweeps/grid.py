"""Group the runs of a grid into packs: runs that share one compiled program."""

import dataclasses
from collections.abc import Iterable

from sparse_rl.config import RunConfig

Pack = list[RunConfig]


def _pruned(sparsity: float) -> float:
    return 0.5 if sparsity else 0.0


def program_of(config: RunConfig) -> RunConfig:
    """What a run's compiled program depends on: its configuration without what can be an array.

    Seeds, sparsities (through the numbers of surviving weights) and the learning rate are arrays. Only
    whether a network is pruned at all decides its program: a dense network carries no masks, so that
    it costs and computes what it would without this package.
    """
    return dataclasses.replace(
        config,
        seed=0,
        mask_seed=0,
        sparsity=0.0,
        agent=dataclasses.replace(config.agent, learning_rate=1.0),
        pruning=dataclasses.replace(
            config.pruning,
            distribution="uniform",
            actor_sparsity=_pruned(config.actor_sparsity),
            critic_sparsity=_pruned(config.critic_sparsity),
        ),
    )


def unique(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """The runs without repetitions, in order."""
    return list({config.run_id: config for config in configs}.values())


def packs(configs: Iterable[RunConfig]) -> list[Pack]:
    """Runs grouped by program, in order of first appearance."""
    groups: dict[RunConfig, Pack] = {}
    for config in configs:
        groups.setdefault(program_of(config), []).append(config)
    return list(groups.values())
