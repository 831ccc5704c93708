"""Scaling laws of deep reinforcement learning under sparsity."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sparse_rl")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
