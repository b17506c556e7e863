"""A sum under CKKS: vectors of any length, where one of the sites may hold the key and is believed about the sum.

    start        nobody answers; closing it asks the key holder for a key
    key          key holder -> all   its public key, fresh in this attempt
    committed    site -> all         commitment to its ciphertexts, bound to its seat, signed
    encrypted    site -> coordinator its ciphertexts, once it has seen everybody's commitments
    consistency  site -> coordinator its signature over (session, survivors, commitments to their ciphertexts)
    open         key holder          the sum, flooded and rounded to the exact integers

The key holder is a site, never the coordinator: the one that `key_holder` names, or the first by name. It adds
the ciphertexts itself, each in a frame that its own site signed, and decrypts one sum, over the survivors that at least
`threshold` of them signed. Why an exact sum comes out of an approximate cryptosystem, and why publishing it gives away
nothing of the key, stands in `_he_ckks`. Unlike Paillier's, this opening cannot be checked.

The secrecy that this gives is towards the coordinator and everybody else who is not the key holder. The key holder is
sent every ciphertext and could decrypt each: where nobody may be trusted with that, use the masked sum.
`Aggregate.parts` are the survivors' ciphertexts in order, then the opening and the public key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from commonprior.identity import Identity
from commonprior.session import Seat, Session
from commonprior.sums import Csprng, Draw, Guard, Machine, SecureSum
from commonprior.sums._he_ckks import CkksSystem
from commonprior.sums._he_coordinator import EncryptedCoordinator, opened_again
from commonprior.sums._he_party import EncryptedParty
from commonprior.sums._he_scheme import holder_of


@final
@dataclass(frozen=True)
class Ckks(SecureSum):
    """CKKS with N = 8192: 59 bytes a number. `key_holder` is a site's name."""

    key_holder: str = ""

    phases: ClassVar[tuple[str, ...]] = EncryptedCoordinator.phases
    trust: ClassVar[str] = (
        "every site trusts the key holder, which is one of the sites and could read every update, not to do so, not to "
        "work with the coordinator, and to give out the right sum"
    )

    def key_holders(self, session: Session) -> frozenset[Seat]:
        """Return the seat that is sent every ciphertext."""
        return frozenset({holder_of(session, self.key_holder)})

    def check(self, session: Session) -> None:
        """Raise `InputError` where the key holder is no site, or numbers do not fit the ciphertexts."""
        holder_of(session, self.key_holder)
        CkksSystem().sizes(session)

    def party(
        self, session: Session, seat: Seat, identity: Identity, integers: np.ndarray, csprng: Csprng, guard: Guard
    ) -> Machine:
        """Return the machine of the site on `seat`; `csprng` feeds the flooding, SEAL draws the rest itself."""
        holder = holder_of(session, self.key_holder)
        return EncryptedParty(session, seat, identity, integers, csprng, guard, CkksSystem(), holder)

    def coordinator(self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]] = ()) -> Machine:
        """Return the coordinator's machine; `log` holds (seat, `Step.persist`) in order."""
        return EncryptedCoordinator(session, identity, log, CkksSystem(), holder_of(session, self.key_holder))

    def recompute(
        self, session: Session, commitments: Mapping[Seat, bytes], parts: Sequence[bytes], draw: Draw = ()
    ) -> None:
        """Check the ciphertexts against the commitments to them; what they add up to only the key holder could tell."""
        opened_again(session, CkksSystem(), commitments, parts)
