"""Sums by groups that the sites draw together, so that a few sites that lie cannot move the new prior at will.

Under masks nobody sees a lie. But each group's sum is seen: with `groups` means on the table, f lying sites touch at
most f of them, and a coordinate-wise median (or a trimmed mean) of the means bears that. What holds exactly: while at
most (groups - 1) / 2 groups (`trim` of them, for a trimmed mean) hold a site that lies, every coordinate of the result
lies between the smallest and the largest of the honest groups' means, however large the lies are (Yin et al. 2018,
arXiv 1803.01498, on medians and trimmed means; Pillutla et al. 2022, arXiv 1912.13445, on why they need to see parts).
It is no more: within that range liars can pull, and sites that differ are averaged less well than by a plain mean.

    start         nobody answers; closing it asks for commitments
    group-commit  site -> all          SHA-256 of 32 random bytes, signed
    group-reveal  site -> all          those bytes, signed, once it has seen everyone's commitments
    ...           the phases of `of`, in one session a group: frames of theirs travel in frames of the whole session

Whoever reveals last knows the groups before the others do, and can only stay silent: the attempt then ends, says who
was silent, and the record counts it. So a coordinator with sites of its own gets one more draw for each attempt that
it gives up, never a choice among many: an outcome of probability p comes about with at most attempts · p. A seat that
did not commit is left out of the groups; a site accepts a draw only if it took part in it, with the commitments that
it had seen before it revealed. The roster is fixed by the record's opening, each site's integers and noise before it
commits. What is promised above, and what hides a site, holds for every outcome of the draw: all colluders are assumed
to sit in one's own group. The draw keeps more liars than that from choosing where to sit.

Each unit enters one group's sum alone, and each site's noise is sized for the worst survivor set in a group, so that
the stated cost is that of one release. Without noise a group is merely a smaller crowd, and the groups of two rounds
differ while updates hardly do: a site's policy refuses that unless told otherwise. A noiseless attempt that the sites
had agreed to cannot be repeated, as another draw would show the difference.

`Aggregate.parts` are each group's own parts, one canonical list a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

import numpy as np

from commonprior.canonical import Value, decode, digest, encode
from commonprior.errors import InputError, MalformedMessage, ProtocolError, RecipeError
from commonprior.frame import Frame, open_frame
from commonprior.identity import Identity
from commonprior.session import COORDINATOR, Seat, Session
from commonprior.sums import Aborted, Aggregate, Csprng, Finished, Guard, Machine, SecureSum, Step, read_parts
from commonprior.sums._draw import CONTRIBUTION_BYTES
from commonprior.sums._groups import Draw, Group, Grouping, commitment_of, groups_of, sizes
from commonprior.sums._phases import START, Outbox, PhasedCoordinator, PhasedParty, Reply

COMMIT, REVEAL = "group-commit", "group-reveal"

_ROOM = 1 << 30
_COMMITMENT_BYTES = 32
"""What an inner frame may take; its own machine has the tighter limit."""


@final
@dataclass(frozen=True)
class Grouped(SecureSum):
    """`groups` sums of the kind `of`, and the `combine` of their means; of the smallest and the largest means, a
    trimmed mean leaves `trim` out.

    A group bears the loss of `dropouts` sites (all that the schedule allows, if left out; with fewer, an attempt may
    fail by bad luck: `Grouping.repeated`), and keeps `minimum_cohort` sites that do not collude when it has lost them.
    """

    groups: int
    of: SecureSum
    combine: Literal["median", "trimmed_mean"] = "median"
    trim: int = 0
    dropouts: int | None = None
    minimum_cohort: int = 3

    phases: ClassVar[tuple[str, ...]] = (START, COMMIT, REVEAL)
    trust: ClassVar[str] = (
        "as in the sum that it is made of, for each group; the means of all groups are seen instead of one, and a few "
        "sites that lie about their vectors cannot move the result beyond the honest groups' means"
    )

    def __post_init__(self) -> None:
        _check_fields(self)
        # What a class says of every sum, an instance of this one says of itself and of the sum within.
        for name, value in {
            "phases": (*Grouped.phases, *self.of.phases[1:]),
            "insecure": self.of.insecure,
            "trust": f"in each of {self.groups} groups: {self.of.trust}; {_TOGETHER}",
            "grouping": Grouping(self.groups, self.combine, self.trim, self.dropouts),
        }.items():
            object.__setattr__(self, name, value)

    def key_holders(self, session: Session) -> frozenset[Seat]:
        """Return every seat, where the sum within has a key holder: who is whose is drawn later."""
        return frozenset(range(len(session.roster))) if self.of.key_holders(session) else frozenset()

    def check(self, session: Session) -> None:
        """Raise `RecipeError`, with the numbers, where a group could become too small, for itself or for its sum."""
        self.grouping.require(session, self.minimum_cohort)
        for gone in range(session.dropouts + 1):
            there = tuple((seat, bytes(CONTRIBUTION_BYTES)) for seat in range(len(session.roster) - gone))
            largest, *_, smallest = groups_of(session, self.grouping, there)
            self.of.check(largest.session)
            self.of.check(smallest.session)

    def unsigned(self, parties: int, dropouts: int, colluders: int) -> int:
        """Return how many honest survivors a group's sum may lack, for the worst of the groups that can be drawn."""
        return max(
            self.of.unsigned(size, self.grouping.spare(dropouts, gone), colluders)
            for gone in range(dropouts + 1) for size in {*sizes(parties - gone, self.groups)}
        )  # fmt: skip

    def party(
        self, session: Session, seat: Seat, identity: Identity, integers: np.ndarray, csprng: Csprng, guard: Guard
    ) -> Machine:
        """Return the machine of the site on `seat`; a session that the groups do not fit raises `ProtocolError`."""
        try:
            self.grouping.require(session, self.minimum_cohort)
        except RecipeError as error:
            raise ProtocolError(f"no groups for this session: {error}") from None
        return _GroupedParty(self, session, seat, identity, integers, csprng, guard)

    def coordinator(self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]] = ()) -> Machine:
        """Return the coordinator's machine; `log` as for every sum. Raises `RecipeError` where groups do not fit."""
        self.grouping.require(session, self.minimum_cohort)
        return _GroupedCoordinator(self, session, identity, log)

    def recompute(
        self, session: Session, commitments: Mapping[Seat, bytes], parts: Sequence[bytes], draw: Draw = ()
    ) -> np.ndarray | None:
        """Return the sums [groups, d] that every group's own parts make; None where the sum within says so."""
        groups, sums = groups_of(session, self.grouping, draw), []
        if len(parts) != len(groups):
            raise ProtocolError(f"parts of {len(parts)} groups, expected {len(groups)}")
        for group, data in zip(groups, parts, strict=True):
            own = {place: commitments[seat] for place, seat in enumerate(group.seats) if seat in commitments}
            total = self.of.recompute(group.session, own, read_parts(decode(data, len(data))))
            if total is None:
                return None
            sums.append(total)
        return np.stack(sums)


