"""The one schema of ``conf/``: how settings are checked (:mod:`~sparse_rl.settings.schema`), and those
of runs, agents and environments, frozen.

Not here: presets, which are data in ``conf/``. This face imports nothing: worker processes read
settings of environments, and must not load jax.
"""
