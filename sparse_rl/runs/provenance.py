"""What trains a run: code, libraries, machine. Numbers may depend on each by a float's last bits."""

import functools
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from sparse_rl import __version__
from sparse_rl.kernels import flags, native
from sparse_rl.networks import CONVOLVING
from sparse_rl.settings.run import RunConfig


@functools.cache
def git_commit() -> str | None:
    """Commit of the source tree this package runs from, or ``None`` for an installed wheel."""
    here = Path(__file__).resolve().parents[1]
    git = ["git", "-C", str(here)]
    try:
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True)
        if top.returncode or Path(top.stdout.strip()) != here.parent:
            return None
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return None
    return commit.stdout.strip() + ("+changes" if changed.stdout.strip() else "") or None


def _versions(config: RunConfig) -> dict[str, str]:
    packages = {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    if config.storage.storage == "block":
        packages["products of blocks"] = native.multiplier_of_blocks()
    if config.agent.network in CONVOLVING:
        packages["convolutions"] = native.multiplier()
    return {"sparse_rl": __version__, "python": platform.python_version(), **packages}


def provenance(config: RunConfig) -> dict[str, Any]:
    """What trains a run here and now, for the record of an attempt."""
    device = jax.devices()[0]
    return {
        "device": f"{device.platform}:{device.device_kind}",
        "host": {"name": platform.node(), "processors": os.cpu_count(), "process": os.getpid()},
        "versions": _versions(config),
        "flags": flags.recorded(),
        "git_commit": git_commit(),
    }


def code_of(record: dict[str, Any]) -> str:
    """Which code trained a run, in words: the version and the commit of its last attempt."""
    versions = record.get("versions")
    own = versions.get("sparse_rl") if isinstance(versions, dict) else None
    commit = record.get("git_commit")
    return f"sparse_rl {own}" + (f", commit {str(commit)[:7]}" if commit else "")


def code_here() -> str:
    """Which code this is, in the same words."""
    return code_of({"versions": {"sparse_rl": __version__}, "git_commit": git_commit()})
