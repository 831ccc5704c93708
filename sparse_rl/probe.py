"""``python -m sparse_rl.probe results/<name>``: what trained agents can still learn.

Looks at runs that were trained with ``keep_state=true``: their last state is on disk, replay buffer
included. For each, parts of the agent start anew and are retrained on the same experience; gradients of
replay batches are compared; and so is the policy before and after an update.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from sparse_rl import checkpoints, results
from sparse_rl.agent_configs import OffPolicyConfig
from sparse_rl.agents import OffPolicyLoop, RunInputs
from sparse_rl.agents.probing import TREATMENTS, Prober
from sparse_rl.analysis import statistics
from sparse_rl.checkpoints import CheckpointError
from sparse_rl.config import RunConfig, run_config
from sparse_rl.console import console
from sparse_rl.costs import count
from sparse_rl.experiment import compiler_options, prepare_pack
from sparse_rl.sweeps.grid import program_of

PROBE = "probe.json"
"""Of a run: what was found."""
CELL = ["env", "agent", "width", "sparsity"]


class CannotProbeError(Exception):
    """A run that cannot be probed, and why."""


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
        raise CannotProbeError("SAC and DDPG only, in compiled environments, with static masks")
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
    record = results.read_run(run_dir) or {}
    if record.get("status") != "done":
        raise CannotProbeError(f"it is {record.get('status', 'pending')}")
    steps = checkpoints.steps(run_dir)
    if config.env_steps not in steps:
        raise CannotProbeError("its last state was not kept; train it with keep_state=true")
    ((inputs, _),) = count([config], programs.loop)
    try:
        arrays = checkpoints.read_arrays(checkpoints.path_of(run_dir, config.env_steps))
        return programs.loop.from_disk(arrays, inputs), inputs
    except CheckpointError as error:
        raise CannotProbeError(f"its last state cannot be read ({error})") from error


def probe_run(run_dir: Path, programs: Programs, config: RunConfig) -> dict[str, Any]:
    """What is found of one run, ready for JSON.

    Raises:
        CannotProbeError: it cannot be probed.
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


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Interquartile mean over seeds with a 95 % interval, a row per cell and quantity."""
    told = []
    for cell, group in rows.groupby(CELL):
        for name in rows.columns.drop([*CELL, "run_id", "seed"]):
            value, low, high = statistics.bootstrap(
                statistics.scores({"": group[name].to_numpy()}), seed=0
            )[:3]
            what = f"{float(value):.4g} [{float(low):.4g}, {float(high):.4g}]"
            told.append(
                dict(zip(CELL, cell, strict=True)) | {"what": name, "seeds": len(group), "": what}
            )
    table = pd.DataFrame(told)
    return table.pivot_table(index="what", columns=CELL, values="", aggfunc="first", sort=False)


def _write(path: Path, text: str) -> None:
    results.write_aside(path, lambda aside: aside.write_text(text))


def probe_study(study: Path, updates: int, batches: int, say: Callable[[str], None]) -> Iterator[Any]:
    """Probe a study's runs one after the other, those that were probed before excepted.

    Yields:
        A row (:func:`row_of`) for each run that could be probed.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    found = results.run_dirs(study)
    if not found:
        raise FileNotFoundError(f"no runs in {study}: expected {study}/<run_id>/{results.RUN}")
    configs = {run_dir: run_config(results.read_config(run_dir)) for run_dir in found}
    compiled: dict[Any, Programs] = {}
    asked = {"updates": updates, "batches": batches}
    for i, (run_dir, config) in enumerate(sorted(configs.items(), key=lambda item: item[1].width), 1):
        path = run_dir / PROBE
        known = json.loads(path.read_text()) if path.exists() else {}
        if known.get("asked") != asked:
            say(f"{i}/{len(configs)} {config.run_id}")
            program = program_of(config)
            try:
                if program not in compiled:
                    compiled[program] = _programs(config, updates, batches)
                known = {"asked": asked} | probe_run(run_dir, compiled[program], config)
            except CannotProbeError as why:
                say(f"{config.run_id} is left out: {why}")
                continue
            _write(path, json.dumps(known))
        yield row_of(config, known)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m sparse_rl.probe",
        description="Reset tests, gradient interference and policy churn of trained agents.",
        epilog="Runs must have been trained with keep_state=true.",
    )
    parser.add_argument("study", type=Path, help="results/<name>")
    parser.add_argument("--updates", type=int, default=2000, help="of retraining (default: 2000)")
    parser.add_argument(
        "--batches", type=int, default=32, help="whose gradients are compared (default: 32)"
    )
    options = parser.parse_args(arguments)
    out = console()
    try:
        rows = list(probe_study(options.study, options.updates, options.batches, out.print))
    except FileNotFoundError as error:
        print(f"sparse_rl.probe: {error}", file=sys.stderr)
        sys.exit(2)
    if not rows:
        print("sparse_rl.probe: no run could be probed", file=sys.stderr)
        sys.exit(1)
    table = pd.DataFrame(rows)
    results.write_aside(
        options.study / "probe.parquet", lambda path: table.to_parquet(path, index=False)
    )
    out.print(summary(table).to_string())


if __name__ == "__main__":
    main()
