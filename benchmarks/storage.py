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
import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from sparse_rl.selftest import turns
from sparse_rl.selftest.updates import MODULE, Variant, variants

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


def started(stack: ExitStack, some: Mapping[str, Variant]) -> dict[str, Any]:
    """A process for each, one after the other; they end with the stack."""
    found = {}
    for name, variant in some.items():
        found[name] = stack.enter_context(turns.worker(MODULE, variant, {}))
        turns.ready(found[name])
    return found


def print_row(width: int, sparsity: float, found: Mapping[str, turns.Answer]) -> None:
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
    options = parser.parse_args()
    import jax

    device, products = jax.devices()[0].device_kind, options.products
    print(TITLE.format(device=device, cores=os.cpu_count(), products=products))
    print("  ".join(f"{name:>{form.split('.')[0].rstrip('dg')}}" for name, form in COLUMNS.items()))
    for width in options.widths:
        few = max(3, min(50, 2 * (4096 // width) ** 2))  # updates per round; the cheaper ones get more
        with ExitStack() as by_width:
            # What masked costs does not depend on the sparsity: it is one program.
            whole = variants(width, 0.9, few, products)
            same = started(by_width, {name: whole[name] for name in ("dense", "masked")})
            for sparsity in options.sparsities:
                each = variants(width, sparsity, few, products)
                with ExitStack() as row:
                    others = started(row, {n: each[n] for n in ("compact", "block", "floor")})
                    print_row(width, sparsity, turns.compare(same | others, options.rounds))


if __name__ == "__main__":
    main()
