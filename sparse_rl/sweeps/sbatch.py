"""What SLURM is given: parameters that fit each other, the text of jobs; what a plan says of both."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import submitit

from sparse_rl.loops import MasterLoop
from sparse_rl.runs import PreparedPack
from sparse_rl.settings.launchers import SlurmConfig, accelerators_of, build_launcher, check_job, lines
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps.locks import FOLDER
from sparse_rl.sweeps.plan import amount
from sparse_rl.sweeps.squeue import array_limit
from sparse_rl.sweeps.tasks import Settings

SBATCH_NAMES = {"name": "job_name", "timeout_min": "time", "mem_gb": "mem"}
"""Our parameters whose names say their units → submitit's."""
EARLY_SECONDS = 60
"""SLURM may send its warning so much earlier than asked."""


class _Executor(submitit.SlurmExecutor):
    """Can write the text of a job on a machine without SLURM."""

    @classmethod
    def affinity(cls) -> int:
        return 1


def executor_of(home: Path, parameters: Mapping[str, Any]) -> submitit.SlurmExecutor:
    """Who submits, with parameters that fit each other.

    Raises:
        ConfigError: a parameter is unknown, of a wrong kind, or does not fit the others.
    """
    given = cast(SlurmConfig, build_launcher("slurm", parameters))
    limit, warning = given.timeout_min * 60, given.signal_delay_s
    if limit < warning + 2 * EARLY_SECONDS:
        raise ConfigError(
            f"hydra.launcher.timeout_min={given.timeout_min} is too short: SLURM warns "
            f"signal_delay_s={warning} s before the end, and up to {EARLY_SECONDS} s earlier; "
            f"give at least {-(-(warning + 2 * EARLY_SECONDS) // 60)}"
        )
    # A job may be requeued as often as it takes.
    executor = _Executor(home, max_num_timeout=1_000_000, python=given.python)
    named = {
        SBATCH_NAMES.get(field.name, field.name): getattr(given, field.name)
        for field in dataclasses.fields(given)
        if field.name not in ("python", "retries", "packs_per_job")
        and getattr(given, field.name) is not None
    }
    named["mem"] = None if given.mem_gb is None else f"{math.ceil(given.mem_gb * 1024)}MB"
    named |= {name: lines(named[name]) or None for name in ("setup", "teardown", "srun_args")}
    executor.update_parameters(**{name: value for name, value in named.items() if value is not None})
    return executor


def describe(
    packs: Sequence[PreparedPack],
    settings: Settings,
    *,
    retries: int = 3,
    packs_per_job: int = 1,
    **parameters: Any,
) -> list[str]:
    """What would be submitted: the array, and the text of its jobs."""
    home = settings.study_dir.resolve() / FOLDER / "<time>"
    given = {**parameters, "packs_per_job": packs_per_job}
    executor = executor_of(home, given)
    check_job(cast(SlurmConfig, build_launcher("slurm", given)), settings.devices_per_pack)
    masters = sum(isinstance(pack.loop, MasterLoop) for pack in packs)
    tasks = len(packs) - masters
    if masters and not tasks and packs_per_job > 1:
        raise ConfigError(
            f"hydra.launcher.packs_per_job={packs_per_job} changes nothing here: masters train in the "
            "sweep's own process, and each worker of theirs is a job"
        )
    most, jobs = array_limit(), -(-tasks // packs_per_job)
    if jobs > 1:
        executor.parameters["map_count"] = min(jobs, most)
    text = executor._make_submission_file_text(executor._submitit_command_str, "")
    arrays = f" in {-(-jobs // most)} arrays of at most {most}" if jobs > most else ""
    many = f"{jobs} jobs for {tasks} tasks of one pack, {packs_per_job} side by side"
    what = f"{tasks} tasks, one pack each" if packs_per_job == 1 else many
    said = [f"\nSLURM: {what}{arrays}; sbatch would read", text]
    if packs_per_job > 1 and tasks:
        said.insert(1, _side_by_side(packs, packs_per_job, parameters))
    here = f"\n{masters} packs train here, the workers of each run in an array of jobs of their own"
    return [here, *said] if masters else said


def _side_by_side(packs: Sequence[PreparedPack], count: int, parameters: Mapping[str, Any]) -> str:
    """What each pack gets of its job, and what it needs.

    Raises:
        ConfigError: a run does not fit into its pack's share of the memory that was asked for.
    """
    given = cast(SlurmConfig, build_launcher("slurm", {**parameters, "packs_per_job": count}))
    cores, devices = given.cpus_per_task, accelerators_of(given)
    largest = max((run for pack in packs for run in pack.runs), key=lambda run: run.costs.memory_bytes)
    need = largest.costs.memory_bytes
    words = f"each pack has {cores // count} of the job's {cores} cores"
    if devices:
        together = math.ceil(count / devices)
        words += ", an accelerator" + (f" with {together - 1} others" if together > 1 else "")
    if given.mem_gb is None:
        words += f" and 1/{count} of its memory"
    else:
        share = given.mem_gb * 2**30 / count
        words += f" and {amount(share, 'B')} of its memory"
        if need > share:
            raise ConfigError(
                f"hydra.launcher.packs_per_job={count}: a run of width {largest.config.width} needs "
                f"about {amount(need, 'B')}, and a pack's share of mem_gb={given.mem_gb:g} is "
                f"{amount(share, 'B')}; give fewer packs or more memory"
            )
    return f"{words}; the largest run needs about {amount(need, 'B')}"
