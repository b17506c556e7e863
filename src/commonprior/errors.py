"""Every error that commonprior raises on purpose.

    CommonPriorError
    ├── InputError            what a person gave us: a file, a recipe, an argument (exit code 2)
    │   ├── DataError         a table, a column, a row
    │   ├── RecipeError       a recipe, or a flag that stands for a line of one
    │   ├── ModelError        a prior or a network that does not fit the task at hand
    │   ├── IdentityError     a key file or a trust list
    │   └── RunError          a run folder: changed, unreadable, of another recipe
    ├── LedgerError           a chain or a contract: down, of another kind, or it said no (exit code 2)
    ├── JournalError          a record that does not hold: says the first entry that fails (exit code 2)
    ├── PolicyRefusal         a site's own policy says no, and why
    ├── BudgetExhausted       the next release would spend more privacy than allowed
    └── ProtocolError         bytes from another party that break the protocol
        └── MalformedMessage  bytes that are not even a message

One sentence each: what was found, where, what was expected and what to do.
"""

from __future__ import annotations


class CommonPriorError(Exception):
    """The root: catch this to catch whatever commonprior refuses on purpose."""


class InputError(CommonPriorError):
    """What a person gave us does not fit."""


class DataError(InputError):
    """A table, a column or a row does not fit."""


class RecipeError(InputError):
    """A recipe, or a flag that stands for a line of one, does not fit."""


class ModelError(InputError):
    """A prior or a network does not fit the task at hand."""


class IdentityError(InputError):
    """A key file or a trust list does not fit."""


class RunError(InputError):
    """A run folder is changed, unreadable, or belongs to another recipe."""


class LedgerError(CommonPriorError):
    """A chain or a contract does not answer, is another one than expected, or refuses."""


class JournalError(CommonPriorError):
    """A record does not hold."""


class PolicyRefusal(CommonPriorError):
    """A site's own policy refuses to take part."""


NOTHING_LEFT = "budget: "
"""How a refusal begins where a site's own privacy budget is what is spent."""


class BudgetExhausted(CommonPriorError):
    """The next release would spend more privacy than is allowed."""


class ProtocolError(CommonPriorError):
    """Bytes from another party break the protocol."""


class UnsoundPrior(ProtocolError):
    """A prior that no learner can have made, as far as can be said without looking at any task."""


class MalformedMessage(ProtocolError):
    """Bytes from another party are not a message."""
