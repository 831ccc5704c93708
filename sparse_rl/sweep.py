"""``python -m sparse_rl.sweep [key=value …]``: train a grid of widths and sparsities."""

import sys

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from sparse_rl.kernels.compilation import use_cache
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps.arguments import CONF, check_arguments, strings_for_help


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="sweep")
def _compose(config: DictConfig) -> None:
    """Hydra expands the command line and hands the grid to the launcher, which never returns here."""


def main() -> None:
    """Entry point: exit status 0 only if every run ended ``done``."""
    use_cache()
    try:
        sys.argv[1:] = check_arguments(sys.argv[1:])
        with strings_for_help():
            _compose()
    except (ConfigError, HydraException) as error:
        print(f"sparse_rl.sweep: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
