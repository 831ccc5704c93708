"""What the state of a run and a chunk of its program take of a process: for a process of its own.

A worker of the suite frees what earlier tests left whenever it likes, and its threads come and go:
beside them a few megabytes cannot be seen.
"""

import ctypes
import gc
import os
from pathlib import Path
from typing import Any

STATUS, PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
"""Where Linux says what this process holds; written to the second, 5 lets the peak begin anew."""
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""Of glibc's ``mallopt``: what is larger has pages of its own, which freeing gives back; one heap."""
TIMES = 3


def held(field: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most; 0 where the system does not say."""
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:")), 0)


def measured(config: Any) -> tuple[int | None, list[int]]:
    """Bytes of a run's chunk, as its program's analysis says and as held, several times.

    Zeros stand for the state: nothing is drawn. Both were there once before: what they compile is not
    theirs. On one core, for what threads need is not theirs either.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # each thread would pack matrices of its own
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_MMAP_THRESHOLD, 1 << 14)
    import jax
    import jax.numpy as jnp
    import numpy as np

    from sparse_rl.kernels.compilation import give_back_memory
    from sparse_rl.runs import pack
    from sparse_rl.runs.memory import taken_by

    def zeros(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return jnp.zeros(leaf.shape, leaf.dtype)

    loop: Any
    loop, (run,) = pack.prepare_pack([config])
    shapes = jax.eval_shape(loop.init, run.inputs)
    lowered = jax.jit(loop.chunk, donate_argnums=1).lower(jax.ShapeDtypeStruct((), np.int32), shapes)
    chunk: Any = lowered.compile(compiler_options=pack.compiler_options(loop))

    def once() -> int:
        gc.collect()
        give_back_memory()
        before = held("VmRSS")
        PEAK.write_text("5")
        jax.block_until_ready(chunk(np.int32(0), jax.tree.map(zeros, shapes)))
        return held("VmHWM") - before

    once()
    return taken_by(chunk), [once() for _ in range(TIMES)]
