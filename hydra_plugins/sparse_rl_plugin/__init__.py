"""Hydra's two plugin points; Hydra accepts plugins from this namespace package alone.

Hydra imports this module in every Hydra program on the machine, so it imports nothing heavy.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class GridSweeper(BasicSweeper):
    """Hydra's basic sweeper, but the whole grid is one batch and nothing is written before a check."""

    def sweep(self, arguments: list[str]) -> Any:
        from sparse_rl.sweeps.arguments import check_grid

        assert self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        # The command line comes last: an axis named there replaces the study's.
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        for override in overrides:  # ++key on the command line is the key of the study's axis
            override.type = OverrideType.CHANGE if override.is_force_add() else override.type
        check_grid(overrides)
        (jobs,) = self.split_arguments(overrides, None)
        launcher = cast(SweepLauncher, self.launcher)
        launcher.typed = {override.key_or_group for override in parser.parse_overrides(arguments)}
        launcher.arguments = arguments
        return self.launcher.launch(jobs, initial_job_idx=0)


class SweepLauncher(Launcher):
    """Composes and checks every job of the grid, then trains its packs where a subclass says."""

    name: str
    """``hydra/launcher=…``."""

    def __init__(self, **parameters: Any) -> None:
        self.parameters = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(parameters)))
        self.typed: set[str] = set()
        """Keys on the command line."""
        self.arguments: list[str] = []
        """What was said of them."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context, self.config, self.task = hydra_context, config, task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Give all jobs to the command at once, and end the process with its exit status."""
        from sparse_rl.settings.launchers import build_launcher
        from sparse_rl.sweeps.arguments import typed_command
        from sparse_rl.sweeps.compose import as_read

        build_launcher(self.name, self.parameters)
        load = partial(self.hydra_context.config_loader.load_sweep_config, self.config)
        jobs = as_read(load, job_overrides, self.typed)
        command = typed_command([*self.config.hydra.overrides.hydra, *self.arguments])
        raise cast(Any, self.task)(jobs, self.where(), command)

    @abstractmethod
    def where(self) -> Any:
        """The :class:`sparse_rl.sweeps.run.Launcher`."""

    def elsewhere(self, module: Any) -> Any:
        """A launcher whose packs train in other processes, where ``module`` says."""
        import jax

        from sparse_rl.sweeps.run import Launcher

        # This process only counts shapes: it must not take an accelerator's memory. The environment,
        # which the others inherit, stays as it is.
        jax.config.update("jax_platforms", "cpu")
        return Launcher(
            partial(module.train, **self.parameters), partial(module.describe, **self.parameters)
        )


class ProcessesLauncher(SweepLauncher):
    """Worker processes on this machine: one per accelerator, or a few cores each."""

    name = "processes"

    def where(self) -> Any:
        from sparse_rl.sweeps import processes

        return self.elsewhere(processes)


class SlurmLauncher(SweepLauncher):
    """A job array on a SLURM cluster, through submitit."""

    name = "slurm"

    def where(self) -> Any:
        from sparse_rl.sweeps import slurm

        return self.elsewhere(slurm)


class InProcessLauncher(SweepLauncher):
    """Packs one after the other in this process."""

    name = "inprocess"

    def where(self) -> Any:
        from sparse_rl.sweeps import inprocess, run

        return run.Launcher(inprocess.train, inprocess.describe)
