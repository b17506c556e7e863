"""What a coordinator that lies can do to sites over several attempts, rounds and histories, each carried out.

Each attack fails against our agent and succeeds against a weaker one, made by leaving out the check that stops it.
"""

import dataclasses
import shutil

import numpy as np
import pytest

from commonprior.coordinator import Coordinator
from commonprior.engines.in_process import InProcess
from commonprior.errors import RunError
from commonprior.frame import open_frame, seal
from commonprior.identity import Identity
from commonprior.ledger.journal import Journal
from commonprior.privacy import Release
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Ledger
from commonprior.round import Failed, Outcome
from commonprior.runfolder import RunFolder
from commonprior.session import COORDINATOR, Encoding, Member
from commonprior.site.memory import NO_ATTEMPT, SiteLog
from commonprior.sums import _masked_party
from commonprior.training import start

VICTIM = 3


@pytest.fixture
def opened(make_recipe, run_of):
    """A run of four sites, one of which may drop out, that has just been opened."""
    return run_of(make_recipe(dropouts=1))


def sum_of(outcome, encoding):
    assert isinstance(outcome, Outcome)
    return encoding.from_words(np.frombuffer(outcome.total, encoding.word)), outcome.entry.survivors


def without(training, victim):
    """Let nothing of the victim's arrive, and have the coordinator forget with whom it is to repeat a round."""
    training.engine.engine.lost = lambda seat, phase, count: seat == victim
    training.coordinator._agreed = lambda number: None
    training.coordinator._note = lambda *line: None


def update_of(training, seat):
    """What the victim contributed in its last attempt, as integers."""
    return training.agents[seat]._attempt.protected.integers


# A retry with one site less.


def retry_with_one_less(training):
    """Have everybody summed, lose the record, then sum again without the victim: the difference is its update."""
    coordinator = training.coordinator
    encoding = coordinator._session(1, 0, b"", b"").encoding
    whole, survivors = sum_of(coordinator._attempt(training.engine, 1), encoding)
    assert survivors == (0, 1, 2, 3)
    wanted = update_of(training, VICTIM)
    coordinator._begun = lambda number: [0]
    without(training, VICTIM)
    second = coordinator._attempt(training.engine, 1)
    return (second if isinstance(second, Failed) else whole - sum_of(second, encoding)[0]), wanted


def test_attack_a_retry_with_one_site_less(opened):
    got, _ = retry_with_one_less(opened)
    assert isinstance(got, Failed)
    assert "signed for 4 contributors and nothing is noised" in got.refusals[0]


def test_attack_a_retry_with_one_site_less_succeeds_where_sites_forget_what_they_signed(opened, monkeypatch):
    monkeypatch.setattr(SiteLog, "signed_before", lambda self, number: None)
    got, wanted = retry_with_one_less(opened)
    np.testing.assert_array_equal(got, wanted)
    assert wanted.any()


# Two rounds with one site less.


def invite(training, session, seat=0):
    """Send a seat the invitation that a coordinator of this session would; return what it says and how."""
    coordinator = training.coordinator
    body = {
        "session": dataclasses.asdict(session), "prior": coordinator.prior.encode(),
        "record": coordinator._journal.last_record,
    }  # fmt: skip
    frame = seal(coordinator._identity, session, "invite", COORDINATOR, seat, body)
    (answer,) = training.agents[seat].receive(frame)
    opened = open_frame(answer, session, COORDINATOR)
    return opened.phase, opened.body


def smaller(training, number):
    """The session of a round whose roster, all of a sudden, is one site short."""
    coordinator, journal = training.coordinator, training.coordinator._journal
    session = coordinator._session(number, 0, journal.opening.run, journal.head)
    release = coordinator._release()._replace(parties=3, honest=2)
    return dataclasses.replace(session, roster=session.roster[:3], encoding=coordinator._mechanism.encoding(release))


def test_attack_two_rounds_with_one_site_less(opened):
    """A roster stays as it was opened: the next round's cannot be one site short."""
    opened.coordinator.step(opened.engine)
    said, why = invite(opened, smaller(opened, 2))
    assert said == "refuse"
    assert "what a run was opened with holds in all its rounds" in why


