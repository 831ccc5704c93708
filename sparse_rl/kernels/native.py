"""Builds our own CPU kernels, once per machine, where there is a compiler.

XLA's products of many small blocks use a third to two thirds of what a core can do, it makes surviving
values dense on one core (docs/storage.md), and its convolutions copy every patch (docs/drq.md). The
kernels are files of C++ that g++ or clang turns into a library in the user's cache the first time
that one is called. Without them (no compiler, ``SPARSE_RL_KERNELS=0``) XLA does the same: the same
numbers within float tolerance. Programs for other platforms hold XLA's form, wherever they are traced
(:mod:`~sparse_rl.kernels.platforms`).
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.kernels.compilation import cache_folder
from sparse_rl.kernels.machine import processor

FOLDER = Path(__file__).parent
SOURCES = [FOLDER / name for name in ("blocks.cc", "compact.cc", "convolution.cc", "streams.cc")]
HEADER = FOLDER / "kernels.h"
COMPILERS = ("g++", "clang++")
"""Tried in this order; Apple's ``g++`` is clang."""
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-shared", "-fPIC", "-w")
TARGETS = (
    "block_outputs", "block_inputs", "block_gradients",
    "compact_tile",
    "convolution_outputs", "convolution_inputs", "convolution_gradients",
    "stream_look", "stream_trace",
)  # fmt: skip
BUILD_SECONDS = 120
VARIABLE = "SPARSE_RL_KERNELS"
PALLAS, INTERPRETED = "pallas", "pallas-interpret"
CHOICES = ("1", "0", PALLAS, INTERPRETED)
"""What :data:`VARIABLE` may say: our kernels of C++ (as without it), none of ours, those of
:mod:`~sparse_rl.kernels.gpu_blocks` for products with blocks, and these by Pallas's interpreter."""


class NoKernelsError(RuntimeError):
    """Why XLA does without our kernels."""


def choice() -> str:
    """What :data:`VARIABLE` says."""
    return os.environ.get(VARIABLE) or "1"


def by_pallas() -> bool:
    """Whether products with blocks are to be those of :mod:`~sparse_rl.kernels.gpu_blocks`."""
    return choice() in (PALLAS, INTERPRETED)


def refusal() -> str | None:
    """Why nothing can be trained here with the kernels that were asked for; ``None`` if it can."""
    told = choice()
    if told not in CHOICES:
        return f"{VARIABLE}={told} is not allowed; give one of {', '.join(CHOICES)}"
    device = jax.default_backend()
    if told == PALLAS and device != "gpu":
        return (
            f"{VARIABLE}={PALLAS} is for GPUs, and this is a {device}: unset it, or try the same "
            f"kernels slowly with {VARIABLE}={INTERPRETED}"
        )
    return None


def flags() -> list[str]:
    """For this processor: clang on Apple's chips knows the second of the two names only."""
    arm = platform.machine() in ("arm64", "aarch64")
    return [*FLAGS, "-mcpu=native" if arm else "-march=native"]


def _name(compiler: str) -> str:
    """Of the library for this source, compiler, jax and processor."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, text=True).stdout
    texts = "".join(source.read_text() for source in [*SOURCES, HEADER])
    told = (texts, version, " ".join(flags()), jax.__version__, processor())
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()[:32]


def _kept(folder: Path, name: str) -> Path | None:
    """The library of this name, if it is whole: the rest of its name is its checksum. A library that is
    cut off ends the process that loads it."""
    for library in folder.glob(f"{name}-*.so"):
        if library.stem == f"{name}-{_digest(library)}":
            return library
        library.unlink(missing_ok=True)
    return None


def _build(compiler: str, folder: Path, name: str) -> Path:
    """Compile beside the library's place and move there, so that none ever reads half of it."""
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        made = Path(aside) / "made.so"
        command = [compiler, *flags(), f"-I{jax.ffi.include_dir()}", *map(str, SOURCES), "-o", str(made)]
        subprocess.run(command, capture_output=True, check=True, text=True, timeout=BUILD_SECONDS)
        library = folder / f"{name}-{_digest(made)}.so"
        with made.open("rb") as written:  # on the disk before it has its name
            os.fsync(written.fileno())
        made.replace(library)
    return library


def built() -> Path:
    """The library with our kernels, made if it is not there yet.

    Raises:
        NoKernelsError: it cannot be made here, or is of no use.
    """
    if choice() == "0":
        raise NoKernelsError(f"{VARIABLE}=0")
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise NoKernelsError(f"there is no {' or '.join(COMPILERS)} to build our kernels")
    try:
        folder, name = cache_folder("kernels"), _name(compiler)
        return _kept(folder, name) or _build(compiler, folder, name)
    except subprocess.CalledProcessError as error:
        said = f"{Path(compiler).name} could not build our kernels: {error.stderr.strip()[:300]}"
        raise NoKernelsError(said) from None
    except (OSError, subprocess.SubprocessError) as error:
        raise NoKernelsError(f"our kernels could not be built: {error}") from None


@functools.cache
def load() -> tuple[int, str]:
    """Build the kernels if need be, and make them known to XLA.

    Returns:
        What the number of samples must be a multiple of, 0 without kernels; what multiplies, in words.
    """
    try:
        functions = ctypes.CDLL(str(built()))
    except NoKernelsError as why:
        return 0, f"XLA ({why})"
    except OSError as why:
        return 0, f"XLA (our kernels could not be loaded: {why})"
    for target in TARGETS:
        jax.ffi.register_ffi_target(
            target, jax.ffi.pycapsule(getattr(functions, target)), platform="cpu"
        )
    return ctypes.c_int.in_dll(functions, "lanes").value, "our kernels"


def multiplier() -> str:
    """What multiplies in programs for this process's own device, in words."""
    device = jax.default_backend()
    return load()[1] if device == "cpu" else f"XLA (this is a {device})"


def multiplier_of_blocks() -> str:
    """The same for products with blocks."""
    told = choice()
    if told == INTERPRETED:
        return "Pallas kernels, interpreted"
    return "Pallas kernels" if told == PALLAS else multiplier()


def call(
    target: str, shapes: list[tuple[int, ...]], *arrays: Array, **options: np.bool_ | np.int64
) -> Sequence[Array]:
    """One of our kernels: float32 of these shapes; more leading axes are more layers."""
    made = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.ffi.ffi_call(target, made, vmap_method="broadcast_all")(*arrays, **options)


def call_each(
    target: str,
    shapes: list[tuple[int, ...]],
    in_place: Mapping[int, int],
    *arrays: Array,
    **options: np.int64,
) -> Sequence[Array]:
    """The same of a kernel that knows no further axes: of a batch it is called for each.

    Args:
        target, shapes, arrays, options: name, results, and what it is given.
        in_place: number of an array → of the result that takes its place.
    """
    made = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    kernel = jax.ffi.ffi_call(
        target, made, vmap_method="sequential", input_output_aliases=dict(in_place)
    )
    return kernel(*arrays, **options)