_TOGETHER = (
    "whoever sees the record sees every group's mean; sites that lie cannot move the result beyond the honest groups' "
    "means while they sit in fewer than half of the groups (in at most `trim` of them, for a trimmed mean)"
)


def _check_fields(whole: Grouped) -> None:
    groups, trim = whole.groups, whole.trim
    if whole.combine not in ("median", "trimmed_mean"):
        raise RecipeError(f"sum.combine = {whole.combine!r}: expected 'median' or 'trimmed_mean'")
    if groups < 3:
        raise RecipeError(f"sum.groups = {groups}: expected at least 3, as one of two cannot be told to be the liar's")
    if whole.combine == "median" and groups % 2 == 0:
        raise RecipeError(
            f"sum.groups = {groups} for a median: an even number tolerates no more than {groups - 1} groups do; take "
            f"{groups - 1} or {groups + 1}"
        )
    if whole.combine == "median" and trim:
        raise RecipeError(f"sum.trim = {trim} for a median: it has nothing to trim; set combine = 'trimmed_mean'")
    if whole.combine == "trimmed_mean" and not 1 <= trim < groups / 2:
        raise RecipeError(
            f"sum.trim = {trim} of {groups} groups: expected 1 to {(groups - 1) // 2}, so that a group is left"
        )
    if whole.dropouts is not None and whole.dropouts < 0:
        raise RecipeError(f"sum.dropouts = {whole.dropouts}: expected at least 0, or none for the schedule's")
    if whole.minimum_cohort < 2:
        raise RecipeError(f"sum.minimum_cohort = {whole.minimum_cohort}: a group of one hides nothing; expected 2")
    if whole.of.grouping.groups > 1:
        raise RecipeError("sum.of is grouped itself; put the inner sum's own `of` in its place")


@dataclass(frozen=True)
class _Fresh:
    integers: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class _Committed:
    integers: np.ndarray = field(repr=False)
    nonce: bytes = field(repr=False)


@dataclass(frozen=True)
class _Revealed:
    integers: np.ndarray = field(repr=False)
    commitments: Mapping[Seat, bytes]


@dataclass(frozen=True)
class _Joined:
    group: Group
    place: Seat
    machine: Machine


