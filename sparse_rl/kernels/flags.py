"""What a process may have set for jax (``JAX_…`` variables, ``jax.config``) and for XLA.

It is put aside where masks are drawn. Where runs are trained it is refused by name if it changes their
numbers, and recorded if it may move them a little.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping

import jax

Flag = bool | int | str | None

NEEDED: Mapping[str, tuple[Flag, ...]] = {
    "jax_enable_x64": (False,),
    "jax_threefry_partitionable": (True,),
    "jax_random_seed_offset": (0,),
    "jax_default_matmul_precision": (None, "default"),
    "jax_numpy_rank_promotion": ("allow", "warn"),
    "jax_numpy_dtype_promotion": ("standard",),
    "jax_legacy_prng_key": ("allow", "warn"),
    "jax_debug_nans": (False,),
    "jax_debug_infs": (False,),
    "jax_debug_key_reuse": (False,),
    "jax_disable_jit": (False,),
    "jax_disable_most_optimizations": (False,),
    "jax_no_execution": (False,),
    "jax_no_tracing": (False,),
    "jax_softmax_custom_jvp": (False,),
    "jax_high_dynamic_range_gumbel": (False,),
}
"""Flag → the values under which a run has its numbers, or runs at all. NaN is what some columns hold
where there is nothing to tell, keys are drawn from more than once on purpose, and the libraries that
environments and networks come from rely on promotion."""

LOOSE = ("enable_fast_math", "enable_fast_min_max")
"""In names of XLA's flags: those that loosen arithmetic, NaN included."""
RECORDED = ("JAX_", "XLA_", "LIBTPU_", "NVIDIA_TF32_", "SPARSE_RL_KERNELS", "CUBLAS_", "TF_CUDNN_")
"""Beginnings of variables that can move numbers within float tolerance."""
HARMLESS = ("CACHE", "LOG", "TRACEBACK", "PLATFORM", "COMPILATION", "XLA_FLAGS_", "XLA_PYTHON_CLIENT_")
"""Parts of names of those that cannot: where programs are kept, what is printed, how memory is taken."""


@contextlib.contextmanager
def put_aside() -> Iterator[None]:
    """Inside, what is traced or computed follows jax's defaults, whatever the process has set.

    It does not reach into programs of somebody else that are compiled later: how threefry counts
    (``jax_threefry_partitionable``) is read only then. :func:`check_counting` refuses that.
    """
    with contextlib.ExitStack() as stack:
        for aside in (
            jax.numpy_rank_promotion("allow"),
            jax.numpy_dtype_promotion("standard"),
            jax.threefry_partitionable(True),
            jax.disable_jit(False),
            jax.debug_key_reuse(False),
            jax.default_matmul_precision(None),
        ):
            stack.enter_context(aside)
        yield


def check_counting(key: jax.Array) -> None:
    """Raise ``ValueError`` if what is drawn from this key would depend on how threefry counts."""
    if isinstance(key, jax.core.Tracer) and not jax.config.values["jax_threefry_partitionable"]:
        raise ValueError(
            "jax_threefry_partitionable=False (JAX_THREEFRY_PARTITIONABLE) changes what is drawn inside "
            "jit; unset it, or draw masks outside"
        )


def _as_set(name: str) -> str:
    """A flag as whoever set it knows it."""
    variable = name.upper()
    if variable in os.environ:
        return f"{variable}={os.environ[variable]}"
    return f"{name}={jax.config.values[name]!s}"


def unfit() -> list[str]:
    """What is set here under which a run would have other numbers or break, as ``NAME=value``."""
    values = {name: _plain(value) for name, value in jax.config.values.items()}
    wrong = [name for name, good in NEEDED.items() if name in values and values[name] not in good]
    loose = [
        flag
        for flag in os.environ.get("XLA_FLAGS", "").split()
        if any(part in flag for part in LOOSE) and not flag.lower().endswith(("=false", "=0"))
    ]
    return [*map(_as_set, wrong), *(f"XLA_FLAGS={flag}" for flag in loose)]


def _plain(value: object) -> object:
    """Some flags are enumerations, some words."""
    return getattr(value, "value", value)


def recorded() -> dict[str, str]:
    """Variables of this process that can move a run's numbers a little, for its record."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(RECORDED) and not any(part in name for part in HARMLESS)
    }
