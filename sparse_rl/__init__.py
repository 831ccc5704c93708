"""Scaling laws of deep reinforcement learning under sparsity.

From Python: :func:`train` a grid, :func:`load` a finished run as a policy, hand it :func:`to_torch`
(:mod:`sparse_rl.api`). They are imported when they are asked for: this face loads nothing heavy.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_rl.api import load as load
    from sparse_rl.api import to_torch as to_torch
    from sparse_rl.api import train as train

__all__ = ("__version__", "load", "to_torch", "train")

try:
    __version__ = version("sparse_rl")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("sparse_rl.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
