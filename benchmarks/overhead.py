"""What a sweep costs before it trains: a grid of 10,000 runs of which 9,990 are finished.

    make overhead
    python benchmarks/overhead.py --runs 10000

Writes a study's records as finished runs leave them, then times ``sparse_rl.sweep … plan=true`` on it:
expanding the grid, hashing, looking up what is finished, packing and counting the rest. Beside it: the
composition of one job by Hydra, times the number of jobs, which is what a launcher of single jobs pays.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WIDTHS, SPARSITIES = (8, 16, 32, 64, 128), (0.0, 0.5, 0.8, 0.9)


def grid(seeds: int) -> list[str]:
    axes = (f"width={','.join(map(str, WIDTHS))}", f"sparsity={','.join(map(str, SPARSITIES))}")
    return [*axes, f"seed=range({seeds})"]


def finish_all_but(study: Path, waiting: int, seeds: int) -> int:
    """Write records of finished runs, alike to real ones in size; how many there are."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from sparse_rl.records import results
    from sparse_rl.runs.pack import prepare_pack
    from sparse_rl.runs.recorder import identity
    from sparse_rl.settings.run import run_config
    from sparse_rl.sweeps.presets import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = OmegaConf.to_container(compose("sweep", ["width=8", "sparsity=0", "seed=0"]))
    assert isinstance(composed, dict)
    points = list(itertools.product(WIDTHS, SPARSITIES, range(seeds)))
    configs = [
        run_config({**composed, "width": width, "sparsity": sparsity, "seed": seed})  # type: ignore[dict-item]
        for width, sparsity, seed in points
    ]
    (run,) = prepare_pack(configs[:1]).runs
    record = identity(run.config, run.costs)
    for config in configs[: len(configs) - waiting]:
        run_dir = study / config.run_id
        run_dir.mkdir(parents=True)
        results.write_run(run_dir, {**record, "status": "done"})
    return len(configs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--waiting", type=int, default=10)
    options = parser.parse_args()
    seeds = options.runs // (len(WIDTHS) * len(SPARSITIES))
    with tempfile.TemporaryDirectory() as folder:
        runs = finish_all_but(Path(folder) / "results" / "demo", options.waiting, seeds)
        command = [sys.executable, "-m", "sparse_rl.sweep", "plan=true"]
        seconds = {}
        for name, arguments in (("one run", ["width=8", "sparsity=0", "seed=0"]), ("all", grid(seeds))):
            begun = time.perf_counter()
            ended = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True)
            seconds[name] = time.perf_counter() - begun
            if ended.returncode:
                raise RuntimeError(ended.stderr)
        print(ended.stdout.splitlines()[0])
        print(f"{runs:,} runs: {seconds['all']:.1f} s; one finished run: {seconds['one run']:.1f} s")
        print(f"per further run: {(seconds['all'] - seconds['one run']) / (runs - 1) * 1e6:.0f} µs")


if __name__ == "__main__":
    main()
