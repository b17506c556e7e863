"""The contracts of one consortium, called from Python: the same over every chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from eth_hash.auto import keccak

from commonprior.ballot import NOTHING, Ballot, Counter
from commonprior.canonical import digest
from commonprior.errors import LedgerError
from commonprior.identity import Identity, signer_of
from commonprior.ledger import Chain, Receipt
from commonprior.ledger.contract import CONTRACTS, Event, artefact
from commonprior.ledger.transaction import address_made

Signed: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Voters' accounts (20 bytes) with their signatures (65 bytes), in any order."""

HIDDEN, DIRECT, OPTIMISTIC = 0, 1, 2
MOST_BALLOTS, MOST_MEMBERS = 64, 96
"""A round counts at most 64 ballots: two thirds of 96 members."""


_LINKS = (
    ("Registry.writer", "Rounds"), ("Rounds.quorum", "Quorum"), ("Rounds.registry", "Registry"),
    ("Rounds.disputes", "Disputes"), ("Quorum.token", "Token"), ("Quorum.rounds", "Rounds"),
    ("Quorum.disputes", "Disputes"), ("Disputes.rounds", "Rounds"), ("Disputes.quorum", "Quorum"),
    ("Disputes.token", "Token"), ("Disputes.rewards", "Rewards"), ("Rewards.rounds", "Rounds"),
    ("Rewards.disputes", "Disputes"), ("Rewards.token", "Token"),
)  # fmt: skip
"""Which contract each function must answer with."""


class Terms(NamedTuple):
    """What a run is begun with, for good. `words` of 32 numbers; `least` contributors; times in seconds.

    In hidden mode all but the mode are 0.
    """

    mode: int = HIDDEN
    words: int = 0
    least: int = 0
    commit_seconds: int = 0
    reveal_seconds: int = 0
    finalise_seconds: int = 0
    bond: int = 0


class Rules(NamedTuple):
    """What a consortium is deployed with. `stake`: votes weigh what their holders deposit; else one vote a member.

    `tokens` each member is given at first, in millionths; `notice`, `window` and `answer` in seconds; `price` is what
    a demand for a chunk costs if it is answered.
    """

    stake: bool = False
    tokens: int = 1_000_000_000
    notice: int = 604_800
    least: int = 1_000_000
    window: int = 86_400
    answer: int = 21_600
    price: int = 1_000_000


class Standing(NamedTuple):
    """Where a run stands in the registry: how many rounds, the newest prior's hash, who may open rounds."""

    rounds: int
    prior: bytes
    proposer: bytes


class Current(NamedTuple):
    """Where a round of public deltas stands."""

    round: int
    attempt: int
    opened: int
    snapshot: int
    committed: int
    revealed: int
    excluded: int
    phase: int


