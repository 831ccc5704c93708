"""What the layers of somebody else's trunk read, found by looking: no word of its author is needed.

Every dense layer is made to put out given numbers. Then what a layer reads depends on the layers that it
reads directly and on no other, and derivatives say on which of them, row by row.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax import Array

from sparse_rl.extensions import CodeError, load
from sparse_rl.kernels.keys import key_of

INPUTS, WIDTH, SAMPLES = 11, 8, 64
"""Sizes with which a trunk is looked at; what reads what does not depend on them. Of so many samples a
unit behind a ReLU is never silent in all."""
READ = "inputs"


class Observed(NamedTuple):
    """What was found of a trunk; names are paths within it."""

    layers: dict[str, tuple[tuple[str, ...], ...]]
    """Dense layer → groups of what its rows are: those of a group are added up."""
    out: tuple[tuple[str, ...], ...]
    """The same of what the trunk puts out."""


def make_trunk(name: str, width: int) -> nn.Module:
    """The flax module of this name and width, called ``trunk``.

    Raises:
        CodeError: it is no flax module with one width.
    """
    kind = load(name)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise CodeError(f"{name} is no class of flax.linen.Module")
    try:
        made: nn.Module = kind(width=width, name="trunk")
    except TypeError as error:
        raise CodeError(f"{name} is not made from width=… alone: {error}") from error
    return made


def _replaced(trunk: nn.Module, variables: Any) -> Callable[[Array, dict[str, Array]], Any]:
    """``(inputs, layer → what it puts out) → (layer → what it reads, what the trunk puts out)``."""

    def run(x: Array, outs: dict[str, Array]) -> tuple[dict[str, Array], Array]:
        reads: dict[str, Array] = {}

        def intercept(call: Any, arguments: Any, options: Any, context: Any) -> Any:
            layer = context.module
            if context.method_name != "__call__" or not isinstance(layer, nn.Dense):
                return call(*arguments, **options)
            name = "/".join(layer.path)
            if name in reads:
                raise CodeError(f"layer {name} is used twice")
            reads[name] = arguments[0] if arguments else options["inputs"]
            return outs[name]

        with nn.intercept_methods(intercept):
            made, _ = trunk.apply(variables, x, mutable=["activations", "features"])
        return reads, made

    return run


def _groups(depends: dict[str, np.ndarray], where: str) -> tuple[tuple[str, ...], ...]:
    """Rows in runs that depend on the same sources, each as long as these are wide.

    Args:
        depends: source → bool ``[rows, units]``.
        where: whose rows, for people.
    """
    rows = len(next(iter(depends.values())))
    sources = [tuple(n for n, found in depends.items() if found[row].any()) for row in range(rows)]
    groups = []
    for names, run in itertools.groupby(sources):
        length = len(list(run))
        if not names or any(depends[name].shape[1] != length for name in names):
            raise CodeError(
                f"{where} reads {length} numbers of {' and '.join(names) or 'nothing'}, not as many as "
                "these have; whole layers are read, one beside the other or added up"
            )
        groups.append(names)
    return tuple(groups)


def _check_told(kind: str, variables: Any, layers: set[str], sown: Any, made: Array) -> None:
    """Raise :class:`CodeError` if kernels are not those of dense layers, or measurements miss."""
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    found = {"/".join(k.key for k in path) for path, leaf in leaves if leaf.ndim > 1}
    if found != {f"{layer}/kernel" for layer in layers} or not layers:
        raise CodeError(
            f"{kind} has weights beside those of nn.Dense layers: {', '.join(sorted(found))}"
        )
    if made.shape != (SAMPLES, WIDTH):
        raise CodeError(f"{kind} puts out {list(made.shape[1:])} numbers of a sample, not its width")
    names = {name.removesuffix("_activation") for name in sown.get("activations", {})}
    if not names or not names <= layers:
        raise CodeError(
            f"{kind} says what its nonlinearities put out by self.sow('activations', "
            f"'<layer>_activation', x), of one of {', '.join(sorted(layers))}"
        )
    if set(sown.get("features", {})) != {"trunk"}:
        raise CodeError(f"{kind} says what it puts out by self.sow('features', 'trunk', x)")


def _widths(trunk: nn.Module, variables: Any, x: Array) -> dict[str, int]:
    """Dense layer → its units."""
    found: dict[str, int] = {}

    def watch(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        out = call(*arguments, **options)
        if context.method_name == "__call__" and isinstance(context.module, nn.Dense):
            found["/".join(context.module.path)] = out.shape[-1]
        return out

    with nn.intercept_methods(watch):
        trunk.apply(variables, x, mutable=["activations", "features"])
    return found


def _look(name: str) -> Observed:
    trunk = make_trunk(name, WIDTH).clone(name=None)
    x = jax.random.normal(key_of(0), (SAMPLES, INPUTS))
    try:
        made, held = trunk.init_with_output(key_of(1), x)
    except (TypeError, ValueError, AssertionError) as error:
        raise CodeError(f"{name} cannot be applied to vectors: {error}") from error
    variables = {"params": held["params"]}
    widths = _widths(trunk, variables, x)
    _check_told(name, variables, set(widths), held, made)
    run = _replaced(trunk, variables)
    outs = {
        layer: jax.random.normal(jax.random.fold_in(key_of(2), i), (SAMPLES, units))
        for i, (layer, units) in enumerate(widths.items())
    }

    def one(x: Array, outs: dict[str, Array]) -> Any:
        return jax.tree.map(lambda y: y[0], run(*jax.tree.map(lambda y: y[None], (x, outs))))

    slopes = jax.vmap(jax.jacrev(one, (0, 1)))(x, outs)
    reads, out = jax.tree.map(lambda j: np.any(np.asarray(j) != 0, axis=0), slopes)

    def of(found: tuple[np.ndarray, dict[str, np.ndarray]], where: str) -> tuple[tuple[str, ...], ...]:
        return _groups({READ: found[0], **found[1]}, f"{name}: {where}")

    layers = {layer: of(found, layer) for layer, found in reads.items()}
    return Observed(layers, of(out, "what it puts out"))


@functools.lru_cache(maxsize=64)
def observed(name: str) -> Observed:
    """What the layers of the trunk of this name read.

    Raises:
        CodeError: it is not a network of dense layers that read whole layers, or does not sow what
            diagnostics read.
    """
    with jax.ensure_compile_time_eval():  # whoever asks may be tracing
        return _look(name)
