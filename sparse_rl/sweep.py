"""``python -m sparse_rl.sweep [key=value …]``: train a grid of widths and sparsities."""

import sys
from importlib.resources import files

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from sparse_rl.compilation import use_cache
from sparse_rl.config import SWEEP_KEYS, schema_keys
from sparse_rl.schema import ConfigError, unknown_key

GROUPS = ("agent", "env", "pruning", "study")
CONF = files("sparse_rl") / "conf"


def _check_override(override: Override, known: list[str]) -> str:
    """The override in the form Hydra takes for an existing key; raise if nobody reads the key.

    ``+key=value`` and ``key=value`` mean the same, whether or not the key has a value already.
    """
    key = override.key_or_group
    line = override.input_line or ""
    if override.is_hydra_override() or key in ("hydra/launcher", "hydra/sweeper"):
        return line
    if override.is_delete():
        raise ConfigError(f"{line!r}: keys cannot be deleted")
    if key not in known:
        raise unknown_key(key, known)
    return line.lstrip("+")


def check_arguments(arguments: list[str]) -> list[str]:
    """Check the keys of the command line before anything is composed.

    Returns:
        The arguments with ``+`` removed from known keys.

    Raises:
        ConfigError: an unknown key.
    """
    known = [*schema_keys(), *SWEEP_KEYS, *GROUPS]
    parser = OverridesParser.create()
    checked = []
    for argument in arguments:
        if argument.startswith("-") or not ("=" in argument or argument.startswith("~")):
            checked.append(argument)
            continue
        (override,) = parser.parse_overrides([argument])
        checked.append(_check_override(override, known))
    return checked


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="sweep")
def _compose(config: DictConfig) -> None:
    """Hydra expands the command line and hands the grid to the launcher, which never returns here."""


def main() -> None:
    """Entry point: exit status 0 only if every run ended ``done``."""
    use_cache()
    try:
        sys.argv[1:] = check_arguments(sys.argv[1:])
        _compose()
    except (ConfigError, HydraException) as error:
        print(f"sparse_rl.sweep: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
