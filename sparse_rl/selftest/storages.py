"""Which storage is how fast, beside what the device can do?"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import NamedTuple

from sparse_rl.kernels import native
from sparse_rl.kernels.machine import cores
from sparse_rl.selftest import turns
from sparse_rl.selftest.child import Asked
from sparse_rl.selftest.lines import WRONG, Line, Lines, doing, note, row
from sparse_rl.selftest.updates import MODULE, Variant, variants

SPARSITY = 0.9
PALLAS = "block, Pallas"
MOST = 1.2
"""Of the ceiling: more than this the device cannot do, so units or a count are wrong."""


class Size(NamedTuple):
    """How large what is measured is."""

    widths: tuple[int, ...]
    products: tuple[str, ...]
    rounds: int
    copied: int
    """Numbers of the array that is copied."""
    side: int
    """Of the matrices that are multiplied."""
    together: int
    """Widest network whose variants are held side by side; wider ones come one by one."""


FULL = Size((1024, 2048, 4096, 8192), ("float32", "bfloat16"), 3, 1 << 28, 8192, 4096)
QUICK = Size((64,), ("float32",), 2, 1 << 24, 512, 4096)


def few(width: int) -> int:
    """Updates per round of the dense network: enough to be timed, and no more."""
    return max(5, min(200, 50 * (4096 // width)))


def groups(width: int, products: str, device: str, size: Size) -> list[dict[str, Variant]]:
    """Variants that are held at the same time."""
    every = variants(width, SPARSITY, few(width) if size is FULL else 5, products)
    if device == "gpu":
        every[PALLAS] = every["block"]
    if width > size.together or cores() < len(every):
        return [{name: variant} for name, variant in every.items()]
    return [every]


def measured(group: Mapping[str, Variant], rounds: int) -> dict[str, turns.Answer]:
    """Each in a process of its own, that start together and are timed in turns."""
    with ExitStack() as stack:
        workers = {}
        for name, variant in group.items():
            chosen = {native.VARIABLE: native.PALLAS} if name == PALLAS else {}
            workers[name] = stack.enter_context(turns.worker(MODULE, variant, chosen))
        for process in workers.values():
            turns.ready(process)
        return turns.compare(workers, rounds)


def rates(variant: str, told: turns.Answer, most_flops: float, most_bytes: float) -> Line:
    """A row: milliseconds of an update, and its rates beside the device's ceilings."""
    flops, traffic = told["flops"] / told["seconds"], told["bytes"] / told["seconds"]
    wrong = None
    if not 0.0 < told["seconds"] < float("inf"):
        wrong = f"an update takes {told['seconds']} s"
    elif flops > MOST * most_flops:
        wrong = f"{variant}: {flops / 1e9:.3g} GFLOP/s is more than this device can do"
    return {
        "variant": variant,
        "ms": told["seconds"] * 1e3,
        "GFLOP/s": flops / 1e9,
        "of ceiling": flops / most_flops,
        "GB/s": traffic / 1e9,
        "of copy": traffic / most_bytes,
        "state MB": told["state"] / 1e6,
        "peak MB": told["peak"] / 1e6,
        **({WRONG: wrong} if wrong else {}),
    }


def _said(width: int, products: str, ms: Mapping[str, float]) -> Iterator[Line]:
    """What follows for people, of one width."""
    gain, ideal = ms["dense"] / ms["block"], ms["block"] / ms["floor"]
    yield note(
        f"Width {width}, {products}, sparsity {SPARSITY}: block is {gain:.1f} times as fast as dense, "
        f"and takes {ideal:.2f} times as long as the floor; compact takes "
        f"{ms['compact'] / ms['masked']:.2f} times as long as masked."
    )
    if PALLAS in ms:
        yield note(
            f"Width {width}, {products}: block by Pallas kernels takes "
            f"{ms[PALLAS] / ms['block']:.2f} times as long as by XLA."
        )


def _ceilings(size: Size) -> tuple[float, dict[str, float]]:
    from sparse_rl.selftest import ceilings

    copied = ceilings.copied_bytes_per_second(size.copied)
    return copied, {p: ceilings.flops_per_second(size.side, p) for p in size.products}


def lines_of(asked: Asked) -> Lines:
    """A row per width, format and variant."""
    size = QUICK if asked.quick else FULL
    yield doing("ceilings")
    copied, flops = _ceilings(size)
    for products in size.products:
        yield row(
            variant="ceiling",
            products=products,
            **{"GFLOP/s": flops[products] / 1e9, "GB/s": copied / 1e9},
        )
    for width in size.widths:
        for products in size.products:
            ms: dict[str, float] = {}
            for group in groups(width, products, asked.device, size):
                yield doing(f"width {width}, {products}: {', '.join(group)}")
                for name, told in measured(group, size.rounds).items():
                    found = rates(name, told, flops[products], copied)
                    ms[name] = found["ms"]
                    yield row(width=width, products=products, **found)
            yield from _said(width, products, ms)
