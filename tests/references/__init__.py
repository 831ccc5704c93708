"""The agents' updates once more, in float64 and from their papers: what ours must agree with.

Nothing here imports the project, and nothing is fast. Noise and samples are given, so that both sides
see the same; weights are trees flattened to ``path → tensor``, and a pruned weight is one that a mask
leaves out before a network uses it.
"""
