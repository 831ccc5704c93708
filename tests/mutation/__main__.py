"""How many faults do the tests notice?

    make mutants                             # the list of our own, then 300 drawn from the syntax
    make mutants OPTIONS="--only agents"     # faults of one room
    make mutants OPTIONS="--quick"           # of our list, each with the test that noticed it before
    make mutants OPTIONS="--page"            # write docs/mutants.md from what was found out so far

First the whole suite runs once under coverage, to see which tests reach which line. Then each fault is
put into a copy of the tree, the tests that reach it run until one fails, and a line is written. What was
found out stays found out as long as the file with the fault is unchanged; what lived is tried again when
a test has changed. So the command can be stopped and started again.
"""

import argparse
import hashlib
import json
import queue
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mutation import page, reach, syntax
from mutation.faults import ROOT, Fault, argued, listed
from mutation.trial import Copy, Outcome, affordable, attempt, copied, passes

FOLDER = ROOT / "results" / "mutants"
KILLERS = ROOT / "tests" / "faults" / "killers.json"
PLAIN = "tests/experience/test_advantage.py"
"""Quick tests that pass wherever tests can run at all."""
SLACK, LEAST_TIMEOUT = 5.0, 120.0
"""A fault may make tests slower, so many times; beside, programs are compiled anew."""


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--drawn", type=int, default=300, help="faults from the syntax (default 300)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    parser.add_argument("--only", default="", help="faults whose file's path has this in it")
    parser.add_argument("--workers", type=int, default=2, help="faults tried at once (default 2)")
    parser.add_argument("--most", type=float, default=240.0, help="seconds of tests for one fault")
    parser.add_argument("--quick", action="store_true", help="only with the test that noticed it last")
    parser.add_argument("--again", action="store_true", help="run the suite under coverage again")
    parser.add_argument("--page", action="store_true", help="only write docs/mutants.md")
    return parser.parse_args(given)


def digest_of_tests() -> str:
    """Changes whenever a test does."""
    told = hashlib.sha256()
    for path in sorted((ROOT / "tests").rglob("*.py")):
        told.update(path.read_bytes())
    return told.hexdigest()[:16]


def known(path: Path, tests: str) -> dict[str, dict[str, Any]]:
    """name of a fault → what was found out, but for what lived under other tests, or under one alone."""
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines()]

    def holds(line: dict[str, Any]) -> bool:
        return bool(line["killed"] or (line["tests"] == tests and line["asked"] > 1))

    return {line["name"]: line for line in lines if holds(line)}


def tests_for(fault: Fault, told: reach.Reach | None, killers: dict[str, str], most: float) -> list[str]:
    """The test that killed it the last time, then those that reach it, as far as time goes."""
    if told is None:
        return [killers[key_of(fault)]]
    text = (ROOT / fault.file).read_text()
    chosen = affordable(told.of(fault, text), told.seconds, most)
    last = killers.get(key_of(fault))
    if last in told.seconds:
        chosen = [last, *(test for test in chosen if test != last)]
    return chosen


def key_of(fault: Fault) -> str:
    """What names a fault of our list in the file of killers."""
    return f"{fault.file}: {fault.was} → {fault.now}"


def killers_of() -> dict[str, str]:
    """A fault of our list, by its key → the test that noticed it the last time."""
    found: dict[str, str] = json.loads(KILLERS.read_text()) if KILLERS.exists() else {}
    return found


