"""A cohort and its sessions, and a play: parties and a coordinator that exchange bytes, phase by phase."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from commonprior.frame import open_frame, seal
from commonprior.identity import Identity
from commonprior.session import COORDINATOR, Encoding, Member, Seat, Session
from commonprior.sums import Csprng, Guard, Machine, SecureSum, Step
from commonprior.sums._fleet_coordinator import FleetCoordinator
from commonprior.sums._fleet_party import FleetParty
from commonprior.sums._fleet_terms import Terms
from commonprior.sums._masks import add_streams, pair_stream, self_stream
from commonprior.sums._shamir import join, weights
from commonprior.sums.masked import Masked

IDENTITIES = [Identity.generate() for _ in range(51)]
ORGANISER = Identity.generate()


def allow(seats: frozenset[Seat]) -> None:
    """A guard that lets everything pass."""


def make_session(n: int = 4, length: int = 5, width: int = 4, dropouts: int = 1, **changes: Any) -> Session:
    limit = (2 ** (8 * width - 1) - 1) // n
    roster = tuple(Member(f"site {seat}", IDENTITIES[seat].key) for seat in range(n))
    whole = Session(
        b"run", 1, 0, bytes(32), bytes(32), bytes(32), ORGANISER.key, roster, dropouts, 0, length,
        Encoding(n, 0, limit, width),
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


def make_vectors(session: Session, seed: int = 0) -> list[np.ndarray]:
    limit = session.encoding.limit
    rng = np.random.default_rng(seed)
    return [rng.integers(-limit, limit, session.length, np.int64, endpoint=True) for _ in session.roster]


@dataclass
class Play:
    """One attempt. `outbox` is what the coordinator sends next; `heard` and `log` what it took, as frames."""

    session: Session
    vectors: Sequence[np.ndarray]
    sum: SecureSum = field(default_factory=Masked)
    csprng: Callable[[Seat], Csprng] = lambda seat: os.urandom
    guard: Guard = allow
    parties: list[Machine] = field(init=False)
    coordinator: Machine = field(init=False)
    outbox: dict[Seat, bytes] = field(default_factory=dict)
    heard: dict[str, dict[Seat, bytes]] = field(default_factory=dict)
    log: list[tuple[Seat, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parties = [
            self.sum.party(self.session, seat, IDENTITIES[seat], vector, self.csprng(seat), self.guard)
            for seat, vector in enumerate(self.vectors)
        ]
        self.coordinator = self.sum.coordinator(self.session, ORGANISER)

    def ask(self, seat: Seat, request: bytes) -> bytes:
        ((to, answer),) = self.parties[seat].receive(COORDINATOR, request).send
        assert to == COORDINATOR
        return answer

    def hold(self, phase: str, absent: Collection[Seat] = ()) -> Step:
        """Hold one phase with everyone but `absent`."""
        self.heard[phase] = {}
        for seat, request in self.outbox.items():
            if seat not in absent:
                self.tell(phase, seat, self.ask(seat, request))
        return self.close(phase)

    def tell(self, phase: str, seat: Seat, answer: bytes) -> Step:
        step = self.coordinator.receive(seat, answer)
        if step.persist:
            self.log.append((seat, step.persist))
        self.heard.setdefault(phase, {})[seat] = answer
        return step

    def close(self, phase: str) -> Step:
        step = self.coordinator.close(phase)
        self.log.append((COORDINATOR, step.persist))
        self.outbox = dict(step.send)
        return step

    def until(self, phase: str) -> Play:
        """Hold every phase before `phase` with everyone."""
        for earlier in self.sum.phases[: self.sum.phases.index(phase)]:
            self.hold(earlier)
        return self

    def finish(self, leave: Mapping[Seat, str] | None = None, start: str = "start") -> Any:
        """Hold the phases from `start` on; a seat stops answering in the phase that `leave` names. How it ended."""
        phases = self.sum.phases
        gone: dict[Seat, int] = {seat: phases.index(phase) for seat, phase in (leave or {}).items()}
        for at in range(phases.index(start), len(phases)):
            step = self.hold(phases[at], [seat for seat, left in gone.items() if left <= at])
            if step.done is not None:
                return step.done
        raise AssertionError("the sum did not end")

    def request(self, phase: str, seat: Seat, body: Any) -> bytes:
        """What a coordinator that lies would send: any body, properly signed."""
        return seal(ORGANISER, self.session, phase, COORDINATOR, seat, body)

    def answer(self, phase: str, seat: Seat, body: Any) -> bytes:
        """What a site that lies would send."""
        return seal(IDENTITIES[seat], self.session, phase, seat, COORDINATOR, body)

    def body(self, frame: bytes, to: Seat = COORDINATOR) -> Any:
        return open_frame(frame, self.session, to).body


@pytest.fixture(scope="session")
def session() -> Callable[..., Session]:
    return make_session


@pytest.fixture(scope="session")
def vectors() -> Callable[..., list[np.ndarray]]:
    return make_vectors


@pytest.fixture(scope="session")
def play() -> Callable[..., Play]:
    """Make a play from a session's changes, or of a given session; other arguments go to the play."""

    def make(
        given: Session | None = None, *, seed: int = 0, play: dict[str, Any] | None = None, **changes: Any
    ) -> Play:
        made = given or make_session(**changes)
        arguments = {"vectors": make_vectors(made, seed), **(play or {})}
        return Play(made, **arguments)

    return make