class Settled:
    """A site whose updates hardly change any more: it sends what it sent before, in the units of the round."""

    def __init__(self, inner):
        self._inner, self._sent, self._fraction = inner, None, 0

    def contribute(self, context, mechanism, memory):
        fraction = context.session.encoding.fraction
        if self._sent is None:
            self._sent, self._fraction = self._inner.contribute(context, mechanism, memory), fraction
        return self._sent._replace(integers=self._sent.integers << (fraction - self._fraction))


def two_rounds_with_one_less(training, monkeypatch):
    """Sum everybody in round 1 and everybody but the victim in round 2, whose roster is shorter."""
    coordinator = training.coordinator
    for agent in training.agents:
        agent.contributor = Settled(agent.contributor)
    coordinator.step(training.engine)
    wanted, encoding = update_of(training, VICTIM), coordinator._journal.last_round.encoding
    whole = encoding.from_words(np.frombuffer(training.run.sum_of(1).read_bytes(), encoding.word))
    session = smaller(training, 2)
    monkeypatch.setattr(coordinator, "_session", lambda *told: session)
    monkeypatch.setattr(coordinator, "_roster", session.roster)
    second = coordinator._attempt(training.engine, 2)
    if isinstance(second, Failed):
        return second, wanted
    finer = session.encoding.fraction - encoding.fraction
    return (whole << finer) - sum_of(second, session.encoding)[0], wanted << finer


def test_attack_two_rounds_with_one_site_less_stops_at_the_roster(make_recipe, run_of, monkeypatch):
    training = run_of(make_recipe(dropouts=1, ledger=Ledger(kind="none")))
    got, _ = two_rounds_with_one_less(training, monkeypatch)
    assert isinstance(got, Failed)
    assert all("what a run was opened with holds in all its rounds" in why for why in got.refusals.values())


def test_attack_two_rounds_with_one_site_less_succeeds_where_the_roster_may_change(make_recipe, run_of, monkeypatch):
    """The difference of the two sums is the victim's update."""
    training = run_of(make_recipe(dropouts=1, ledger=Ledger(kind="none")))
    fixed = training.agents[0].log.opened()
    monkeypatch.setattr("commonprior.site.agent._fixed_by", lambda session: fixed)
    got, wanted = two_rounds_with_one_less(training, monkeypatch)
    np.testing.assert_array_equal(got, wanted)
    assert wanted.any()


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_attack_differencing_of_two_rounds_is_stopped_by_noise_alone(noise):
    """Nobody moved in between, as when training has settled: the two sums differ by one site's update and noise.

    With the roster that a run was opened with, whoever drops out of a round still gives this away without noise.
    """
    rng = np.random.default_rng(0)
    mechanism, release = DiscreteGaussian(1.0, noise, per="site"), Release(4, 3, 50, 1)
    encoding = mechanism.encoding(release)
    integers = rng.integers(-1000, 1000, (4, 50))
    variance = mechanism._grid(release).variance

    def total(seats):
        noised = [integers[s] + (mechanism._draw(variance, 50, rng.bytes) if noise else 0) for s in seats]
        return encoding.from_words(np.sum([encoding.to_words(np.asarray(x)) for x in noised], 0, encoding.word))

    stolen = total(range(4)) - total(range(3))
    assert np.array_equal(stolen, integers[VICTIM]) == (noise == 0.0)
    if noise:
        clip = 2.0**encoding.fraction
        assert np.std(stolen - integers[VICTIM]) == pytest.approx(clip * (7 / 3) ** 0.5, rel=0.4)


@pytest.mark.parametrize("change", [{"dropouts": 0}, {"dropouts": 0, "colluders": 1}, "a stranger's key"])
def test_attack_other_terms_than_the_run_was_opened_with(opened, change):
    """Fewer assumed colluders or dropouts would be less noise a site; another key, a sybil in a site's seat."""
    coordinator, journal = opened.coordinator, opened.coordinator._journal
    session = coordinator._session(1, 0, journal.opening.run, journal.head)
    if isinstance(change, str):
        change = {"roster": (*session.roster[:3], Member("lab-3", Identity.generate().key))}
    assert invite(opened, dataclasses.replace(session, **change))[0] == "refuse"
    assert invite(opened, session)[0] == "joined"


