"""Who is whose neighbour in a fleet: drawn from what each site commits to with its keys and reveals after all keys.

    keys     each site announces, signed: mask key, channel key, commitment to its seed, commitment to a contribution r
    roll     the coordinator fixes who is in: each one's channel key and the hash of the rest. tau, its hash
    reveal   each site finds itself in the roll and reveals r, with its packets: its k holders are the first k that
             SHAKE-256 draws from SHA-256(tau, seat, r), out of everyone else in the roll

Two sites are neighbours where one holds the other's shares: k-out-regular, as in Bell et al. 2020 (CCS, "Secure
single-server aggregation with (poly)logarithmic overhead", eprint 2020/704, algorithm 4), but checkable by everyone.

**Why it cannot be ground.** Everything that decides whom an honest site draws is fixed with the roll but for its own r,
which nobody else knows: 256 random bits, committed to before the roll was made, used once, for one roll: a site
leaves where what it drew there does not hold. So its k
holders are a uniform k-subset of the roll, independent of all other sites', whatever the coordinator and its colluders
chose before: which keys and commitments, in what order, how often. And once r is shown nothing changes them:

- *The last to reveal* knows every other site's holders. It can stay silent. Then it has dealt nothing and is not in the
  sum; nobody else's draw depends on it. There is no joint hash to steer: one over the reveals that came in would give a
  coordinator that leaves some out a choice among C(n, dropouts) graphs, 2^465 for a tenth of 1,000 sites
  (`test_attack_a_ground_graph_succeeds_where_one_hash_of_all_reveals_draws_it`).
- *A site that committed and does not reveal* stays in the roll as a vertex that dropped out. It still counts among the
  holders that others drew, and is one of the dropouts that the bounds allow for.
- *A coordinator that leaves sites out of the roll* does so before anything is revealed: the bounds are for the smallest
  roll that a site accepts, with every colluder in it.
- *A coordinator that gives the attempt up* has seen one graph and gets another one in the next: the bounds hold for
  all 16 attempts at a round together, and a site takes part in no more (`_fleet_terms`).
- *Which sites collude* is settled by the roster, before any key. A sybil needs a seat in it: whoever is in the roster
  and not trusted is for a site's policy to count, and for `colluders` to cover.
- *Different rolls for different sites*: tau is in every derived key and in what sites sign. Sites of two rolls do not
  open each other's packets, and one of the two rolls has too few signatures for a sum.

What colluders can do is to draw whom they like by trying out commitments before the roll is made. It gains them masks
shared with honest sites, which hide nothing of theirs and add to what hides an honest vector.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from commonprior.canonical import digest
from commonprior.errors import ProtocolError
from commonprior.session import Seat, Session
from commonprior.sums._draw import CONTRIBUTION_BYTES, Coins
from commonprior.sums._messages import HASH_BYTES, KEY_BYTES, PublicKeys

_LEAF = b"commonprior/fleet/leaf/1"
_PLACE = "commonprior/fleet/place/1"
_ROLL = "commonprior/fleet/roll/1"
_HOLDERS = "commonprior/fleet/holders/1"
_VIEW = "commonprior/fleet/view/1"
_SEAT_BYTES = 4
PLACE_BYTES = KEY_BYTES + HASH_BYTES


class Place(NamedTuple):
    """A site's line of the roll: its channel key, and the hash of everything else that it announced."""

    channel: bytes
    leaf: bytes


@dataclass(frozen=True)
class Roll:
    """Who is in, rising by seat, and each one's place in `lines`, end to end: a fleet has a thousand of these.

    `hash` (tau) covers the session and every byte that was announced.
    """

    seats: tuple[Seat, ...]
    lines: bytes = field(repr=False)
    hash: bytes

    def place(self, seat: Seat) -> Place | None:
        """Return a site's place, or None where it is not in."""
        at = bisect.bisect_left(self.seats, seat)
        if at == len(self.seats) or self.seats[at] != seat:
            return None
        line = self.lines[PLACE_BYTES * at : PLACE_BYTES * (at + 1)]
        return Place(line[:KEY_BYTES], line[KEY_BYTES:])

    def channel(self, seat: Seat) -> bytes:
        """Return the channel key of a site that is in."""
        at = PLACE_BYTES * bisect.bisect_left(self.seats, seat)
        return self.lines[at : at + KEY_BYTES]

    def channels(self) -> list[bytes]:
        """Return everyone's channel key."""
        return [self.lines[at : at + KEY_BYTES] for at in range(0, len(self.lines), PLACE_BYTES)]


