"""What sums in groups cost: the draw, and each group's sum in frames of the whole session, counted along `grouped`."""

from __future__ import annotations

from typing import Protocol

from commonprior.session import Session
from commonprior.sums import SecureSum
from commonprior.sums._agreed_cost import CLOSING, asking
from commonprior.sums._groups import Grouping, groups_of
from commonprior.sums._messages import HASH_BYTES
from commonprior.sums._operations import HASH, Message, around, held, listed, made, message, read
from commonprior.sums._work import work_of
from commonprior.work import Phase, Role, Work, together


class _Grouped(Protocol):
    @property
    def of(self) -> SecureSum: ...

    @property
    def grouping(self) -> Grouping: ...


def work(kind: _Grouped, session: Session) -> Work:
    """Return the work of an attempt with everyone. Raises `RecipeError` where the groups' own sums do not fit them."""
    n = len(session.roster)
    groups = groups_of(session, kind.grouping, tuple((seat, bytes(32)) for seat in range(n)))
    parts = [work_of(kind.of, group.session) for group in groups]
    ask, commitment = message("group-commit", None), around("group-commit", held(HASH_BYTES))
    shown, nonce = around("group-reveal", listed(n, held(commitment.size)), n), around("group-reveal", held(32))
    relayed = listed(n, held(nonce.size))
    commit = together(read(1, ask), {HASH: 1}, made(1, commitment))
    reveal = together(read(1, shown), read(n, commitment), {HASH: 1}, made(1, nonce))
    phases = [_inner([part.phases[at] for part in parts], relayed if at == 1 else 0.0, nonce, n)
              for at in range(1, len(parts[0].phases))]  # fmt: skip
    opened = [made(role.seats, around("", role.down)) for role in phases[0].roles]
    drawn = together(
        read(n, nonce), {HASH: n}, made(1, CLOSING), *opened, *(part.phases[0].coordinator for part in parts)
    )
    return Work((
        Phase("start", (), asking(n, ask)),
        Phase("group-commit", (Role(n, commit, commitment.size, ask.size),),
              together(read(n, commitment), asking(n, shown))),
        Phase("group-reveal", (Role(n, reveal, nonce.size, shown.size),), drawn),
        *phases,
    ), parts[0].reader, parts[0].is_checked)  # fmt: skip


def _inner(phases: list[Phase], relayed: float, nonce: Message, parties: int) -> Phase:
    """Return one phase of all groups: their frames in frames of the whole session, the first with the draw."""
    roles: list[Role] = []
    coordinator = together(made(1, CLOSING), *(phase.coordinator for phase in phases))
    for role in (role for phase in phases for role in phase.roles):
        answer = around(phases[0].name, held(role.up))
        request = around(phases[0].name, held(role.down) + (1 + relayed if relayed else 0))
        # What is within is opened twice: for its phase, and by the group's own machine.
        does = together(read(2, request), role.does, made(1, answer), read(parties, nonce) if relayed else {})
        roles.append(Role(role.seats, does, answer.size, request.size))
        coordinator = together(coordinator, read(role.seats, answer), made(role.seats, request) if not relayed else {})
    return Phase(phases[0].name, tuple(roles), coordinator, together(*(phase.public for phase in phases)))
