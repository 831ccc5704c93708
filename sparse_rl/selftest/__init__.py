"""``python -m sparse_rl.selftest --device gpu``: what is not known of a device before one is at hand.

A part is a generator of lines (:mod:`~sparse_rl.selftest.lines`) and runs in a process of its own,
which is killed at its limit (:mod:`~sparse_rl.selftest.harness`). What came is on disk at once, as JSON
and as a page. Nothing here trains or measures in a way of its own: parts call what sweeps and packs
call. docs/accelerators.md says what each number means.
"""

from sparse_rl.selftest.command import main

__all__ = ["main"]
