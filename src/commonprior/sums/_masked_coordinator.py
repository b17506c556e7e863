"""The coordinator's side of the masked sum: relays what is sealed, and opens the sum when enough sites agreed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, final

from commonprior.canonical import Value
from commonprior.errors import ProtocolError
from commonprior.frame import Frame
from commonprior.identity import Identity
from commonprior.session import Seat, Session
from commonprior.sums import CONSISTENCY, Aborted, Aggregate
from commonprior.sums._bodies import write_by_seat
from commonprior.sums._consistency import Agreement, commit, propose, require_signature
from commonprior.sums._keys import opened_secret, require_sound
from commonprior.sums._messages import (
    Opening,
    Packet,
    PublicKeys,
    read_dealing,
    read_masked,
    read_opening,
    read_public_keys,
    read_signature,
)
from commonprior.sums._packets import commit_share, read_packet_frame
from commonprior.sums._phases import START, Outbox, PhasedCoordinator
from commonprior.sums._shamir import weights
from commonprior.sums._unmask import Secrets, unmask


class _Keys(NamedTuple):
    public: PublicKeys
    frame: bytes


class _Dealing(NamedTuple):
    frames: dict[Seat, bytes]
    packets: dict[Seat, Packet]
    own: bytes


@final
class MaskedCoordinator(PhasedCoordinator):
    """The coordinator's machine."""

    phases: ClassVar[tuple[str, ...]] = (START, "keys", "shares", "masked", CONSISTENCY, "unmask")

    def __init__(self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]]) -> None:
        self._keys: Mapping[Seat, _Keys] = {}
        self._dealt: Mapping[Seat, _Dealing] = {}
        self._sealed: Mapping[Seat, bytes] = {}
        self._signatures: Mapping[Seat, bytes] = {}
        self._commitments: Mapping[Seat, bytes] = {}
        self._agreement = Agreement((), b"")
        super().__init__(session, identity, log)

    def _read(self, phase: str, opened: Frame, frame: bytes) -> object:
        match phase:
            case "keys":
                return self._read_keys(opened.sender, opened.body, frame)
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
        match phase:
            case "start":
                return dict.fromkeys(range(len(self._session.roster)))
            case "keys":
                self._keys = answers
                relayed: Value = {"keys": [answer.frame for answer in answers.values()]}
                return dict.fromkeys(answers, relayed)
            case "shares":
                self._dealt = answers
                return {seat: {"packets": write_by_seat(self._packets_for(seat))} for seat in answers}
            case "masked":
                self._sealed = answers
                self._commitments = {seat: commit(words) for seat, words in answers.items()}
                self._agreement, proposal = propose(self._session, self._commitments)
                return dict.fromkeys(answers, proposal)
            case "consistency":
                self._signatures = answers
                enough = dict(itertools.islice(answers.items(), self._session.threshold))
                shown: Value = {"signatures": write_by_seat(enough)}
                return dict.fromkeys(answers, shown)
            case _:
                return self._open(answers)

    def _read_keys(self, seat: Seat, body: Value, frame: bytes) -> _Keys:
        public = read_public_keys(body)
        others: dict[Seat, Any] = dict(self._answers)
        require_sound({**{other: keys.public for other, keys in others.items()}, seat: public})
        return _Keys(public, frame)

    def _read_dealing(self, seat: Seat, body: Value) -> _Dealing:
        dealing = read_dealing(body, len(self._session.roster))
        expected = set(self._keys) - {seat}
        if set(dealing.packets) != expected:
            raise ProtocolError(
                f"seat {seat} dealt to seats {sorted(dealing.packets)}, expected its peers {sorted(expected)}"
            )
        packets = {
            receiver: read_packet_frame(frame, self._session, seat, receiver)
            for receiver, frame in dealing.packets.items()
        }
        return _Dealing(dealing.packets, packets, dealing.own)

    def _read_masked(self, seat: Seat, body: Value) -> bytes:
        size = self._session.length * self._session.encoding.width
        peers, words = read_masked(body, len(self._session.roster), size)
        if peers != tuple(self._dealt):
            raise ProtocolError(f"seat {seat} masked for seats {list(peers)}, expected {list(self._dealt)}")
        return words

    def _read_opening(self, seat: Seat, body: Value) -> Opening:
        opening = read_opening(body, len(self._session.roster))
        dropped = [other for other in self._dealt if other not in self._sealed]
        if list(opening.seeds) != list(self._sealed) or list(opening.keys) != dropped:
            raise ProtocolError(
                f"seat {seat} opened seeds of {list(opening.seeds)} and keys of {list(opening.keys)}, "
                f"expected {list(self._sealed)} and {dropped}"
            )
        for dealer, share in opening.seeds.items():
            packet = self._dealt[dealer].packets.get(seat)
            self._require_dealt(seat, dealer, "seed", share, packet.seed if packet else self._dealt[dealer].own)
        for dealer, share in opening.keys.items():
            self._require_dealt(seat, dealer, "key", share, self._dealt[dealer].packets[seat].key)
        return opening

    def _require_dealt(self, seat: Seat, dealer: Seat, kind: Any, share: bytes, commitment: bytes) -> None:
        """Raise where a site releases another share than the dealer signed; the abort, if it comes to one, names it."""
        if share and commit_share(self._session, dealer, seat, kind, share) != commitment:
            self._culprits.add(seat)
            raise ProtocolError(f"seat {seat} released a {kind} share of seat {dealer} that was not dealt to it")

    def _packets_for(self, seat: Seat) -> dict[Seat, bytes]:
        return {dealer: dealing.frames[seat] for dealer, dealing in self._dealt.items() if dealer != seat}

    def _open(self, openings: Mapping[Seat, Opening]) -> Aggregate | Aborted:
        """Rebuild each secret, check it against what its owner announced, and take the masks away."""
        lagrange: dict[tuple[Seat, ...], Mapping[Seat, int]] = {}
        opened: dict[Seat, bytes] = {}
        for owner in self._dealt:
            survives = owner in self._sealed
            held = {seat: (o.seeds if survives else o.keys)[owner] for seat, o in openings.items()}
            holders = tuple(seat for seat, share in held.items() if share)[: self._session.threshold]
            if len(holders) < self._session.threshold:
                without = [seat for seat, share in held.items() if not share]
                return Aborted(
                    f"unmask: seats {without} say that the packets of seat {owner} do not open, and only "
                    f"{len(holders)} of {self._session.threshold} shares of it are left",
                    tuple(sorted(self._culprits)),
                )
            if holders not in lagrange:
                lagrange[holders] = weights(holders)
            public = self._keys[owner].public
            secret = opened_secret(self._session, owner, public, survives, held, lagrange[holders])
            if secret is None:
                why = f"unmask: the shares that seat {owner} dealt do not give the secret that it announced"
                return Aborted(why, tuple(sorted({*self._culprits, owner})))
            opened[owner] = secret
        return self._aggregate(opened)

    def _aggregate(self, opened: Mapping[Seat, bytes]) -> Aggregate:
        secrets = Secrets(
            {seat: secret for seat, secret in opened.items() if seat in self._sealed},
            {seat: secret for seat, secret in opened.items() if seat not in self._sealed},
            {seat: self._keys[seat].public.mask for seat in opened},
        )
        total = unmask(self._session, self._sealed, secrets)
        return Aggregate(
            self._session.encoding.from_words(total),
            tuple(self._sealed),
            tuple(self._commitments.values()),
            self._agreement.statement,
            tuple(self._signatures.items()),
            (
                *self._sealed.values(),
                *(keys.frame for seat, keys in self._keys.items() if seat in opened),
                secrets.encode(),
            ),
        )
