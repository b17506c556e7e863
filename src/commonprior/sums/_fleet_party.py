"""A site's side of the masked sum on a drawn graph: what `_masked_party` does, with neighbours instead of everyone.

What each phase adds to the complete graph's, and why the sum is then all that anybody learns:

    keys         a commitment to the contribution r that draws this site's k holders (`_graph`)
    shares       the roll comes, with everyone's signature of its place; r and k packets go: t-of-k shares of the mask
                 key and of the seed. All k holders must have signed, whether or not they deal later: a site that drew
                 one that did not leaves, having shown nothing
    masked       the whole graph comes, with the neighbours' keys. The vector goes, with a word to each neighbour: a
                 code over the commitment, and with it over the view (roll, who dealt, all contributions)
    consistency  the survivors S come with the hashes of their words: the commitments are made here, of hash and own
                 view, so that one statement is one S and one view. Signed only if all of S dealt, this site is in S,
                 and t of its own holders are too and gave their word for this very view
    unmask       `threshold` signatures of the whole fleet come, of which this site looks at some, drawn with its own
                 coins; at the first that does not hold it leaves

*No site's two secrets both open.* Two statements have too few signatures that hold for both to find a site that goes on
(2 · threshold > n + colluders), but for 2^-46. So all honest sites that release share one S, and one kind of share of
each dealer; the c < t colluders among its holders have too few of the other. Signatures of neighbours alone, as in the
paper, would not do with so few holders, nor show what all have in common: half the holders could be shown one S, half
the other.
*No vector is cut off.* Call the view in which S is opened the view. Nobody reads a site's packets but its k holders,
whose keys are their own, and they open none in two views: the key shares of an honest site in S stay closed, whatever
it was shown itself, and so does every mask between two honest sites in S. Let A be the honest sites that saw the view
and whose vectors, summed, come out of their masks. Whatever a site of A drew is then in A, a colluder, or an honest
site that is not in S, of which there are n - |S|, at most `dropouts`: it is no honest site in S outside A, for the mask
with it stays, and no forged one, for the site would have left. And t of its holders opened its seed, t - c of them
honest, hence in A. Such an A, short of everyone, does not exist but for 2^-46, however the coordinator chose who
dropped out after it had seen the graph: `_tails.split_bits`, as long as A is the smaller side of the honest sites in S.
*What is opened contains `threshold` - colluders honest sites*, as on the complete graph, but for a few. Where A is the
larger side, nobody in it drew one of the sites in S that are missing: not a site whose place was forged, nor one that
was shown another view (whose own draw need not be uniform: nothing is built on it), nor one that signed, which with the
t - c honest sites of its draw that gave it their word drew nobody in A either, so that hardly any is. So lucky only a
few can be (4 of 800 among 1,000 sites, a tenth colluding; none where all signatures are looked at). A statement that
lacks their signatures may be taken by sites that look at some; the record lacks them, no site acknowledges the round,
and noise is sized without them (`_tails.missing`, `_fleet_terms.unsigned`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np

from commonprior.canonical import Value, encode
from commonprior.errors import CommonPriorError, InputError, ProtocolError
from commonprior.identity import Identity, verify
from commonprior.session import Seat, Session, consistency_statement
from commonprior.sums import CONSISTENCY, Csprng, Finished, Guard
from commonprior.sums._bodies import write_by_seat
from commonprior.sums._consistency import Agreement, require_signature, sign
from commonprior.sums._draw import CONTRIBUTION_BYTES, Coins, commit_contribution
from commonprior.sums._fleet_messages import (
    Delivery,
    read_delivery,
    read_proposal,
    read_roll,
    read_signatures,
)
from commonprior.sums._fleet_packets import (
    Line,
    Lines,
    commit_words,
    is_vouched,
    lines_to,
    open_shares,
    seal_shares,
    vouch,
)
from commonprior.sums._fleet_terms import Terms
from commonprior.sums._graph import Graph, Place, Roll, draw_graph, draw_holders, make_roll, place_of, place_statement
from commonprior.sums._keys import Secrets, draw, require_sound
from commonprior.sums._masks import add_streams, pair_stream, self_stream, to_words
from commonprior.sums._messages import PublicKeys, read_nothing
from commonprior.sums._packets import Shares
from commonprior.sums._phases import PhasedParty, Reply
from commonprior.sums._shamir import split


@dataclass(frozen=True)
class Fresh:
    """Before anything was said."""

    integers: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Keyed:
    """Has announced its keys and committed to its contribution."""

    integers: np.ndarray = field(repr=False)
    secrets: Secrets
    contribution: bytes = field(repr=False)


@dataclass(frozen=True)
class Dealt:
    """Has revealed its contribution, for one roll, and dealt shares to the holders that it drew."""

    integers: np.ndarray = field(repr=False)
    secrets: Secrets
    contribution: bytes = field(repr=False)
    roll: Roll
    lines: Mapping[Seat, Lines]


@dataclass(frozen=True)
class Hidden:
    """Has sent its masked input and forgotten its secrets; holds a share of each dealer's (None: would not open)."""

    graph: Graph
    shares: Mapping[Seat, Shares | None] = field(repr=False)
    lines: Mapping[Seat, Line]
    hash: bytes


