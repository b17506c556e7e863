"""A prior that a coordinator made up: whatever a learner does with it ends in a refusal, not in a crash."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from commonprior.errors import CommonPriorError, ProtocolError
from commonprior.prior import Prior


@contextlib.contextmanager
def crafted(prior: Prior) -> Iterator[None]:
    """Raise `ProtocolError` where a learner cannot work with a prior: a coordinator may have made up anything.

    What exactly failed is not said: it may depend on the site's tasks, and the coordinator is told.
    """
    try:
        yield
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        if isinstance(error, CommonPriorError):
            raise
        names = ", ".join(sorted({*prior.params, *prior.state}))[:200]
        raise ProtocolError(f"the prior ({names}) is none that its learner can have made") from error
