"""Attacks on the committee sum, each carried out: it fails against ours and succeeds against a weaker one."""

import itertools
from typing import Any

import numpy as np
import pytest

from commonprior.canonical import decode
from commonprior.errors import ProtocolError
from commonprior.frame import seal
from commonprior.session import COORDINATOR, Encoding
from commonprior.sums import Aborted, Aggregate
from commonprior.sums import _committee_check as check
from commonprior.sums import _committee_coordinator as coordinator
from commonprior.sums import _committee_decode as decoding
from commonprior.sums import _committee_party as party
from commonprior.sums import _committee_shares as shares
from commonprior.sums import _committee_terms as terms
from commonprior.sums._committee_field import FIELD, HALF, WORD, extrapolate, from_field, lagrange
from commonprior.sums.committee import Committee

P = FIELD


@pytest.fixture(scope="module")
def hold(play, session):
    def make(n=5, dropouts=0, length=6, kind=None, limit=None, **more):
        made = session(n=n, dropouts=dropouts, length=length, encoding=Encoding(n, 0, limit or HALF // n, 4))
        return play(made, play={"sum": kind or Committee(), **more})

    return make


def say(attempt, phase, lies):
    """Hold a phase in which some seats answer something else: `lies` maps a seat to what becomes of its body."""
    for seat, request in attempt.outbox.items():
        answer = attempt.ask(seat, request)
        if seat in lies:
            answer = attempt.answer(phase, seat, lies[seat](attempt.body(answer)))
        attempt.tell(phase, seat, answer)
    return attempt.close(phase)


def shift(places, by=1):
    """A lie about a sum of shares: some places of it are off."""

    def lie(body):
        words = np.frombuffer(body["sum"], WORD).copy()
        words[places] = (words[places].astype(np.int64) + by) % P
        return {"sum": words.tobytes()}

    return lie


def is_right(attempt, done):
    return np.array_equal(done.value, sum(attempt.vectors[seat] for seat in done.survivors))


def culprits(done):
    told: Any = decode(done.parts[0])
    assert done.culprits == tuple(told["culprits"])
    return told["culprits"]


# A lying aggregator.


@pytest.mark.parametrize("liar", range(5))
@pytest.mark.parametrize("places", [[0], [5], slice(None)])
def test_attack_a_lying_aggregator_is_named_and_the_sum_is_right_without_it(hold, liar, places):
    attempt = hold(5).until("sums")
    done = say(attempt, "sums", {liar: shift(places)}).done
    assert is_right(attempt, done)
    assert culprits(done) == [liar]


def test_attack_two_liars_in_different_places_are_both_named(hold):
    attempt = hold(7, kind=Committee(threshold=2)).until("sums")
    done = say(attempt, "sums", {1: shift([0]), 6: shift([4], 77)}).done
    assert is_right(attempt, done)
    assert culprits(done) == [1, 6]


@pytest.mark.parametrize(("n", "threshold", "liars"), [(5, 3, [4]), (3, 1, [0]), (4, 1, [0, 2]), (6, 2, [1, 5])])
def test_attack_more_lies_than_can_be_named_are_noticed_and_blame_nobody(hold, n, threshold, liars):
    attempt = hold(n, kind=Committee(threshold=threshold)).until("sums")
    lies = {liar: shift(slice(None), 3 + liar * liar) for liar in liars}
    done = say(attempt, "sums", lies).done
    assert isinstance(done, Aborted)
    assert done.culprits == ()
    assert "do not lie on one polynomial" in done.reason


def test_attack_a_lying_aggregator_succeeds_where_only_as_many_answers_are_read_as_are_needed(hold, monkeypatch):
    monkeypatch.setattr(decoding, "lie_on_one", lambda answers, degree: True)
    attempt = hold(5).until("sums")
    done = say(attempt, "sums", {0: shift([0])}).done
    assert isinstance(done, Aggregate)
    assert not is_right(attempt, done)
    assert culprits(done) == []


# The last revealer: it answers when it knows what everyone else said.


def choose(attempt, target, seats):
    """Have the last of `seats` answer so that interpolation through exactly these gives `target` everywhere."""
    *others, last = seats
    known = {s: np.frombuffer(attempt.body(attempt.heard["sums"][s])["sum"], WORD).astype(object) for s in others}
    weights = dict(zip(seats, lagrange([s + 1 for s in seats], 0)))
    rest = sum(weights[s] * known[s] for s in others)
    words = (target - rest) * pow(weights[last], -1, P) % P
    return attempt.answer("sums", last, {"sum": words.astype(WORD).tobytes()})


def reveal_last(hold, target):
    attempt = hold(3, kind=Committee(threshold=1)).until("sums")
    for seat in (0, 2):
        attempt.tell("sums", seat, attempt.ask(seat, attempt.outbox[seat]))
    attempt.tell("sums", 1, choose(attempt, target, (0, 1)))
    return attempt.close("sums").done


def test_attack_the_last_revealer_cannot_choose_the_sum(hold):
    assert isinstance(reveal_last(hold, 12345), Aborted)


def test_attack_the_last_revealer_chooses_the_sum_where_no_answer_checks_it(hold, monkeypatch):
    monkeypatch.setattr(decoding, "lie_on_one", lambda answers, degree: True)
    assert reveal_last(hold, 12345).value.tolist() == [12345] * 6


# An inconsistent dealer.


def deal_another(monkeypatch, attempt, dealer, change):
    """Hold the shares phase with a dealer that deals what `change` makes of its salted shares, and commits to it."""
    honest = party.deal

    def dishonest(given, seat, secret, csprng):
        dealt = honest(given, seat, secret, csprng)
        if seat == dealer:
            change(dealt.salted)
        return dealt

    with monkeypatch.context() as patch:
        patch.setattr(party, "deal", dishonest)
        attempt.until("shares")
        attempt.hold("shares")


def off_by_one(holder, place=0):
    def change(salted):
        salted[holder][32 + 4 * place] ^= 1

    return change


@pytest.mark.parametrize("holder", [0, 3, 4])
@pytest.mark.parametrize("dropouts", [0, 1])
def test_attack_an_inconsistent_dealer_is_left_out_and_named_before_anything_opens(hold, monkeypatch, holder, dropouts):
    attempt = hold(6, dropouts)
    deal_another(monkeypatch, attempt, 1, off_by_one(holder))
    done = attempt.finish(start="check")
    if dropouts:
        assert done.survivors == (0, 2, 3, 4, 5)
        assert is_right(attempt, done)
        assert culprits(done) == [1]
    else:
        assert done.culprits == (1,)
        assert "sums" not in attempt.heard


def test_attack_a_share_that_is_no_share_names_its_dealer(hold, monkeypatch):
    def change(salted):
        salted[4][-4:] = b"\xff\xff\xff\xff"

    attempt = hold(6, 1)
    deal_another(monkeypatch, attempt, 2, change)
    done = attempt.finish(start="check")
    assert culprits(done) == [2]
    assert is_right(attempt, done)


def test_attack_a_dealer_frames_an_aggregator_where_nothing_is_checked(hold, monkeypatch):
    """The honest holder of a bad share is named as a liar: what the degree check is for."""
    monkeypatch.setattr(party, "agrees", lambda *_: True)
    attempt = hold(6, 1)
    deal_another(monkeypatch, attempt, 1, off_by_one(4))
    done = attempt.finish(start="check")
    assert culprits(done) == [4]


def test_attack_an_aggregator_accuses_an_honest_dealer(hold):
    """Neither an invented share nor the true one proves anything; the accuser is left out and the sum goes on."""
    attempt = hold(6, 1).until("verify")
    true = attempt.parties[3]._state.held[0].salted
    for said in (true, bytes(len(true)), b"\x01"):
        with pytest.raises(ProtocolError, match="seat 3 accuses seat 0 with a share that proves nothing"):
            attempt.tell("verify", 3, attempt.answer("verify", 3, {"complaints": [[0, said]]}))
    done = attempt.finish({3: "verify"}, start="verify")
    assert is_right(attempt, done)
    assert done.survivors == (0, 1, 2, 4, 5)
    assert culprits(done) == [3]


def null_vector(matrix, columns):
    """Return integers that every row of a matrix over the field takes to 0: not all of them 0."""
    system = [[*(int(v) for v in row[: columns - 1]), -int(row[columns - 1])] for row in matrix]
    solution = decoding._solve(system)
    assert solution is not None
    return [*solution, 1]


def deal_orthogonal(hold, monkeypatch, attempt, challenge):
    """A dealer that believes to know the challenge adds an error to one share that the combination would not show."""
    coefficients = check.coefficients_of(attempt.coordinator._given, challenge)
    error = null_vector(coefficients, check.ROWS + 1)

    def change(salted):
        words = np.frombuffer(salted[4], WORD, offset=32)
        words[: len(error)] = (words[: len(error)].astype(object) + error) % P

    deal_another(monkeypatch, attempt, 1, change)
    return attempt.finish(start="check")


def test_attack_a_dealer_guesses_the_challenge(hold, monkeypatch):
    done = deal_orthogonal(hold, monkeypatch, hold(6, 1), bytes(32))
    assert culprits(done) == [1]


def test_attack_a_dealer_succeeds_where_the_challenge_is_known_before_it_deals(hold, monkeypatch):
    for module in (party, coordinator):
        monkeypatch.setattr(module, "challenge_of", lambda given, headers: bytes(32))
    done = deal_orthogonal(hold, monkeypatch, hold(6, 1), bytes(32))
    assert culprits(done) == [4]


# Bad shares: packets of rubbish, and who says so.


def rubbish(*holders):
    def lie(body):
        return {**body, "packets": [[s, bytes(len(p)) if s in holders else p] for s, p in body["packets"]]}

    return lie


def test_attack_packets_that_do_not_open_leave_their_dealer_out_unnamed(hold):
    attempt = hold(6, 1).until("shares")
    say(attempt, "shares", {1: rubbish(0, 4)})
    done = attempt.finish(start="check")
    assert done.survivors == (0, 2, 3, 4, 5)
    assert is_right(attempt, done)
    assert culprits(done) == []


def test_attack_a_packet_with_another_share_than_committed_frames_nobody(hold, monkeypatch):
    """The holder has nothing to prove it with, and says only that the packet is not what was promised."""
    honest = party.seal_packet

    def other(session, dealer, holder, channel, salted):
        return honest(session, dealer, holder, channel, bytes(len(salted)) if (dealer, holder) == (1, 4) else salted)

    monkeypatch.setattr(party, "seal_packet", other)
    attempt = hold(6, 1).until("consistency")
    assert attempt.body(attempt.heard["verify"][4]) == {"complaints": [[1, b""]]}
    done = attempt.finish(start="consistency")
    assert done.survivors == (0, 2, 3, 4, 5)
    assert culprits(done) == []


def test_attack_packets_that_do_not_open_and_nobody_to_spare(hold):
    attempt = hold(5, 0).until("shares")
    say(attempt, "shares", {1: rubbish(4)})
    done = attempt.finish(start="check")
    assert isinstance(done, Aborted)
    assert done.culprits == ()
    assert "seats [4] say that packets of seats [1] do not open" in done.reason


def test_attack_an_aggregator_that_says_nothing_opens_is_left_out_itself(hold):
    attempt = hold(7, 2).until("verify")
    say(attempt, "verify", {2: lambda body: {"complaints": [[s, b""] for s in (0, 1, 3)]}})
    done = attempt.finish(start="consistency")
    assert done.survivors == (0, 1, 3, 4, 5, 6)
    assert is_right(attempt, done)


# A coordinator that shows different things to different sites.


def test_attack_two_challenges_for_one_mask_are_refused(hold):
    """One aggregator is shown a dealer less: its challenge is another one, and it lets nothing out."""
    attempt = hold(6, 1)
    for phase in ("start", "keys", "shares"):
        attempt.hold(phase)
    body = attempt.body(attempt.outbox[4], 4)
    fewer = {"headers": body["headers"][:-1], "packets": body["packets"][:-1]}
    other = attempt.body(attempt.ask(4, attempt.request("check", 4, fewer)))
    with pytest.raises(ProtocolError, match="answered another challenge"):
        attempt.tell("check", 4, attempt.answer("check", 4, other))
    attempt.hold("check", absent=[4])
    with pytest.raises(ProtocolError, match="answered another challenge than the one over its peers"):
        attempt.ask(4, attempt.request("verify", 4, attempt.body(attempt.outbox[0], 0)))


def test_attack_two_challenges_for_one_mask_open_the_secret_where_holders_publish(hold):
    """t = 1: the colluder holds f(1) and m(1); two holders' combinations under two challenges give f(0) and m(0)."""
    rng = np.random.default_rng(0)
    secret, mask, f1, m1, r, s = (int(v) for v in rng.integers(1, P, 6))
    f, m = (lambda x: secret + (f1 - secret) * x), (lambda x: mask + (m1 - mask) * x)
    at2, at3 = (r * f(2) + m(2)) % P, (s * f(3) + m(3)) % P
    # f(2) = 2·f1 - secret and f(3) = 3·f1 - 2·secret, and so for m: two equations, two unknowns.
    a, b = (2 * (r * f1 + m1) - at2) % P, (3 * (s * f1 + m1) - at3) % P
    assert (2 * a - b) * pow(2 * (r - s), -1, P) % P == secret


def test_attack_one_challenge_fits_every_secret_for_those_who_hold_threshold_shares():
    """What a coordinator and t colluders see of the check is fitted by any secret, with some mask for each."""
    r, f1, m1, published = 5, 11, 13, 4711
    for secret in (0, 1, P - 1, 123456):
        mask = (published - r * secret) % P
        line = [(r * (secret + (f1 - secret) * x) + mask + (m1 - mask) * x) % P for x in range(5)]
        assert line == [(published + (r * f1 + m1 - published) * x) % P for x in range(5)]


def test_attack_another_dealing_shown_than_the_site_signed(hold):
    attempt = hold(5).until("check")
    body = attempt.body(attempt.outbox[2], 2)
    forged = seal(
        attempt.parties[2]._identity, attempt.session, "header", 2, COORDINATOR,
        {"holders": list(range(5)), "commitments": [bytes(32)] * 5},
    )  # fmt: skip
    headers = [h if i != 2 else forged for i, h in enumerate(body["headers"])]
    with pytest.raises(ProtocolError, match="the header relayed for seat 2 is not the one that it signed"):
        attempt.ask(2, attempt.request("check", 2, {**body, "headers": headers}))


def test_attack_a_contributor_whose_shares_the_aggregator_refused(hold, monkeypatch):
    attempt = hold(6, 1)
    deal_another(monkeypatch, attempt, 1, off_by_one(4))
    for phase in ("check", "verify"):
        attempt.hold(phase)
    body = attempt.body(attempt.outbox[4], 4)
    survivors = {
        "survivors": [0, 1, *body["survivors"][1:]],
        "commitments": [body["commitments"][0], bytes(32), *body["commitments"][1:]],
    }
    with pytest.raises(ProtocolError, match=r"survivors \[1\] were not taking part"):
        attempt.ask(4, attempt.request("consistency", 4, survivors))


def test_attack_commitments_to_other_dealings(hold):
    attempt = hold(5).until("consistency")
    body = attempt.body(attempt.outbox[4], 4)
    body["commitments"][1] = bytes(32)
    with pytest.raises(ProtocolError, match="the commitment given for seat 1 is not to the shares that it dealt"):
        attempt.ask(4, attempt.request("consistency", 4, body))


def test_attack_a_sum_asked_for_without_enough_signatures_or_twice(hold):
    attempt = hold(5).until("sums")
    body = attempt.body(attempt.outbox[4], 4)
    with pytest.raises(ProtocolError, match="4 signatures, expected at least 5"):
        attempt.ask(4, attempt.request("sums", 4, {"signatures": body["signatures"][:-1]}))
    attempt.ask(4, attempt.outbox[4])
    with pytest.raises(ProtocolError, match="which is released"):
        attempt.ask(4, attempt.request("consistency", 4, body))


# Colluders who hold a threshold of shares, and guess.


def guess(attempt, dealer, candidates):
    """What colluders on the first t seats find out: which of the candidates fits what the dealer committed to."""
    given, t = attempt.coordinator._given, attempt.coordinator._terms.degree
    statement = attempt.coordinator._stated[dealer].statement
    at_zero = np.frombuffer(statement.values, WORD)[: check.ROWS]
    coefficients = check.coefficients_of(given, statement.challenge).astype(object)
    held = [attempt.parties[seat]._state.held[dealer].share for seat in range(t)]
    commitment = attempt.coordinator._dealt[dealer].header.commitments[given.holders.index(t)]
    for candidate in candidates:
        x = np.array(candidate, object) % P
        secret = np.array([*x, *((at_zero - coefficients @ x) % P)], object).astype(WORD)
        share = [np.empty(given.length, WORD)]
        extrapolate([secret, *held], share)
        salted = bytes(32) + share[0].tobytes()
        if shares.commit_share(attempt.session, dealer, t, salted) == commitment:
            yield candidate


def small_votes(hold, **more):
    attempt = hold(4, length=2, limit=3, **more)
    for vector in attempt.vectors:
        vector[:] = [2, -1]
    return attempt.until("verify"), list(itertools.product(range(-3, 4), repeat=2))


def test_attack_colluders_test_guesses_against_commitments(hold):
    attempt, candidates = small_votes(hold)
    assert list(guess(attempt, 3, candidates)) == []


def test_attack_colluders_find_a_guess_confirmed_where_commitments_have_no_salt(hold, monkeypatch):
    honest = shares.deal

    def unsalted(given, dealer, secret, csprng):
        dealt = honest(given, dealer, secret, csprng)
        for share in dealt.salted.values():
            share[:32] = bytes(32)
        return dealt

    monkeypatch.setattr(party, "deal", unsalted)
    attempt, candidates = small_votes(hold)
    assert list(guess(attempt, 3, candidates)) == [(2, -1)]


def read_off(attempt, dealer, candidates):
    """What a coordinator alone finds in a dealer's statement: whose combination stands there in the open."""
    statement = attempt.coordinator._stated[dealer].statement
    coefficients = check.coefficients_of(attempt.coordinator._given, statement.challenge).astype(object)
    published = np.frombuffer(statement.values, WORD)[: check.ROWS].tolist()
    return [c for c in candidates if ((coefficients @ (np.array(c, object) % P)) % P).tolist() == published]


def test_attack_the_published_combination_says_nothing_of_the_vector(hold):
    attempt, candidates = small_votes(hold)
    assert read_off(attempt, 3, candidates) == []


def test_attack_the_published_combination_gives_a_small_vector_away_without_a_mask(hold, monkeypatch):
    monkeypatch.setattr(party, "expand", lambda key, length: np.zeros(length, WORD))
    attempt, candidates = small_votes(hold)
    assert read_off(attempt, 3, candidates) == [(2, -1)]


def test_attack_threshold_shares_of_a_dealing_fit_every_secret(hold):
    """With the seeds of t colluders, each candidate secret has its own polynomial through all that they hold."""
    attempt = hold(5, kind=Committee(threshold=2)).until("verify")
    held = {s: attempt.parties[s]._state.held[4].share[:-4] for s in range(3)}
    secret = attempt.vectors[4]
    for candidate in (secret, secret + 1, np.zeros(6, np.int64)):
        third = [np.empty(6, WORD)]
        extrapolate([(candidate % P).astype(WORD), held[0], held[1]], third)
        assert decoding.lie_on_one({0: held[0], 1: held[1], 2: third[0]}, 2)
        assert np.array_equal(third[0], held[2]) == np.array_equal(candidate, secret)
    opened = decoding.decode(held, 2)
    assert opened is not None
    np.testing.assert_array_equal(from_field(opened.value), secret)


# Overflow.


def test_attack_a_dealer_over_its_limit_is_noticed_once_the_sum_shows_it(hold, monkeypatch):
    monkeypatch.setattr(party, "to_field", lambda integers, limit, out: np.copyto(out, (integers % P).astype(WORD)))
    attempt = hold(5, limit=100)
    attempt.vectors[2][0] = HALF - 1000
    done = attempt.finish()
    assert isinstance(done, Aborted)
    assert "over 500 = 5 sites of up to 100: someone shared more" in done.reason
    assert done.culprits == ()


def test_attack_overflow_goes_unnoticed_where_the_field_is_not_checked(hold, monkeypatch):
    monkeypatch.setattr(terms, "_require_field", lambda session: None)
    attempt = hold(3, limit=HALF // 2 + 2, kind=Committee(threshold=1))
    for vector in attempt.vectors:
        vector[:] = HALF // 2 + 2
    done = attempt.finish()
    assert isinstance(done, Aggregate)
    assert (done.value < 0).all()


def test_attack_words_that_are_no_elements_are_refused(hold):
    attempt = hold(5).until("sums")
    for word in (P, 2**32 - 1):
        lie = np.full(6, word, WORD).tobytes()
        with pytest.raises(ProtocolError, match="seat 1 sent words that are no elements"):
            attempt.tell("sums", 1, attempt.answer("sums", 1, {"sum": lie}))


def test_attack_keys_that_are_no_points_or_another_s(hold):
    attempt = hold(5).until("keys")
    own = attempt.body(attempt.ask(0, attempt.outbox[0]))
    attempt.tell("keys", 0, attempt.ask(0, attempt.outbox[0]))
    for channel, why in ((bytes(32), "no proper point"), (b"\xff" * 32, "no proper point"), (own["channel"], "same")):
        with pytest.raises(ProtocolError, match=why):
            attempt.tell("keys", 1, attempt.answer("keys", 1, {"channel": channel}))
