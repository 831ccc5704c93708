"""The settings of launchers: where packs train. They change no number of a run."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparse_rl.settings.schema import ConfigError, at_least, build, fields_of, limited, positive, unknown

Option = str | int | float | bool | None
"""Of sbatch, as a value."""
OURS = ("array", "error", "open-mode", "output", "signal")
"""Options of sbatch that a sweep sets itself: it finds logs by them, and jobs are warned by them."""
OPTION = re.compile(r"[a-z][a-z0-9-]*")


def _line(**default: Any) -> Any:
    """A field that becomes part of a line of a job's script: it stays one line."""
    return limited("one line", lambda v: not isinstance(v, str) or "\n" not in v, **default)


@dataclass(frozen=True)
class InProcessConfig:
    """Packs one after the other in the sweep's own process."""


@dataclass(frozen=True)
class ProcessesConfig:
    """Worker processes on this machine."""

    workers: int | None = at_least(1, default=None)
    packs_per_job: int = at_least(1, default=1)
    retries: int = at_least(0, default=3)


@dataclass(frozen=True)
class SlurmConfig:
    """A job array. What has no explanation in ``conf/hydra/launcher/slurm.yaml`` is sbatch's own."""

    name: str = _line(default="sparse_rl")
    partition: str | None = _line(default=None)
    timeout_min: int = at_least(1, default=240)
    signal_delay_s: int = at_least(1, default=120)
    cpus_per_task: int = at_least(1, default=4)
    gpus_per_node: int | str | None = limited(
        "a number >= 0, or kind:number",
        lambda v: v >= 0 if isinstance(v, int) else bool(re.fullmatch(r"\w+(:\d+)?", v)),
        default=None,
    )
    mem_gb: float | None = positive(default=None)
    packs_per_job: int = at_least(1, default=1)
    array_parallelism: int = at_least(1, default=64)
    account: str | None = _line(default=None)
    qos: str | None = _line(default=None)
    constraint: str | None = _line(default=None)
    setup: str | list[str] = field(default_factory=list)
    teardown: str | list[str] = field(default_factory=list)
    srun_args: str | list[str] = field(default_factory=list)
    python: str | None = _line(default=None)
    additional_parameters: dict[str, Option] = field(default_factory=dict)
    retries: int = at_least(0, default=3)
    comment: str | None = _line(default=None)
    dependency: str | None = _line(default=None)
    exclude: str | None = _line(default=None)
    exclusive: bool | str | None = _line(default=None)
    gres: str | None = _line(default=None)
    mail_type: str | None = _line(default=None)
    mail_user: str | None = _line(default=None)
    mem_per_cpu: str | None = _line(default=None)
    mem_per_gpu: str | None = _line(default=None)
    nodelist: str | None = _line(default=None)
    wckey: str = _line(default="submitit")
    use_srun: bool = True


LauncherConfig = InProcessConfig | ProcessesConfig | SlurmConfig
LAUNCHERS: dict[str, type] = {
    "inprocess": InProcessConfig,
    "processes": ProcessesConfig,
    "slurm": SlurmConfig,
}
"""``hydra/launcher=…`` → its settings."""
WHERE = "hydra.launcher"


def check_launcher_key(launcher: str, name: str) -> None:
    """Raise :class:`ConfigError` if a launcher has no setting of this name, and say which one has."""
    if name in fields_of(LAUNCHERS[launcher]):
        return
    others = [other for other, schema in LAUNCHERS.items() if name in fields_of(schema)]
    if others:
        raise ConfigError(
            f"{WHERE}.{name} is not of hydra/launcher={launcher}; "
            f"give hydra/launcher={' or '.join(others)} beside it"
        )
    fields = fields_of(LAUNCHERS[launcher])
    known = [f"{WHERE}.{key}" for key in fields]
    guess = str(unknown("key", f"{WHERE}.{name}", known)).partition(" Allowed:")[0]
    told = ", ".join(f"{key} (default: {_default(of)})" for key, (_, of) in sorted(fields.items()))
    raise ConfigError(f"{guess} Settings of hydra/launcher={launcher}: {told or 'none'}")


def _default(of: dataclasses.Field[Any]) -> Any:
    made = of.default_factory
    return of.default if made is dataclasses.MISSING else made()


def build_launcher(launcher: str, data: Mapping[str, Any]) -> LauncherConfig:
    """The settings of a launcher, checked.

    Raises:
        ConfigError: the first that is unknown, of a wrong type or out of range.
    """
    for name in data:
        check_launcher_key(launcher, str(name))
    built: LauncherConfig = build(LAUNCHERS[launcher], data, WHERE)
    if isinstance(built, SlurmConfig):
        _check_options(built.additional_parameters)
        _check_packs(built)
    return built


def accelerators_of(job: SlurmConfig) -> int:
    """How many accelerators a job asks for by ``gpus_per_node``."""
    asked = str(job.gpus_per_node or 0).rpartition(":")[2]
    return int(asked) if asked.isdecimal() else 1  # a kind alone is one of it


def _check_packs(job: SlurmConfig) -> None:
    """Raise :class:`ConfigError` unless every pack of a job has a core."""
    if job.packs_per_job > job.cpus_per_task:
        raise ConfigError(
            f"{WHERE}.packs_per_job={job.packs_per_job} is out of range; allowed: at most cpus_per_task "
            f"(= {job.cpus_per_task}), a core for each pack"
        )


def _check_options(options: Mapping[str, Option]) -> None:
    """Raise :class:`ConfigError` for what sbatch would read as something else than an option."""
    for name, value in options.items():
        where, option = f"{WHERE}.additional_parameters.{name}", name.replace("_", "-")
        if not OPTION.fullmatch(option):
            raise ConfigError(f"{where} is no option of sbatch; give names such as mail-user")
        if option in OURS:
            raise ConfigError(f"{where} is set by the sweep; it cannot be one of {', '.join(OURS)}")
        if isinstance(value, str) and "\n" in value:
            raise ConfigError(f"{where}={value!r} is out of range; allowed: one line")


def check_together(packs_per_job: int, devices: int) -> None:
    """Raise :class:`ConfigError` if packs share accelerators, and each is shared out over several."""
    if packs_per_job > 1 and devices > 1:
        raise ConfigError(
            f"{WHERE}.packs_per_job={packs_per_job} and devices_per_pack={devices} do not go together; "
            "give one of them"
        )


def check_job(job: SlurmConfig, devices: int) -> None:
    """Raise :class:`ConfigError` unless the packs of a job use all of its accelerators, and have enough.

    Args:
        devices: accelerators that the runs of a pack are shared out over.
    """
    packs, asked = job.packs_per_job, accelerators_of(job)
    check_together(packs, devices)
    if asked > packs * devices:
        each = "one accelerator" if devices == 1 else f"{devices} accelerators (devices_per_pack)"
        raise ConfigError(
            f"{WHERE}.gpus_per_node={job.gpus_per_node} is out of range; allowed: at most "
            f"{packs * devices}, for a job has packs_per_job={packs}, and a pack uses {each}"
        )
    otherwise = job.gres or job.exclusive or job.additional_parameters
    if devices > max(asked, 1) and not (
        job.gpus_per_node is None and otherwise
    ):  # else the job will see
        raise ConfigError(
            f"devices_per_pack={devices} is more than a job has: {WHERE}.gpus_per_node="
            f"{job.gpus_per_node}; give at least {devices} of them"
        )


def lines(given: str | list[str]) -> list[str]:
    """Lines of a script, given as a text or as a list."""
    texts = [given] if isinstance(given, str) else given
    return [line for text in texts for line in text.splitlines()]
