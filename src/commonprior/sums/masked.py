"""A sum in which nobody sees one site's vector: pairwise masks that cancel (Bonawitz et al. 2017, arXiv 1611.04482).

The complete graph of sites, the paper's variant against active adversaries: signed keys, signed packets and the
consistency round. What differs from the paper: every key, seed and share is fresh in each attempt and bound to the
session's hash (base prior, recipe, roster, journal head), the site commits to its seed, dealers commit to every
share, so that whoever breaks the protocol is named where that can be proved.

    start        nobody answers; closing it asks for keys
    keys         site -> all          public mask key and channel key, commitment to its seed b, signed
    shares       site -> each peer    t-of-n shares of its mask key and of b, HPKE-sealed, signed, relayed
    masked       site -> coordinator  x + PRG(b) + Σ ±PRG(k_uv) over the peers whose packets came
    consistency  site -> coordinator  its signature over (session, survivors, commitments to their masked vectors)
    unmask       site -> coordinator  shares of survivors' b and of dropped sites' mask keys, never both for one site

The coordinator learns the sum over the survivors, and nothing else as long as fewer than 2·threshold - n sites
collude with it. What the sum itself gives away only a mechanism's noise can hide. `Aggregate.parts` are the survivors'
masked vectors in order, then what was opened (`_unmask.Secrets`): whoever has them can recompute the sum.

A site's guard is called with the contributing seats three times: with everyone whose keys were relayed, with everyone
whose packets came (before the masked input leaves), and with the survivors (before the site signs). A retry without
noise and with other contributors would give away the difference of the two sums: whether a site lets its update be
summed again is for its guard, and for the record that it writes before the masked input leaves (`Step.persist`). A
restarted site makes a new machine whose keys nobody knows: it counts as dropped in the attempt that it had begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from commonprior.identity import Identity
from commonprior.session import Seat, Session
from commonprior.sums import Csprng, Guard, Machine, SecureSum
from commonprior.sums._masked_coordinator import MaskedCoordinator
from commonprior.sums._masked_party import MaskedParty


@final
@dataclass(frozen=True)
class Masked(SecureSum):
    """Pairwise masking with recovery of dropped sites: `width` bytes a number up, and some kilobytes a round."""

    phases: ClassVar[tuple[str, ...]] = MaskedCoordinator.phases
    trust: ClassVar[str] = (
        "nobody is trusted with an update as long as fewer than 2 · threshold - sites of the sites work with the "
        "coordinator; a site that lies about its own vector is not noticed"
    )

    def party(
        self, session: Session, seat: Seat, identity: Identity, integers: np.ndarray, csprng: Csprng, guard: Guard
    ) -> Machine:
        """Return the machine of the site on `seat`; `integers` [d] int64 must not change until it has answered."""
        return MaskedParty(session, seat, identity, integers, csprng, guard)

    def coordinator(self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]] = ()) -> Machine:
        """Return the coordinator's machine.

        `log` holds (sender, `Step.persist`) of what the earlier machine took, and (COORDINATOR, `Step.persist`) of
        the phases that it closed, in order. Frames alone do too: a frame of a later phase closes the earlier ones.
        """
        return MaskedCoordinator(session, identity, log)
