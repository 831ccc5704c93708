"""What a study came to, to be compared byte by byte."""

from pathlib import Path

from sparse_rl.records import results

Outcomes = dict[str, tuple[bytes, bytes]]


def outcomes(study: Path) -> Outcomes:
    """run_id → the bytes of its rows and of its trained parameters."""
    return {
        run.name: ((run / results.METRICS).read_bytes(), (run / results.PARAMETERS).read_bytes())
        for run in results.run_dirs(study)
    }
