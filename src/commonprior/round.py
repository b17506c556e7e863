"""One federated round, start to end.

    invite ──> the sum's own phases ──> new prior ──> acknowledge
    (sites learn, clip, noise)          (apply)       (each site recomputes the prior and signs the record)

The coordinator sees sealed bytes, the sum and signatures; the prior follows from the sum alone, at every site alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from commonprior.aggregation import Summed, new_prior, release_of, survivors_of
from commonprior.ballot import Ballot, Place
from commonprior.canonical import Value, digest
from commonprior.engines import Engine
from commonprior.entry import Entry, Round, Signatures, round_ballot, signers
from commonprior.errors import ProtocolError
from commonprior.frame import open_frame, seal
from commonprior.identity import Identity, signer_of
from commonprior.prior import Prior
from commonprior.privacy import Mechanism
from commonprior.recipe import Recipe
from commonprior.session import COORDINATOR, Seat, Session
from commonprior.sums import CONSISTENCY, Aborted, Aggregate, Step

ATTEMPTS_TO_DELIVER = 4
"""How often a phase's frames are sent to seats that have not answered, within the phase's one deadline."""


class Outcome(NamedTuple):
    """A finished round: the new prior, the entry about it with the sites' signatures, and the words of the sum."""

    prior: Prior
    mechanism: Mechanism
    entry: Round
    signatures: Signatures
    ballots: Signatures
    total: bytes
    parts: Sequence[bytes]


class Consents(NamedTuple):
    """How sites consent to a record: their signatures and, where there is a ledger, their accounts' ballots."""

    signatures: Signatures
    ballots: Signatures


class Poll(NamedTuple):
    """Where the ballots of a run are counted, the hash of its opening, and the newest block of an embedded chain."""

    place: Place
    run: bytes
    block: bytes


class Failed(NamedTuple):
    """An attempt without a sum: why, what each refusing site said, and who broke the protocol."""

    reason: str
    refusals: Mapping[Seat, str]
    culprits: tuple[Seat, ...] = ()


def run_round(
    recipe: Recipe, mechanism: Mechanism, prior: Prior, record: bytes, session: Session, engine: Engine,
    coordinator: Identity, spent: tuple[float, float], seats: Sequence[Seat], agreed: Callable[[list[Seat]], None],
    poll: Poll | None = None,
) -> Outcome | Failed:  # fmt: skip
    """Run one attempt at one round with the sites on `seats`.

    `record` is the journal's last one, which `session.head` is the hash of; `spent` the (epsilon, delta) of the run
    with this round; `agreed` is told whose updates are about to be summed, before the sites sign it.
    """
    talk = Conversation(engine, session, coordinator, recipe.schedule.deadline, seats)
    release = release_of(recipe.sum, len(session.roster), session.dropouts, session.colluders,
                         recipe.learner.length(prior), recipe.schedule.tasks_per_site)  # fmt: skip

    machine = recipe.sum.coordinator(session, coordinator)
    invitation = {"session": dataclasses.asdict(session), "prior": prior.encode(), "record": record}
    talk.hold("invite", talk.to_all("invite", invitation), lambda seat, frame: None)

    outbox, step = {}, Step()
    for phase in recipe.sum.phases:
        if phase == CONSISTENCY:
            agreed(sorted(outbox))
        talk.hold(phase, outbox, machine.receive)
        step = machine.close(phase)
        if step.done is not None:
            break
        outbox = by_seat(step.send)
    if not isinstance(step.done, Aggregate):
        reason, culprits = step.done if isinstance(step.done, Aborted) else ("the sum did not finish", ())
        return Failed(reason, talk.refusals, culprits)
    aggregate = step.done

    survivors = survivors_of(session, recipe.sum.grouping, aggregate.draw, aggregate.survivors)
    summed = Summed(aggregate.value.reshape(len(survivors), -1), release, survivors)
    new, following = new_prior(recipe.learner, mechanism, recipe.sum.grouping, prior, session.encoding, summed)

    total = aggregate.value.astype(session.encoding.word).tobytes()
    entry = Round(
        session.round, session.attempt, session.head, session.base, session.length, session.encoding,
        aggregate.survivors, aggregate.commitments, aggregate.signatures, digest(total), new.hash(),
        mechanism.unit, *spent, aggregate.draw, poll.block if poll else b"",
    )  # fmt: skip
    asked = (round_ballot(poll.run, entry), poll.place) if poll else None
    consents = talk.agree("acknowledge", {"total": total}, entry, asked)
    if len(consents.signatures) < session.threshold:
        return Failed(
            f"{len(consents.signatures)} sites signed the record, expected {session.threshold}", talk.refusals
        )
    return Outcome(new, following, entry, *consents, total, aggregate.parts)


