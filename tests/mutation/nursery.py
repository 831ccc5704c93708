"""Runs pytest again and again in forks of a process that has loaded the libraries: they take longer than
most tests. It loads nothing of ours.

Reads lines of JSON, ``{"tests": [...], "timeout": seconds}``, and answers with ``[status, output]``.
"""

import importlib
import json
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence

LIBRARIES = (
    "jax", "jax.numpy", "flax.linen", "optax", "numpy", "pandas", "pytest", "torch", "scipy.linalg",
    "scipy.optimize", "scipy.integrate", "pyarrow.parquet",
)  # fmt: skip
"""What tests of ours load, if nothing else is asked for.

Not gymnax: it computes when it is loaded, and a fork of a process in which jax has computed hangs. Not
Hydra: pytest takes it for a plugin, and says so as an error where it is loaded already.
"""
OPTIONS = ("-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-p", "no:cov")
LATE = "FAILED within its time\n"
POLL = 0.05


def child(tests: Sequence[str], output: int) -> None:
    """Run tests, never to return."""
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    warnings.resetwarnings()
    import pytest

    status = int(pytest.main([*OPTIONS, *tests]))
    sys.stdout.flush()
    os._exit(status)


def run(tests: Sequence[str], timeout: float) -> tuple[int, str]:
    """pytest's status and output; one that hangs counts as a failure."""
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            child(tests, output.fileno())
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            done, state = os.waitpid(pid, os.WNOHANG)
            if done:
                output.seek(0)
                text = output.read().decode(errors="replace")
                return os.waitstatus_to_exitcode(state), text
            time.sleep(POLL)
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return 1, LATE


def main(libraries: Sequence[str]) -> None:
    warnings.simplefilter("ignore")
    for library in libraries:
        importlib.import_module(library)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(run(asked["tests"], asked["timeout"])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