@final
class _GroupedParty(PhasedParty):
    """A site: draws, checks the draw, and then is its group's party."""

    def __init__(
        self,
        whole: Grouped,
        session: Session,
        seat: Seat,
        identity: Identity,
        integers: np.ndarray,
        csprng: Csprng,
        guard: Guard,
    ) -> None:
        if integers.shape != (session.length,) or integers.dtype != np.int64:
            raise InputError(
                f"expected {session.length} integers of int64, got shape {integers.shape} of {integers.dtype}; "
                f"give what the mechanism returned"
            )
        super().__init__(session, seat, identity, _Fresh(integers), _ROOM)
        self._whole, self._csprng, self._guard = whole, csprng, guard

    def _answer(self, phase: str, state: object, body: Value) -> tuple[object, Reply]:
        match phase, state, body:
            case "group-commit", _Fresh(integers), None:
                nonce = self._csprng(CONTRIBUTION_BYTES)
                return _Committed(integers, nonce), Reply(commitment_of(self._session, self._seat, nonce))
            case "group-reveal", _Committed(integers, nonce), list():
                return self._reveal(integers, nonce, body)
            case _, _Revealed(), [list() as shown, bytes() as frame]:
                return self._pass_on(phase, self._join(state, shown), frame)
            case _, _Joined(), bytes():
                return self._pass_on(phase, state, body)
            case _:
                raise ProtocolError(f"{phase} request to seat {self._seat}: it answers each phase once, in order")

    def _reveal(self, integers: np.ndarray, nonce: bytes, relayed: Sequence[Value]) -> tuple[_Revealed, Reply]:
        commitments = _relayed(self._session, COMMIT, relayed)
        if commitments.get(self._seat) != commitment_of(self._session, self._seat, nonce):
            raise ProtocolError(f"the commitment relayed for seat {self._seat} is not the one that it made")
        if len(commitments) < self._session.threshold:
            raise ProtocolError(
                f"{len(commitments)} sites committed to a draw, expected at least {self._session.threshold}"
            )
        return _Revealed(integers, commitments), Reply(nonce)

    def _join(self, state: _Revealed, relayed: Sequence[Value]) -> _Joined:
        """Check that everyone who had committed has shown just that, and take the seat that the draw gives."""
        session, seat, whole = self._session, self._seat, self._whole
        draw = _checked_draw(session, state.commitments, _relayed(session, REVEAL, relayed))
        group = next(group for group in groups_of(session, whole.grouping, draw) if seat in group.seats)

        def guard(inner: frozenset[Seat]) -> None:
            self._guard(frozenset(group.seats[place] for place in inner))

        place = group.seats.index(seat)
        machine = whole.of.party(group.session, place, self._identity, state.integers, self._csprng, guard)
        return _Joined(group, place, machine)

    def _pass_on(self, phase: str, state: _Joined, frame: bytes) -> tuple[_Joined, Reply]:
        # Whoever watches over this machine goes by the outer frame's phase: what is within must be of the same.
        within = open_frame(frame, state.group.session, state.place).phase
        if within != phase:
            raise ProtocolError(f"{phase} request to seat {self._seat} with a {within} request within")
        persist, send, done = state.machine.receive(COORDINATOR, frame)
        ended = (
            Finished(tuple(state.group.seats[place] for place in done.survivors))
            if isinstance(done, Finished)
            else None
        )
        ((_, answer),) = send
        return state, Reply(answer, persist, ended)


