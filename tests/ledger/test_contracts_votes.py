"""Attacks on the votes: whoever tries to be counted twice, elsewhere, late or without a stake is refused."""

import dataclasses

import pytest

from commonprior.ballot import Ballot, Counter
from commonprior.canonical import digest
from commonprior.ledger.client import Rules, joined, opening_ballot
from commonprior.ledger.embedded import CHAIN
from commonprior.ledger.public import in_order

from ._consortium import (
    DEPOSIT,
    HIDDEN_TERMS,
    NOBODY,
    SMALL_TERMS,
    consortium,
    identity,
    refused,
    word,
)

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def hidden(count=3, **how):
    """A consortium with a run of hidden deltas, and what its first round is about."""
    made = consortium(count, HIDDEN_TERMS, **how)
    return made, Ballot(made.run, 1, 0, word("prior 0"), word("prior 1"), digest(b"entry"))


def record(made, ballot, votes, attempt=None):
    return made.contracts.record(
        made.members[0], made.run, ballot.attempt if attempt is None else attempt, ballot.prior, b"entry", votes
    )


def twin(signature):
    """The other signature (r, -s) that says the same."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


def test_two_thirds_of_the_votes_enter_a_round_and_one_vote_less_does_not():
    for count, needed in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5)]:
        made, ballot = hidden(count)
        with refused("R: two thirds"):
            record(made, ballot, made.sign(ballot, made.members[: needed - 1]))
        record(made, ballot, made.sign(ballot, made.members[-needed:]))
        assert made.head[:2] == (1, word("prior 1"))


@pytest.mark.parametrize("change", [
    {"run": word("another run")}, {"round": 2}, {"round": 0}, {"attempt": 1}, {"base": word("another prior")},
    {"prior": word("another prior")}, {"entry": word("another entry")}, {"subject": word("something")},
    {"scores": b"\x01"},
], ids=lambda change: next(iter(change.items()))[0])  # fmt: skip
def test_attack_a_ballot_on_anything_else_does_not_count(change):
    made, ballot = hidden()
    with refused("Q: no vote"):  # what is recovered from it is nobody's account
        record(made, ballot, made.sign(dataclasses.replace(ballot, **change)))
    assert made.head.rounds == 0


def test_attack_ballots_of_one_round_replayed_in_the_next_do_not_count():
    made, ballot = hidden()
    votes = made.sign(ballot)
    record(made, ballot, votes)
    for attempt in (0, 1):
        with pytest.raises(Exception, match="^Q: (no vote|order)$"):
            record(made, ballot, votes, attempt)
    assert made.head.rounds == 1


@pytest.mark.parametrize("counter", [
    lambda c: Counter(CHAIN + 1, c.address), lambda c: Counter(CHAIN, word("elsewhere")[:20]),
], ids=["chain", "contract"])  # fmt: skip
def test_attack_a_ballot_for_another_chain_or_contract_does_not_count(counter):
    made, ballot = hidden()
    asked = ballot.digest(counter(made.contracts.counter))
    with pytest.raises(Exception, match="^Q: (no vote|order)$"):
        record(made, ballot, [(m.address, m.sign_digest(asked)) for m in made.members])


def test_attack_a_second_consortium_on_the_same_chain_does_not_count_the_first_one_s_ballots():
    made, ballot = hidden()
    other = consortium(3, HIDDEN_TERMS, chain=made.contracts.chain, clock=made.clock)
    assert other.run == made.run
    with pytest.raises(Exception, match="^Q: (no vote|order)$"):
        record(other, ballot, made.sign(ballot))
    record(made, ballot, made.sign(ballot))


def test_attack_a_voter_counted_twice_is_refused_in_whatever_form():
    made, ballot = hidden(4)
    one, two = (vote for _, vote in made.sign(ballot, made.members[:2]))
    for cast in ([one, two, two], [one, one, two], [two, one], [one, two, one]):
        with refused("Q: order"):
            made.write(made.members[0], "Rounds", "record", made.run, 0, ballot.prior, b"entry", cast)
    with refused("B: form"):
        made.write(made.members[0], "Rounds", "record", made.run, 0, ballot.prior, b"entry", [one, two, twin(two)])


def test_attack_a_signature_with_the_higher_s_is_refused_alone_too():
    made, ballot = hidden()
    votes = [vote for _, vote in made.sign(ballot)]
    with refused("B: form"):
        made.write(
            made.members[0], "Rounds", "record", made.run, 0, ballot.prior, b"entry", [twin(votes[0]), *votes[1:]]
        )


@pytest.mark.parametrize("bad", [bytes(65), bytes(64), b"\1" * 64, bytes(64) + b"\x1b", b"\xff" * 65])
def test_attack_a_signature_of_nobody_is_refused(bad):
    made, ballot = hidden()
    with pytest.raises(Exception, match="^B: (form|signature)$"):
        made.write(made.members[0], "Rounds", "record", made.run, 0, ballot.prior, b"entry", [bad])


def test_attack_sybils_without_a_place_or_a_stake_have_no_vote():
    for stake in (False, True):
        made, ballot = staked(stake)
        sybils = sorted((identity(f"sybil {i}") for i in range(9)), key=lambda m: m.address)
        with refused("Q: no vote"):
            record(made, ballot, made.sign(ballot, sybils))
        mixed = sorted([*sybils, made.members[0]], key=lambda m: m.address)
        with refused("Q: no vote"):
            record(made, ballot, made.sign(ballot, mixed))


def staked(stake=True, count=3):
    made = consortium(count, None, rules=Rules(stake=stake))
    made.begin(HIDDEN_TERMS)
    return made, Ballot(made.run, 1, 0, word("prior 0"), word("prior 1"), digest(b"entry"))


def test_attack_stake_split_over_many_accounts_weighs_no_more():
    made, _ = staked()
    whole = made.read("Quorum", "weight_at", NOBODY, made.contracts.chain.head().number)
    parts = [identity(f"sybil {i}") for i in range(4)]
    for part in parts:
        made.fund(part, DEPOSIT // 4)
        made.deposit(part, DEPOSIT // 4)
    made.mine()
    now = made.contracts.chain.head().number
    assert made.read("Quorum", "weight_at", NOBODY, now) == whole + DEPOSIT
    assert sum(made.read("Quorum", "weight_at", p.address, now) for p in parts) == DEPOSIT
    dust = identity("dust")
    made.fund(dust, made.read("Quorum", "least") - 1)
    made.deposit(dust, made.read("Quorum", "least") - 1)  # too little to have a vote at all
    assert made.read("Quorum", "weight_at", dust.address, made.contracts.chain.head().number) == 0


def test_attack_a_deposit_made_after_a_round_was_opened_has_no_vote_in_it():
    made = consortium(3, SMALL_TERMS, rules=Rules(stake=True))
    updates = made.updates()
    attempt = made.committed(updates)
    whale = identity("whale")
    made.fund(whale, 8 * DEPOSIT)
    made.deposit(whale, 8 * DEPOSIT)
    made.wait(600)
    assert made.read("Quorum", "weight_at", whale.address, made.contracts.chain.head().number) == 8 * DEPOSIT
    late = made.updates([whale])[0]
    with refused("R: late"):
        made.rounds.commit(whale, attempt, late)
    voters = sorted([*made.members, whale], key=lambda m: m.address)
    with refused("Q: no vote"):
        made.finish(attempt, updates, 7, lambda *named: made.ballots(attempt, updates, *named, who=voters))
    made.finish(attempt, updates)  # without it the round goes on


def test_attack_a_deposit_made_after_a_round_was_opened_cannot_commit_in_it():
    made = consortium(3, SMALL_TERMS, rules=Rules(stake=True))
    attempt = made.committed([])
    whale = identity("whale")
    made.fund(whale, DEPOSIT)
    made.deposit(whale, DEPOSIT)
    with refused("R: member"):
        made.rounds.commit(whale, attempt, made.updates([whale])[0])


def test_a_vote_that_was_asked_back_is_gone_at_once_and_stays_slashable():
    made = consortium(3, SMALL_TERMS, rules=Rules(stake=True))
    leaver = made.members[0]
    made.write(leaver, "Quorum", "request", DEPOSIT)
    now = made.contracts.chain.head().number
    assert made.read("Quorum", "weight_at", leaver.address, now) == 0
    assert made.read("Quorum", "weight_at", leaver.address, now - 1) == DEPOSIT
    with refused("Q: notice"):
        made.write(leaver, "Quorum", "withdraw")
    made.wait(604_800)
    made.write(leaver, "Quorum", "withdraw")
    with refused("Q: nothing"):
        made.write(leaver, "Quorum", "withdraw")
    assert made.read("Token", "balanceOf", leaver.address) == 10**9


def test_attack_before_anyone_has_a_stake_nobody_begins_a_run():
    """Two thirds of no votes are no votes: a stranger could take the name of any run, with terms of its own."""
    made = consortium(3, None, deposit=0, rules=Rules(stake=True))
    stranger = identity("stranger")
    with pytest.raises(Exception, match="^[QR]: "):
        made.write(stranger, "Rounds", "begin", word("f"), word("r"), word("p"), b"their opening", HIDDEN_TERMS,
                   stranger.address, [])  # fmt: skip


def test_attack_after_everyone_has_left_nobody_takes_the_list_over():
    made = consortium(3, HIDDEN_TERMS)
    for m in made.members:
        made.write(m, "Quorum", "leave")
    made.mine()
    stranger = identity("stranger")
    with pytest.raises(Exception, match="^Q: "):
        made.write(stranger, "Quorum", "change", stranger.address, True, [])
    ballot = Ballot(made.run, 1, 0, word("prior 0"), word("prior 1"), digest(b"entry"))
    with pytest.raises(Exception, match="^[QR]: "):
        record(made, ballot, [])


def test_attack_a_run_begun_with_terms_that_nobody_signed_is_refused():
    made = consortium(3, None)
    names, entry = (word("family"), word("recipe"), word("prior 0")), b"opening"
    votes = joined(made.sign(opening_ballot(*names, entry, SMALL_TERMS, NOBODY)))
    stranger = identity("stranger")
    other = [
        (word("x"), *names[1:], entry, SMALL_TERMS, NOBODY),
        (names[0], word("x"), names[2], entry, SMALL_TERMS, NOBODY),
        (*names[:2], word("x"), entry, SMALL_TERMS, NOBODY), (*names, b"another", SMALL_TERMS, NOBODY),
        (*names, entry, SMALL_TERMS._replace(bond=0), NOBODY), (*names, entry, SMALL_TERMS, stranger.address),
    ]  # fmt: skip
    for values in other:
        with pytest.raises(Exception, match="^Q: (no vote|order)$"):
            made.write(stranger, "Rounds", "begin", *values, votes)
    made.write(stranger, "Rounds", "begin", *names, entry, SMALL_TERMS, NOBODY, votes)  # who brings them is all one
    with refused("G: begun"):
        made.write(stranger, "Rounds", "begin", *names, entry, SMALL_TERMS, NOBODY, votes)


def test_attack_strangers_cannot_write_where_only_contracts_may():
    made = consortium(3)
    stranger, run = made.members[1], made.run
    for reason, contract, function, *values in [
        ("G: writer", "Registry", "append", run, word("p"), word("e")),
        ("G: writer", "Registry", "begin", word("x"), word("f"), word("r"), word("p"), NOBODY),
        ("R: disputes", "Rounds", "void", run), ("R: disputes", "Rounds", "settle", run),
        ("R: disputes", "Rounds", "exclude", run, made.members[0].address),
        ("Q: judge", "Quorum", "slash", made.members[0].address, 1, stranger.address),
        ("Q: judge", "Quorum", "award", made.members[0].address, 1, stranger.address, 1),
        ("W: disputes", "Rewards", "credit", run, 10**6),
    ]:  # fmt: skip
        with refused(reason):
            made.write(stranger, contract, function, *values)


def change(made, member, admitted, number, who, address=None):
    """A change of the list with its signatures, by the words of EIP-712 and not by the product's."""
    from eth_hash.auto import keccak

    counter = Counter(CHAIN, address or made.contracts.address("Quorum"))
    fields = member.rjust(32, b"\0") + int(admitted).to_bytes(32, "big") + number.to_bytes(32, "big")
    inner = keccak(keccak(b"Change(address member,bool admitted,uint256 number)") + fields)
    asked = keccak(b"\x19\x01" + counter.domain + inner)
    return [m.sign_digest(asked) for m in sorted(who, key=lambda m: m.address)]


