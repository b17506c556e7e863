"""How much work a protocol is, without doing it: elementary operations and bytes, phase by phase, seat by seat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, TypeAlias


@dataclass(frozen=True, eq=False)
class Operation:
    """One kind of elementary work. `prepare` makes ready and returns a function that does it `times` times: that is how
    a machine's speed at it is measured, and it calls what the protocol itself calls.
    """

    name: str
    prepare: Callable[[], Callable[[], object]] = field(repr=False)
    times: float = 1.0


Amounts: TypeAlias = Mapping[Operation, float]
"""How often each operation is done."""


class Role(NamedTuple):
    """What each of `seats` sites does, sends (`up`, bytes) and is sent (`down`, bytes) in a phase."""

    seats: int
    does: Amounts
    up: float
    down: float


class Phase(NamedTuple):
    """One request and one answer: what the sites do, and what the coordinator does until the next phase opens.

    `public` is what each site does besides and gets the same from: in one process it is done once.
    """

    name: str
    roles: tuple[Role, ...]
    coordinator: Amounts
    public: Amounts = MappingProxyType({})


class Work(NamedTuple):
    """A whole attempt in which nobody drops out.

    `reader` is who alone could read every update (empty: nobody could); `is_checked` whether a wrong sum is noticed.
    """

    phases: tuple[Phase, ...]
    reader: str
    is_checked: bool

    @property
    def everyone(self) -> dict[Operation, float]:
        """All that all seats and the coordinator do, as on one machine."""
        parts = [times(role.does, role.seats) for phase in self.phases for role in phase.roles]
        return together(*parts, *(phase.coordinator for phase in self.phases), *(p.public for p in self.phases))

    @property
    def up(self) -> float:
        """The most bytes that one site sends."""
        return sum(max((role.up for role in phase.roles), default=0.0) for phase in self.phases)

    @property
    def down(self) -> float:
        """The most bytes that one site is sent."""
        return sum(max((role.down for role in phase.roles), default=0.0) for phase in self.phases)

    @property
    def all_up(self) -> float:
        """The bytes that all sites send."""
        return sum(role.seats * role.up for phase in self.phases for role in phase.roles)

    @property
    def all_down(self) -> float:
        """The bytes that all sites are sent."""
        return sum(role.seats * role.down for phase in self.phases for role in phase.roles)


def together(*parts: Amounts) -> dict[Operation, float]:
    """Return the sum of amounts."""
    total: dict[Operation, float] = {}
    for part in parts:
        for operation, count in part.items():
            total[operation] = total.get(operation, 0.0) + count
    return total


def times(amounts: Amounts, factor: float) -> dict[Operation, float]:
    """Return amounts so many times over."""
    return {operation: factor * count for operation, count in amounts.items()}
