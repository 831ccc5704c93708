"""``make fuzz``: thousands of command lines and damaged files; exit status 1 if any is taken amiss."""

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fuzzing import files, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=5000, help="command lines (default: 5000)")
    parser.add_argument("--files", type=int, default=5000, help="damaged files (default: 5000)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of both (default: the time)")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        told = Counter[tuple[str, str]]()
        for told_of in itertools.islice(
            files.damaged(random.Random(options.seed), Path(folder)), options.files
        ):
            told[told_of] += 1
        for (name, what), count in sorted(told.items()):
            print(f"{name}: {count} {what}")
            wrong += 0 if what in ("refused", "unchanged") else count
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        came = Counter[str]()
        for line in itertools.islice(lines.command_lines(random.Random(options.seed)), options.lines):
            found = lines.outcome(line)
            complaint = lines.complaint(line, found)
            came[complaint or ("refused" if found.status else "planned")] += 1
            if complaint:
                wrong += 1
                print(f"{complaint}: {line}: {found.said.strip()[-300:]!r}", flush=True)
        left = [path.name for path in Path(folder).iterdir()]
        os.chdir("/")
    print(f"command lines: {dict(came)}; left behind: {left or 'nothing'}")
    sys.exit(bool(wrong or left))


if __name__ == "__main__":
    main()
