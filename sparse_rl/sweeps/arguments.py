"""The command line of a sweep, checked before anything is composed."""

import argparse
import math
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NoReturn

from hydra._internal import utils as hydra_utils
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from sparse_rl.extensions import OwnCode, offered
from sparse_rl.records.console import FULL_ERROR
from sparse_rl.settings.launchers import LAUNCHERS, WHERE, check_launcher_key
from sparse_rl.settings.run import SWEEP_KEYS, schema_keys
from sparse_rl.settings.schema import ConfigError, unknown
from sparse_rl.sweeps.presets import GROUPS, presets

ELSEWHERE = ("--config-", "-cd", "-cn", "-cp", "hydra.searchpath")
"""Beginnings of arguments with which Hydra finds presets in other folders, too."""
TEXTS = ("name", "results_dir")
"""Settings that are texts, whatever they look like: ``name=2024``."""
NAMES = re.compile(r"[\w/,-]+")
LAUNCHER = "hydra/launcher"
ALLOWED = (LAUNCHER, "hydra.mode=MULTIRUN", "hydra.searchpath", f"{WHERE}.…")
"""Of Hydra's own settings, those that mean something here."""
TAKE_A_VALUE = (
    "--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir",
    "-cd", "--info", "-i",
)  # fmt: skip
OPTIONS = ("--help", "-h", "--hydra-help", "--version", "--resolve", "--multirun", "-m")
MOST_RUNS = 1_000_000
"""Of a sweep: planning so many takes minutes, and what is typed as more was meant otherwise."""
COMPLETION = ("--shell-completion", "-sc")
"""With these, ``install=bash`` is Hydra's affair."""


class _Parser(argparse.ArgumentParser):
    """Takes help that is no string: it is written when its option is added."""

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        if options.get("help") is not None and not isinstance(options["help"], str):
            options["help"] = str(options["help"]).replace("%", "%%")
        return super().add_argument(*names, **options)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help says what there is")


@contextmanager
def strings_for_help() -> Iterator[None]:
    """While it is entered, Hydra's parser is made with Python 3.14, too.

    From 3.14 on argparse reads the help of an option that is added; Hydra, in all releases up to 1.3.8,
    gives it an object that writes its help later (facebookresearch/hydra#3121). A test tells when Hydra
    does without this.
    """
    argparse_of_hydra = vars(hydra_utils)["argparse"]
    hydra_utils.argparse = SimpleNamespace(ArgumentParser=_Parser)
    try:
        yield
    finally:
        hydra_utils.argparse = argparse_of_hydra


@contextmanager
def errors_passed_on() -> Iterator[None]:
    """While it is entered, Hydra raises errors instead of printing them as it likes."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        os.environ.pop(FULL_ERROR)
        os.environ |= {} if before is None else {FULL_ERROR: before}


def _check_preset(group: str, name: str) -> str:
    """The preset of this name, in which hyphens may stand for underscores, as in DM Control's names."""
    known = presets(group)
    for spelled in (name, name.replace("-", "_")):
        if spelled in known or (spelled == "null" and group == "study"):  # Hydra's word for none
            return spelled
    folder = name.rpartition("/")[0]
    beside = [other for other in known if folder and other.startswith(f"{folder}/")]
    raise unknown(group, name, beside or known)


def _check_hydra(override: Override, launcher: str) -> str:
    """An override of Hydra's own settings, if it means something here."""
    key, line = override.key_or_group, (override.input_line or "").lstrip("+")
    if override.is_delete() or override.is_sweep_override():
        raise ConfigError(f"{line!r} holds for the whole sweep; give one value")
    name = key.removeprefix(f"{WHERE}.")
    if name != key:
        check_launcher_key(launcher, name.split(".")[0])
        return f"++{line}"
    if key == LAUNCHER or key == "hydra.searchpath" or line == "hydra.mode=MULTIRUN":
        return line
    raise ConfigError(f"{line!r} means nothing here; of Hydra's settings give {', '.join(ALLOWED)}")


def _values(override: Override) -> int:
    """How many values an axis has.

    Raises:
        ConfigError: none, or more than anybody trains.
    """
    values, line = override._value, override.input_line
    many = len(values.list) if isinstance(values, ChoiceSweep) else 1
    if isinstance(values, RangeSweep):
        start, stop, step = (float(x or 0) for x in (values.start, values.stop, values.step))
        if not step or not math.isfinite(start + stop + step):
            raise ConfigError(f"{line!r} has no end; give range(first, end, step)")
        many = math.ceil((stop - start) / step)
    if not 0 < many <= MOST_RUNS:
        raise ConfigError(f"{line!r} has {max(many, 0):,} values; give 1 to {MOST_RUNS:,}")
    return many


def check_grid(overrides: Sequence[Override]) -> None:
    """Raise :class:`ConfigError` for a grid of more runs than anybody trains, before it is expanded."""
    axes = {o.key_or_group: _values(o) for o in overrides if o.is_sweep_override()}
    if math.prod(axes.values()) > MOST_RUNS:
        told = " × ".join(f"{key} ({many:,})" for key, many in axes.items())
        raise ConfigError(f"{told} are more than {MOST_RUNS:,} runs")