@final
class _GroupedCoordinator(PhasedCoordinator):
    """The coordinator: relays the draw, then is the coordinator of every group at once."""

    def __init__(self, whole: Grouped, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]]) -> None:
        self.phases = whole.phases  # pyright: ignore[reportAttributeAccessIssue]
        self._whole = whole
        self._commits: dict[Seat, tuple[bytes, bytes]] = {}
        self._draw: Draw = ()
        self._groups: tuple[Group, ...] = ()
        self._machines: list[Machine] = []
        self._sums: dict[int, Aggregate] = {}
        super().__init__(session, identity, log, _ROOM)

    def _read(self, phase: str, opened: Frame, frame: bytes) -> object:
        match phase, opened.body:
            case "group-commit", bytes() as commitment:
                if len(commitment) != _COMMITMENT_BYTES:  # relayed to everybody, whose limit it would break
                    self._culprits.add(opened.sender)
                    raise ProtocolError(f"seat {opened.sender} commits to a draw in {len(commitment)} bytes")
                return commitment, frame
            case "group-reveal", bytes() as nonce:
                shown = commitment_of(self._session, opened.sender, nonce)
                if len(nonce) != CONTRIBUTION_BYTES or self._commits[opened.sender][0] != shown:
                    self._culprits.add(opened.sender)
                    raise ProtocolError(f"seat {opened.sender} does not show what it had committed to")
                return nonce, frame
            case _, bytes() as inner:
                number, place = self._place(opened.sender)
                return self._machines[number].receive(place, inner)
            case _:
                raise MalformedMessage(f"{phase}: expected bytes")

    def _next(self, phase: str, answers: Mapping[Seat, Any]) -> Outbox | Aggregate | Aborted:
        match phase:
            case "start":
                return dict.fromkeys(range(len(self._session.roster)))
            case "group-commit":
                self._commits = dict(answers)
                relayed = [frame for _, frame in answers.values()]
                return dict.fromkeys(answers, relayed)
            case "group-reveal":
                silent = sorted(set(self._commits) - set(answers))
                if silent:
                    why = f"{phase}: seats {silent} committed to a draw and did not show it"
                    # The next attempt is held without them: else one site that falls silent here would stop them all.
                    return Aborted(why, tuple(sorted({*self._culprits, *silent})))
                self._form(tuple((seat, nonce) for seat, (nonce, _) in answers.items()))
                shown = [frame for _, frame in answers.values()]
                return self._advance_groups(self._whole.of.phases[0], shown)
            case _:
                return self._advance_groups(phase)

    def _form(self, draw: Draw) -> None:
        self._draw, self._groups = draw, groups_of(self._session, self._whole.grouping, draw)
        self._machines = [self._whole.of.coordinator(group.session, self._identity) for group in self._groups]

    def _place(self, seat: Seat) -> tuple[int, Seat]:
        """Return a site's group and its seat there; only those who drew are ever asked."""
        return next((number, g.seats.index(seat)) for number, g in enumerate(self._groups) if seat in g.seats)

    def _advance_groups(self, phase: str, shown: list[bytes] | None = None) -> Outbox | Aggregate | Aborted:
        """Close a phase in every group; one group that cannot go on ends the attempt."""
        outbox: dict[Seat, Value] = {}
        for number, (group, machine) in enumerate(zip(self._groups, self._machines, strict=True)):
            step: Step = machine.close(phase)
            if isinstance(step.done, Aborted):
                culprits = tuple(group.seats[place] for place in step.done.culprits)
                return Aborted(f"group {number} of {len(self._groups)}: {step.done.reason}", culprits)
            if isinstance(step.done, Aggregate):
                self._sums[number] = step.done
            for place, frame in step.send:
                outbox[group.seats[place]] = frame if shown is None else [shown, frame]
        return outbox if len(self._sums) < len(self._groups) else self._aggregate()

    def _aggregate(self) -> Aggregate:
        sums = [self._sums[number] for number in range(len(self._groups))]
        commitments: dict[Seat, bytes] = {}
        signatures: dict[Seat, bytes] = {}
        culprits: set[Seat] = set()
        for group, done in zip(self._groups, sums, strict=True):
            commitments |= {group.seats[p]: c for p, c in zip(done.survivors, done.commitments, strict=True)}
            signatures |= {group.seats[p]: signature for p, signature in done.signatures}
            culprits |= {group.seats[p] for p in done.culprits}
        return Aggregate(
            np.stack([done.value for done in sums]),
            tuple(sorted(commitments)),
            tuple(commitments[seat] for seat in sorted(commitments)),
            digest([done.statement for done in sums]),
            tuple(sorted(signatures.items())),
            tuple(encode(list(done.parts)) for done in sums),
            self._draw,
            tuple(sorted(culprits)),
        )


def _relayed(session: Session, phase: str, frames: Sequence[Value]) -> dict[Seat, bytes]:
    """Open frames that the coordinator relays: each signed by the site that it is said to be from, one a site."""
    out: dict[Seat, bytes] = {}
    for frame in frames:
        if not isinstance(frame, bytes):
            raise MalformedMessage(f"{phase} relay: expected frames")
        opened = open_frame(frame, session, COORDINATOR, 4096)
        if opened.phase != phase or opened.sender == COORDINATOR or not isinstance(opened.body, bytes):
            raise ProtocolError(f"{opened.phase} frame of seat {opened.sender} in the place of a site's {phase}")
        if opened.sender in out:
            raise ProtocolError(f"seat {opened.sender} twice in a {phase} relay; expected one frame a site")
        out[opened.sender] = opened.body
    return out


def _checked_draw(session: Session, commitments: Mapping[Seat, bytes], shown: Mapping[Seat, bytes]) -> Draw:
    if shown.keys() != commitments.keys():
        raise ProtocolError(
            f"a draw shown by seats {sorted(shown)}, expected all who had committed to it: {sorted(commitments)}"
        )
    for seat, nonce in shown.items():
        if commitment_of(session, seat, nonce) != commitments[seat]:
            raise ProtocolError(f"seat {seat} shows another draw than the one that it had committed to")
    return tuple(sorted(shown.items()))
