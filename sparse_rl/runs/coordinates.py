"""The coordinate check of a pack of runs: nothing is trained beyond the first updates, and nothing but a
table comes of it."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from sparse_rl.loops import SIZE, Coordinates, OffPolicyLoop, OnPolicyLoop, RecallingLoop
from sparse_rl.runs.lockstep import Run
from sparse_rl.runs.pack import PreparedPack, compiler_options, prepare_pack
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError

LOOKS = (0, 1, 2, 5, 10)
"""Updates after which is measured."""


def prepare_check(configs: list[RunConfig]) -> PreparedPack:
    """A pack whose runs measure what their layers make; compiles nothing.

    Raises:
        ConfigError: its loop cannot be driven update by update.
    """
    measured = [
        dataclasses.replace(c, diagnostics=dataclasses.replace(c.diagnostics, preactivations=True))
        for c in configs
    ]
    pack = prepare_pack(measured)
    first = configs[0]
    if not isinstance(pack.loop, OffPolicyLoop | RecallingLoop | OnPolicyLoop):
        raise ConfigError(
            f"agent={first.agent.name} on env={first.env.name}: a coordinate check is for compiled "
            "environments without a curriculum, and for agents that are trained with an optimiser"
        )
    each = Coordinates(pack.loop, max(LOOKS)).each
    if each > 1:
        raise ConfigError(
            f"agent={first.agent.name} makes {each} updates at once, and a coordinate check looks after "
            "each; give agent.epochs=1 agent.minibatches=1"
        )
    return pack


def coordinates_of(configs: list[RunConfig]) -> Iterator[dict[str, Any]]:
    """Rows of a coordinate check: of each run, layer and look, how large what the layer makes is.

    Args:
        configs: runs that share a compiled program; it is compiled once.
    """
    pack = prepare_check(configs)
    loop: Any = pack.loop
    rows = jax.jit(Coordinates(loop, max(LOOKS)).rows, compiler_options=compiler_options(loop))
    for config, run in zip(configs, pack.runs, strict=True):
        found = {name: np.asarray(values) for name, values in rows(run.inputs).items()}
        for name, sizes in found.items():
            for look in LOOKS:
                yield {
                    **_of_run(config, run),
                    "layer": name.removeprefix(SIZE),
                    "updates": look,
                    "preactivation": float(sizes[look]),
                }


def _of_run(config: RunConfig, run: Run) -> dict[str, Any]:
    """What the run is: the axes of the table."""
    agent: Any = config.agent
    return {
        "run_id": config.run_id,
        "env": config.env.name,
        "agent": agent.name,
        "network": agent.network,
        "parametrisation": getattr(agent, "parametrisation", "standard"),
        "base_width": getattr(agent, "base_width", None),
        "initial_scale": config.pruning.initial_scale,
        "pattern": config.pruning.pattern,
        "distribution": config.pruning.distribution,
        "learning_rate": agent.learning_rate,
        "width": config.width,
        "sparsity": config.sparsity,
        "parameters_nonzero": run.costs.parameters_nonzero,
        "seed": config.seed,
        "mask_seed": config.mask_seed,
    }
