"""One federated round of public deltas, start to end.

    invite ──> open ──> commit ──> publish ──> opine ──> acknowledge ──> finalise
    (learn)   (chain)  (each site,  (delta,   (each site  (each site      (the contract
                        on chain)    salt)     tries all)  checks, votes)  averages)

Whoever was rejected too often is not asked to commit any more; it still checks and votes. Where the sites' own losses
say that the last rounds made things worse, the round ends with an older prior instead of the mean.

Everybody sees every update, for good. In return nobody needs to trust whoever runs the rounds: the contract checks the
updates against what was committed to, counts the ballots and computes the mean.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from commonprior.aggregation import Summed, new_prior
from commonprior.ballot import Place
from commonprior.canonical import Value, digest
from commonprior.defence.history import History, Version
from commonprior.defence.layers import Layers
from commonprior.defence.said import Said, read_said
from commonprior.engines import Engine
from commonprior.entry import Round, read_entry, read_record, round_ballot
from commonprior.errors import ProtocolError
from commonprior.frame import Frame, open_frame
from commonprior.identity import Identity
from commonprior.ledger.published import Published, read_published, require_opinions, write_published
from commonprior.prior import Prior
from commonprior.privacy import Mechanism, Release
from commonprior.recipe import Recipe
from commonprior.round import Conversation, Failed, Outcome, Poll
from commonprior.session import COORDINATOR, Seat, Session
from commonprior.site import Told


class Stage(Protocol):
    """What a round of public deltas asks of the contracts."""

    def open(self) -> int:
        """Open the next attempt, waiting for the end of one that is under way; return its number on the chain."""
        ...

    def committed(self, seat: Seat, delta: bytes, salt: bytes) -> bool:
        """Say whether this is the update that a seat committed to."""
        ...

    def revealed(self) -> int:
        """Return how many sites have shown their updates to the contract themselves, as nobody published them."""
        ...

    def newest(self) -> bytes:
        """Return the hash of an embedded chain's newest block; nothing of another's."""
        ...

    def close_commitments(self) -> None:
        """Wait until nobody can commit any more."""
        ...

    def close_reveals(self, published: int) -> None:
        """Unless all who committed have published, wait until nobody can reveal any more."""
        ...


class Public(NamedTuple):
    """What a public round needs beside a hidden one's."""

    stage: Stage
    poll: Poll
    release: Release
    before: bytes
    """What the round before published; nothing before the first one."""
    prior_of: Callable[[Version], Prior]
    """The prior of a version that this run made."""


def run_public_round(
    recipe: Recipe, mechanism: Mechanism, prior: Prior, record: bytes, session: Session, engine: Engine,
    coordinator: Identity, spent: tuple[float, float], public: Public,
) -> Outcome | Failed:  # fmt: skip
    """Run one attempt at one round; the arguments are those of `run_round`."""
    poll, layers = public.poll, recipe.ledger.defence
    seats, history = range(len(session.roster)), history_of(public.before, record, poll.place, layers)
    out = {seat for seat in seats if poll.place.accounts[seat] in history.excluded(layers)}
    talk = Conversation(engine, session, coordinator, recipe.schedule.deadline, seats)
    invitation = {"session": dataclasses.asdict(session), "prior": prior.encode(), "record": record,
                  "before": public.before}  # fmt: skip
    joined = _answers(talk, session, "invite", talk.to_all("invite", invitation), "joined")
    attempt = public.stage.open()
    committed = _answers(talk, session, "commit", _to(talk, "commit", joined.keys() - out), "committed")
    public.stage.close_commitments()
    shown = _updates(_answers(talk, session, "publish", _to(talk, "publish", committed), "published"), public.stage)
    if len(shown) + len(out) < session.threshold:
        return Failed(f"{len(shown)} sites published their updates, expected {session.threshold - len(out)}",
                      talk.refusals)  # fmt: skip
    told = Told(history, session, mechanism.noise == 0)
    body = {"published": write_published(shown, {}, history)}
    opinions = _answers(talk, session, "opine", talk.to_all("opine", body), "opinion")
    if public.stage.revealed():
        return Failed("a site has shown the contract its update, which did not arrive here", talk.refusals)
    public.stage.close_reveals(len(shown))  # after the sites have seen whose updates arrived: they may show their own
    total = write_published(shown, _said(opinions, shown), history)
    try:
        published = read_published(total, poll.place, layers, told)
        require_opinions(published, told, poll.place, layers)
    except ProtocolError as error:
        return Failed(str(error), talk.refusals)
    if len(published.survivors) < poll.place.terms[1]:
        return Failed(f"{len(published.survivors)} of {len(shown)} updates are accepted, the contract averages at "
                      f"least {poll.place.terms[1]}", talk.refusals)  # fmt: skip
    back = published.back(session.round, session.base, layers)
    if back is None:
        new, following = averaged(recipe, mechanism, prior, session, published, public.release)
    else:
        new = public.prior_of(back)
        following = mechanism.resume(new.state)
    entry = Round(
        session.round, session.attempt, session.head, session.base, session.length, session.encoding,
        published.survivors, (), (), digest(total), new.hash(), mechanism.unit, *spent, (), public.stage.newest(),
    )  # fmt: skip
    ballot = round_ballot(poll.run, entry, attempt, published.subject, published.row)
    consents = talk.agree("acknowledge", {"total": total}, entry, (ballot, poll.place))
    if len(consents.signatures) < session.threshold:
        return Failed(
            f"{len(consents.signatures)} sites signed the record, expected {session.threshold}", talk.refusals
        )
    if public.stage.revealed():
        return Failed("a site has shown the contract its update, which did not arrive here", talk.refusals)
    return Outcome(new, following, entry, *consents, total, ())


