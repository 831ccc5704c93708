"""How many runs of a pack an accelerator holds, as its compiled programs say.

The closed form of :mod:`~sparse_rl.runs.costs` knows shapes and not what a compiler makes of them. Where
it leaves a doubt, the pack's programs are compiled from shapes, as they will be trained: nothing is
allocated, and training finds them compiled.
"""

import math
from typing import Any

from sparse_rl.runs.lockstep import Programs
from sparse_rl.runs.pack import (
    PreparedPack,
    available_bytes,
    compile_programs,
    cut,
    default_layout,
    program_of,
    runs_that_fit,
)
from sparse_rl.settings.run import RunConfig

OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "MemoryError")
"""Signs of it in what an error says."""
IN_DOUBT = 2.0
"""Packs that would fit so many times by the closed form are not compiled to be counted."""
WORTH_IT = 1.25
"""A pack is compiled once more where so many times as many runs would fit."""
_known: dict[tuple[RunConfig, int], int] = {}
"""Bytes of a program and a number of runs, compiled before in this process."""


def taken_by(program: Any) -> int | None:
    """Bytes that a compiled program has on its device while it runs; ``None`` if nobody says.

    Arguments, results and what is held in between; a result that takes an argument's place is counted
    once.
    """
    found = program.memory_analysis()
    if found is None:
        return None
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return int(kept + found.temp_size_in_bytes)


def planned_bytes(programs: Programs) -> int | None:
    """Bytes that a pack takes on its device: those of its largest program."""
    sizes = [taken_by(program) for program in (programs.init, programs.chunk, programs.evaluate)]
    return None if None in sizes else max(size for size in sizes if size is not None)


def _analysed(pack: PreparedPack, size: int, room: int) -> int | None:
    """What ``size`` runs of a pack take on one device; ``None`` if it cannot be told."""
    key = program_of(pack.runs[0].config), size
    if key not in _known:
        inputs = [run.inputs for run in pack.runs[:size]]
        try:
            taken = planned_bytes(compile_programs(pack.loop, inputs, "vmap"))
        except Exception as error:
            # A compiler that sees that it cannot be done; what else is wrong training will record.
            said = f"{type(error).__name__}: {error}"
            return 2 * room if any(sign in said for sign in OUT_OF_MEMORY) else None
        if taken is None:
            return None
        _known[key] = taken
    return _known[key]


def batch_that_fits(pack: PreparedPack, most: int) -> int:
    """How many runs of a pack to batch on one accelerator, at most ``most`` and at least one.

    The closed form proposes a number. Unless there is room for :data:`IN_DOUBT` times the whole, the
    programs of that many are compiled, which say what they take: fewer are tried until they fit a device
    with a fifth left free, or once as many more as would. Each try costs a compilation; the one that is
    taken is the one that training would pay, and the cache on disk keeps it.
    """
    run = pack.runs[0]
    room = int(0.8 * available_bytes())
    if IN_DOUBT * most * run.costs.memory_bytes <= room:
        return most
    size, grown = min(most, runs_that_fit(run)), False
    while True:
        taken = _analysed(pack, size, room)
        if taken is None:
            return size
        fits = taken <= room
        most = most if fits else size - 1
        better = max(1, min(most, size * room // taken))
        if (fits and (grown or better < WORTH_IT * size)) or size == better == 1:
            return size
        grown, size = fits or grown, better


def parts_that_fit(pack: PreparedPack, devices: int = 1, most: int | None = None) -> list[PreparedPack]:
    """A pack in parts of ``most`` runs; where its runs are batched, of no more than its devices hold."""
    size = min(most or len(pack.runs), len(pack.runs))
    if size and default_layout(pack.loop) == "vmap":
        size = min(size, devices * batch_that_fits(pack, math.ceil(size / devices)))
    return cut(pack, max(size, 1))
