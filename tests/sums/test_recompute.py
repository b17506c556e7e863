"""From what a run kept of a sum, an outsider computes the same sum again, or refuses."""

import dataclasses

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from commonprior.canonical import decode, encode
from commonprior.errors import ProtocolError
from commonprior.sums._unmask import Secrets
from commonprior.sums.committee import Committee
from commonprior.sums.grouped import Grouped
from commonprior.sums.masked import Masked
from commonprior.sums.plain import Plain

WIDE = {"n": 5, "dropouts": 1}
GONE = {Masked: "masked", Committee: "consistency", Plain: "values"}


def small(play, kind, **changes):
    """A play whose numbers fit the committee's field too."""
    attempt = play(**changes)
    encoding = dataclasses.replace(attempt.session.encoding, limit=2**20)
    vectors = [np.clip(v, -(2**20), 2**20) for v in attempt.vectors]
    session = dataclasses.replace(attempt.session, encoding=encoding)
    return play(session, play={"sum": kind, "vectors": vectors})


def again(attempt, done, parts=None, **changes):
    commitments = dict(zip(done.survivors, done.commitments, strict=True)) | changes.get("commitments", {})
    session = changes.get("session", attempt.session)
    return attempt.sum.recompute(session, commitments, done.parts if parts is None else parts, done.draw)


@pytest.mark.parametrize("kind", [Masked(), Committee(), Plain()], ids=["masked", "committee", "plain"])
@pytest.mark.parametrize("gone", [False, True], ids=["whole", "one_gone"])
def test_a_sum_is_computed_again_from_its_parts(play, kind, gone):
    attempt = small(play, kind, **WIDE)
    done = attempt.finish({3: GONE[type(kind)]} if gone else {})
    np.testing.assert_array_equal(again(attempt, done), done.value)
    assert again(attempt, done).dtype == np.int64


@pytest.mark.parametrize("of", [Masked(), Committee(), Plain()], ids=["masked", "committee", "plain"])
def test_every_groups_sum_is_computed_again(play, of):
    attempt = small(play, Grouped(3, of), n=9, dropouts=0)
    done = attempt.finish()
    np.testing.assert_array_equal(again(attempt, done), done.value)
    with pytest.raises(ProtocolError, match="parts of 2 groups, expected 3"):
        again(attempt, done, done.parts[:2])
    with pytest.raises(ProtocolError, match="as bytes"):
        again(attempt, done, (encode(1), *done.parts[1:]))
    if not isinstance(of, Committee):  # whose aggregators' frames are signed for their own group's session
        with pytest.raises(ProtocolError, match="committed to|keys frame of session"):
            again(attempt, done, (done.parts[1], done.parts[0], done.parts[2]))


def test_a_fleets_sum_is_computed_again(play):
    attempt = play(n=51, dropouts=5, colluders=5)
    done = attempt.finish({3: "masked"})
    np.testing.assert_array_equal(again(attempt, done), done.value)
    with pytest.raises(ProtocolError, match="the sealed bytes of seat 0 are not those that it committed to"):
        again(attempt, done, (done.parts[1], *done.parts[1:]))
    with pytest.raises(ProtocolError, match="of seat 0 are not those"):
        again(attempt, done, (*done.parts[:-1], b"another view"))
    with pytest.raises(ProtocolError, match="51 parts of a masked sum of 50 sites, expected 52"):
        again(attempt, done, done.parts[1:])


@pytest.mark.parametrize("kind", [Masked(), Plain()], ids=["masked", "plain"])
def test_other_sealed_bytes_than_committed_to_are_refused(play, kind):
    attempt = small(play, kind, **WIDE)
    done = attempt.finish()
    with pytest.raises(ProtocolError, match="the sealed bytes of seat 1 are not those that it committed to"):
        again(attempt, done, (done.parts[0], bytes(len(done.parts[1])), *done.parts[2:]))
    with pytest.raises(ProtocolError, match="expected 5|seat 0 are not those"):
        again(attempt, done, done.parts[1:])


