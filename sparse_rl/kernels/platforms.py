"""One program for every platform: what computes is chosen where a program is lowered for a device.

The default backend, which can be asked while a program is traced, is not where the program will run: it
may be exported for an accelerator that is not there, or placed on the CPU of a machine that has one. A
primitive with a lowering rule per platform costs nothing: the program holds the chosen form alone, as if
that had been called. (:func:`jax.lax.platform_dependent` leaves a conditional, which derivatives and
loops would carry along.)
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
from jax import Array
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

Form = Callable[..., Sequence[Array]]

_chosen = Primitive("by_platform")
_chosen.multiple_results = True


def by_platform(cpu: Form, other: Form, *arrays: Array, **options: Hashable) -> Sequence[Array]:
    """``cpu(*arrays, **options)`` in programs for CPUs, ``other(*arrays, **options)`` in all others.

    It has no derivative of its own: call it inside of a rule that has (``custom_vjp``). Under ``vmap``
    the chosen form is mapped.

    Args:
        cpu, other: functions of a module, so that equal calls share a program; what they make has the
            same shapes and dtypes.
        arrays: what both are given; one of them may leave some unused.
        options: what is known before tracing, for both.

    Returns:
        What the chosen form does: a sequence of arrays.
    """
    known = tuple(sorted(options.items()))
    found: Sequence[Array] = _chosen.bind(*arrays, cpu=cpu, other=other, options=known, axes=())
    return found


def _mapped(form: Form, options: Any, axes: Any) -> Form:
    """A form of arrays alone; each entry of ``axes`` is one ``vmap`` around it."""
    function = functools.partial(form, **dict(options))
    for in_axes in axes:
        function = jax.vmap(function, in_axes)
    return function


@_chosen.def_abstract_eval
def _shapes(*arrays: Any, cpu: Form, other: Form, options: Any, axes: Any) -> list[ShapedArray]:
    given = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays]
    made = jax.eval_shape(_mapped(cpu, options, axes), *given)  # a call each: other forms are longer
    return [ShapedArray(x.shape, x.dtype) for x in made]


@functools.cache
def _program(**known: Any) -> Any:
    return jax.jit(functools.partial(_chosen.bind, **known))


@_chosen.def_impl
def _outside_of_programs(*arrays: Any, **known: Any) -> Sequence[Array]:
    with jax.disable_jit(False):  # what the process has set would bring us back here
        found: Sequence[Array] = _program(**known)(*arrays)
    return found


def _batched(arrays: Any, axes_in: Any, *, axes: Any, **known: Any) -> tuple[Any, Any]:
    found = _chosen.bind(*arrays, axes=(*axes, tuple(axes_in)), **known)
    return found, [0] * len(found)


batching.primitive_batchers[_chosen] = _batched


def _for_cpus(ctx: Any, *values: Any, cpu: Form, other: Form, options: Any, axes: Any) -> Any:
    return mlir.lower_fun(_mapped(cpu, options, axes))(ctx, *values)


def _for_others(ctx: Any, *values: Any, cpu: Form, other: Form, options: Any, axes: Any) -> Any:
    return mlir.lower_fun(_mapped(other, options, axes))(ctx, *values)


mlir.register_lowering(_chosen, _for_cpus, platform="cpu")
mlir.register_lowering(_chosen, _for_others)
