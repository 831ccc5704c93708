"""SAC updates (SimBa, batch 256) in a compiled loop, in a process of their own: what a storage costs.

:mod:`benchmarks.storage` and :mod:`~sparse_rl.selftest.storages` measure with it.
"""

import json
import sys
import time
from typing import Any, NamedTuple

from sparse_rl.kernels import machine
from sparse_rl.selftest import turns

MODULE = "sparse_rl.selftest.updates"


class Variant(NamedTuple):
    """One way to hold a network."""

    width: int
    sparsity: float
    storage: str
    updates: int
    """Updates per round."""
    products: str


def variants(width: int, sparsity: float, few: int, products: str) -> dict[str, Variant]:
    """Storages side by side. The floor is a dense network of the width that has as many weights as
    survive; what is cheap is updated more often."""
    floor = round(width * (1.0 - sparsity) ** 0.5)
    return {
        "dense": Variant(width, 0.0, "masked", few, products),
        "masked": Variant(width, sparsity, "masked", few, products),
        "compact": Variant(width, sparsity, "compact", few, products),
        "block": Variant(width, sparsity, "block", 4 * few, products),
        "floor": Variant(floor, 0.0, "masked", 4 * few, products),
    }


def start(variant: Variant) -> tuple[Any, Any, Any]:
    """A compiled loop of updates, its state, and the run's costs."""
    import jax

    from sparse_rl.kernels.compilation import compile_all
    from sparse_rl.loops import OffPolicyLoop, interaction_keys
    from sparse_rl.runs import compiler_options, prepare_pack
    from sparse_rl.settings.run import run_config

    pattern = "block" if variant.storage == "block" else "unstructured"
    config = run_config(
        {
            "agent": {"batch_size": 256},
            "env": {"source": "gymnax", "task": "Pendulum-v1"},
            "pruning": {"pattern": pattern, "storage": variant.storage},
            "width": variant.width,
            "sparsity": variant.sparsity,
            "products": variant.products,
            "env_steps": 1000,
            "log_every": 500,
        }
    )
    loop, (run,) = prepare_pack([config])
    assert isinstance(loop, OffPolicyLoop)

    def compiled(program: Any, argument: Any) -> Any:
        return compile_all({"it": program.lower(argument)}, compiler_options(loop))["it"]

    def fill(i: Any, state: Any) -> Any:
        return loop.interact(state, i, interaction_keys(state.key, i))[0]

    update = loop.learning.update

    def updates(state: Any) -> Any:
        return jax.lax.fori_loop(
            0, variant.updates, lambda i, s: update(s, jax.random.fold_in(state.key, i))[0], state
        )

    state = compiled(jax.jit(loop.init), run.inputs)(run.inputs)
    state = jax.jit(lambda s: jax.lax.fori_loop(0, 300, fill, s), donate_argnums=0)(state)
    return compiled(jax.jit(updates, donate_argnums=0), state), state, run.costs


def peak_bytes() -> int:
    """The most memory held so far: the device's, of a CPU the process's."""
    import jax

    stats = jax.devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    return machine.peak_bytes()


def work(variant: Variant) -> None:
    """Answer each line of input with the seconds of one update, and with what the process holds."""
    import jax

    loop, state, costs = start(variant)
    state = jax.block_until_ready(loop(state))

    def measure() -> dict[str, float]:
        nonlocal state
        # What the other processes pushed out of caches and memory comes back untimed.
        state = jax.block_until_ready(loop(state))
        begun = time.perf_counter()
        state = jax.block_until_ready(loop(state))
        return {
            "seconds": (time.perf_counter() - begun) / variant.updates,
            "state": costs.state_bytes,
            "peak": peak_bytes(),
            "flops": costs.flops_per_update,
            "bytes": costs.bytes_per_update,
            "nonzero": costs.parameters_nonzero,
        }

    turns.answer(measure)


if __name__ == "__main__":
    work(Variant(*json.loads(sys.argv[1])))
