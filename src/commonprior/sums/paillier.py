"""A sum under Paillier's cryptosystem: for scalars and small vectors, where one of the sites may hold the key.

    start        nobody answers; closing it asks the key holder for a key
    key          key holder -> all   its public key, fresh in this attempt, with a proof that openings are unique
    committed    site -> all         commitment to its ciphertexts, bound to its seat, signed
    encrypted    site -> coordinator its ciphertexts, once it has seen everybody's commitments
    consistency  site -> coordinator its signature over (session, survivors, commitments to their ciphertexts)
    open         key holder          the sum and the roots that prove it

The key holder is a site, never the coordinator: the one that `key_holder` names, or the first by name. It adds
up the ciphertexts itself, each in a frame that its own site signed, and decrypts one sum, over the survivors that at
least `threshold` of them signed. The coordinator and the record check its opening against the ciphertexts:
it cannot give out a wrong sum. Nobody can enter a multiple of another site's vector, as everyone is committed before
anyone's ciphertext is seen. A key holder that drops out ends the attempt, and without it there is no other: a recipe
that names another is another run.

The secrecy that this gives is towards the coordinator and everybody else who is not the key holder. The key holder is
sent every ciphertext and could decrypt each: where nobody may be trusted with that, use the masked sum.
`Aggregate.parts` are the survivors' ciphertexts in order, then the opening and the public key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np

from commonprior.errors import RecipeError
from commonprior.identity import Identity
from commonprior.session import Seat, Session
from commonprior.sums import Csprng, Draw, Guard, Machine, SecureSum
from commonprior.sums._he_coordinator import EncryptedCoordinator, opened_again
from commonprior.sums._he_paillier import PaillierSystem
from commonprior.sums._he_party import EncryptedParty
from commonprior.sums._he_scheme import holder_of


@final
@dataclass(frozen=True)
class Paillier(SecureSum):
    """Paillier over packed integers: 2 · `modulus_bits` a ciphertext of (modulus_bits - 1) // (8 · width) numbers.

    2048 bits count as 112 bits of security, 3072 as 128 (NIST SP 800-57). `key_holder` is a site's name.
    """

    modulus_bits: Literal[2048, 3072, 4096] = 3072
    key_holder: str = ""

    phases: ClassVar[tuple[str, ...]] = EncryptedCoordinator.phases
    trust: ClassVar[str] = (
        "every site trusts the key holder, which is one of the sites and could read every update, not to do so and not "
        "to work with the coordinator; it cannot give out a wrong sum"
    )

    def __post_init__(self) -> None:
        if self.modulus_bits not in (2048, 3072, 4096):
            raise RecipeError(f"sum.modulus_bits = {self.modulus_bits}: expected 2048, 3072 or 4096")

    def key_holders(self, session: Session) -> frozenset[Seat]:
        """Return the seat that is sent every ciphertext."""
        return frozenset({holder_of(session, self.key_holder)})

    def check(self, session: Session) -> None:
        """Raise `InputError` where the key holder is no site, or numbers do not fit the ciphertexts."""
        holder_of(session, self.key_holder)
        PaillierSystem(self.modulus_bits).sizes(session)

    def party(
        self, session: Session, seat: Seat, identity: Identity, integers: np.ndarray, csprng: Csprng, guard: Guard
    ) -> Machine:
        """Return the machine of the site on `seat`; the key holder's primes come from the system's randomness."""
        holder = holder_of(session, self.key_holder)
        return EncryptedParty(
            session, seat, identity, integers, csprng, guard, PaillierSystem(self.modulus_bits), holder
        )

    def coordinator(self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]] = ()) -> Machine:
        """Return the coordinator's machine; `log` holds (seat, `Step.persist`) in order."""
        holder = holder_of(session, self.key_holder)
        return EncryptedCoordinator(session, identity, log, PaillierSystem(self.modulus_bits), holder)

    def recompute(
        self, session: Session, commitments: Mapping[Seat, bytes], parts: Sequence[bytes], draw: Draw = ()
    ) -> np.ndarray:
        """Return the sum [d] that the key holder opened, if its roots prove it of the very ciphertexts committed to."""
        return opened_again(session, PaillierSystem(self.modulus_bits), commitments, parts)