def test_vectors_of_another_length_are_refused_though_they_were_committed_to(play):
    for kind in (Plain(), Masked()):
        attempt = small(play, kind, **WIDE)
        done = attempt.finish()
        longer = dataclasses.replace(attempt.session, length=attempt.session.length + 1)
        with pytest.raises(ProtocolError, match="vectors of|frame of session"):
            again(attempt, done, session=longer)


@pytest.mark.parametrize("change", [
    lambda s: s._replace(seeds={k: v for k, v in s.seeds.items() if k}),
    lambda s: s._replace(dropped=dict.fromkeys(s.dropped, b"short")),
    lambda s: s._replace(mask_keys={}),
    lambda s: s._replace(mask_keys=dict.fromkeys(s.mask_keys, b"short")),
], ids=["a_seed_is_missing", "a_short_key", "no_public_keys", "short_public_keys"])  # fmt: skip
def test_opened_secrets_that_do_not_fit_together_are_refused(play, change):
    attempt = small(play, Masked(), **WIDE)
    done = attempt.finish({3: "masked"})
    opened = change(Secrets.decode(done.parts[-1])).encode()
    with pytest.raises(ProtocolError, match="are opened, expected|do not fit together|its public key"):
        again(attempt, done, (*done.parts[:-1], opened))


@pytest.mark.parametrize(("change", "words"), [
    (lambda s, k: s._replace(seeds={**s.seeds, 0: bytes(32)}), "what is opened of seat 0 is not what it announced"),
    (lambda s, k: s._replace(dropped={**s.dropped, 0: k}), r"keys of seats \[0\] are opened, who survive"),
    (lambda s, k: s._replace(dropped={3: k}), "the key that is opened for seat 3 is not the one of its public key"),
    (lambda s, k: s._replace(dropped={3: k}, mask_keys={**s.mask_keys, 3: public_of(k)}), "seat 3 is not what it ann"),
    (lambda s, k: s._replace(dropped={**s.dropped, 9: k}, mask_keys={**s.mask_keys, 9: public_of(k)}), "the roster"),
    (lambda s, k: s._replace(dropped={}, mask_keys={i: m for i, m in s.mask_keys.items() if i != 3}), "announcement"),
])  # fmt: skip
def test_attack_seeds_and_keys_are_chosen_until_a_sum_of_ones_liking_comes_out(change, words, play):
    """Of few numbers, some try does: an archive is believed only with what its sites had announced."""
    attempt = small(play, Masked(), **WIDE)
    done = attempt.finish({3: "masked"})
    opened = change(Secrets.decode(done.parts[-1]), X25519PrivateKey.generate().private_bytes_raw()).encode()
    with pytest.raises(ProtocolError, match=words):
        again(attempt, done, (*done.parts[:-1], opened))


def public_of(key):
    return X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()


def test_announcements_are_those_of_this_session_and_each_once(play):
    attempt = small(play, Masked(), **WIDE)
    done, other = attempt.finish(), small(play, Masked(), **WIDE, attempt=1).finish()
    *words, one, two, three, four, five, opened = done.parts
    for frames in ((one, one, three, four, five), (*other.parts[5:9], five), (attempt.heard["unmask"][0],)):
        with pytest.raises(ProtocolError, match="in the place of its keys|frame of session"):
            again(attempt, done, (*words, *frames, opened))


def test_aggregators_answers_of_another_attempt_or_too_few_of_them_are_refused(play):
    attempt = small(play, Committee(), **WIDE)
    done = attempt.finish()
    with pytest.raises(ProtocolError, match="frame of session"):
        again(attempt, done, session=dataclasses.replace(attempt.session, attempt=1))
    few = 1 + decode(done.parts[0])["degree"] + 1
    for count in (few, len(done.parts) - 2):  # of five, of whom one may drop out
        with pytest.raises(ProtocolError, match=f"answers of {count - 1} aggregators, expected at least 4"):
            again(attempt, done, done.parts[:count])
    dealt = next(iter(attempt.heard["consistency"].values()))
    with pytest.raises(ProtocolError, match="expected a sum of shares"):
        again(attempt, done, (done.parts[0], dealt))
