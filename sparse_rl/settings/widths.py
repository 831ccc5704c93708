"""Widths that follow from the critic's."""

LEAST_NORMED = 3
"""Units under a LayerNorm that say more than a sign: it makes a constant of one number, and of two the
order of the two. Widths that follow from the critic's by a ratio are no smaller where they have one."""


def beside(width: int, ratio: float, normed: bool) -> int:
    """A width that follows from the critic's."""
    return max(LEAST_NORMED if normed else 1, round(ratio * width))
