"""What is the same but for its name in JaxMARL's environments: places in their observations, as the
library lays them out (:class:`~sparse_rl.envs.contract.Symmetries`)."""

import itertools
from collections.abc import Sequence

import numpy as np

from sparse_rl.envs.contract import Symmetries
from sparse_rl.envs.teams.relabelling import product

RANKS, OF_A_COLOUR, HINTS, LIVES = 5, 10, 8, 3
"""Of Hanabi: ranks, cards of a colour, hints and lives that a team begins with."""


def spread(agents: int = 3) -> Symmetries:
    """Of simple_spread: which landmark is called the first, and which axis comes first.

    An agent sees its velocity and place, the landmarks, the others, and two numbers of each other one
    that are always 0; it does nothing, or moves back or forth along the first axis or the second.
    """
    moves = np.arange(5)
    size = 4 + 2 * agents + 4 * (agents - 1)
    own, marks, rest = np.split(np.arange(size), [4, 4 + 2 * agents])
    seen = [
        np.concatenate([own, marks.reshape(-1, 2)[list(order)].ravel(), rest])
        for order in itertools.permutations(range(agents))
    ]
    landmarks = _tables(seen, [moves] * len(seen))
    silent = 2 * (agents - 1)
    turned = np.arange(size)
    turned[: size - silent] = turned[: size - silent].reshape(-1, 2)[:, ::-1].ravel()
    axes = _tables([np.arange(size), turned], [moves, moves[[0, 3, 4, 1, 2]]])
    return product(landmarks, axes)


def hanabi(colours: int = 5, hand: int = 5, players: int = 2) -> Symmetries:
    """Of Hanabi: which colour is called what."""
    every = itertools.permutations(range(colours))
    made = [_hanabi(list(order), hand, players) for order in every]
    return _tables([seen for seen, _ in made], [does for _, does in made])


def _hanabi(order: Sequence[int], hand: int, players: int) -> tuple[np.ndarray, np.ndarray]:
    """Places in observations and actions of one relabelling: what is called c is ``order[c]``."""
    colours, others = len(order), players - 1
    at = 0
    seen: list[np.ndarray] = []

    def same(size: int) -> None:
        nonlocal at
        seen.append(at + np.arange(size))
        at += size

    def of_colours(of_each: int, often: int = 1) -> None:
        """So many times: so many numbers of each colour, one colour after the other."""
        nonlocal at
        places = at + np.arange(often * colours * of_each).reshape(often, colours, of_each)
        seen.append(places[:, order].ravel())
        at += places.size

    of_colours(RANKS, others * hand)
    same(players + OF_A_COLOUR * colours - players * hand)  # who lacks a card; the deck
    of_colours(RANKS)  # what is built
    same(HINTS + LIVES)
    of_colours(OF_A_COLOUR)  # what is discarded
    same(2 * players + 4)  # the last action: who, what, to whom
    of_colours(1)
    same(RANKS + 2 * hand)
    of_colours(RANKS)
    same(2)
    for _ in range(players * hand):  # what is known of each card
        of_colours(RANKS)
        of_colours(1)
        same(RANKS)
    moves = np.arange(2 * hand + others * (colours + RANKS) + 1)
    hints = moves[2 * hand : 2 * hand + others * colours].reshape(others, colours)
    moves[2 * hand : 2 * hand + others * colours] = hints[:, order].ravel()
    return np.concatenate(seen), moves


def _tables(seen: Sequence[np.ndarray], does: Sequence[np.ndarray]) -> Symmetries:
    return Symmetries(np.stack(seen).astype(np.int32), np.stack(does).astype(np.int32))
