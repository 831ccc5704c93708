"""The command: arguments, the parts one after the other, what comes of them."""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sparse_rl import __version__
from sparse_rl.records.console import duration, program
from sparse_rl.selftest import page
from sparse_rl.selftest.child import Asked
from sparse_rl.selftest.harness import GOOD, Outcome, Watch, run
from sparse_rl.selftest.parts import DEVICE, PARTS, Part, limit
from sparse_rl.settings.schema import ConfigError, unknown

DEVICES = ("cpu", "gpu", "tpu")
DEVICE_SECONDS = 90.0
"""Until jax has found its devices; a driver that hangs takes longer."""
INSTALL = {
    "cpu": "",
    "gpu": "; for NVIDIA: pip install -U 'jax[cuda13]'",
    "tpu": "; on a TPU machine: pip install -U 'jax[tpu]'",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program("selftest"),
        description="Ten minutes on a device: are its numbers right, and how fast is what?",
        epilog="Exit status is 0 only if every part that could run passed (docs/accelerators.md).",
    )
    parser.add_argument("--device", required=True, help=f"one of {', '.join(DEVICES)}")
    parser.add_argument("--quick", action="store_true", help="everything small: does it run at all?")
    parser.add_argument("--minutes", type=float, default=10.0, help="in all (default: 10)")
    parser.add_argument("--out", type=Path, help="folder (default: selftest/<device>_<time>)")
    return parser


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Raise ``ConfigError`` for what cannot be."""
    options = _parser().parse_args(arguments)
    if options.device not in DEVICES:
        raise unknown("device", options.device, list(DEVICES))
    if not 0.0 < options.minutes < 1e4:
        raise ConfigError(f"--minutes {options.minutes:g} is not allowed; give a time above 0")
    stamp = f"{datetime.now():%Y%m%d_%H%M%S}"
    options.out = options.out or Path("selftest") / f"{options.device}_{stamp}"
    if (options.out / page.RESULTS).exists():
        raise ConfigError(f"{options.out} has the results of another self-test; give another --out")
    return options


def environment(device: str) -> dict[str, str]:
    """Variables of a part's process: jax finds the device first, and a CPU beside it."""
    found = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    found.pop("JAX_PLATFORMS", None)
    return found | ({"JAX_PLATFORMS": "cpu"} if device == "cpu" else {})


def _run(part: Part, options: argparse.Namespace, seconds: float, watch: Watch) -> Outcome:
    folder = options.out / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    asked = Asked(options.device, options.quick, seconds, str((folder / part.name).resolve()))
    said = folder / f"{part.name}.jsonl"
    words = (part.name, str(said), json.dumps(asked), str(os.getpid()))
    command = [sys.executable, "-m", "sparse_rl.selftest.child", *words]
    return run(command, said, seconds, environment(options.device), watch)


def device_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the device says of itself.

    Raises:
        ConfigError: it is not there.
    """
    outcome = _run(DEVICE, options, DEVICE_SECONDS, lambda *_: None)
    if outcome.status != "passed":
        said = outcome.why + (INSTALL[options.device] if outcome.status == "failed" else "")
        raise ConfigError(f"--device {options.device}: {said}")
    return outcome.rows[0]


def status(found: Mapping[Part, Outcome]) -> int:
    """Of the command: 0 only if every part that could run passed, and one could."""
    told = [outcome.status for outcome in found.values() if outcome.status != "not run"]
    return 0 if told and all(one in GOOD for one in told) else 1


def _through(options: argparse.Namespace, about: Mapping[str, Any]) -> dict[Part, Outcome]:
    """All parts; what is found is written as it comes."""
    found: dict[Part, Outcome] = {}
    end = time.monotonic() + 60 * options.minutes
    for i, part in enumerate(PARTS):
        seconds = limit(part, PARTS[i + 1 :], end - time.monotonic())

        def watch(outcome: Outcome, doing: str | None, part: Part = part) -> None:
            found[part] = outcome
            page.write(options.out, about, found)
            if doing:
                left = duration(max(end - time.monotonic(), 0.0))
                print(f"{part.name}: {doing} ({left} left)", flush=True)

        watch(Outcome("running", limit=seconds), f"{part.asks} At most {duration(seconds)}")
        outcome = _run(part, options, seconds, watch)
        watch(outcome, f"{outcome.status} {outcome.why}".strip())
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the command's exit status.

    Raises:
        ConfigError: an argument is wrong, or there is no such device.
    """
    options = _options(arguments)
    asked = (
        f"--device {options.device}{' --quick' if options.quick else ''} --minutes {options.minutes:g}"
    )
    begun = f"{datetime.now().astimezone():%Y-%m-%d %H:%M %z}"
    about = device_of(options) | {"asked": asked, "begun": begun, "sparse_rl": __version__}
    print(f"{about['kind']}: {options.out / page.PAGE} is written as numbers come", flush=True)
    found = _through(options, about)
    for part, outcome in found.items():
        print(f"{part.name:10}{outcome.status:15}{outcome.why}")
    return status(found)
