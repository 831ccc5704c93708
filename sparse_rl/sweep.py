"""``python -m sparse_rl.sweep [key=value …]``: train a grid of widths and sparsities."""

import sys

import hydra
from omegaconf import DictConfig

from sparse_rl.kernels.compilation import use_cache
from sparse_rl.records.console import one_line
from sparse_rl.sweeps.arguments import (
    check_arguments,
    errors_passed_on,
    for_hydra,
    strings_for_help,
)
from sparse_rl.sweeps.presets import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="sweep")
def _compose(config: DictConfig) -> None:
    """Hydra expands the command line and hands the grid to the launcher, which never returns here."""


def main() -> None:
    """Entry point: exit status 0 only if every run ended ``done``."""
    with one_line("sparse_rl.sweep"):
        use_cache()
        sys.argv[1:] = for_hydra(check_arguments(sys.argv[1:]))
        with strings_for_help(), errors_passed_on():
            _compose()


if __name__ == "__main__":
    main()
