"""Products on this processor: kernels of our own in C++ (:mod:`~sparse_rl.kernels.native`), how operands
are rounded (:mod:`~sparse_rl.kernels.products`), how programs are compiled
(:mod:`~sparse_rl.kernels.compilation`).

Not here: networks and their layers, and which weights survive. This face imports nothing: where compiled
programs are kept has to be said before jax is imported.
"""