@dataclass(frozen=True)
class Contracts:
    """Six contracts on a chain, by name; every call goes through `read` or `write`."""

    chain: Chain
    addresses: tuple[bytes, ...]

    @staticmethod
    def deploy(chain: Chain, deployer: Identity, members: Sequence[bytes], rules: Rules = Rules()) -> Contracts:  # noqa: B008
        """Deploy all six. Each is told where the others will be, by the deployer's nonce: nobody owns them."""
        if len(set(members)) != len(members) or not 1 <= len(members) <= MOST_MEMBERS:
            raise LedgerError(f"{len(members)} members: expected 1 to {MOST_MEMBERS}, each once")
        nonce = chain.nonce(deployer.address)
        addresses = tuple(address_made(deployer.address, nonce + i) for i in range(len(CONTRACTS)))
        token, quorum, registry, rounds, disputes, rewards = addresses
        arguments: tuple[tuple[Any, ...], ...] = (
            (members, rules.tokens),
            (int(rules.stake), [] if rules.stake else members, token, rounds, disputes, rules.notice, rules.least),
            (rounds,),
            (quorum, registry, disputes),
            (rounds, quorum, token, rewards, rules.window, rules.answer, rules.price),
            (rounds, disputes, token),
        )
        for name, values in zip(CONTRACTS, arguments, strict=True):
            chain.send(deployer, None, artefact(name).creation(values))
        contracts = Contracts(chain, addresses)
        contracts.check()
        return contracts

    def check(self) -> None:
        """Raise `LedgerError` unless these are this version's contracts, and know each other."""
        for name, address in zip(CONTRACTS, self.addresses, strict=True):
            code = self.chain.code(address)
            if not code:
                raise LedgerError(f"no contract at 0x{address.hex()} on chain {self.chain.number}: expected {name}; "
                                  f"name the right addresses or the right chain")  # fmt: skip
            if not artefact(name).is_code(code):
                raise LedgerError(f"the contract at 0x{address.hex()} is not this version's {name}: use the version of "
                                  f"commonprior that it was deployed with")  # fmt: skip
        for holder, name in _LINKS:
            contract, function = holder.split(".")
            if bytes.fromhex(self.read(contract, function)[2:]) != self.address(name):
                raise LedgerError(f"the {contract} at 0x{self.address(contract).hex()} belongs to another {name}")

    @property
    def counter(self) -> Counter:
        """Where this consortium's ballots are counted."""
        return Counter(self.chain.number, self.address("Rounds"))

    def address(self, name: str) -> bytes:
        """Return where a contract is."""
        return self.addresses[CONTRACTS.index(name)]

    def read(self, contract: str, function: str, *values: Any) -> Any:
        """Call a function that changes nothing."""
        known = artefact(contract).functions[function]
        answer = self.chain.call(self.address(contract), known.encode(values))
        if not answer and known.outputs:
            raise LedgerError(f"nothing answers at 0x{self.address(contract).hex()}: no {contract} is there")
        return known.decode(answer) if known.outputs else None

    def write(self, sender: Identity, contract: str, function: str, *values: Any) -> Receipt:
        """Send a transaction and wait for it."""
        return self.chain.send(sender, self.address(contract), artefact(contract).functions[function].encode(values))

    def events(self, receipt: Receipt) -> list[Event]:
        """Return what a transaction's logs say."""
        names = dict(zip(self.addresses, CONTRACTS, strict=True))
        return [artefact(names[log.address]).event(log) for log in receipt.logs if log.address in names]

    def standing(self, run: bytes) -> Standing | None:
        """Return where a run stands, or None where it has not been begun."""
        try:
            rounds, prior, proposer = self.read("Registry", "head", run)
        except LedgerError as error:
            if "G: unknown" in str(error):
                return None
            raise
        return Standing(rounds, prior, bytes.fromhex(proposer[2:]))

    def begin(self, sender: Identity, family: bytes, recipe: bytes, prior: bytes, entry: bytes, terms: Terms,
              proposer: bytes, ballots: Signed) -> Receipt:  # fmt: skip
        """Begin the run whose opening record `entry` is."""
        return self.write(sender, "Rounds", "begin", family, recipe, prior, entry, terms, proposer, joined(ballots))

    def record(
        self, sender: Identity, run: bytes, attempt: int, prior: bytes, entry: bytes, ballots: Signed
    ) -> Receipt:
        """Hidden deltas: enter the next round, with its record's bytes and the members' ballots."""
        return self.write(sender, "Rounds", "record", run, attempt, prior, entry, joined(ballots))

    def current(self, run: bytes) -> Current:
        """Return where a round of public deltas stands."""
        return Current(*self.read("Rounds", "current_of", run))


def opening_ballot(family: bytes, recipe: bytes, prior: bytes, entry: bytes, terms: Terms, proposer: bytes) -> Ballot:
    """Return what a member signs to begin a run."""
    return Ballot(digest(entry), 0, 0, NOTHING, prior, digest(entry), subject_of(family, recipe, terms, proposer))


def subject_of(family: bytes, recipe: bytes, terms: Terms, proposer: bytes) -> bytes:
    """Return what is agreed on when a run is begun, besides its record: Keccak-256 of the contract's arguments."""
    numbers = b"".join(value.to_bytes(32, "big") for value in terms)
    return keccak(family + recipe + numbers + proposer.rjust(32, b"\0"))


def names_of(contributors: Sequence[bytes], names: bytes = NOTHING) -> bytes:
    """Return the hash of a list of contributors (20 bytes each), as the contract chains it; `names` are before them."""
    for who in contributors:
        names = keccak(names + who.rjust(32, b"\0"))
    return names


def taken_of(contributors: Sequence[bytes], taken: int) -> bytes:
    """Return the subject of the ballots of a public round: who contributed, and who is averaged (bit i)."""
    return keccak(names_of(contributors) + taken.to_bytes(32, "big"))


def key_of(run: bytes, round_: int, attempt: int) -> bytes:
    """Return the contract's name for one attempt at one round."""
    return keccak(run + round_.to_bytes(32, "big") + attempt.to_bytes(32, "big"))


def commitment(who: bytes, key: bytes, base: bytes, root: bytes, salt: bytes) -> bytes:
    """Return what a contributor commits to."""
    return keccak(who.rjust(32, b"\0") + key + base + root + salt)


def joined(ballots: Signed) -> list[bytes]:
    """Return signatures as the contract takes them: in rising order of who signed, at most `MOST_BALLOTS`."""
    return [signature for _, signature in sorted(ballots)[:MOST_BALLOTS]]


def valid(ballot: Ballot, counter: Counter, votes: Signed) -> list[tuple[bytes, bytes]]:
    """Return the votes whose signature holds."""
    asked = ballot.digest(counter)
    return [(who, signature) for who, signature in votes if signer_of(asked, signature) == who]
