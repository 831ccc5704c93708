"""What finished runs trained, read back to act once more: the one door to it."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np
from jax import Array

from sparse_rl.agents import View, acting
from sparse_rl.envs import Env, HostEnv, TeamEnv, vector, with_names
from sparse_rl.loops import (
    Act,
    CurriculumLoop,
    HostLoop,
    HostOffPolicyLoop,
    LearnerState,
    OffPolicyLoop,
    OnPolicyLoop,
    PairedLoop,
    RecallingLoop,
    policy,
)
from sparse_rl.networks import Memory
from sparse_rl.records import results
from sparse_rl.records.checkpoints import Arrays, CheckpointError, from_arrays, read_arrays
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.common import ExploringConfig, TeamAgentConfig
from sparse_rl.settings.off_policy import SacConfig
from sparse_rl.settings.run import RunConfig, run_config
from sparse_rl.settings.schema import ConfigError

Which = Literal["last", "best"]
"""Of what a run kept: as it was at its end, or at its best evaluation."""
WHICH: tuple[str, ...] = get_args(Which)
Replaying = OffPolicyLoop | HostOffPolicyLoop
Acting = Replaying | OnPolicyLoop | HostLoop | CurriculumLoop | PairedLoop | RecallingLoop


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


def check_done(run_dir: Path) -> None:
    """Raise :class:`CannotTryError` for a run that has not ended well."""
    status = (results.read_run(run_dir) or {}).get("status", "pending")
    if status != "done":
        raise CannotTryError(f"it is {status}")


class Actor(NamedTuple):
    """A run's program: a loop whose agent acts, and the shapes of its learner."""

    loop: Acting
    shapes: Any

    @property
    def config(self) -> RunConfig:
        return self.loop.config

    def learner(self, held: Any) -> Any:
        """A learner with trained networks and statistics, that draws at random as often as at the end of
        its run; of the rest it has the shapes."""
        parameters, supports = held["parameters"], held["supports"]
        if isinstance(self.loop, Replaying):
            fields = {**parameters, "supports": supports}
        elif "networks" in self.shapes.agent._fields:
            fields = {"networks": parameters, "supports": supports}
        else:  # one that chooses by values has one network
            fields = {"critic": parameters["critic"], "supports": supports["critic"]}
        if isinstance(self.config.agent, ExploringConfig):
            fields["exploration"] = np.float32(self.config.agent.final_exploration)
        agent = self.shapes.agent._replace(**fields)
        return self.shapes._replace(agent=agent, normaliser=held["normaliser"])

    def read(self, run_dir: Path, which: Which = "last") -> Any:
        """What was trained: ``parameters`` as stored, ``supports`` and ``normaliser``; as it was at the
        end of the run, or at its best evaluation, which was chosen on those very episodes.

        Raises:
            CannotTryError: it cannot be read, or was not kept.
        """
        like = acting(self.loop.agent, self.shapes)
        try:
            if which == "best":
                return from_arrays(like, _best(run_dir))
            return from_arrays(like, read_arrays(run_dir / results.PARAMETERS))
        except (CheckpointError, results.RecordError, FileNotFoundError) as error:
            raise CannotTryError(f"its parameters cannot be read ({error})") from error

    def begin(self, n: int) -> Memory:
        """What n actors remember when an episode begins; nothing of agents without memory."""
        return () if isinstance(self.loop, Replaying) else self.loop.agent.begin(n).acting

    def policy(self, learner: Any, greedy: bool) -> Act:
        """What a learner does: its most likely actions, or drawn ones.

        Raises:
            CannotTryError: actions are to be drawn, and the agent has but one for what it sees.
        """
        loop = self.loop
        if not isinstance(loop, Replaying):
            return policy(loop.learning, learner, greedy)
        if not greedy and not isinstance(self.config.agent, SacConfig):
            raise CannotTryError(
                f"agent={self.config.agent.name} has one action for what it sees, and noise for training"
            )

        def act(view: View, memory: Memory, key: Array) -> tuple[Array, Memory]:
            if greedy:
                return loop.learning.act_greedily(learner, view.observation), memory
            seen = loop.learning.see(learner.normaliser, view.observation)
            return loop.agent.act(learner.agent, seen, key), memory

        return act

    def seen(self, env: Env | HostEnv, view: View) -> View:
        """What the agents of a run see of an environment as it is: who they are too, where they are
        told; and nothing that is for critics."""
        settings, seen = self.config.agent, view.observation
        if isinstance(env, TeamEnv) and isinstance(settings, TeamAgentConfig) and settings.identify:
            seen = vector.join(env, with_names(vector.split(env, seen)))
        return view._replace(observation=seen, critic_observation=None)


def _best(run_dir: Path) -> Arrays:
    """What was kept of a run's best evaluation.

    Raises:
        CannotTryError: nothing was, or it is of another evaluation: of a run that began without
            ``keep_best``, say.
        CheckpointError, RecordError: it, or the run's rows, cannot be read.
    """
    path = run_dir / results.BEST
    if not path.exists():
        raise CannotTryError("its best parameters were not kept; train it with keep_best=true")
    rows: Any = results.read_metrics(run_dir).to_dict("records")
    arrays, best = read_arrays(path), results.best_of(rows)
    kept = int(arrays[results.AT]) if results.AT in arrays else None
    if kept != best:
        raise CannotTryError(
            f"its best evaluation was at env_steps={best}, and what was kept is of env_steps={kept}"
        )
    return arrays


def actor_of(config: RunConfig) -> Actor:
    """Of a run; the same for all runs of a program.

    Raises:
        CannotTryError: its agent does not act on what it sees (AZOPG).
    """
    loop, (run,) = prepare_pack([config])
    if not isinstance(loop, Acting):
        raise CannotTryError(f"agent={config.agent.name} is a gain, and no policy of ours")
    if isinstance(loop, Replaying):
        init: Callable[..., Any] = functools.partial(loop.learning.init, envs=())
    elif isinstance(loop, HostLoop):
        learning, env = loop.learning, loop.env
        init = lambda inputs: LearnerState(**learning.init(inputs, env))  # noqa: E731
    else:
        init = loop.init
    state = jax.eval_shape(init, run.inputs)
    return Actor(loop, getattr(state, "protagonist", state))
