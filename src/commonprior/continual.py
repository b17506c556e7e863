"""How much a learner forgets of a stream, and how much what it learned helps with what comes next.

Lopez-Paz & Ranzato, "Gradient episodic memory for continual learning" (2017), section 2, for accuracy, backward and
forward transfer; Chaudhry et al., "Riemannian walk for incremental learning" (2018), section 4, for forgetting.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from commonprior.errors import DataError


class Transfer(NamedTuple):
    """Figures of a stream, in the score's unit: `final`, the mean score of all segments at the end; `forgetting`, how
    far below its best each earlier segment has fallen; `backward`, how far from where it stood when it had just been
    learned (below 0: forgotten); `forward`, how much better than an untrained prior a segment does before its turn.
    """

    final: float
    forgetting: float
    backward: float
    forward: float


def transfer(scores: np.ndarray) -> Transfer:
    """Return the figures of scores [segments + 1, segments], larger is better.

    Row i holds every segment's score after i segments were learned, row 0 that of the untrained prior. Raises
    `DataError` for fewer than two segments or another shape.
    """
    scores = np.asarray(scores, np.float64)
    segments = scores.shape[-1]
    if scores.shape != (segments + 1, segments) or segments < 2:
        raise DataError(f"scores of shape {scores.shape}: expected [segments + 1, segments] with at least 2 segments")
    last, after = scores[-1], scores[1:]
    return Transfer(
        final=float(last.mean()),
        forgetting=float((after[:-1, :-1].max(0) - last[:-1]).mean()),
        backward=float((last[:-1] - np.diag(after)[:-1]).mean()),
        forward=float(np.mean([scores[j, j] - scores[0, j] for j in range(1, segments)])),
    )
