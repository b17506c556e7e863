"""Attacks by a coordinator that shows one site another world than its peers, and by sites that pool what they hold."""

import dataclasses
import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from commonprior.canonical import digest
from commonprior.errors import InputError, ProtocolError
from commonprior.identity import Identity
from commonprior.session import Encoding, Member, Session
from commonprior.sums import Aggregate, _masked_party
from commonprior.sums._masks import add_streams, pair_stream, self_stream
from commonprior.sums._shamir import join, weights
from commonprior.sums.committee import Committee
from commonprior.sums.masked import Masked
from commonprior.sums.plain import Plain

VICTIM = 0
SUMS = {"masked": Masked(), "committee": Committee(), "plain": Plain()}


# Another model, roster, head, round or attempt for one site than for its peers.


def larger(session):
    """A roster with one site more, that nobody else knows and that will drop out: it fills the victim's cohort."""
    roster = (*session.roster, Member("site 4", Identity.generate().key))
    return {"roster": roster, "dropouts": 2, "encoding": dataclasses.replace(session.encoding, parties=5)}


WORLDS = {
    "another model": lambda session: {"base": b"\x01" * 32},
    "another history": lambda session: {"head": b"\x01" * 32},
    "another recipe": lambda session: {"recipe": b"\x01" * 32},
    "the round before": lambda session: {"round": 0},
    "a second attempt": lambda session: {"attempt": 1},
    "another roster": larger,
}


def sum_over_two_worlds(play, organiser, identities, kind, world):
    """Run one attempt in which the victim alone sits in another session; return the sum, and what it should be."""
    attempt = play(n=4, dropouts=1, play={"sum": kind}, encoding=Encoding(4, 0, 1000, 4))
    other = dataclasses.replace(attempt.session, **WORLDS[world](attempt.session))
    attempt.parties[VICTIM] = kind.party(
        other, VICTIM, identities[VICTIM], attempt.vectors[VICTIM], os.urandom, lambda seats: None
    )
    return attempt.finish().value, sum(attempt.vectors)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("kind", SUMS)
def test_attack_another_world_for_one_site(play, organiser, identities, kind, world):
    with pytest.raises(ProtocolError, match="frame of session"):
        sum_over_two_worlds(play, organiser, identities, SUMS[kind], world)


@pytest.mark.parametrize("world", WORLDS)
def test_attack_another_world_for_one_site_succeeds_where_the_session_forgets_it(
    play, organiser, identities, monkeypatch, world
):
    """A mask, a share or a signature that is bound to less than the whole session counts in more than one."""
    forgotten = ("base", "head", "recipe", "round", "attempt", "roster", "dropouts", "encoding")

    def loose(self):
        return digest(
            [v if isinstance(v, int | bytes) else str(v) for k, v in vars(self).items() if k not in forgotten]
        )

    monkeypatch.setattr(Session, "hash", property(loose))
    np.testing.assert_array_equal(*sum_over_two_worlds(play, organiser, identities, Masked(), world))


# Sites that pool their shares: sybils, or colluders.


def pool(attempt, seats):
    """What these seats and the coordinator make of the shares that they were dealt: the victim's vector, or None."""
    session, t = attempt.session, attempt.session.threshold
    held = {seat: attempt.parties[seat]._state.shares[VICTIM] for seat in seats}
    lagrange = weights(sorted(held)[:t])
    try:
        seed = join({seat: shares.seed for seat, shares in held.items()}, lagrange)
        private = join({seat: shares.key for seat, shares in held.items()}, lagrange)
    except ProtocolError:
        return None
    public = {seat: attempt.body(frame)["mask"] for seat, frame in attempt.heard["keys"].items()}
    words = np.frombuffer(attempt.body(attempt.heard["masked"][VICTIM])["words"], session.encoding.word).copy()
    key = X25519PrivateKey.from_private_bytes(private)
    streams = [pair_stream(session, key, VICTIM, peer, public) for peer in public if peer != VICTIM]
    add_streams(words, [s._replace(sign=-s.sign) for s in (self_stream(session, VICTIM, seed), *streams)])
    return session.encoding.from_words(words)


def test_attack_one_share_less_than_the_threshold(play):
    attempt = play(n=9, dropouts=4).until("consistency")
    for seats in ([5, 6, 7, 8], [1, 2, 3, 4]):
        got = pool(attempt, seats)
        assert got is None or not (got == attempt.vectors[VICTIM]).any()


def test_attack_sybils_who_are_a_threshold_succeeds_under_masks(play):
    """No protocol helps where the attackers are a threshold: a site refuses rosters of so many it does not trust."""
    attempt = play(n=9, dropouts=4).until("consistency")
    np.testing.assert_array_equal(pool(attempt, [4, 5, 6, 7, 8]), attempt.vectors[VICTIM])


# A site that sends more than its encoding allows.


def send_anything(monkeypatch, attempt, kind, vector):
    """Give the last site a vector over its limit, and a machine that does not mind."""
    attempt.vectors[-1][:] = vector
    loose = lambda integers, encoding: integers.astype(encoding.word)  # noqa: E731
    monkeypatch.setattr(_masked_party, "to_words", loose)
    return attempt.finish()


def test_attack_overflow_by_a_site_that_sends_more_than_its_limit(play):
    """Its own machine refuses, and so an honest site never does it by mistake."""
    attempt = play(n=4)
    attempt.vectors[-1][:] = attempt.session.encoding.limit + 1
    with pytest.raises(InputError, match="over the encoding's limit"):
        attempt.finish()


def test_attack_overflow_under_masks_succeeds_for_a_site_that_lies(play, monkeypatch):
    """Nobody sees one site's words: it can wrap the sum, and so replace it by anything. The record cannot tell."""
    attempt = play(n=4)
    limit = attempt.session.encoding.limit
    for vector in attempt.vectors:
        vector[:] = limit
    done = send_anything(monkeypatch, attempt, Masked(), limit + 2**31 - 4 * limit)
    assert isinstance(done, Aggregate)
    assert (done.value == -(2**31)).all()
