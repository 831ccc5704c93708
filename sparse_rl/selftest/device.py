"""What is this device? And is it the one that was asked for?"""

import os
import platform
import subprocess
from typing import Any

from sparse_rl.kernels.machine import allowed_bytes, cores
from sparse_rl.selftest import lines
from sparse_rl.selftest.child import Asked
from sparse_rl.selftest.lines import WRONG, Lines

DRIVER = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")


def _driver() -> str:
    try:
        told = subprocess.run(DRIVER, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return told.strip().replace("\n", "; ") or "unknown"


def named(asked: str, found: str) -> str | None:
    """Why a device that jax found is not the one that was asked for."""
    return None if asked == found else f"jax finds no {asked} here, only a {found}"


def lines_of(asked: Asked) -> Lines:
    """One row."""
    import jax

    device = jax.devices()[0]
    about: dict[str, Any] = {
        "kind": device.device_kind if device.platform != "cpu" else f"CPU, {platform.machine()}",
        "platform": device.platform,
        "devices": jax.device_count(),
        "bytes": (device.memory_stats() or {}).get("bytes_limit") or allowed_bytes(),
        "cores": cores(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
    if device.platform != "cpu":
        about["driver"] = _driver()
    wrong = named(asked.device, device.platform)
    yield lines.row(**about, **({WRONG: wrong} if wrong else {}))
