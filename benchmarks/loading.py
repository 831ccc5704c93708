"""How long a study of 10,000 runs takes to load, beside one ``pandas.read_parquet`` per file.

    make loading
    python benchmarks/loading.py --runs 10000 --rows 100

The study is made for the purpose: one run's rows under as many names. The floor is the time to read its
bytes. Both ways read every row and column; ours joins each run's axes to its rows as well.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from sparse_rl.analysis import load
from sparse_rl.records import results

COLUMNS = 26
"""Of a run of SAC with SimBa networks."""
SOME = 1000
"""Files that the slow way reads: its time grows with their number."""


def make(study: Path, runs: int, rows: int) -> None:
    """A study of equal runs."""
    generator = np.random.default_rng(0)
    values = {f"metric/{i}": generator.normal(size=rows) for i in range(COLUMNS - 3)}
    steps = 1000 * np.arange(1, rows + 1)
    frame = pd.DataFrame(
        {"env_steps": steps, "updates": steps, "return_mean": values["metric/0"], **values}
    )
    first = study / "r0"
    results.write_metrics(first, frame.assign(wall_time=steps / 1e3).to_dict("records"))  # type: ignore[arg-type]
    rows_bytes, times_bytes = ((first / n).read_bytes() for n in (results.METRICS, results.TIMES))
    record = {
        "agent": "sac", "network": "simba", "env": "gymnax/Pendulum-v1", "width": 64, "sparsity": 0.5,
        "mask_seed": 0, "pattern": "unstructured", "distribution": "erdos_renyi", "status": "done",
        "reason": None, "timings": {"train_seconds": 1.0}, "flops_per_update": 1,
        "parameters_total": 1, "parameters_nonzero": 1,
    }  # fmt: skip
    for run in range(runs):
        folder = study / f"r{run}"
        folder.mkdir(exist_ok=True)
        (folder / results.METRICS).write_bytes(rows_bytes)
        (folder / results.TIMES).write_bytes(times_bytes)
        results.write_run(folder, {"run_id": f"r{run}", **record, "seed": run})


def seconds(task: object) -> float:
    """Wall time of a call."""
    begun = time.perf_counter()
    task()  # type: ignore[operator]
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        make(study, options.runs, options.rows)
        files = [study / f"r{run}" / results.METRICS for run in range(options.runs)]
        pandas = seconds(lambda: [pd.read_parquet(f) for f in files[:SOME]]) / min(SOME, options.runs)
        ours = seconds(lambda: load(study))
        floor = seconds(lambda: [p.read_bytes() for p in study.glob("*/*")])
        print(f"{options.runs:,} runs × {options.rows} rows × {COLUMNS} columns")
        print(f"load: {ours:.1f} s ({1e3 * ours / options.runs:.2f} ms a run)")
        print(
            f"pandas.read_parquet, metrics alone: {pandas * options.runs:.1f} s "
            f"({1e3 * pandas:.2f} ms a run)"
        )
        print(f"ratio: {pandas * options.runs / ours:.1f}x; floor, reading the bytes: {floor:.1f} s")


if __name__ == "__main__":
    main()
