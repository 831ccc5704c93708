"""How fast does a humanoid learn, sparse and dense? For as long as the rest of the time allows."""

import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sparse_rl.selftest.child import Asked
from sparse_rl.selftest.lines import WRONG, Line, Lines, doing, not_run, note, row
from sparse_rl.selftest.tasks import HUMANOID, config_of

SHARE = 0.85
"""Of the time until the part is killed, that is trained in."""
QUICK_SECONDS = 30.0
"""For each network, everything small: on a CPU of two slow threads most of it compiles."""
LONG = 100_000_000
"""Env steps that nobody reaches."""


class Case(NamedTuple):
    """A network."""

    width: int
    sparsity: float
    pattern: str


def cases(quick: bool) -> list[Case]:
    """Dense and sparse beside each other, growing; or a small one."""
    if quick:
        return [Case(16, 0.5, "block")]
    networks = ((0.0, "unstructured"), (0.9, "block"))
    return [Case(width, *each) for width in (512, 1024, 2048) for each in networks]


def trained(case: Case, quick: bool, seconds: float, folder: Path) -> list[dict[str, Any]]:
    """Rows of a run that is stopped after so many seconds, compilation included; none where it was not
    compiled by then.

    Raises:
        RuntimeError: it ended otherwise.
    """
    from sparse_rl.records import results
    from sparse_rl.runs import prepare_pack, train_pack

    steps = HUMANOID.small_steps if quick else HUMANOID.steps
    config = config_of(
        HUMANOID, quick, width=case.width, sparsity=case.sparsity, pruning={"pattern": case.pattern},
        env_steps=LONG // steps * steps, eval_every=20 * steps,
    )  # fmt: skip
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    try:
        ended = train_pack(prepare_pack([config]), folder, stop=stop)[config.run_id]
    finally:
        timer.cancel()
    if ended == "pending":
        return []
    run_dir = folder / config.run_id
    record, table = results.read_run(run_dir) or {}, results.read_metrics(run_dir)
    if ended != "preempted":
        raise RuntimeError(f"it ended {ended}: {record.get('reason')}")
    names = list(map(str, table))
    return [dict(zip(names, one, strict=True)) | record["timings"] for one in table.to_numpy()]


def told(case: Case, rows: Sequence[dict[str, Any]]) -> Line:
    """A row: how far it came, how fast, and the last return there is."""
    last = rows[-1]
    returns = [r["return_mean"] for r in rows if math.isfinite(r.get("return_mean", math.nan))]
    losses = [value for name, value in last.items() if name.startswith("loss/")]
    wrong = None if all(map(math.isfinite, losses)) else f"width {case.width}: a loss is not finite"
    return {
        **case._asdict(),
        "env steps": int(last["env_steps"]),
        "env steps/s": last["env_steps_per_second"],
        "updates/s": last["updates_per_second"],
        "compiled in s": last["compile_seconds"],
        "return": returns[-1] if returns else None,
        **({WRONG: wrong} if wrong else {}),
    }


def lines_of(asked: Asked) -> Lines:
    """A row per network, for each an equal share of the time that is left."""
    every, end = cases(asked.quick), time.monotonic() + SHARE * asked.seconds
    for i, case in enumerate(every):
        left = (end - time.monotonic()) / (len(every) - i)
        seconds = min(left, QUICK_SECONDS) if asked.quick else left
        yield doing(f"width {case.width}, sparsity {case.sparsity:g}, for {seconds:.0f} s")
        try:
            rows = trained(case, asked.quick, seconds, Path(asked.folder))
            yield row(**told(case, rows)) if rows else note(f"Not compiled in its time: {case}.")
        except ModuleNotFoundError as error:
            yield not_run(HUMANOID.name, str(error))
            return
    yield note("Each network has a share of what time is left, compilation included.")
