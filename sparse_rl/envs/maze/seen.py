"""How cells of a maze look in a picture."""

import numpy as np

EMPTY, WALL, GOAL = range(3)
CODES = np.array([(1, 0, 0), (2, 5, 0), (8, 1, 0)], np.float32) / 10.0
"""Kind of a cell → MiniGrid's object, colour and state, a tenth of each as in minimax."""
