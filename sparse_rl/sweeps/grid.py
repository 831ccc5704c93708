"""Group the runs of a grid into packs: runs that share one compiled program."""

import dataclasses
from collections.abc import Iterable

from sparse_rl.config import RunConfig

Pack = list[RunConfig]


def program_of(config: RunConfig) -> RunConfig:
    """What a run's compiled program depends on: its configuration without what can be an array.

    Seeds and the learning rate are arrays, and with masks so are sparsities (through the numbers of
    surviving weights). Then only whether a network is pruned at all decides its program: a dense network
    carries no masks, so that it costs and computes what it would without this package. In the other
    storages the number of survivors is the shape of what is stored.
    """
    by_shape = config.storage.storage != "masked" or config.pruning.pattern == "block"

    def static(sparsity: float) -> float:
        return sparsity if by_shape or not sparsity else 0.5

    return dataclasses.replace(
        config,
        seed=0,
        mask_seed=0,
        sparsity=0.0,
        agent=config.agent.program(),
        pruning=dataclasses.replace(
            config.pruning,
            distribution=config.pruning.distribution if by_shape else "uniform",
            actor_sparsity=static(config.actor_sparsity),
            critic_sparsity=static(config.critic_sparsity),
            encoder_sparsity=static(config.pruning.encoder_sparsity),
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