@pytest.mark.parametrize("dropouts", [0, 1])
def test_attack_other_terms_succeeds_where_sites_forget_the_opening(make_recipe, run_of, monkeypatch, dropouts):
    """With fewer dropouts to reckon with each site adds less noise; a stranger in a seat is one honest site less."""
    training = run_of(make_recipe(dropouts=1, noise=1.0, ledger=Ledger(kind="none")))
    coordinator, fixed = training.coordinator, training.agents[0].log.opened()
    session = coordinator._session(1, 0, coordinator._journal.opening.run, coordinator._journal.head)
    roster = (*session.roster[:3], Member("lab-3", Identity.generate().key))
    release = coordinator._release()._replace(honest=4 - dropouts)
    other = dataclasses.replace(
        session, roster=roster, dropouts=dropouts, encoding=coordinator._mechanism.encoding(release)
    )
    assert invite(training, other)[0] == "refuse"
    monkeypatch.setattr("commonprior.site.agent._fixed_by", lambda session: fixed)
    forgetful = training.agents[0]
    forgetful.names, forgetful.terms = {}, dataclasses.replace(forgetful.terms, dropouts=dropouts)
    assert invite(training, other)[0] == "joined"
    joined = training.agents[0]._attempt
    noise = joined.mechanism._grid(joined.release).variance / 4**other.encoding.fraction
    agreed = coordinator._mechanism._grid(coordinator._release()).variance / 4**session.encoding.fraction
    assert noise == pytest.approx(agreed * 3 / (4 - dropouts), rel=0.05)


# Sybils.


def test_attack_sybils_fill_the_cohort(make_recipe, run_of):
    """Three sites that trust each other, and six that are the coordinator's: enough to hold every threshold of five."""
    training = run_of(make_recipe(sites=9, dropouts=2))
    known = frozenset(agent.identity.key for agent in training.agents[:3])
    session = training.coordinator._session(1, 0, training.coordinator._journal.opening.run, bytes(32))
    wary = training.agents[0]
    wary.trusted = known
    wary.terms = dataclasses.replace(wary.terms, dropouts=4)
    crowded = dataclasses.replace(session, dropouts=4)
    said, why = invite(training, crowded)
    assert said == "refuse"
    assert "does not trust 6 of 9 sites" in why
    wary.trusted = known - {training.agents[2].identity.key}
    assert "wants 3 sites that it trusts" in invite(training, crowded)[1]


# Forks of the history, and sites restored from an old backup.


def fork_of(training, folder):
    """The same coordinator, put back to where its folder was when it was copied."""
    made = Coordinator(training.recipe, RunFolder(folder), training.coordinator._identity, training.coordinator._roster)
    made.open(training.engine, training.family)
    return made


def two_histories(make_recipe, run_of, folder):
    """Run rounds 2 and 3, then round 2 again from a copy of the journal of round 1: the noise makes it another one.

    Without a ledger, which would know how far the run is.
    """
    training = run_of(make_recipe(noise=1.0, ledger=Ledger(kind="none")))
    training.coordinator.step(training.engine)
    shutil.copytree(training.run.path, folder)
    for _ in range(2):
        training.coordinator.step(training.engine)
    fork = fork_of(training, folder)
    fork.step(training.engine)
    return training.run.path


def test_attack_a_fork_of_the_journal(make_recipe, run_of, tmp_path):
    with pytest.raises(RunError, match="gone on from round 2: it does not take it up again"):
        two_histories(make_recipe, run_of, tmp_path / "fork")


