"""The process of one part: ``python -m sparse_rl.selftest.child PART FILE ASKED PARENT``."""

import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from sparse_rl.selftest import lines


class Asked(NamedTuple):
    """What a part is told."""

    device: str
    """``cpu``, ``gpu`` or ``tpu``."""
    quick: bool
    seconds: float
    """Until it is killed."""
    folder: str
    """For what it writes."""


def end_with(parent: int) -> None:
    """End this process and all that it started once whoever started it is gone: a self-test that is
    killed leaves nothing running."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    part, said, asked = sys.argv[1], Path(sys.argv[2]), Asked(*json.loads(sys.argv[3]))
    # told, not asked for: it may be gone before this process looks
    threading.Thread(target=end_with, args=(int(sys.argv[4]),), daemon=True).start()
    from sparse_rl.kernels.compilation import use_cache

    use_cache()
    module = importlib.import_module(f"sparse_rl.selftest.{part}")
    for line in module.lines_of(asked):
        lines.write(said, line)
    lines.write(said, lines.done())


if __name__ == "__main__":
    main()
