"""What a run would do, without doing it: its programs as text, what they are given, and which of that
reaches their results. Tracing costs a tenth of compiling."""

import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from sparse_rl.runs.pack import prepare_pack, program_of
from sparse_rl.settings.run import RunConfig

FIRST = jax.ShapeDtypeStruct((), jnp.int32)


def same(one: Any, two: Any) -> bool:
    """Whether two pytrees hold the same numbers."""
    leaves, others = (jax.tree.leaves_with_path(tree) for tree in (one, two))
    return len(leaves) == len(others) and all(
        path == where and np.array_equal(x, y)
        for (path, x), (where, y) in zip(leaves, others, strict=True)
    )


def inner(value: Any) -> list[Any]:
    """The programs within an equation's parameter."""
    if isinstance(value, ClosedJaxpr | Jaxpr):
        return [value]
    return [each for item in value for each in inner(item)] if isinstance(value, tuple | list) else []


def _constants(program: Any) -> list[Any]:
    own = list(program.consts) if isinstance(program, ClosedJaxpr) else []
    plain = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    parts = [part for eqn in plain.eqns for value in eqn.params.values() for part in inner(value)]
    return own + [constant for part in parts for constant in _constants(part)]


def text(function: Callable[..., Any], *arguments: Any) -> str:
    """A program and the constants in it, as a digest: equal programs have equal ones."""
    program = jax.make_jaxpr(function)(*arguments)
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", str(program)).encode())
    for constant in _constants(program):
        digest.update(np.asarray(constant).tobytes())
    return digest.hexdigest()


class Programs(NamedTuple):
    """A run's programs, each traced when it is asked for; the cheapest first."""

    inputs: Callable[[], str]
    """What it is given."""
    shapes: Callable[[], str]
    """Of its state."""
    chunk: Callable[[], str]
    evaluate: Callable[[], str]
    init: Callable[[], str]


def _traced_once(loop: Any) -> Any:
    """The loop, its update traced once however often it is used; without health, which takes half of the
    time: what it reads are the settings of diagnostics."""
    if not hasattr(loop.agent, "diagnose"):
        return loop
    update = jax.jit(loop.agent.update)
    plain = loop._replace(agent=loop.agent._replace(update=update, diagnose=lambda *_: {}))
    if not hasattr(plain, "iterate"):
        return plain
    once: Any = type("Once", (type(plain),), {})(*plain)
    once.iterate = jax.jit(plain.iterate)
    return once


@functools.cache
def programs_of(config: RunConfig, health: bool) -> Programs:
    """The programs that this run would be trained by."""
    loop: Any
    loop, (run,) = prepare_pack([config])
    loop = loop if health else _traced_once(loop)
    state = jax.eval_shape(loop.init, run.inputs)
    given = jax.eval_shape(lambda: run.inputs)
    return Programs(
        lambda: str(jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), run.inputs)),
        lambda: str(state),
        functools.cache(lambda: text(loop.chunk, FIRST, state)),
        functools.cache(lambda: text(loop.evaluate, FIRST, state)),
        functools.cache(lambda: text(loop.init, given)),
    )


def difference(one: RunConfig, two: RunConfig, health: bool = False) -> str | None:
    """What is another in the second run; ``None``: nothing, they would have the same numbers.

    Runs that would share a pack have one program: there they can only differ in what it is given.

    Args:
        one, two: the runs.
        health: whether what measures it is part of the programs.
    """
    if program_of(one) == program_of(two):
        _, (first, second) = prepare_pack([one, two])
        return None if same(first.inputs, second.inputs) else "inputs"
    pairs = zip(Programs._fields, programs_of(one, health), programs_of(two, health), strict=True)
    return next((name for name, ours, theirs in pairs if ours() != theirs()), None)


def _called(eqn: Any) -> tuple[Any, int] | None:
    """The program that an equation calls once with its last operands, and how many come before."""
    if eqn.primitive.name in ("while", "scan", "cond"):
        return None
    parts = [part for value in eqn.params.values() for part in inner(value)]
    if not parts:
        return None
    plain = parts[0].jaxpr if isinstance(parts[0], ClosedJaxpr) else parts[0]
    return plain, len(eqn.invars) - len(plain.invars)


def _again_and_again(step: Callable[[list[bool]], list[bool]], carry: list[bool]) -> list[bool]:
    """What is reached in a carry however often the step is made."""
    while True:
        after = [old or new for old, new in zip(carry, step(carry), strict=True)]
        if after == carry:
            return carry
        carry = after


def _while(eqn: Any, given: list[bool]) -> list[bool]:
    tested, passed = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    of_test, of_body, carry = given[:tested], given[tested : tested + passed], given[tested + passed :]
    body, test = eqn.params["body_jaxpr"].jaxpr, eqn.params["cond_jaxpr"].jaxpr
    carry = _again_and_again(lambda now: reached(body, of_body + now), carry)
    return [True] * len(carry) if any(reached(test, of_test + carry)) else carry


def _scan(eqn: Any, given: list[bool]) -> list[bool]:
    constants, size = eqn.params["num_consts"], eqn.params["num_carry"]
    fixed, carry, rows = (
        given[:constants],
        given[constants : constants + size],
        given[constants + size :],
    )
    body = eqn.params["jaxpr"].jaxpr
    carry = _again_and_again(lambda now: reached(body, fixed + now + rows)[:size], carry)
    return carry + reached(body, fixed + carry + rows)[size:]


def _outcome(eqn: Any, given: list[bool]) -> list[bool]:
    if eqn.primitive.name == "while":
        return _while(eqn, given)
    if eqn.primitive.name == "scan":
        return _scan(eqn, given)
    if eqn.primitive.name == "cond":
        branches = [reached(branch.jaxpr, given[1:]) for branch in eqn.params["branches"]]
        return [given[0] or any(each) for each in zip(*branches, strict=True)]
    call = _called(eqn)
    if call is None or call[1] < 0:
        return [any(given)] * len(eqn.outvars)
    out = reached(call[0], given[call[1] :])
    return out if len(out) == len(eqn.outvars) else [any(given)] * len(eqn.outvars)


def reached(program: Any, given: Sequence[bool]) -> list[bool]:
    """Which results of a program depend on the operands that are marked."""
    marked = {var for var, mark in zip(program.invars, given, strict=True) if mark}
    for eqn in program.eqns:
        inputs = [not isinstance(var, Literal) and var in marked for var in eqn.invars]
        if any(inputs):
            marked |= {v for v, mark in zip(eqn.outvars, _outcome(eqn, inputs), strict=True) if mark}
    return [not isinstance(var, Literal) and var in marked for var in program.outvars]
