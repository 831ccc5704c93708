"""``python -m sparse_rl.selftest``."""

import sys

from sparse_rl.records.console import one_line
from sparse_rl.selftest.command import main

if __name__ == "__main__":
    with one_line("sparse_rl.selftest"):
        status = main()
    sys.exit(status)
