"""A sum by a committee of the sites themselves, without a server that anyone must trust (Shamir 1979; BGW 1988).

Every site shares its vector out to the aggregators; they add up the shares of everyone, and the sum of shares is a
share of the sum. No masks to recover: a site that vanishes once its shares are dealt costs nothing more.

    start        nobody answers; closing it asks for keys
    keys         site -> all           channel key, signed
    shares       site -> aggregators   a share each, HPKE-sealed, relayed; its signed header commits to all of them
    check        site -> all           a random combination of its polynomials, masked (`_committee_check`)
    verify       aggregator -> all     of which dealers the share is another than that combination says, with proof
    consistency  site -> coordinator   its signature over (session, survivors, commitments to their dealings)
    sums         aggregator -> coord.  the sum of its shares over the survivors

The aggregators are the first `aggregators` seats of the roster. The roster is in the record's opening, which every site
signed: there is nothing to draw, hence nothing that a coordinator could draw again until it likes the outcome. Sites
that should aggregate are those whose names come first.

`threshold` t of the aggregators together, with the coordinator and other sites, fewer than 2 · T - n of the n in all (T
signatures make a set of survivors, and with more liars there could be two), learn the sum and nothing else; t + 1
give it and t + 2 answers must come, so that it is never opened unchecked. With a answers, (a - t - 1) // 2 liars among
them are named and the sum is right without them (`_committee_terms.tolerances`). What nobody notices: a site that lies
about its own vector, within what the field can hold. Whoever sees the sum learns what the sum says; only a mechanism's
noise can hide that.

The field is that of 2^31 - 1: four bytes a number whatever the encoding's width, and parties x limit must stay below
half of it, as it does in every mechanism's encoding of two or four bytes. A site's guard is called before it deals,
before it publishes its combination, and before it signs. `Aggregate.parts` are what was found ({degree, culprits},
canonical) and the aggregators' signed frames: whoever has them can decode the sum again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from commonprior.errors import ProtocolError, RecipeError
from commonprior.identity import Identity
from commonprior.session import Seat, Session
from commonprior.sums import Csprng, Draw, Guard, Machine, SecureSum
from commonprior.sums._committee_coordinator import CommitteeCoordinator, decode_again
from commonprior.sums._committee_party import CommitteeParty
from commonprior.sums._committee_terms import terms_of


@final
@dataclass(frozen=True)
class Committee(SecureSum):
    """Shamir sharing among `aggregators` sites (0: all) of whom `threshold` learn nothing (0: the largest that names
    one liar with every allowed dropout gone). Up: 4 bytes a number and aggregator beyond the threshold.
    """

    aggregators: int = 0
    threshold: int = 0

    phases: ClassVar[tuple[str, ...]] = CommitteeCoordinator.phases
    trust: ClassVar[str] = (
        "nobody is trusted with an update as long as at most threshold aggregators work together, with or without the "
        "coordinator; a site that lies about its own vector is not noticed, one that lies about the sum is"
    )

    def __post_init__(self) -> None:
        if self.aggregators < 0 or 0 < self.aggregators < 3:
            raise RecipeError(f"sum.aggregators = {self.aggregators}: expected at least 3, or 0 for every site")
        if self.threshold < 0:
            raise RecipeError(f"sum.threshold = {self.threshold}: expected at least 1, or 0 for the derived one")
        if 0 < self.aggregators < self.threshold + 2:
            raise RecipeError(
                f"sum.threshold = {self.threshold} with sum.aggregators = {self.aggregators}: expected at most "
                f"{self.aggregators - 2}, as a sum needs threshold + 2 answers"
            )

    def check(self, session: Session) -> None:
        """Raise `RecipeError`, with the numbers, where no committee fits this session."""
        terms_of(session, self.aggregators, self.threshold)

    def party(
        self, session: Session, seat: Seat, identity: Identity, integers: np.ndarray, csprng: Csprng, guard: Guard
    ) -> Machine:
        """Return the machine of the site on `seat`; a session that no committee fits raises `ProtocolError`."""
        try:
            terms = terms_of(session, self.aggregators, self.threshold)
        except RecipeError as error:
            raise ProtocolError(f"no committee for this session: {error}") from None
        return CommitteeParty(session, seat, identity, integers, csprng, guard, terms)

    def coordinator(self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]] = ()) -> Machine:
        """Return the coordinator's machine; `log` as for every sum. Raises `RecipeError` where no committee fits."""
        return CommitteeCoordinator(session, identity, log, terms_of(session, self.aggregators, self.threshold))

    def recompute(
        self, session: Session, commitments: Mapping[Seat, bytes], parts: Sequence[bytes], draw: Draw = ()
    ) -> np.ndarray:
        """Return the sum [d] that the aggregators' signed answers decode to.

        The shares that were dealt, to which `commitments` are, went from site to site: nobody else ever had them.
        """
        return decode_again(session, terms_of(session, self.aggregators, self.threshold), parts)
