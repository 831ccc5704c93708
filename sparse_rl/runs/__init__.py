"""A pack of runs from its configurations to rows on disk: costs counted, programs compiled, chunks taken
in lockstep, results recorded; and what is done with runs that ended (probes, films).

Not here: which runs there are and where they train (:mod:`sparse_rl.sweeps`), what a chunk does
(:mod:`sparse_rl.loops`).
"""

from sparse_rl.runs.connections import Connections, connections_of
from sparse_rl.runs.coordinates import LOOKS, coordinates_of
from sparse_rl.runs.costs import count, dense_networks
from sparse_rl.runs.crossplay import PAIRS, cross_play
from sparse_rl.runs.failures import keep_failures
from sparse_rl.runs.film import film
from sparse_rl.runs.held_out import Asked, try_study
from sparse_rl.runs.lockstep import Layout, Policy, Progress, Run, Watch, stack
from sparse_rl.runs.memory import OUT_OF_MEMORY, parts_that_fit
from sparse_rl.runs.opened import TrainedPolicy, Weights
from sparse_rl.runs.pack import (
    PreparedPack,
    available_bytes,
    check_devices,
    compile_programs,
    compiler_options,
    cut,
    default_layout,
    devices_here,
    halves,
    prepare_pack,
    program_of,
    runs_that_fit,
    train_pack,
    workers,
)
from sparse_rl.runs.probing import probe_study
from sparse_rl.runs.provenance import code_here, code_of
from sparse_rl.runs.recorder import Recorder
from sparse_rl.runs.trained import WHICH, CannotTryError

__all__ = [
    "LOOKS",
    "OUT_OF_MEMORY",
    "PAIRS",
    "WHICH",
    "Asked",
    "CannotTryError",
    "Connections",
    "Layout",
    "Policy",
    "PreparedPack",
    "Progress",
    "Recorder",
    "Run",
    "TrainedPolicy",
    "Watch",
    "Weights",
    "available_bytes",
    "check_devices",
    "code_here",
    "code_of",
    "compile_programs",
    "compiler_options",
    "connections_of",
    "coordinates_of",
    "count",
    "cross_play",
    "cut",
    "default_layout",
    "dense_networks",
    "devices_here",
    "film",
    "halves",
    "keep_failures",
    "parts_that_fit",
    "prepare_pack",
    "probe_study",
    "program_of",
    "runs_that_fit",
    "stack",
    "train_pack",
    "try_study",
    "workers",
]
