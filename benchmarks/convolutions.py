"""Convolutions of the networks here: our kernel beside products with patches and beside XLA's own.

    make convolution-benchmark

One core, processor time, inside of a compiled loop as in training; the three take turns. Each figure is
GFLOP/s of the products that are asked for: of the outputs, or of outputs and both gradients (of the
kernel alone for what reads pictures). The floor beside them is a large matrix product on that core.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from drq import product_rate
from jax import Array

from sparse_rl.kernels import native
from sparse_rl.kernels.machine import core_numbers, keep_to
from sparse_rl.networks.convolutions import convolve, patches, thin_product

TURNS, SECONDS = 5, 0.05


class Layer(NamedTuple):
    """A convolution on ``n`` pictures of ``side``² places and so many channels."""

    whose: str
    n: int
    side: int
    channels: int
    units: int
    size: int
    stride: int
    first: bool
    """Whether it reads pictures, which nobody asks a gradient of."""

    @property
    def flops(self) -> int:
        """Of the outputs."""
        places = ((self.side - self.size) // self.stride + 1) ** 2
        return 2 * self.n * places * self.size**2 * self.channels * self.units


LAYERS = (
    Layer("DrQ, 48×48, first", 16, 48, 3, 16, 3, 2, True),
    Layer("DrQ, 48×48, second", 16, 23, 16, 16, 3, 2, False),
    Layer("DrQ, 84×84, first", 8, 84, 9, 32, 3, 2, True),
    Layer("DrQ, 84×84, second", 8, 41, 32, 32, 3, 1, False),
    Layer("MinAtar, width 128", 256, 10, 4, 16, 3, 1, True),
    Layer("Atari nature, first", 16, 21, 64, 32, 2, 1, True),
)


def by_patches(x: Array, kernel: Array, size: int, stride: int) -> Array:
    """A product with copied patches."""
    return thin_product(patches(x, size, stride), kernel)


def by_xla(x: Array, kernel: Array, size: int, stride: int) -> Array:
    """XLA's own convolution."""
    form, kept = ("NHWC", "HWIO", "NHWC"), kernel.reshape(size, size, x.shape[-1], -1)
    return jax.lax.conv_general_dilated(x, kept, (stride, stride), "VALID", dimension_numbers=form)


WAYS: dict[str, Callable[..., Array]] = {"ours": convolve, "patches": by_patches, "XLA": by_xla}


def work(layer: Layer, way: Callable[..., Array], gradients: bool) -> Callable[[int], Any]:
    """A compiled loop of so many rounds over one layer."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (layer.n, layer.side, layer.side, layer.channels))
    kernel = jax.random.normal(keys[1], (layer.size**2 * layer.channels, layer.units))
    made = jax.eval_shape(lambda: by_patches(x, kernel, layer.size, layer.stride))
    d = jax.random.normal(keys[2], made.shape)

    def once(x: Array, kernel: Array) -> tuple[Array, Array]:
        """What the next round begins with: all that was computed has to be there."""

        def outputs(x: Array, kernel: Array) -> Array:
            return way(x, kernel, layer.size, layer.stride)

        if not gradients:
            return x, kernel + 1e-9 * jnp.mean(outputs(x, kernel))
        if layer.first:
            y, pull = jax.vjp(lambda kernel: outputs(x, kernel), kernel)
            return x, kernel + 1e-9 * pull(d + 1e-9 * y)[0]
        y, pull = jax.vjp(outputs, x, kernel)
        dx, dkernel = pull(d + 1e-9 * y)
        return x + 1e-9 * dx, kernel + 1e-9 * dkernel

    loop = jax.jit(lambda rounds: jax.lax.fori_loop(0, rounds, lambda _, of: once(*of), (x, kernel)))
    return lambda rounds: jax.block_until_ready(loop(rounds))


def seconds(run: Callable[[int], Any], rounds: int) -> float:
    """Of processor time, for one round."""
    started = time.process_time()
    run(rounds)
    return (time.process_time() - started) / rounds


def rates(layer: Layer, gradients: bool) -> dict[str, float]:
    """Way → FLOP/s, the best of its turns."""
    passes = 1 if not gradients else 2 if layer.first else 3
    runs = {name: work(layer, way, gradients) for name, way in WAYS.items()}
    rounds = {}
    for name, run in runs.items():
        run(1)
        rounds[name] = max(1, round(SECONDS / seconds(run, 3)))
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(TURNS):
        for name, run in runs.items():
            best[name] = min(best[name], seconds(run, rounds[name]))
    return {name: passes * layer.flops / time for name, time in best.items()}


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    ).parse_args()
    keep_to([min(core_numbers())])
    rate = product_rate()["rate"]
    print(f"One core; ours: {native.multiplier()}; GFLOP/s of a large product: {rate / 1e9:.0f}")
    print(f"{'':20s} | outputs: {'  '.join(WAYS)}  ratio | and gradients: {'  '.join(WAYS)}  ratio")
    for layer in LAYERS:
        line = f"{layer.whose:20s}"
        for gradients in (False, True):
            found = rates(layer, gradients)
            others = max(rate for name, rate in found.items() if name != "ours")
            line += " | " + " ".join(f"{rate / 1e9:6.0f}" for rate in found.values())
            line += f"  {found['ours'] / others:.1f}x"
        print(line, flush=True)


if __name__ == "__main__":
    main()
