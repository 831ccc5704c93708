"""``python -m sparse_rl.sweep [key=value …]``: train a grid of widths and sparsities."""

import sys
from typing import Any

import hydra

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
def _train(jobs: Any, launcher: Any = None, command: str | None = None) -> SystemExit:
    """Train a grid: Hydra expands the command line, and the launcher hands all its jobs to this at once,
    itself, and what was typed."""
    from sparse_rl.sweeps.run import sweep

    return sweep(jobs, launcher, command)


def main() -> None:
    """Entry point: exit status 0 only if every run ended ``done``."""
    with one_line("sparse_rl.sweep"):
        use_cache()
        sys.argv[1:] = for_hydra(check_arguments(sys.argv[1:]))
        with strings_for_help(), errors_passed_on():
            _train()


if __name__ == "__main__":
    main()
