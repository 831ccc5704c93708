"""Mutation tests: faults are put into a copy of the tree, one at a time, and tests that reach them run.

Entered by ``make mutants`` (``python -m mutation``, beside ``tests/``). Faults come from the list of
our own in ``tests/faults/*.toml`` and from the syntax of the code, at random.
"""
