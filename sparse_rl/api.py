"""From Python: train, open what was trained, hand it to torch."""

import contextlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
import pandas as pd
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from sparse_rl.analysis.load import load_all
from sparse_rl.kernels.compilation import use_cache
from sparse_rl.runs import TrainedPolicy, Weights
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps.arguments import LAUNCHER, check_arguments, errors_passed_on, for_hydra
from sparse_rl.sweeps.presets import CONF, GROUPS
from sparse_rl.sweeps.run import Ended, sweep

if TYPE_CHECKING:
    from torch import Tensor

CHOICES = (*GROUPS, LAUNCHER)
"""Keys whose values are names of presets."""


def _text(key: str, value: Any) -> str:
    """A value as it is typed.

    Raises:
        ConfigError: it is nothing that can be typed.
    """
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return value if key in CHOICES else f"'{quoted}'"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_text(key, one)}" for name, one in value.items()) + "}"
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        value = value.item()  # a number of numpy
    if isinstance(value, int | float):
        return repr(value)
    raise ConfigError(f"{key}={value!r} is not allowed; give a number, a text, or several in a list")


def as_typed(settings: Mapping[str, Any]) -> list[str]:
    """Keywords as arguments of the command: ``agent__batch_size=64`` is ``agent.batch_size=64``,
    ``launcher`` is ``hydra/launcher``, and several values in a list, a tuple, a range or an array are an
    axis of the grid.

    Raises:
        ConfigError: a value is nothing that can be typed.
    """
    typed = []
    for name, value in settings.items():
        key = LAUNCHER if name == "launcher" else name.replace("__", ".")
        several = isinstance(value, Iterable) and not isinstance(value, str | Mapping)
        several = several and getattr(value, "shape", (1,)) != ()
        values = list(value) if several else [value]
        if not values:
            raise ConfigError(f"{key}=[]: there is nothing to train: an axis has no values")
        typed.append(f"{key}={','.join(_text(key, one) for one in values)}")
    return typed


def train(
    *arguments: str, config_dir: str | Path | None = None, quiet: bool = False, **settings: Any
) -> pd.DataFrame:
    """Train what the command ``sparse-rl sweep`` would, and return the rows.

    ``train(width=[64, 256], sparsity=[0, 0.9], seed=range(3), agent="ppo", env_steps=2e5)``

    Keys, presets, checks, run ids, folders, packs and launchers are the command's. What is finished on
    disk is not trained again, and what was interrupted goes on.

    Args:
        arguments: settings as they are typed, ``"agent.batch_size=64"``, before the keywords.
        config_dir: a folder of own presets, ``<folder>/agent/<name>.yaml`` and so on.
        quiet: whether the plan and the progress are left out.
        settings: the command's keys; ``__`` for a dot, ``launcher`` for ``hydra/launcher``, several
            values for an axis of the grid. ``launcher="processes"`` and ``"slurm"`` train elsewhere, and
            leave no accelerator to this process's own jax.

    Returns:
        One row per run and log point, as :func:`sparse_rl.analysis.load.load` reads them, of the runs
        that were asked for; those of failed or diverged runs too, as ``status`` says. With ``plan=True``
        of those that are finished already.

    Raises:
        ConfigError: a setting is wrong; nothing was started.
        KeyboardInterrupt: it was interrupted; unfinished runs are on disk.
    """
    typed = [*arguments, *as_typed(settings)]
    if config_dir is not None:
        folder = Path(config_dir).resolve()
        if not folder.is_dir():
            raise ConfigError(f"config_dir={str(config_dir)!r} is no folder")
        typed.append(f"hydra.searchpath=['file://{folder}']")
    options = [argument for argument in typed if argument.startswith("-")]
    if options:
        raise ConfigError(f"{options[0]!r} is for the command line; give key=value")
    use_cache()
    checked = for_hydra(check_arguments(typed))
    said = contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext()
    ended = _swept(checked, said)
    if ended.code == Ended.INTERRUPTED:
        raise KeyboardInterrupt
    return _rows(ended)


