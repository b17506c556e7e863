"""A sum in which nobody sees one site's vector: pairwise masks that cancel (Bonawitz et al. 2017, arXiv 1611.04482).

Up to 50 sites everyone is everyone's neighbour, in the paper's variant against active adversaries: signed keys, signed
packets and the consistency round. What differs from the paper: every key, seed and share is fresh in each attempt and
bound to the session's hash (base prior, recipe, roster, journal head), the site commits to its seed, dealers commit to
every share, so that whoever breaks the protocol is named where that can be proved.

    start        nobody answers; closing it asks for keys
    keys         site -> all          public mask key and channel key, commitment to its seed b, signed
    shares       site -> each peer    t-of-n shares of its mask key and of b, HPKE-sealed, signed, relayed
    masked       site -> coordinator  x + PRG(b) + Σ ±PRG(k_uv) over the peers whose packets came
    consistency  site -> coordinator  its signature over (session, survivors, commitments to their masked vectors)
    unmask       site -> coordinator  shares of survivors' b and of dropped sites' mask keys, never both for one site

The coordinator learns the sum over the survivors, and nothing else as long as fewer than 2·threshold - n sites
collude with it. What the sum itself gives away only a mechanism's noise can hide. `Aggregate.parts` are the survivors'
masked vectors in order, the signed frames in which the sites of the sum and those that dropped out announced their
keys, then what was opened (`_unmask.Secrets`): whoever has them can recompute the sum.

Above 50 sites the phases stay, and each site has as many neighbours as the session's dropouts and colluders need: some
130 of 1,000 for a tenth of each (`_fleet_terms`: how many; `_graph`: how they are drawn, and why that cannot be ground;
`_fleet_party`: what is sent, and why nothing but the sum is learnt while at most `colluders` sites collude). There a
commitment is to the hash of the vector and to the view of the graph, and the view is one more part.

A site's guard is called with the contributing seats three times: with everyone whose keys were relayed, with everyone
whose packets came (before the masked input leaves), and with the survivors (before the site signs). A retry without
noise and with other contributors would give away the difference of the two sums: whether a site lets its update be
summed again is for its guard, and for the record that it writes before the masked input leaves (`Step.persist`). A
restarted site makes a new machine whose keys nobody knows: it counts as dropped in the attempt that it had begun.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from commonprior.errors import ProtocolError, RecipeError
from commonprior.identity import Identity
from commonprior.session import Seat, Session
from commonprior.sums import Csprng, Draw, Guard, Machine, SecureSum
from commonprior.sums._consistency import require_committed
from commonprior.sums._fleet_coordinator import FleetCoordinator
from commonprior.sums._fleet_packets import commit_words
from commonprior.sums._fleet_party import FleetParty
from commonprior.sums._fleet_terms import terms_of, unsigned
from commonprior.sums._masked_coordinator import MaskedCoordinator
from commonprior.sums._masked_party import MaskedParty
from commonprior.sums._unmask import read_announced, unmask_again


@final
@dataclass(frozen=True)
class Masked(SecureSum):
    """Pairwise masking with recovery of dropped sites: `width` bytes a number up, and some kilobytes a round.

    `neighbours`: with how many others a site shares its secrets. 0: with everyone up to 50 sites; above, with as few,
    drawn jointly, as the session's dropouts and colluders allow.
    """

    neighbours: int = 0

    phases: ClassVar[tuple[str, ...]] = MaskedCoordinator.phases
    trust: ClassVar[str] = (
        "nobody is trusted with an update as long as fewer than 2 · threshold - sites of the sites, and above 50 sites "
        "no more than the assumed colluders, work with the coordinator; "
        "a site that lies about its own vector is not noticed"
    )

    def __post_init__(self) -> None:
        if self.neighbours < 0:
            raise RecipeError(
                f"sum.neighbours = {self.neighbours}: expected how many neighbours a site has, 0 for what is needed"
            )

    def check(self, session: Session) -> None:
        """Raise `RecipeError`, with the numbers, where the neighbours asked for are too few for this session."""
        terms_of(session, self.neighbours)

    def unsigned(self, parties: int, dropouts: int, colluders: int) -> int:
        """Return how many honest survivors a fleet's sum may lack: each site looks at some of the signatures only."""
        return unsigned(parties, dropouts, colluders, self.neighbours)

    def party(
        self, session: Session, seat: Seat, identity: Identity, integers: np.ndarray, csprng: Csprng, guard: Guard
    ) -> Machine:
        """Return the machine of the site on `seat`; `integers` [d] int64 must not change until it has answered.

        Raises `ProtocolError` where the session has no graph to draw.
        """
        try:
            terms = terms_of(session, self.neighbours)
        except RecipeError as error:
            raise ProtocolError(f"no neighbours for this session: {error}") from None
        if terms is None:
            return MaskedParty(session, seat, identity, integers, csprng, guard)
        return FleetParty(session, seat, identity, integers, csprng, guard, terms)

    def coordinator(self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]] = ()) -> Machine:
        """Return the coordinator's machine.

        `log` holds (sender, `Step.persist`) of what the earlier machine took, and (COORDINATOR, `Step.persist`) of
        the phases that it closed, in order. Frames alone do too: a frame of a later phase closes the earlier ones.
        Raises `RecipeError` where the session has no graph to draw.
        """
        terms = terms_of(session, self.neighbours)
        if terms is None:
            return MaskedCoordinator(session, identity, log)
        return FleetCoordinator(session, identity, log, terms)

    def recompute(
        self, session: Session, commitments: Mapping[Seat, bytes], parts: Sequence[bytes], draw: Draw = ()
    ) -> np.ndarray:
        """Return the sum [d] from the masked vectors, which were committed to, and the opened seeds and keys."""
        count, fleet = len(commitments), terms_of(session, self.neighbours) is not None
        if not fleet:
            if len(parts) < count + 1:
                raise ProtocolError(f"{len(parts)} parts of a masked sum of {count} sites")
            announced = read_announced(session, parts[count:-1])
            return unmask_again(session, require_committed(commitments, parts[:count]), parts[-1], announced)
        if len(parts) != count + 2:
            raise ProtocolError(f"{len(parts)} parts of a masked sum of {count} sites, expected {count + 2}")
        sealed = dict(zip(commitments, parts[:count], strict=True))
        expected = commit_words(parts[-1], {seat: hashlib.sha256(words).digest() for seat, words in sealed.items()})
        wrong = [seat for seat in commitments if expected[seat] != commitments[seat]]
        if wrong:
            raise ProtocolError(f"the sealed bytes of seat {wrong[0]} are not those that it committed to")
        return unmask_again(session, sealed, parts[count])
