"""The command line of a sweep, checked before anything is composed."""

import argparse
import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hydra._internal import utils as hydra_utils
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from sparse_rl.settings.run import SWEEP_KEYS, schema_keys
from sparse_rl.settings.schema import ConfigError, unknown

GROUPS = ("agent", "env", "pruning", "curriculum", "study")
CONF = files("sparse_rl") / "conf"
ELSEWHERE = ("--config-", "-cd", "-cn", "-cp", "hydra.searchpath")
"""Beginnings of arguments with which Hydra finds presets in other folders, too."""
NAMES = re.compile(r"[\w/,-]+")


class _Parser(argparse.ArgumentParser):
    """Takes help that is no string: it is written when its option is added."""

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        if options.get("help") is not None and not isinstance(options["help"], str):
            options["help"] = str(options["help"]).replace("%", "%%")
        return super().add_argument(*names, **options)


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


@functools.cache
def presets(group: str) -> list[str]:
    """Names of the files below ``conf/group``: ``dm_control/humanoid_run``."""
    folder = Path(str(CONF)) / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def _check_preset(group: str, name: str) -> str:
    """The preset of this name, in which hyphens may stand for underscores, as in DM Control's names."""
    known = presets(group)
    for spelled in (name, name.replace("-", "_")):
        if spelled in known or spelled == "null":  # Hydra's word for none
            return spelled
    folder = name.rpartition("/")[0]
    beside = [other for other in known if folder and other.startswith(f"{folder}/")]
    raise unknown(group, name, beside or known)


def _check_override(override: Override, known: list[str], elsewhere: bool) -> str:
    """The override in the form Hydra takes for an existing key; raise if nobody reads the key
    or, unless presets lie elsewhere, too, if there is none of this name.

    ``+key=value`` and ``key=value`` mean the same, whether or not the key has a value already.
    """
    key = override.key_or_group
    line = override.input_line or ""
    if override.is_hydra_override() or key in ("hydra/launcher", "hydra/sweeper"):
        return line
    if override.is_delete():
        raise ConfigError(f"{line!r}: keys cannot be deleted")
    if key not in known:
        raise unknown("key", key, known)
    line = line.lstrip("+")
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
    known = [*schema_keys(), *SWEEP_KEYS, *GROUPS]
    parser = OverridesParser.create()
    elsewhere = any(argument.startswith(ELSEWHERE) for argument in arguments)
    checked = []
    for argument in arguments:
        if argument.startswith("-") or not ("=" in argument or argument.startswith("~")):
            checked.append(argument)
            continue
        (override,) = parser.parse_overrides([argument])
        checked.append(_check_override(override, known, elsewhere))
    return checked