def _swept(arguments: list[str], said: contextlib.AbstractContextManager[Any]) -> Ended:
    """Have Hydra expand the grid and hand it to its launcher, as the command does."""
    with said, errors_passed_on(), initialize_config_dir(str(CONF), "sparse_rl.sweep", "1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        try:
            hydra.multirun("sweep", cast(Any, sweep), arguments, with_log_configuration=False)
        except Ended as ended:
            return ended
    raise AssertionError("a launcher ends a sweep by saying how")


def _rows(ended: Ended) -> pd.DataFrame:
    """Rows of the runs that were asked for."""
    try:
        rows = load_all(ended.study_dir).rows
    except FileNotFoundError:  # a plan alone
        return pd.DataFrame()
    return rows[rows["run_id"].isin(ended.run_ids)].reset_index(drop=True)


def load(
    run_dir: str | Path, *, greedy: bool = True, seed: int = 0, which: Literal["last", "best"] = "last"
) -> TrainedPolicy:
    """Open a finished run: ``policy(observation, memory) → (action, memory)``, numpy in and out.

    Args:
        run_dir: ``results/<name>/<run_id>``.
        greedy, seed: whether it takes its most likely action, else of those that are drawn.
        which: as it was at the end, or at its best evaluation (of runs with ``keep_best=true``); that
            one was chosen on its evaluation episodes, so give it new ones to tell how good it is.

    Raises:
        FileNotFoundError, CannotTryError, ConfigError: as of :class:`sparse_rl.runs.TrainedPolicy`.
    """
    return TrainedPolicy(Path(run_dir), greedy=greedy, seed=seed, which=which)


class InTorch(NamedTuple):
    """A network for torch."""

    state: "dict[str, Tensor]"
    """What a module of the same names loads: ``trunk.dense_0.weight``; 0 where it is pruned."""
    masks: "dict[str, Tensor]"
    """Parameter name → bool, true where a weight survives, as :func:`sparse_rl.torch_modules.prune_`
    takes them; empty of a dense network."""


def _of_agent(tensors: dict[str, Weights], network: str, agent: int | None) -> dict[str, Weights]:
    """A network as one agent uses it, where each has masks of its own; else as it is.

    Raises:
        ConfigError: nobody was named, or one that has none.
    """
    own = [len(found.each) for found in tensors.values() if found.each is not None]
    if not own and agent is None:
        return tensors
    if not own or agent is None or not 0 <= agent < own[0]:
        has = f"agents use parts of it: give 0 to {own[0] - 1}" if own else "it is one: leave agent out"
        raise ConfigError(f"agent={agent} of this run's {network}: {has}")
    number = agent

    def part(whole: Weights) -> Weights:
        if whole.each is None:
            return whole
        mask = whole.each[number]
        return Weights(np.where(mask, whole.dense, np.zeros_like(whole.dense)), mask)

    return {path: part(whole) for path, whole in tensors.items()}


def to_torch(
    run: str | Path | TrainedPolicy, network: str = "actor", agent: int | None = None
) -> InTorch:
    """A trained network's weights and masks under torch's names and in torch's layout.

    Observations reach the network through the run's normaliser, where it has one: ``load(run).held``.

    Args:
        run: ``results/<name>/<run_id>``, or what :func:`load` made of it.
        network: ``actor``, ``critic`` …, as the run's columns name them.
        agent: of a team that trained with ``agent.sharing=masks``: whose, for each uses its own part.

    Raises:
        ImportError: there is no torch.
        ConfigError: the run has no such network, or no such agent.
        FileNotFoundError, CannotTryError: as of :func:`load`.
    """
    from sparse_rl.torch_modules import state_dict

    policy = run if isinstance(run, TrainedPolicy) else load(run)
    networks = policy.weights()
    if network not in networks:
        raise ConfigError(f"network={network!r}: this run has {', '.join(networks)}")
    tensors = _of_agent(networks[network], network, agent)
    masks = {path: found.mask for path, found in tensors.items() if found.mask is not None}
    return InTorch(state_dict({path: t.dense for path, t in tensors.items()}), state_dict(masks))