def test_attack_a_fork_of_the_journal_succeeds_where_sites_forget_how_far_they_are(
    make_recipe, run_of, tmp_path, monkeypatch
):
    """Two records of one run, each signed by every site, that say different things from round 2 on."""
    monkeypatch.setattr(SiteLog, "moved_past", lambda self, number: False)
    monkeypatch.setattr(SiteLog, "last_attempt", lambda self, number: NO_ATTEMPT)
    true = Journal(two_histories(make_recipe, run_of, tmp_path / "fork") / "journal.cbor").entries
    forked = Journal(tmp_path / "fork" / "journal.cbor").entries
    assert true[:2] == forked[:2]
    assert true[2].round == forked[2].round == 2
    assert true[2].prior != forked[2].prior


def test_attack_two_outcomes_of_the_last_round_are_not_both_built_upon(make_recipe, run_of, tmp_path):
    """The last round may be taken up again, as its record may have been lost; then one outcome dies out."""
    training = run_of(make_recipe(noise=1.0, ledger=Ledger(kind="none")))
    training.coordinator.step(training.engine)
    shutil.copytree(training.run.path, tmp_path / "fork")
    training.coordinator.step(training.engine)
    fork = fork_of(training, tmp_path / "fork")
    fork._note("begun", 2, 0)  # attempt 0 would bring back the very same frames
    fork.step(training.engine)
    assert fork._journal.head != training.coordinator._journal.head
    training.coordinator.step(training.engine)
    with pytest.raises(RunError, match="knows another history|gone on from round 3|before a restart"):
        fork.step(training.engine)


class Without:
    """An engine that cannot reach the victim."""

    def __init__(self, engine):
        self.engine = engine

    def exchange(self, session, phase, outbox, deadline):
        reached = {seat: frames for seat, frames in outbox.items() if seat != VICTIM}
        return self.engine.exchange(session, phase, reached, deadline)


def rolled_back(training, folder, seats):
    """A coordinator and these sites put back to before round 1, then round 1 again without the victim."""
    old = start(training.recipe, folder)
    endpoints = {s: (old if s in seats else training).agents[s].receive for s in (0, 1, 2)}
    old.engine.engine = Without(InProcess(endpoints))
    return old.coordinator._attempt(old.engine, 1)


@pytest.mark.parametrize("seats", [[0], [0, 1]])
def test_attack_sites_restored_from_an_old_backup(opened, tmp_path, seats):
    """They forget what they signed and take the round up again; their peers do not, and a threshold is not reached."""
    shutil.copytree(opened.run.path, tmp_path / "old")
    opened.coordinator.step(opened.engine)
    done = rolled_back(opened, tmp_path / "old", seats)
    assert isinstance(done, Failed)
    assert set(done.refusals) == {0, 1, 2} - set(seats)


def test_attack_sites_restored_from_an_old_backup_succeeds_where_a_threshold_of_them_is(opened, tmp_path):
    shutil.copytree(opened.run.path, tmp_path / "old")
    encoding = opened.coordinator._session(1, 0, b"", b"").encoding
    outcome = opened.coordinator._attempt(opened.engine, 1)
    again = rolled_back(opened, tmp_path / "old", [0, 1, 2])
    stolen = sum_of(outcome, encoding)[0] - sum_of(again, encoding)[0]
    np.testing.assert_array_equal(stolen, update_of(opened, VICTIM))


# A site that sends more than its encoding allows.


def test_attack_overflow_that_leaves_the_range_of_the_sum_is_signed_by_nobody(opened, monkeypatch):
    """Under masks nobody sees who it was; each site sees that somebody did, and the record gets no signature."""
    monkeypatch.setattr(_masked_party, "to_words", lambda integers, encoding: integers.astype(encoding.word))
    monkeypatch.setattr(Encoding, "to_words", lambda self, integers: integers.astype(self.word))
    liar = opened.agents[VICTIM].contributor

    class Liar:
        def contribute(self, *arguments):
            protected = liar.contribute(*arguments)
            return protected._replace(integers=np.full_like(protected.integers, 2**30 + 2**29))

    opened.agents[VICTIM].contributor = Liar()
    done = opened.coordinator._attempt(opened.engine, 1)
    assert isinstance(done, Failed)
    assert all("someone sent more than its encoding allows" in why for why in done.refusals.values())
    assert set(done.refusals) == {0, 1, 2, 3}