@dataclass(frozen=True)
class Graph:
    """The graph of those who dealt: `holders[i, j]` says that j holds i's shares, for seats of the whole roster.

    `view` is the hash of the roll, of who dealt, and of all that they revealed: equal views are equal graphs.
    """

    dealers: tuple[Seat, ...]
    holders: np.ndarray = field(repr=False)
    view: bytes

    def holders_of(self, seat: Seat) -> tuple[Seat, ...]:
        """Return who holds a dealer's shares, among those who dealt."""
        return self._dealing(self.holders[seat])

    def held_by(self, seat: Seat) -> tuple[Seat, ...]:
        """Return whose shares a seat holds."""
        return self._dealing(self.holders[:, seat])

    def neighbours_of(self, seat: Seat) -> tuple[Seat, ...]:
        """Return with whom a dealer shares a mask."""
        return self._dealing(self.holders[seat] | self.holders[:, seat])

    def weakest(self, survivors: Sequence[Seat]) -> tuple[Seat, int]:
        """Return the survivor that keeps the fewest holders among the survivors, and how many."""
        kept = self.holders[np.ix_(survivors, survivors)].sum(1)
        at = int(kept.argmin())
        return survivors[at], int(kept[at])

    def _dealing(self, chosen: np.ndarray) -> tuple[Seat, ...]:
        dealt = np.zeros(len(chosen), bool)
        dealt[list(self.dealers)] = True
        return tuple(np.flatnonzero(chosen & dealt).tolist())


def hash_fixed(label: bytes, session: Session, seats: Sequence[Seat], *fields: bytes) -> bytes:
    """Return the SHA-256 of fields whose lengths follow from the label: as unambiguous as CBOR, in a tenth of its time.

    A sum of 1,000 sites makes some 400,000 of these.
    """
    numbers = (seat.to_bytes(_SEAT_BYTES, "big") for seat in seats)
    return hashlib.sha256(b"".join((label, session.hash, *numbers, *fields))).digest()


def place_of(session: Session, seat: Seat, public: PublicKeys, draw: bytes) -> Place:
    """Return the place of a site that announced these keys and this commitment to its contribution."""
    return Place(public.channel, hash_fixed(_LEAF, session, (seat,), public.mask, public.commitment, draw))


def place_statement(session: Session, seat: Seat, place: Place) -> bytes:
    """Return what a site signs to say that a place of the roll is its own."""
    return digest([_PLACE, session.hash, seat, *place])


def make_roll(session: Session, seats: Sequence[Seat], lines: bytes) -> Roll:
    """Return the roll of these sites, rising; `lines` are their places (`PLACE_BYTES` each), end to end."""
    return Roll(tuple(seats), lines, digest([_ROLL, session.hash, list(seats), lines]))


def write_places(places: Mapping[Seat, Place]) -> bytes:
    """Return the places end to end, rising by seat."""
    return b"".join(places[seat].channel + places[seat].leaf for seat in sorted(places))


def draw_holders(tau: bytes, seats: Sequence[Seat], seat: Seat, contribution: bytes, count: int) -> list[Seat]:
    """Return the `count` holders of a seat, rising, out of the other `seats` of the roll whose hash is `tau`."""
    others = [other for other in seats if other != seat]
    if count > len(others):
        raise ProtocolError(f"{len(others)} other sites in the roll, expected at least {count} to draw from")
    return sorted(Coins(digest([_HOLDERS, tau, seat, contribution])).sample(others, count))


def draw_graph(session: Session, roll: Roll, revealed: Mapping[Seat, bytes], count: int) -> Graph:
    """Return the graph of the sites that revealed a contribution (32 bytes) and dealt.

    Raises `ProtocolError` where one is not in the roll.
    """
    strangers = sorted(set(revealed) - set(roll.seats))
    if strangers:
        raise ProtocolError(f"seats {strangers} deal and are not in the roll")
    dealers = tuple(sorted(revealed))
    shown = b"".join(revealed[seat] for seat in dealers)
    view = digest([_VIEW, roll.hash, list(dealers), shown])
    return _drawn(view, roll.hash, roll.seats, dealers, shown, len(session.roster), count)


@lru_cache(maxsize=4)
def _drawn(
    view: bytes, tau: bytes, seats: tuple[Seat, ...], dealers: tuple[Seat, ...], shown: bytes, parties: int, count: int
) -> Graph:
    """Draw everybody's holders. The graph is public and the same for all: sites in one process draw it once."""
    holders = np.zeros((parties, parties), bool)
    for at, seat in enumerate(dealers):
        contribution = shown[CONTRIBUTION_BYTES * at : CONTRIBUTION_BYTES * (at + 1)]
        holders[seat, draw_holders(tau, seats, seat, contribution, count)] = True
    holders.flags.writeable = False
    return Graph(dealers, holders, view)
