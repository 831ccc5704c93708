"""``python -m sparse_rl.coordinates [key=value …]``: how large what each layer makes is, over widths and
sparsities, before and after the first updates.

It takes the keys of ``sparse_rl.sweep``, trains nothing beyond ten updates, and writes
``results/<name>/coordinates.parquet``, ``.csv`` and ``.png`` (docs/parametrisation.md).
"""

import sys
from typing import Any

import hydra

from sparse_rl.kernels.compilation import use_cache
from sparse_rl.records.console import one_line, program
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps.arguments import (
    check_arguments,
    errors_passed_on,
    for_hydra,
    strings_for_help,
)
from sparse_rl.sweeps.presets import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="sweep")
def _check(jobs: Any, launcher: Any = None, command: str | None = None) -> SystemExit:
    """Measure a grid: Hydra expands the command line, and the launcher hands all its jobs to this."""
    from sparse_rl.sweeps.coordinates import check

    del launcher, command
    return SystemExit(check(jobs))


HELP = """\
usage: {program} [key=value …]

How large what each layer makes is, before training and after its first updates, over widths,
sparsities and seeds: a table and a picture (docs/parametrisation.md).

  {program} study=coordinates
  {program} agent=sac_mlp env=gymnax/pendulum width=64,256 sparsity=0,0.9 seed=0,1,2

It takes every key of a sweep, and trains here: hydra/launcher=… is refused.
"""


def main() -> None:
    """Entry point."""
    with one_line("sparse_rl.coordinates"):
        if {"--help", "-h"} & set(sys.argv[1:]):
            print(HELP.format(program=program("coordinates")), end="")
            return
        use_cache()
        arguments = check_arguments(sys.argv[1:])
        if any(argument.startswith("hydra/launcher=") for argument in arguments):
            raise ConfigError("hydra/launcher: a coordinate check runs in this process; leave it out")
        sys.argv[1:] = for_hydra(arguments)
        with strings_for_help(), errors_passed_on():
            _check()


if __name__ == "__main__":
    main()