def test_two_thirds_change_the_list_and_no_signature_serves_twice():
    made = consortium(3, HIDDEN_TERMS)
    new = identity("newcomer")
    votes = change(made, new.address, True, 0, made.members[:2])
    with refused("Q: two thirds"):
        made.write(new, "Quorum", "change", new.address, True, votes[:1])
    with refused("Q: order"):
        made.write(new, "Quorum", "change", new.address, True, [votes[0], votes[0]])
    with pytest.raises(Exception, match="^Q: (order|two thirds)$"):
        made.write(new, "Quorum", "change", new.address, False, votes)
    made.write(new, "Quorum", "change", new.address, True, votes)
    assert made.read("Quorum", "weight_at", NOBODY, made.contracts.chain.head().number) == 4
    with pytest.raises(Exception, match="^Q: (order|two thirds)$"):
        made.write(new, "Quorum", "change", new.address, True, votes)


def test_attack_a_list_does_not_grow_until_nobody_can_count_two_thirds_of_it():
    made = consortium(96, None, deposit=0)
    new = identity("one too many")
    with pytest.raises(Exception, match="^Q: "):
        made.write(new, "Quorum", "change", new.address, True, change(made, new.address, True, 0, made.members[:64]))


def test_sixty_four_of_ninety_six_members_can_agree():
    made = consortium(96, None, deposit=0)
    made.begin(HIDDEN_TERMS, who=made.members[:64])
    assert made.head.rounds == 0


