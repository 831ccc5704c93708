"""``python -m sparse_rl.video results/<name>/<run_id>``: an episode of a trained agent, as a GIF.

The environment must show pictures (``env=pixels/…``, ``env=dm_control_pixels/…``), or draw its levels
(``env=maze/…``).
"""

import argparse
import sys
from pathlib import Path

from sparse_rl.kernels.compilation import use_cache
from sparse_rl.records.console import one_line, program
from sparse_rl.runs import WHICH, CannotTryError, film
from sparse_rl.settings.schema import ConfigError


def main() -> int:
    parser = argparse.ArgumentParser(
        prog=program("video"),
        description="An episode of a trained agent, as a GIF. Its environment must show pictures "
        "(env=pixels/…, env=dm_control_pixels/…), or draw its levels (env=maze/…).",
    )
    parser.add_argument("run_dir", type=Path, help="results/<name>/<run_id>")
    parser.add_argument("--seed", type=int, default=0, help="of the episode's first state")
    parser.add_argument("--set", help="of held-out levels (default: the first that is watched)")
    parser.add_argument("--number", type=int, default=0, help="of the level in its set")
    parser.add_argument(
        "--which", choices=WHICH, default="last",
        help="as the run ended, or at its best evaluation, if keep_best=true kept that (default: last)",
    )  # fmt: skip
    options = parser.parse_args()
    use_cache()
    try:
        path, score = film(options.run_dir, options.seed, options.set, options.number, options.which)
    except (CannotTryError, ConfigError, FileNotFoundError) as error:
        print(f"no video of {options.run_dir}: {error}", file=sys.stderr)
        return 1
    print(f"{path}: return {score:.1f}")
    return 0


if __name__ == "__main__":
    with one_line("sparse_rl.video"):
        sys.exit(main())
