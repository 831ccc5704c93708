"""Probes of runs that ended: parts of an agent start anew and are retrained on the same experience,
gradients of replay batches are compared, and so is the policy before and after an update.

Looks at runs that were trained with ``keep_state=true``: their last state is on disk, replay buffer
included.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from sparse_rl.agents import RunInputs
from sparse_rl.loops import TREATMENTS, OffPolicyLoop, Prober
from sparse_rl.records import checkpoints, results
from sparse_rl.records.checkpoints import CheckpointError
from sparse_rl.runs.costs import count
from sparse_rl.runs.pack import compiler_options, prepare_pack, program_of
from sparse_rl.runs.trained import CannotTryError, check_done, runs_of
from sparse_rl.settings.off_policy import OffPolicyConfig
from sparse_rl.settings.run import RunConfig

PROBE = "probe.json"
"""Of a run: what was found."""


class Programs(NamedTuple):
    """What is compiled once for all runs of a program."""

    loop: OffPolicyLoop
    treat: Mapping[str, Callable[..., Any]]
    retrain: Callable[..., Any]
    evaluate: Callable[..., Any]
    cosines: Callable[..., Any]
    churn: Callable[..., Any]


def _programs(config: RunConfig, updates: int, batches: int) -> Programs:
    """The programs for runs like this one; each compiles when it is first called."""
    loop = prepare_pack([config]).loop
    known = isinstance(config.agent, OffPolicyConfig)
    if not known or not isinstance(loop, OffPolicyLoop) or loop.agent.occasional:
        raise CannotTryError("SAC and DDPG only, in compiled environments, with static masks")
    prober = Prober(loop, updates, batches)

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(function, compiler_options=compiler_options(loop))

    return Programs(
        loop,
        {name: compiled(lambda s, i, name=name: prober.treat(name, s, i)) for name in TREATMENTS},
        compiled(prober.retrain),
        compiled(loop.evaluate),
        compiled(prober.gradient_cosines),
        compiled(prober.churn),
    )


def _final_state(run_dir: Path, programs: Programs, config: RunConfig) -> tuple[Any, RunInputs]:
    """The state at the end of a run, and the run's inputs."""
    check_done(run_dir)
    steps = checkpoints.steps(run_dir)
    if config.env_steps not in steps:
        raise CannotTryError("its last state was not kept; train it with keep_state=true")
    ((inputs, _),) = count([config], programs.loop)
    try:
        arrays = checkpoints.read_arrays(checkpoints.path_of(run_dir, config.env_steps))
        return programs.loop.from_disk(arrays, inputs), inputs
    except CheckpointError as error:
        raise CannotTryError(f"its last state cannot be read ({error})") from error


def probe_run(run_dir: Path, programs: Programs, config: RunConfig) -> dict[str, Any]:
    """What is found of one run, ready for JSON.

    Raises:
        CannotTryError: it cannot be probed.
    """
    state, inputs = _final_state(run_dir, programs, config)
    end = np.int32(config.interactions)
    retrained = {}
    for name, treat in programs.treat.items():
        anew, metrics = programs.retrain(treat(state, inputs))
        row = metrics | programs.evaluate(end, anew)
        retrained[name] = {key: float(value) for key, value in row.items()}
    before = {key: float(value) for key, value in programs.evaluate(end, state).items()}
    cosines = {name: np.asarray(x).tolist() for name, x in programs.cosines(state).items()}
    churn = float(programs.churn(state))
    return {
        "before": before,
        "retrained": retrained,
        "gradient_cosine": cosines,
        "policy_churn": churn,
    }


def _mean_off_diagonal(matrix: list[list[float]]) -> float:
    cosines = np.asarray(matrix)
    return float(cosines[~np.eye(len(cosines), dtype=bool)].mean())


def row_of(config: RunConfig, found: Mapping[str, Any]) -> dict[str, Any]:
    """One row per run: its axes, and what was found as scalars."""
    row: dict[str, Any] = {
        "run_id": config.run_id,
        "env": config.env.name,
        "agent": config.agent.name,
        "width": config.width,
        "sparsity": config.sparsity,
        "seed": config.seed,
        "return before": found["before"]["return_mean"],
    }
    for name, metrics in found["retrained"].items():
        row[f"return, anew: {name}"] = metrics["return_mean"]
        row[f"loss/critic, anew: {name}"] = metrics["loss/critic"]
    for name, matrix in found["gradient_cosine"].items():
        row[f"grad_cosine/{name}"] = _mean_off_diagonal(matrix)
    row["policy_churn"] = found["policy_churn"]
    return row


def probe_study(study: Path, updates: int, batches: int, say: Callable[[str], None]) -> Iterator[Any]:
    """Probe a study's runs one after the other, those that were probed before excepted.

    Yields:
        A row (:func:`row_of`) for each run that could be probed.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    configs = dict(runs_of(study, say))
    compiled: dict[Any, Programs] = {}
    asked = {"updates": updates, "batches": batches}
    for i, (run_dir, config) in enumerate(sorted(configs.items(), key=lambda item: item[1].width), 1):
        path = run_dir / PROBE
        known = results.read_found(path, say)
        if known.get("asked") != asked:
            say(f"{i}/{len(configs)} {config.run_id}")
            program = program_of(config)
            try:
                if program not in compiled:
                    compiled[program] = _programs(config, updates, batches)
                known = {"asked": asked} | probe_run(run_dir, compiled[program], config)
            except CannotTryError as why:
                say(f"{config.run_id} is left out: {why}")
                continue
            results.write_record(path, known)
        yield row_of(config, known)
