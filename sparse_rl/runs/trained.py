"""What finished runs trained, read back to act once more."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from sparse_rl.agents import acting
from sparse_rl.loops import CurriculumLoop, OnPolicyLoop, PairedLoop, RecallingLoop
from sparse_rl.records import results
from sparse_rl.records.checkpoints import CheckpointError, from_arrays, read_arrays
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.common import ExploringConfig
from sparse_rl.settings.run import RunConfig, run_config
from sparse_rl.settings.schema import ConfigError


class CannotTryError(Exception):
    """A run that cannot be tried, and why."""


def runs_of(study: Path, say: Callable[[str], None]) -> Iterator[tuple[Path, RunConfig]]:
    """A study's runs by their folders. One whose files cannot be read is told of, and left out.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    found = results.run_dirs(study)
    if not found:
        raise FileNotFoundError(f"no runs in {study}: expected {study}/<run_id>/{results.RUN}")
    for run_dir in found:
        try:
            results.read_run(run_dir)
            yield run_dir, run_config(results.read_config(run_dir))
        except (results.RecordError, ConfigError, OSError) as why:
            say(f"{run_dir.name} is left out: {why}")


class Actor(NamedTuple):
    """A run's program: a loop whose agent acts, and the shapes of its learner."""

    loop: OnPolicyLoop | CurriculumLoop | PairedLoop | RecallingLoop
    shapes: Any

    def learner(self, held: Any) -> Any:
        """A learner with trained networks and statistics, that draws at random as often as at the end of
        its run; of the rest it has the shapes."""
        parameters, supports = held["parameters"], held["supports"]
        fields = {"networks": parameters, "supports": supports}
        if "networks" not in self.shapes.agent._fields:  # one that chooses by values has one network
            fields = {"critic": parameters["critic"], "supports": supports["critic"]}
        settings = self.loop.config.agent
        if isinstance(settings, ExploringConfig):
            fields["exploration"] = np.float32(settings.final_exploration)
        agent = self.shapes.agent._replace(**fields)
        return self.shapes._replace(agent=agent, normaliser=held["normaliser"])

    def read(self, run_dir: Path) -> Any:
        """What was trained.

        Raises:
            CannotTryError: it cannot be read.
        """
        like = acting(self.loop.agent, self.shapes)
        try:
            return from_arrays(like, read_arrays(run_dir / results.PARAMETERS))
        except (CheckpointError, FileNotFoundError) as error:
            raise CannotTryError(f"its parameters cannot be read ({error})") from error


def actor_of(config: RunConfig) -> Actor:
    """Of a run; the same for all runs of a program.

    Raises:
        CannotTryError: its environment is on the host, or it is one of SAC, DDPG, DrQ and AZOPG.
    """
    loop, (run,) = prepare_pack([config])
    if not isinstance(loop, OnPolicyLoop | CurriculumLoop | PairedLoop | RecallingLoop):
        raise CannotTryError("agents of rollouts and of teams only, in compiled environments")
    state = jax.eval_shape(loop.init, run.inputs)
    return Actor(loop, getattr(state, "protagonist", state))