def try_all(
    faults: dict[str, Fault],
    told: reach.Reach | None,
    options: argparse.Namespace,
    path: Path,
    tests: str,
) -> None:
    """Try every fault, some at once, and write a line for each as it ends."""
    killers = killers_of()
    copies: queue.Queue[Copy] = queue.Queue()

    def one(fault: Fault) -> Outcome:
        chosen = tests_for(fault, told, killers, options.most)
        if not chosen:
            return Outcome(False, "", 0.0, 0)
        expected = sum(told.seconds.get(test, 1.0) for test in chosen) if told else 0.0
        copy = copies.get()
        try:
            return attempt(fault, copy, chosen, LEAST_TIMEOUT + SLACK * expected)
        finally:
            copies.put(copy)

    with ExitStack() as stack:
        for _ in range(options.workers):
            copy = stack.enter_context(copied())
            if not passes(copy, PLAIN):
                raise SystemExit(f"{PLAIN} fails without any fault: run the suite first")
            copies.put(copy)
        pool = stack.enter_context(ThreadPoolExecutor(options.workers))
        running = {pool.submit(one, fault): name for name, fault in faults.items()}
        begun = time.monotonic()
        for count, future in enumerate(as_completed(running), 1):
            name, error = running[future], future.exception()
            if error is not None:  # a test that is gone: nothing is known of this fault
                say(f"{count}/{len(running)}: {key_of(faults[name])}: {error}")
                continue
            outcome = future.result()
            record(path, name, faults[name], outcome, tests)
            left = (time.monotonic() - begun) / count * (len(running) - count)
            say(f"{count}/{len(running)}, {left / 60:.0f} min left: {told_of(faults[name], outcome)}")


def told_of(fault: Fault, outcome: Outcome) -> str:
    """One line of progress."""
    verdict = f"killed by {outcome.killer}" if outcome.killed else f"LIVES ({outcome.asked} tests)"
    return f"{fault.file}: {fault.was!r} → {fault.now!r} {verdict}, {outcome.seconds:.0f} s"


def record(path: Path, name: str, fault: Fault, outcome: Outcome, tests: str) -> None:
    """Add a line to what was found out."""
    with path.open("a") as file:
        line = {"name": name, "tests": tests, "key": key_of(fault), **outcome._asdict()}
        file.write(json.dumps(line) + "\n")


def keep_killers(own: dict[str, Fault], found: dict[str, dict[str, Any]]) -> None:
    """Write which test killed which fault of our list: the suite's slice runs those."""
    killers, keys = killers_of(), set(map(key_of, own.values()))
    for name, fault in own.items():
        if name in found and "::" in found[name]["killer"]:
            killers[key_of(fault)] = found[name]["killer"]
        elif name in found:
            killers.pop(key_of(fault), None)
    killers = {key: killer for key, killer in killers.items() if key in keys}
    KILLERS.write_text(json.dumps(killers, indent=0, sort_keys=True, ensure_ascii=False) + "\n")


def named(faults: Sequence[Fault]) -> dict[str, Fault]:
    """Faults by their names."""
    return {fault.name((ROOT / fault.file).read_text()): fault for fault in faults}


def reached(again: bool) -> reach.Reach:
    """Which tests reach which line; the suite is run for it if it was not, or ``again``."""
    if again or not (FOLDER / "times.xml").exists():
        say("the suite runs once under coverage")
        reach.measure(FOLDER)
    return reach.read(FOLDER)


def say(line: str) -> None:
    """Progress, at once."""
    print(line, flush=True)


def main(given: Sequence[str]) -> None:
    options = arguments(given)
    FOLDER.mkdir(parents=True, exist_ok=True)
    outcomes, tests = FOLDER / "outcomes.jsonl", digest_of_tests()
    own, drawn = named(listed()), named(syntax.drawn(options.drawn, options.seed))
    if not options.page:
        pool, told = own | drawn, None
        if options.quick:
            pool = {name: fault for name, fault in own.items() if key_of(fault) in killers_of()}
        else:
            told = reached(options.again)
        found = known(outcomes, tests)
        left = {name: f for name, f in pool.items() if name not in found and options.only in f.file}
        say(f"{len(left)} faults to try, {len(own)} are of the list, {len(drawn)} drawn")
        try_all(left, told, options, outcomes, tests)
    found = known(outcomes, tests)
    keep_killers(own, found)
    page.write(ROOT / "docs" / "mutants.md", own, drawn, found, argued())
    say("docs/mutants.md is written")


if __name__ == "__main__":
    main(sys.argv[1:])
