"""What is kept of runs on disk, and shown elsewhere: results, checkpoints, views, the terminal.

Not here: when it is written (:mod:`sparse_rl.runs`), and what is made of it (:mod:`sparse_rl.analysis`).
This face imports nothing: the analysis reads results, and must not load jax.
"""
