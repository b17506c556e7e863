"""The coordinator's side of the masked sum on a drawn graph: relays what is sealed, opens what the holders release."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, final

import numpy as np

from commonprior.canonical import Value
from commonprior.errors import ProtocolError
from commonprior.frame import Frame
from commonprior.identity import Identity, verify
from commonprior.session import Seat, Session, consistency_statement
from commonprior.sums import CONSISTENCY, Aborted, Aggregate
from commonprior.sums._consistency import Agreement, require_signature
from commonprior.sums._draw import require_contribution
from commonprior.sums._fleet_messages import (
    Announcement,
    Dealing,
    Delivery,
    read_announcement,
    read_dealing,
    read_masked,
    write_delivery,
    write_proposal,
    write_roll,
    write_seats,
    write_signatures,
)
from commonprior.sums._fleet_packets import commit_share, commit_words
from commonprior.sums._fleet_terms import Terms
from commonprior.sums._graph import (
    Graph,
    Place,
    Roll,
    draw_graph,
    draw_holders,
    make_roll,
    place_of,
    place_statement,
    write_places,
)
from commonprior.sums._keys import opened_secret, require_sound
from commonprior.sums._messages import Opening, Packet, read_opening, read_signature
from commonprior.sums._packets import Shares
from commonprior.sums._phases import START, Outbox, PhasedCoordinator
from commonprior.sums._shamir import weights
from commonprior.sums._unmask import Secrets, unmask


class _Masked(NamedTuple):
    words: bytes
    hash: bytes
    vouches: dict[Seat, bytes]


@final
class FleetCoordinator(PhasedCoordinator):
    """The coordinator's machine of a fleet."""

    phases: ClassVar[tuple[str, ...]] = (START, "keys", "shares", "masked", CONSISTENCY, "unmask")

    def __init__(self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]], terms: Terms) -> None:
        self._terms = terms
        self._points: dict[bytes, Seat] = {}
        self._keys: Mapping[Seat, Announcement] = {}
        self._roll = Roll((), b"", b"")
        self._dealt: Mapping[Seat, Dealing] = {}
        self._packets: Mapping[Seat, Mapping[Seat, Packet]] = {}
        self._graph = Graph((), np.zeros((0, 0), bool), b"")
        self._masked: Mapping[Seat, _Masked] = {}
        self._signatures: Mapping[Seat, bytes] = {}
        self._commitments: Mapping[Seat, bytes] = {}
        self._agreement = Agreement((), b"")
        super().__init__(session, identity, log)

    def _read(self, phase: str, opened: Frame, frame: bytes) -> object:
        match phase:
            case "keys":
                return self._read_keys(opened.sender, opened.body)
            case "shares":
                return self._read_dealing(opened.sender, opened.body)
            case "masked":
                return self._read_masked(opened.sender, opened.body)
            case "consistency":
                signature = read_signature(opened.body)
                require_signature(self._session, opened.sender, self._agreement.statement, signature)
                return signature
            case _:
                return self._read_opening(opened.sender, opened.body)

    def _next(self, phase: str, answers: Mapping[Seat, Any]) -> Outbox | Aggregate | Aborted:
        parties = len(self._session.roster)
        match phase:
            case "start":
                return dict.fromkeys(range(parties))
            case "keys":
                self._keys = answers
                places = {seat: _place(self._session, seat, announced) for seat, announced in answers.items()}
                self._roll = make_roll(self._session, list(places), write_places(places))
                signatures = {seat: announced.signature for seat, announced in answers.items()}
                return dict.fromkeys(answers, write_roll(self._roll, signatures, parties))
            case "shares":
                return self._deliver(answers)
            case "masked":
                return self._propose(answers)
            case "consistency":
                self._signatures = answers
                enough = dict(itertools.islice(answers.items(), self._session.threshold))
                return dict.fromkeys(answers, write_signatures(enough, parties))
            case _:
                return self._open(answers)

    def _read_keys(self, seat: Seat, body: Value) -> Announcement:
        announced = read_announcement(body)
        require_sound({seat: announced.public})
        for point in (announced.public.mask, announced.public.channel):
            owner = self._points.get(point, seat)
            if owner != seat:
                raise ProtocolError(f"seats {owner} and {seat} announce the same key; expected fresh keys")
        statement = place_statement(self._session, seat, _place(self._session, seat, announced))
        if not verify(self._session.key_of(seat), announced.signature, statement):
            raise ProtocolError(f"seat {seat} did not sign the keys that it announces")
        self._points |= {announced.public.mask: seat, announced.public.channel: seat}
        return announced

    def _read_dealing(self, seat: Seat, body: Value) -> Dealing:
        dealing = read_dealing(body, self._terms.holders)
        require_contribution(self._session.hash, seat, self._keys[seat].draw, dealing.contribution)
        return dealing

    def _deliver(self, dealt: Mapping[Seat, Dealing]) -> Outbox | Aborted:
        """Draw the graph; bring each dealer the keys of its holders, and what was dealt to it."""
        self._dealt = dealt
        revealed = {seat: dealing.contribution for seat, dealing in dealt.items()}
        self._graph = graph = draw_graph(self._session, self._roll, revealed, self._terms.holders)
        self._packets = packets = {seat: self._packets_of(seat) for seat in dealt}
        outbox: dict[Seat, Value] = {}
        for seat in dealt:
            near = (self._keys[peer].public for peer in graph.neighbours_of(seat))
            brought = Delivery(
                revealed,
                tuple((public.mask, public.commitment) for public in near),
                tuple(packets[dealer][seat] for dealer in graph.held_by(seat)),
            )
            outbox[seat] = write_delivery(brought, len(self._session.roster))
        return self._too_few(tuple(dealt), "shares") or outbox

    def _packets_of(self, dealer: Seat) -> dict[Seat, Packet]:
        """Return what a dealer dealt, by holder."""
        contribution, packets = self._dealt[dealer]
        holders = draw_holders(self._roll.hash, self._roll.seats, dealer, contribution, self._terms.holders)
        return dict(zip(holders, packets, strict=True))

    def _read_masked(self, seat: Seat, body: Value) -> _Masked:
        size = self._session.length * self._session.encoding.width
        neighbours = self._graph.neighbours_of(seat)
        words, vouches = read_masked(body, size, len(neighbours))
        return _Masked(words, hashlib.sha256(words).digest(), dict(zip(neighbours, vouches, strict=True)))

    def _propose(self, masked: Mapping[Seat, _Masked]) -> Outbox | Aborted:
        """Show each survivor who survives, with which words, and the word that its neighbours gave it for that."""
        self._masked = masked
        hashes = {seat: answer.hash for seat, answer in masked.items()}
        self._commitments = commit_words(self._graph.view, hashes)
        statement = consistency_statement(self._session, tuple(hashes), list(self._commitments.values()))
        self._agreement = Agreement(tuple(hashes), statement)
        outbox: dict[Seat, Value] = {}
        for seat in masked:
            vouches = [masked[peer].vouches[seat] for peer in self._graph.neighbours_of(seat) if peer in masked]
            outbox[seat] = write_proposal(hashes, len(self._session.roster), vouches)
        return self._too_few(tuple(masked), "masked") or outbox

    def _too_few(self, seats: tuple[Seat, ...], phase: str) -> Aborted | None:
        """Return the end of an attempt in which chance took too many holders of one site; None where it did not."""
        seat, kept = self._graph.weakest(seats)
        if kept >= self._terms.threshold:
            return None
        return Aborted(
            f"{phase}: seat {seat} keeps {kept} of the {self._terms.holders} holders that it drew, expected at least "
            f"{self._terms.threshold}: another attempt draws others"
        )

    def _read_opening(self, seat: Seat, body: Value) -> Opening:
        opening = read_opening(body, len(self._session.roster))
        dealers = self._graph.held_by(seat)
        survive, dropped = ([d for d in dealers if (d in self._masked) is stays] for stays in (True, False))
        if list(opening.seeds) != survive or list(opening.keys) != dropped:
            raise ProtocolError(
                f"seat {seat} opened seeds of {list(opening.seeds)} and keys of {list(opening.keys)}, "
                f"expected {survive} and {dropped}"
            )
        for dealer in dealers:
            self._require_dealt(seat, dealer, Shares(opening.seeds.get(dealer, b""), opening.keys.get(dealer, b"")))
        return opening

    def _require_dealt(self, seat: Seat, dealer: Seat, released: Shares) -> None:
        """Raise where a site releases another share than the dealer committed to; an abort then names it."""
        packet, given = self._packets[dealer][seat], commit_share(self._session, dealer, seat, released)
        for kind, share, is_, was in (
            ("seed", released.seed, given.seed, packet.seed),
            ("key", released.key, given.key, packet.key),
        ):
            if share and is_ != was:
                self._culprits.add(seat)
                raise ProtocolError(f"seat {seat} released a {kind} share of seat {dealer} that was not dealt to it")

    def _open(self, openings: Mapping[Seat, Opening]) -> Aggregate | Aborted:
        """Rebuild each secret from its own holders, check it against what its owner announced, take the masks away."""
        opened: dict[Seat, bytes] = {}
        for owner in self._dealt:
            survives = owner in self._masked
            held = {
                seat: (openings[seat].seeds if survives else openings[seat].keys)[owner]
                for seat in self._graph.holders_of(owner) if seat in openings
            }  # fmt: skip
            holders = tuple(seat for seat, share in held.items() if share)[: self._terms.threshold]
            if len(holders) < self._terms.threshold:
                without = [seat for seat, share in held.items() if not share]
                return Aborted(
                    f"unmask: {len(holders)} shares of seat {owner} are left of {self._terms.threshold} that are "
                    f"needed, and seats {without} say that its packets do not open or that it saw another graph",
                    tuple(sorted(self._culprits)),
                )
            public = self._keys[owner].public
            secret = opened_secret(self._session, owner, public, survives, held, weights(holders))
            if secret is None:
                why = f"unmask: the shares that seat {owner} dealt do not give the secret that it announced"
                return Aborted(why, tuple(sorted({*self._culprits, owner})))
            opened[owner] = secret
        return self._aggregate(opened)

    def _aggregate(self, opened: Mapping[Seat, bytes]) -> Aggregate:
        parties = len(self._session.roster)
        dropped = {seat: secret for seat, secret in opened.items() if seat not in self._masked}
        secrets = Secrets(
            {seat: secret for seat, secret in opened.items() if seat in self._masked},
            dropped,
            {seat: self._keys[seat].public.mask for seat in opened},
            {seat: write_seats(self._graph.neighbours_of(seat), parties) for seat in dropped},
        )
        total = unmask(self._session, {seat: answer.words for seat, answer in self._masked.items()}, secrets)
        return Aggregate(
            self._session.encoding.from_words(total),
            tuple(self._masked),
            tuple(self._commitments.values()),
            self._agreement.statement,
            tuple(self._signatures.items()),
            (*(answer.words for answer in self._masked.values()), secrets.encode(), self._graph.view),
        )


def _place(session: Session, seat: Seat, announced: Announcement) -> Place:
    return place_of(session, seat, announced.public, announced.draw)