def test_attack_someone_put_off_the_list_after_a_round_was_opened_votes_in_it_once_and_never_again():
    made = consortium(4)
    updates = made.updates()
    attempt = made.committed(updates)
    gone = made.members[3]
    made.write(gone, "Quorum", "leave")
    made.wait(600)
    made.finish(attempt, updates)
    following = made.committed([])
    with refused("R: member"):
        made.rounds.commit(gone, following, made.updates([gone])[0])


def test_attack_an_open_by_someone_else_than_the_named_proposer_is_refused():
    made = consortium(3, None)
    made.begin(SMALL_TERMS, proposer=made.members[1].address)
    with refused("R: proposer"):
        made.rounds.open(made.members[0])
    made.rounds.open(made.members[1])
    again = consortium(3)
    with refused("R: proposer"):
        again.rounds.open(identity("stranger"))


def test_an_attempt_is_opened_anew_only_when_its_time_is_over():
    made = consortium(3)
    made.committed(made.updates())
    with refused("R: open"):
        made.rounds.open(made.members[1])
    made.wait(600 + 600 + 3600)
    assert made.rounds.open(made.members[1]).current.attempt == 1


def test_terms_that_cannot_be_kept_are_refused():
    made = consortium(3, None)
    for reason, terms in [
        ("R: mode", SMALL_TERMS._replace(mode=3)), ("R: least", SMALL_TERMS._replace(least=0)),
        ("R: least", SMALL_TERMS._replace(least=257)), ("R: least", SMALL_TERMS._replace(mode=2, least=33)),
        ("R: words", SMALL_TERMS._replace(words=0)), ("R: words", SMALL_TERMS._replace(words=65)),
        ("R: times", SMALL_TERMS._replace(commit_seconds=604_800)),
        ("R: terms", SMALL_TERMS._replace(mode=2, words=2**32)), ("R: terms", SMALL_TERMS._replace(bond=2**96)),
    ]:  # fmt: skip
        with refused(reason):
            made.begin(terms)


def test_rules_whose_notice_is_shorter_than_disputes_are_refused():
    with refused("D: times"):
        consortium(3, None, rules=Rules(notice=2 * (86_400 + 21_600) - 1))


def test_names_are_in_the_order_of_accounts_whatever_order_they_came_in():
    made = consortium(4)
    updates = made.updates()
    assert [u.who for u in in_order(updates[::-1])] == [m.address for m in made.members]
    assert made.round(updates[::-1])[4] == 0b1111