@dataclass(frozen=True)
class Agreed:
    """Has signed whose inputs are summed: once, for good."""

    shares: Mapping[Seat, Shares | None] = field(repr=False)
    agreement: Agreement


@dataclass(frozen=True)
class Released:
    """Has released one share of each dealer's secrets, of one kind each; holds nothing any more."""


@final
class FleetParty(PhasedParty):
    """The machine of one site of a fleet."""

    def __init__(
        self,
        session: Session,
        seat: Seat,
        identity: Identity,
        integers: np.ndarray,
        csprng: Csprng,
        guard: Guard,
        terms: Terms,
    ) -> None:
        if integers.shape != (session.length,) or integers.dtype != np.int64:
            raise InputError(
                f"expected {session.length} integers of int64, got shape {integers.shape} of {integers.dtype}; "
                f"give what the mechanism returned"
            )
        super().__init__(session, seat, identity, Fresh(integers))
        self._csprng, self._guard, self._terms = csprng, guard, terms

    def _answer(self, phase: str, state: object, body: Value) -> tuple[object, Reply]:
        match phase, state:
            case "keys", Fresh():
                return self._announce(state, body)
            case "shares", Keyed():
                return self._deal(state, body)
            case "masked", Dealt():
                return self._hide(state, body)
            case "consistency", Hidden():
                return self._agree(state, body)
            case "unmask", Agreed():
                return self._release(state, body)
            case _:
                raise ProtocolError(
                    f"{phase} request to seat {self._seat}, which is {type(state).__name__.lower()}: it answers each "
                    f"phase once, in order, and never takes up an attempt that it did not begin"
                )

    def _announce(self, state: Fresh, body: Value) -> tuple[Keyed, Reply]:
        read_nothing(body, "keys")
        keyed = Keyed(state.integers, draw(self._csprng), self._csprng(CONTRIBUTION_BYTES))
        public, drawn = self._announced(keyed)
        statement = place_statement(self._session, self._seat, self._place(self._seat, public, keyed.contribution))
        return keyed, Reply({**public._asdict(), "draw": drawn, "signature": self._identity.sign(statement)})

    def _announced(self, state: Keyed) -> tuple[PublicKeys, bytes]:
        """Return this site's public keys and the commitment to its contribution."""
        drawn = commit_contribution(self._session.hash, self._seat, state.contribution)
        return state.secrets.public(self._session, self._seat), drawn

    def _place(self, seat: Seat, public: PublicKeys, contribution: bytes) -> Place:
        """Return the place of a site with these keys that has revealed this contribution."""
        return place_of(self._session, seat, public, commit_contribution(self._session.hash, seat, contribution))

    def _deal(self, state: Keyed, body: Value) -> tuple[Dealt, Reply]:
        session, seat = self._session, self._seat
        seats, places, signatures = read_roll(body, len(session.roster))
        roll = make_roll(session, seats, places)
        if roll.place(seat) != place_of(session, seat, *self._announced(state)):
            raise ProtocolError(f"the keys in the roll for seat {seat} are not the ones that it announced")
        self._require_enough("keys", len(roll.seats))
        if len(set(roll.channels())) < len(roll.seats):
            raise ProtocolError(f"two of {len(roll.seats)} sites in the roll have the same key; expected fresh keys")
        self._guard(frozenset(roll.seats))
        holders = draw_holders(roll.hash, roll.seats, seat, state.contribution, self._terms.holders)
        try:
            self._require_signed(roll, {holder: signatures[holder] for holder in holders})
            lines = {peer: lines_to(session, roll, state.secrets.channel, seat, peer) for peer in holders}
        except CommonPriorError:
            # A roll whose draw does not hold must not be followed by another, until the draw is to somebody's taste.
            self.close("shares")
            raise
        seeds = split(state.secrets.seed, self._terms.threshold, holders, self._csprng)
        keys = split(state.secrets.mask.private_bytes_raw(), self._terms.threshold, holders, self._csprng)
        packets = [
            seal_shares(session, lines[peer].out, seat, peer, Shares(seeds[peer], keys[peer])) for peer in holders
        ]
        return (
            Dealt(state.integers, state.secrets, state.contribution, roll, lines),
            Reply({"contribution": state.contribution, "packets": b"".join(packets)}),
        )

    def _require_signed(self, roll: Roll, signatures: Mapping[Seat, bytes]) -> None:
        """Raise unless each of these sites signed its place in the roll."""
        for seat, signature in signatures.items():
            place = roll.place(seat)
            if place is None or not verify(
                self._session.key_of(seat), signature, place_statement(self._session, seat, place)
            ):
                raise ProtocolError(f"seat {seat} did not sign its place in the roll")

    def _hide(self, state: Dealt, body: Value) -> tuple[Hidden, Reply]:
        session, seat = self._session, self._seat
        delivery = read_delivery(body, len(session.roster))
        graph = self._read_graph(state, delivery.revealed)
        keys = self._read_keys(state.roll, graph, delivery)
        require_sound({**keys, seat: state.secrets.public(session, seat)})
        if len(delivery.packets) != len(graph.held_by(seat)):
            raise ProtocolError(f"packets of {len(delivery.packets)} dealers, expected {len(graph.held_by(seat))}")
        self._guard(frozenset(graph.dealers))
        lines = {
            peer: state.lines.get(peer) or lines_to(session, state.roll, state.secrets.channel, seat, peer)
            for peer in graph.neighbours_of(seat)
        }
        shares = {
            dealer: open_shares(session, lines[dealer].back, dealer, seat, packet)
            for dealer, packet in zip(graph.held_by(seat), delivery.packets, strict=True)
        }
        mask_keys = {peer: public.mask for peer, public in keys.items()}
        mask_keys[seat] = state.secrets.mask.public_key().public_bytes_raw()
        words = to_words(state.integers, session.encoding)
        streams = [pair_stream(session, state.secrets.mask, seat, peer, mask_keys) for peer in lines]
        add_streams(words, [self_stream(session, seat, state.secrets.seed), *streams])
        sealed = words.tobytes()
        hash_ = hashlib.sha256(sealed).digest()
        commitment = commit_words(graph.view, {seat: hash_})[seat]
        record = {
            "sum": "masked", "session": session.hash, "seat": seat, "peers": list(graph.dealers),
            "commitment": commitment,
        }  # fmt: skip
        vouches = b"".join(vouch(pair.out, commitment) for pair in lines.values())
        return (
            Hidden(graph, shares, {peer: pair.back for peer, pair in lines.items()}, hash_),
            Reply({"words": sealed, "vouches": vouches}, persist=encode(record)),
        )

    def _read_graph(self, state: Dealt, revealed: Mapping[Seat, bytes]) -> Graph:
        """Draw the graph of those who dealt, in which this site must still have enough holders."""
        seat = self._seat
        if revealed.get(seat) != state.contribution:
            raise ProtocolError(f"the contribution shown for seat {seat} is not the one that it revealed")
        self._require_enough("shares", len(revealed))
        graph = draw_graph(self._session, state.roll, revealed, self._terms.holders)
        left = len(graph.holders_of(seat))
        if left < self._terms.threshold:
            raise ProtocolError(f"{left} of seat {seat}'s holders dealt, expected at least {self._terms.threshold}")
        return graph

    def _read_keys(self, roll: Roll, graph: Graph, delivery: Delivery) -> dict[Seat, PublicKeys]:
        """Check the neighbours' keys and contributions against the roll.

        Those who drew this site need not have signed theirs. A mask shared with a forged one hides nothing and costs
        nothing, and whoever draws a forged one leaves. The roll is in everything that neighbours say to each other.
        """
        neighbours = graph.neighbours_of(self._seat)
        if len(delivery.keys) != len(neighbours):
            raise ProtocolError(f"keys of {len(delivery.keys)} neighbours, expected {len(neighbours)}")
        keys: dict[Seat, PublicKeys] = {}
        for seat, (mask, commitment) in zip(neighbours, delivery.keys, strict=True):
            keys[seat] = PublicKeys(mask, roll.channel(seat), commitment)
            if self._place(seat, keys[seat], delivery.revealed[seat]) != roll.place(seat):
                raise ProtocolError(f"what is shown of seat {seat} is not what stands in the roll")
        return keys

    def _agree(self, state: Hidden, body: Value) -> tuple[Agreed, Reply]:
        """Check the coordinator's survivors and sign them, with their commitments in this site's view."""
        session, seat, graph = self._session, self._seat, state.graph
        hashes, vouches = read_proposal(body, len(session.roster))
        survivors = tuple(hashes)
        strangers = sorted(set(survivors) - set(graph.dealers))
        if strangers:
            raise ProtocolError(f"survivors {strangers} were not taking part; expected some of {len(graph.dealers)}")
        self._require_enough(CONSISTENCY, len(survivors))
        if hashes.get(seat) != state.hash:
            raise ProtocolError(f"seat {seat} sent its input, and the survivors hold another one or none of it")
        commitments = commit_words(graph.view, hashes)
        vouched = self._vouched(state, commitments, vouches)
        own = len(vouched.intersection(graph.holders_of(seat)))
        if own < self._terms.threshold:
            raise ProtocolError(
                f"{own} of seat {seat}'s holders vouch for what it has seen, expected at least {self._terms.threshold}"
            )
        self._guard(frozenset(survivors))
        agreement = Agreement(survivors, consistency_statement(session, survivors, list(commitments.values())))
        # A survivor that saw another graph than its holders is not opened: it may have masked for nobody.
        shares = {s: held if s in vouched or s not in hashes else None for s, held in state.shares.items()}
        return Agreed(shares, agreement), Reply(sign(self._identity, agreement))

    def _vouched(self, state: Hidden, commitments: Mapping[Seat, bytes], vouches: Sequence[bytes]) -> set[Seat]:
        """Return the surviving neighbours that gave their word for the commitment shown for them."""
        neighbours = [peer for peer in state.graph.neighbours_of(self._seat) if peer in commitments]
        if len(vouches) != len(neighbours):
            raise ProtocolError(f"{len(vouches)} neighbours vouch, expected all of {len(neighbours)}")
        words = zip(neighbours, vouches, strict=True)
        return {peer for peer, word in words if is_vouched(state.lines[peer], commitments[peer], word)}

    def _release(self, state: Agreed, body: Value) -> tuple[Released, Reply]:
        self._require_agreement(state.agreement, read_signatures(body, len(self._session.roster)))
        survivors = frozenset(state.agreement.survivors)
        seeds = {seat: shares.seed if shares else b"" for seat, shares in state.shares.items() if seat in survivors}
        keys = {seat: shares.key if shares else b"" for seat, shares in state.shares.items() if seat not in survivors}
        reply = {"seeds": write_by_seat(seeds), "keys": write_by_seat(keys)}
        return Released(), Reply(reply, done=Finished(state.agreement.survivors))

    def _require_agreement(self, agreement: Agreement, signatures: Mapping[Seat, bytes]) -> None:
        """Raise unless a threshold of the fleet signed this very agreement; look at some, drawn now, in private.

        Shown another statement than the fleet's, so many of the signatures cannot hold that one of them is found. It
        must not be tried again with other signatures until none is found: the site leaves.
        """
        strangers = sorted(set(signatures) - set(agreement.survivors))
        if strangers:
            raise ProtocolError(f"signatures of seats {strangers}, who are not among the survivors")
        if len(signatures) != self._session.threshold:
            raise ProtocolError(f"{len(signatures)} signatures, expected {self._session.threshold}")
        chosen = Coins(self._csprng(CONTRIBUTION_BYTES)).sample(sorted(signatures), self._terms.spot)
        try:
            for seat in chosen:
                require_signature(self._session, seat, agreement.statement, signatures[seat])
        except ProtocolError:
            self.close("unmask")
            raise

    def _require_enough(self, what: str, count: int) -> None:
        if count < self._session.threshold:
            raise ProtocolError(f"{what} of {count} sites, expected at least {self._session.threshold}")