@dataclass(frozen=True)
class Sparse(SecureSum):
    """A masked sum on a drawn graph whose terms a test chooses: few sites do not need one, and have no bounds."""

    terms: Terms
    phases: ClassVar = Masked.phases

    def check(self, session: Session) -> None:
        pass

    def party(self, session, seat, identity, integers, csprng, guard):
        return FleetParty(session, seat, identity, integers, csprng, guard, self.terms)

    def coordinator(self, session, identity, log=()):
        return FleetCoordinator(session, identity, log, self.terms)


@pytest.fixture(scope="session")
def fleet(play: Callable[..., Play]) -> Callable[..., Play]:
    """Make a play on a drawn graph: 12 sites of whom 2 may drop out, 5 holders each, 3 of whom open."""

    def make(*, terms: tuple[int, int, int] = (5, 3, 10), play_: dict[str, Any] | None = None, **changes: Any) -> Play:
        return play(**{"n": 12, "dropouts": 2, **changes}, play={"sum": Sparse(Terms(*terms)), **(play_ or {})})

    return make


@pytest.fixture(scope="session")
def strip() -> Callable[..., np.ndarray]:
    """Take every mask off a seat's words in a play on a drawn graph, given shares of its seed and of its mask key."""

    def take(
        attempt: Play,
        seeds: Mapping[Seat, bytes],
        keys: Mapping[Seat, bytes],
        words: bytes = b"",
        peers: Mapping[Seat, bytes] | None = None,
        seat: Seat = 0,
    ) -> np.ndarray:
        session, t = attempt.session, attempt.sum.terms.threshold  # pyright: ignore[reportAttributeAccessIssue]
        seed, key = (join(shares, weights(sorted(shares)[:t])) for shares in (seeds, keys))
        private = X25519PrivateKey.from_private_bytes(key)
        if peers is None:
            near = attempt.coordinator._graph.neighbours_of(seat)  # pyright: ignore[reportAttributeAccessIssue]
            peers = {s: attempt.body(attempt.heard["keys"][s])["mask"] for s in near}
        mask_keys = {**peers, seat: private.public_key().public_bytes_raw()}
        bare = np.frombuffer(words or attempt.body(attempt.heard["masked"][seat])["words"], session.encoding.word)
        streams = [self_stream(session, seat, seed)]
        streams += [pair_stream(session, private, seat, peer, mask_keys) for peer in peers]
        bare = bare.copy()
        add_streams(bare, [stream._replace(sign=-stream.sign) for stream in streams])
        return session.encoding.from_words(bare)

    return take


@pytest.fixture(scope="session")
def identities() -> list[Identity]:
    return IDENTITIES


@pytest.fixture(scope="session")
def organiser() -> Identity:
    return ORGANISER