def _check_override(override: Override, known: list[str], elsewhere: bool, launcher: str) -> str:
    """The override in the form Hydra takes for an existing key; raise if nobody reads the key
    or, unless presets lie elsewhere, too, if there is none of this name.

    ``+key=value`` and ``key=value`` mean the same, whether or not the key has a value already.
    """
    key = override.key_or_group
    line = override.input_line or ""
    if override.is_hydra_override() or key.startswith("hydra/"):
        return _check_hydra(override, launcher)
    if override.is_delete():
        raise ConfigError(f"{line!r}: keys cannot be deleted")
    if key not in known:
        raise unknown("key", key, known)
    line = line.lstrip("+")
    if override.is_sweep_override():
        _values(override)
    elif key in TEXTS and isinstance(override._value, int | float):
        return f"{key}='{line.partition('=')[2]}'"
    if key in GROUPS and isinstance(override._value, list | dict):
        raise ConfigError(f"{line!r} names no {key}; give one or more of {', '.join(presets(key))}")
    group, _, names = line.partition("=")
    if group in GROUPS and NAMES.fullmatch(names) and not elsewhere:
        return f"{group}={','.join(_check_preset(group, name) for name in names.split(','))}"
    return line


def check_arguments(arguments: list[str]) -> list[str]:
    """Check keys and names of presets on the command line before anything is composed.

    Returns:
        The arguments with ``+`` removed from known keys, and presets by the names of their files.

    Raises:
        ConfigError: an unknown key or preset.
    """
    if any(flag in arguments for flag in COMPLETION):
        return arguments
    known = [*schema_keys(), *SWEEP_KEYS, *GROUPS]
    elsewhere = any(argument.startswith(ELSEWHERE) for argument in arguments)
    launcher = _launcher(arguments)
    checked: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before in TAKE_A_VALUE:
            checked.append(argument)
        elif argument.startswith("-"):
            checked.append(_check_option(argument))
        else:
            checked += [
                _check_override(_parsed(one), known, elsewhere, launcher) for one in own_envs(argument)
            ]
    return checked


def own_envs(argument: str) -> list[str]:
    """``env=my_package:make_env``, or ``env=`` and what an installed package offers, as settings of the
    preset ``own``; any other argument alone.

    Raises:
        ConfigError: environments of users stand beside others.
    """
    key, _, names = argument.lstrip("+").partition("=")
    if key != "env":
        return [argument]
    asked, known = names.split(","), presets("env")
    rest = [name for name in asked if not isinstance(name, OwnCode) and name not in known]
    from_packages = offered() if rest else {}
    own = [from_packages.get(name, name) for name in asked]
    which = [isinstance(name, OwnCode) for name in own]
    if not any(which):
        return [argument]
    if not all(which):
        raise ConfigError(f"{argument!r}: sweep environments of your own apart from others")
    return ["env=own", f"env.task={','.join(own)}"]


def _check_option(argument: str) -> str:
    """One of Hydra's own options, if it means something here."""
    name = argument.partition("=")[0]
    if name in ("--run", "-r"):
        raise ConfigError(f"{argument} trains nothing: a sweep is hydra.mode=MULTIRUN, which it has")
    if name not in (*TAKE_A_VALUE, *OPTIONS):
        raise unknown("option", argument, [*TAKE_A_VALUE, *OPTIONS])
    return argument


def _launcher(arguments: list[str]) -> str:
    """The launcher that a command line chooses.

    Raises:
        ConfigError: there is none of this name.
    """
    pairs = (argument.lstrip("+").partition("=") for argument in arguments)
    name = {key: value.strip("'\"") for key, _, value in pairs}.get(LAUNCHER, "inprocess")
    if name not in LAUNCHERS:
        raise unknown(LAUNCHER, name, list(LAUNCHERS))
    return name


def _parsed(argument: str) -> Override:
    """An argument as Hydra reads it.

    Raises:
        ConfigError: it cannot be read.
    """
    if "=" not in argument and not argument.startswith("~"):
        raise ConfigError(f"{argument!r} is no setting; give key=value")
    try:
        (override,) = OverridesParser.create().parse_overrides([argument])
    except (HydraException, OmegaConfBaseException, RecursionError) as error:
        raise ConfigError(
            f"{argument!r} cannot be read; give key=value, and a value with other signs than letters, "
            "digits and _-./ in two kinds of quotes: 'key=\"value\"'"
        ) from error
    return override


def for_hydra(arguments: list[str]) -> list[str]:
    """Checked arguments in a form in which Hydra leaves unknown keys to our schema.

    A key of another agent is one of the schema, and Hydra would advise to add it.
    """
    parts = tuple(f"{group}." for group in (*GROUPS, "diagnostics"))
    return [f"++{argument}" if argument.startswith(parts) else argument for argument in arguments]


def typed_command(arguments: list[str]) -> str:
    """The sweep as somebody would type it, from what :func:`for_hydra` made of it."""
    return shlex.join(["python", "-m", "sparse_rl.sweep", *(a.removeprefix("++") for a in arguments)])
