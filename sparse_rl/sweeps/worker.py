"""``python -m sparse_rl.sweeps.worker TASK.json``: train one task; how runs ended is on disk.

SIGTERM and SIGINT end the runs at their next log point, with a checkpoint; so do SIGUSR1 and SIGUSR2,
with which SLURM warns all processes of a job.
"""

import signal
import sys
import threading
from pathlib import Path

from sparse_rl.kernels.machine import keep_to, share


def main() -> None:
    numbers = share()
    if numbers:
        keep_to(numbers)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda *_: stop.set())
    from sparse_rl.sweeps.tasks import train_task_file

    train_task_file(Path(sys.argv[1]), stop)


if __name__ == "__main__":
    main()