class Conversation:
    """The coordinator's side of the wire in one session: sends, sends again, and remembers who refused and why."""

    def __init__(
        self, engine: Engine, session: Session, coordinator: Identity, deadline: float, seats: Sequence[Seat]
    ) -> None:
        self._engine, self._session, self._coordinator, self._deadline = engine, session, coordinator, deadline
        self._seats = frozenset(seats)
        self.refusals: dict[Seat, str] = {}

    def to_all(self, phase: str, body: Value) -> dict[Seat, list[bytes]]:
        """Return one signed frame for each seat that takes part."""
        return {s: [seal(self._coordinator, self._session, phase, COORDINATOR, s, body)] for s in sorted(self._seats)}

    def hold(self, phase: str, outbox: Mapping[Seat, Sequence[bytes]], take: Callable[[Seat, bytes], object]) -> None:
        """Hold one phase: deliver, hand every answer to `take`, and send again to seats that did not answer."""
        waiting = {seat: frames for seat, frames in outbox.items() if seat in self._seats - self.refusals.keys()}
        for _ in range(ATTEMPTS_TO_DELIVER):
            if not waiting:
                return
            answers = self._engine.exchange(self._session, phase, waiting, self._deadline / ATTEMPTS_TO_DELIVER)
            for seat, frames in answers.items():
                taken = [self._take(seat, frame, take) for frame in frames]
                if any(taken):
                    waiting.pop(seat, None)

    def agree(
        self, phase: str, body: Mapping[str, Value], entry: Entry, asked: tuple[Ballot, Place] | None
    ) -> Consents:
        """Ask sites to check and sign an entry, and to cast the ballot `asked`; return what of it holds."""
        signatures: dict[Seat, bytes] = {}
        ballots: dict[Seat, bytes] = {}
        encoded = entry.encode()
        vote = asked[0].digest(asked[1].counter) if asked else b""

        def take(seat: Seat, data: bytes) -> None:
            frame = open_frame(data, self._session, COORDINATOR)
            match frame.phase, frame.body:
                case "signed", {"signature": bytes() as signature, "ballot": bytes() as ballot, **rest} if not rest:
                    pass
                case _:
                    raise ProtocolError(f"seat {seat} answered {phase} with {frame.phase}")
            if frame.sender not in signers(encoded, ((frame.sender, signature),), self._session.roster):
                raise ProtocolError(f"seat {frame.sender}'s signature of the entry does not hold")
            if asked and signer_of(vote, ballot) != asked[1].accounts[frame.sender]:
                raise ProtocolError(f"seat {frame.sender}'s ballot is not its account's")
            signatures[frame.sender] = signature
            if asked:
                ballots[frame.sender] = ballot

        self.hold(phase, self.to_all(phase, {**body, "entry": encoded}), take)
        return Consents(tuple(sorted(signatures.items())), tuple(sorted(ballots.items())))

    def _take(self, seat: Seat, data: bytes, take: Callable[[Seat, bytes], object]) -> bool:
        """Hand a frame on; a refusal is an answer too, and bytes that break the protocol are none."""
        try:
            refusal = _refusal(data, self._session)
            if refusal is None:
                take(seat, data)
            else:
                self.refusals[seat] = refusal
        except ProtocolError:
            return False
        return True


def by_seat(send: Sequence[tuple[Seat, bytes]]) -> dict[Seat, list[bytes]]:
    """Group a machine's frames by addressee."""
    outbox: dict[Seat, list[bytes]] = {}
    for seat, frame in send:
        outbox.setdefault(seat, []).append(frame)
    return outbox


def _refusal(data: bytes, session: Session) -> str | None:
    frame = open_frame(data, session, COORDINATOR)
    return str(frame.body) if frame.phase == "refuse" else None
