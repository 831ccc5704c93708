"""What the storages cost: SAC updates (SimBa, batch 256), dense, masked, compact, block, side by side.

    make storage-benchmark
    python benchmarks/storage.py --widths 1024 2048 --sparsities 0.9
    python benchmarks/storage.py --products bfloat16

Every variant lives in a process of its own, and the processes take turns: each round times all of them
within seconds of each other, so that a slow minute of the machine slows all alike. Times are medians
over rounds of several updates in one compiled loop, as in training. The floor is a dense network of the
width that has as many weights as survive. Peak memory is the process's (the device's on an
accelerator), from its start, drawing of masks and compilation included.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from sparse_rl.kernels import machine

KEEP_MEMORY = {f"MALLOC_{name}_": str(1 << 34) for name in ("MMAP_THRESHOLD", "TRIM_THRESHOLD")}
"""Between calls the allocator keeps what it has, as inside a loop of hundreds of updates: taking large
arrays from the system anew for every few updates would be a tenth of their time."""
TITLE = """\
{device}; {cores} cores. SAC with SimBa networks, batch 256, products in {products}. Milliseconds per
update; the floor is a dense network with as many weights as survive. State (parameters, moments,
targets, indices) as a share of dense; peak memory of the process in MB; rate of block in GFLOP/s."""
COLUMNS = {
    "width": "5d",
    "sparsity": "8g",
    "dense": "7.1f",
    "masked": "7.1f",
    "compact": "7.1f",
    "block": "7.2f",
    "floor": "6.2f",
    "compact/masked": "14.2f",
    "dense/block": "11.1f",
    "block/floor": "11.2f",
    "state compact": "13.3f",
    "block ": "6.3f",
    "peak dense": "10.0f",
    " compact": "8.0f",
    " block": "6.0f",
    "rate": "5.0f",
}
"""heading → format of its numbers"""


class Variant(NamedTuple):
    """One way to hold a network."""

    width: int
    sparsity: float
    storage: str
    updates: int
    """Updates per round."""
    products: str


def start(variant: Variant) -> tuple[Any, Any, Any]:
    """A compiled loop of updates, its state, and the run's costs."""
    import jax

    from sparse_rl.kernels.compilation import compile_all
    from sparse_rl.loops.off_policy import OffPolicyLoop
    from sparse_rl.loops.replaying import interaction_keys
    from sparse_rl.runs.pack import compiler_options, prepare_pack
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
    print("ready", flush=True)
    for _ in sys.stdin:
        # What the other processes pushed out of caches and memory comes back untimed.
        state = jax.block_until_ready(loop(state))
        begun = time.perf_counter()
        state = jax.block_until_ready(loop(state))
        answer = {
            "seconds": (time.perf_counter() - begun) / variant.updates,
            "state": costs.state_bytes,
            "peak": peak_bytes(),
            "flops": costs.flops_per_update,
            "nonzero": costs.parameters_nonzero,
        }
        print(json.dumps(answer), flush=True)


@contextmanager
def worker(variant: Variant) -> Iterator[subprocess.Popen[str]]:
    """A process that holds one variant, ready to be timed."""
    command = [sys.executable, __file__, "--worker", json.dumps(variant)]
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **KEEP_MEMORY}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout
    if process.stdout.readline().strip() != "ready":
        raise RuntimeError(f"{variant} did not start")
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def measure(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    answer: dict[str, float] = json.loads(process.stdout.readline())
    return answer


def compare(workers: dict[str, subprocess.Popen[str]], rounds: int) -> dict[str, dict[str, float]]:
    """Rounds in turn; per variant the last answer with the median time."""
    turns = [{name: measure(process) for name, process in workers.items()} for _ in range(rounds)]
    return {
        name: turns[-1][name] | {"seconds": statistics.median(each[name]["seconds"] for each in turns)}
        for name in workers
    }


def print_row(width: int, sparsity: float, found: dict[str, dict[str, float]]) -> None:
    ms = {name: answer["seconds"] * 1e3 for name, answer in found.items()}
    state = {name: answer["state"] / found["dense"]["state"] for name, answer in found.items()}
    peak = {name: answer["peak"] / 1e6 for name, answer in found.items()}
    numbers = (
        *(width, sparsity, ms["dense"], ms["masked"], ms["compact"], ms["block"], ms["floor"]),
        *(ms["compact"] / ms["masked"], ms["dense"] / ms["block"], ms["block"] / ms["floor"]),
        *(state["compact"], state["block"], peak["dense"], peak["compact"], peak["block"]),
        found["block"]["flops"] / found["block"]["seconds"] / 1e9,
    )
    row = (f"{value:{form}}" for value, form in zip(numbers, COLUMNS.values(), strict=True))
    print("  ".join(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096])
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.5, 0.8, 0.9, 0.95])
    parser.add_argument("--products", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(Variant(*json.loads(options.worker)))
        return
    import jax

    device, products = jax.devices()[0].device_kind, options.products
    print(TITLE.format(device=device, cores=os.cpu_count(), products=products))
    print("  ".join(f"{name:>{form.split('.')[0].rstrip('dg')}}" for name, form in COLUMNS.items()))
    for width in options.widths:
        few = max(3, min(50, 2 * (4096 // width) ** 2))  # updates per round; the cheaper ones get more
        with ExitStack() as by_width:
            # What masked costs does not depend on the sparsity: it is one program.
            same = {
                "dense": by_width.enter_context(worker(Variant(width, 0.0, "masked", few, products))),
                "masked": by_width.enter_context(worker(Variant(width, 0.9, "masked", few, products))),
            }
            for sparsity in options.sparsities:
                floor = round(width * (1.0 - sparsity) ** 0.5)
                variants = {
                    "compact": Variant(width, sparsity, "compact", few, products),
                    "block": Variant(width, sparsity, "block", 4 * few, products),
                    "floor": Variant(floor, 0.0, "masked", 4 * few, products),
                }
                with ExitStack() as row:
                    others = {name: row.enter_context(worker(v)) for name, v in variants.items()}
                    print_row(width, sparsity, compare({**same, **others}, options.rounds))


if __name__ == "__main__":
    main()