def history_of(before: bytes, record: bytes, place: Place, layers: Layers) -> History:
    """Return where the last round left everyone, from what it published and its record."""
    last = read_entry(read_record(record)[0])
    if not isinstance(last, Round):
        return History()
    return read_published(before, place, layers, None).following(last.round, last.base, layers)


def versions_of(total: bytes, entry: Round, place: Place, layers: Layers) -> set[int]:
    """Return the rounds whose priors this round or the next may go back to."""
    published = read_published(total, place, layers, None)
    following = published.following(entry.round, entry.base, layers)
    return {version.round for version in (*published.history.versions, *following.versions)}


def averaged(
    recipe: Recipe, mechanism: Mechanism, prior: Prior, session: Session, published: Published, release: Release
) -> tuple[Prior, Mechanism]:
    """Return the prior that the contract's mean makes, and the next round's mechanism."""
    summed = summed_of(published, session.length, release)
    return new_prior(recipe.learner, mechanism, recipe.sum.grouping, prior, session.encoding, summed)


def summed_of(published: Published, length: int, release: Release) -> Summed:
    """Return the mean of the accepted as the sum that it stands for: so many times itself."""
    count = len(published.survivors)
    return Summed((published.mean[:length].astype("int64") * count)[None], release, (count,))


def _to(talk: Conversation, phase: str, seats: Collection[Seat]) -> dict[Seat, list[bytes]]:
    return {seat: frames for seat, frames in talk.to_all(phase, None).items() if seat in seats}


def _answers(
    talk: Conversation, session: Session, phase: str, outbox: Mapping[Seat, Sequence[bytes]], expected: str
) -> dict[Seat, Value]:
    """Hold one phase; return what each seat answered."""
    out: dict[Seat, Value] = {}

    def take(seat: Seat, data: bytes) -> None:
        frame: Frame = open_frame(data, session, COORDINATOR)
        if frame.phase != expected or frame.sender != seat:
            raise ProtocolError(f"seat {seat} answered {phase} with {frame.phase}")
        out[frame.sender] = frame.body

    talk.hold(phase, outbox, take)
    return out


def _said(answers: Mapping[Seat, Value], shown: Collection[Seat]) -> dict[Seat, Said]:
    """Return what the contributors said that can be written down; of whoever says anything else, nothing."""
    out: dict[Seat, Said] = {}
    for seat, answer in answers.items():
        if seat in shown and answer is not None:
            with contextlib.suppress(ProtocolError):
                out[seat] = read_said(answer, len(shown))
    return out


def _updates(answers: Mapping[Seat, object], stage: Stage) -> dict[Seat, tuple[bytes, bytes]]:
    """Return the updates that are what their sites committed to."""
    out: dict[Seat, tuple[bytes, bytes]] = {}
    for seat, body in answers.items():
        match body:
            case {"delta": bytes() as delta, "salt": bytes() as salt, **rest} if not rest:
                if stage.committed(seat, delta, salt):
                    out[seat] = delta, salt
            case _:
                pass
    return out
