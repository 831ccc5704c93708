"""A finished run as a policy: numpy in and out, its normaliser inside, its weights as stored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl import envs
from sparse_rl.agents import View, actions_of
from sparse_rl.envs import TeamEnv
from sparse_rl.kernels.keys import key_of
from sparse_rl.networks import Memory, kernel_shapes
from sparse_rl.pruning import Owned, path_name, prunable_shapes, restore, support_masks
from sparse_rl.records import results
from sparse_rl.runs.pack import compiler_options
from sparse_rl.runs.trained import Which, actor_of, check_done
from sparse_rl.settings.run import run_config


class Carried(NamedTuple):
    """What a policy carries from step to step of an episode."""

    network: Memory
    """What its network remembers, of each actor; ``()`` of one without memory."""
    step: int
    """Actions so far: drawn ones come from the seed and this number."""


class Weights(NamedTuple):
    """One tensor of a network."""

    dense: np.ndarray
    """float32, 0 where it is pruned; of a convolution ``[height, width, channels, units]``."""
    mask: np.ndarray | None
    """bool, of the same shape, true where a weight survives; ``None`` of one that is not pruned."""
    each: np.ndarray | None = None
    """bool ``[agents, …]``: which of them each agent of a team uses, where each has a mask of its own;
    ``mask`` is then where any does."""


class TrainedPolicy:
    """What a finished run does: ``policy(observation, memory) → (action, memory)``.

    ``config`` is the run's, ``env`` its environment as the run was in it, ``held`` what it trained:
    ``parameters`` as stored, their ``supports``, and the ``normaliser``.

    Args:
        run_dir: ``results/<name>/<run_id>``.
        greedy: whether it takes its most likely action; else actions are drawn.
        seed: of drawn actions.

    Raises:
        FileNotFoundError: there is no run.
        CannotTryError: it has not ended ``done``, cannot be read, or is no policy of this kind.
        ConfigError: its configuration is of another version, or its code is another now.
    """

    def __init__(
        self, run_dir: Path, *, greedy: bool = True, seed: int = 0, which: Which = "last"
    ) -> None:
        if not (run_dir / results.CONFIG).exists():
            raise FileNotFoundError(f"no run in {run_dir}: expected {run_dir}/{results.CONFIG}")
        check_done(run_dir)
        self.config = run_config(results.read_config(run_dir))
        settings = self.config.env
        self.env = envs.make(settings.source, settings.task, **settings.options)
        self._actor = actor_of(self.config)
        self.held = self._actor.read(run_dir, which)
        self._act = jax.jit(self._program(greedy), compiler_options=compiler_options(self._actor.loop))
        self._key = key_of(seed)

    def _program(self, greedy: bool) -> Any:
        actor, env = self._actor, self.env
        to_env = actions_of(env).to_env
        actor.policy(actor.learner(self.held), greedy)  # refused now or never

        def act(held: Any, view: View, memory: Memory, key: Array) -> tuple[Array, Memory]:
            does = actor.policy(actor.learner(held), greedy)
            action, memory = does(actor.seen(env, view), memory, key)
            return to_env(action), memory

        return act

    @property
    def _one(self) -> tuple[int, ...]:
        """Shape of what is seen of one environment."""
        size = (self.env.observation_size,)
        return (self.env.agents, *size) if isinstance(self.env, TeamEnv) else size

    def begin(self, environments: int = 1) -> Carried:
        """What it carries where episodes of so many environments begin."""
        actors = environments * self.env.agents
        return Carried(jax.tree.map(np.asarray, self._actor.begin(actors)), 0)

    def __call__(
        self, observation: Any, memory: Carried | None = None, *, legal: Any = None
    ) -> tuple[np.ndarray, Carried]:
        """What it does where it sees this.

        Args:
            observation: ``[observation_size]`` as the environment gives it, not normalised (bytes of
                pictures, and all frames that are stacked), or ``[n, observation_size]`` of n
                environments; of a team with an axis of its agents before the last.
            memory: of the step before; ``None`` where an episode begins.
            legal: bool, of the same shape but for the last axis, ``[…, action_size]``: actions that are
                allowed; ``None``: all.

        Returns:
            float32 ``[action_size]`` in [−1, 1], or int32; with the leading axes of ``observation``. And
            what it carries to the next step.

        Raises:
            ValueError: the observation has another shape, or the memory is of another number.
        """
        seen = np.asarray(observation)
        seen = seen if seen.dtype == np.uint8 else seen.astype(np.float32)
        one = self._one
        if seen.ndim not in (len(one), len(one) + 1) or seen.shape[seen.ndim - len(one) :] != one:
            raise ValueError(
                f"an observation of {self.config.env.name} is {list(one)}, or of n environments "
                f"{['n', *one]}; got {list(seen.shape)}"
            )
        lead, flat = seen.shape[:-1], seen.reshape(-1, seen.shape[-1])
        memory = memory or self.begin(len(flat) // self.env.agents)
        wrong = {x.shape[0] for x in jax.tree.leaves(memory.network)} - {len(flat)}
        if wrong:
            raise ValueError(f"memory of {wrong.pop()} actors beside observations of {len(flat)}")
        allowed = None if legal is None else jnp.asarray(legal, bool).reshape(len(flat), -1)
        key = jax.random.fold_in(self._key, memory.step)
        view = View(jnp.asarray(flat), legal=allowed)
        action, network = self._act(self.held, view, memory.network, key)
        made = np.asarray(action).reshape(*lead, *action.shape[1:])
        return made, Carried(jax.tree.map(np.asarray, network), memory.step + 1)

    def weights(self) -> dict[str, dict[str, Weights]]:
        """network → path (``trunk/dense_0/kernel``) → the tensor, dense, and its mask."""
        found: dict[str, dict[str, Weights]] = {}
        for name, stored in self.held["parameters"].items():
            supports, wiring = self.held["supports"][name], self._actor.loop.agent.wiring[name]
            dense = restore(supports, stored)
            kernels = kernel_shapes(wiring, prunable_shapes(dense))
            found[name] = _tensors(dense, supports, kernels)
        return found


def _tensors(dense: Any, supports: Any, kernels: Mapping[str, tuple[int, ...]]) -> dict[str, Weights]:
    """path → tensor and mask, in the shapes of ``kernels`` where they are given."""
    leaves = jax.tree_util.tree_leaves_with_path(dense)
    form: Any = jax.tree.structure(dense)
    found = {}
    for (path, leaf), support in zip(leaves, form.flatten_up_to(supports), strict=True):
        name = path_name(path)
        shape = kernels.get(name, leaf.shape)
        kept = None if support is None else np.asarray(support_masks(support)).reshape(shape)
        own = isinstance(support, Owned)
        each = np.asarray(support.masks).reshape(-1, *shape) if own else None
        found[name] = Weights(np.asarray(leaf).reshape(shape), kept, each)
    return found
