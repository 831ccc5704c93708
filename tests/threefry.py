"""Random bits of the suite's programs: made by one function for all, where XLA compiles a loop per draw.

The program that draws a small agent's weights and masks holds a hundred such loops, and compiles in
less than half of the time without them. The bits are the same (:mod:`test_threefry`), and so is all that
is made of them. Without a compiler XLA makes them, as it does for users.
"""

import ctypes
import functools
import hashlib
import math
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import threefry2x32_p
from jax.interpreters import mlir

from sparse_rl.kernels.native import COMPILERS

SOURCE = Path(__file__).with_suffix(".cc")
TARGET = "suite_threefry"


@functools.cache
def built(folder: Path) -> Path | None:
    """The library with the function, made in ``folder`` if need be; ``None`` without a compiler."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return None
    told = f"{SOURCE.read_text()}\n{jax.__version__}\n{compiler}"
    library = folder / f"threefry_{hashlib.sha256(told.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as aside:  # no worker ever reads half of it
            made = Path(aside) / library.name
            flags = ["-std=c++17", "-O2", "-shared", "-fPIC", "-w", f"-I{jax.ffi.include_dir()}"]
            subprocess.run([compiler, *flags, str(SOURCE), "-o", str(made)], check=True)
            made.replace(library)
    return library


def _bits(*words: Any) -> tuple[Any, Any]:
    """What jax's own lowering computes of two words of a key and two of a counter."""
    shape = jnp.broadcast_shapes(*(x.shape for x in words))
    given = [x if x.size in (1, math.prod(shape)) else jnp.broadcast_to(x, shape) for x in words]
    like = jax.ShapeDtypeStruct(shape, jnp.uint32)
    made = jax.ffi.ffi_call(TARGET, (like, like))(*given)
    return made[0], made[1]


def use(folder: Path) -> None:
    """From now on, in what this process compiles."""
    library = built(folder)
    if library is None:
        return
    function = jax.ffi.pycapsule(getattr(ctypes.CDLL(str(library)), TARGET))
    jax.ffi.register_ffi_target(TARGET, function, platform="cpu")
    lowering = mlir.lower_fun(_bits, multiple_results=True)
    mlir.register_lowering(threefry2x32_p, lowering, platform="cpu")
