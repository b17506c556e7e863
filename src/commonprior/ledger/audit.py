"""Verify a run's record from its first byte, believing nobody.

Every line: its bytes are canonical, it follows the one before, the sites whose keys stand in the opening signed it,
they agreed beforehand on whose sealed bytes are summed, and (where the run folder still has the sum) the new prior
is what the recipe's learner makes of the old one and that sum. A journal that was cut short or signed anew by other
keys looks whole by itself: `trust` and `expect_head` are what an outsider knows from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from commonprior.accountant import Spend, nothing_spent, spend_of
from commonprior.aggregation import check_agreement, new_prior, read_sum, release_of
from commonprior.appendlog import read_records
from commonprior.canonical import digest
from commonprior.entry import NO_HEAD, Entry, Opening, Round, Signatures, read_entry, read_record, signers
from commonprior.errors import CommonPriorError, InputError, JournalError, ProtocolError, RecipeError
from commonprior.prior import Prior, load_prior
from commonprior.privacy import Mechanism, Release
from commonprior.recipe import Recipe, read_toml, recipe_from
from commonprior.runfolder import RunFolder
from commonprior.session import Session
from commonprior.sums import WHOLE, Grouping
from commonprior.tables import without_none


@dataclass(frozen=True)
class Verdict:
    """What holds: how many rounds, what the head is, and how much of it was recomputed rather than only checked."""

    rounds: int
    head: bytes
    prior: bytes
    recomputed: int
    sites: tuple[str, ...]
    unit: str
    epsilon: float
    delta: float


def audit(folder: Path, trust: Sequence[bytes] = (), expect_head: bytes | None = None) -> Verdict:
    """Verify a run folder; raise `JournalError` that names the first entry that does not hold."""
    run = RunFolder(folder)
    if not run.journal.exists():
        raise InputError(f"{run.journal}: no record here; name a run folder")
    records, whole = read_records(run.journal)
    if whole < run.journal.stat().st_size:
        raise JournalError(f"{run.journal}: entry {len(records)} is torn: the file goes on for "
                           f"{run.journal.stat().st_size - whole} bytes after byte {whole}")  # fmt: skip
    check = _Audit(run, tuple(trust))
    for number, record in enumerate(records):
        try:
            data, signatures = read_record(record)
            check.take(read_entry(data), data, signatures)
        except CommonPriorError as error:
            raise JournalError(f"{run.journal}: entry {number} does not hold: {error}") from None
    verdict = check.verdict()
    if expect_head is not None and verdict.head != expect_head:
        raise JournalError(
            f"{run.journal}: the record ends at {verdict.head.hex()} after round {verdict.rounds}, expected head "
            f"{expect_head.hex()}: it was cut short, or it is another history"
        )
    if run.prior.exists() and load_prior(run.prior).hash() != verdict.prior and check.finished:
        raise JournalError(f"{run.prior}: is not the prior that entry {verdict.rounds} names")
    return verdict


class _Audit:
    """What the entries read so far have established."""

    def __init__(self, run: RunFolder, trust: tuple[bytes, ...]) -> None:
        self._run, self._trust = run, trust
        self._opening: Opening | None = None
        self._recipe: Recipe | None = None
        self._prior: Prior | None = None
        self._head, self._base = NO_HEAD, NO_HEAD
        self._rounds = self._recomputed = 0
        self._spent: Spend | None = None
        self._last: Round | None = None

    @property
    def finished(self) -> bool:
        """Whether every round of the recipe is there."""
        return self._recipe is not None and self._rounds >= self._recipe.schedule.rounds

    def take(self, entry: Entry, data: bytes, signatures: Signatures) -> None:
        if isinstance(entry, Opening):
            self._open(entry, data, signatures)
        elif self._opening is None:
            raise JournalError("a round before the opening")
        else:
            self._round(entry, data, signatures, self._opening)
        self._head, self._base = digest(data), entry.prior

    def verdict(self) -> Verdict:
        if self._opening is None:
            raise JournalError(f"{self._run.journal}: entry 0 is missing: nothing opens the run")
        last = self._last
        return Verdict(
            self._rounds, self._head, self._base, self._recomputed, tuple(m.name for m in self._opening.roster),
            last.unit if last else "", last.epsilon if last else 0.0, last.delta if last else 0.0,
        )  # fmt: skip

    def _open(self, entry: Opening, data: bytes, signatures: Signatures) -> None:
        if self._opening is not None:
            raise JournalError("the run is opened twice")
        signed = signers(data, signatures, entry.roster)
        if len(signed) < len(entry.roster):
            missing = [m.name for seat, m in enumerate(entry.roster) if seat not in signed]
            raise JournalError(f"not signed by {', '.join(missing)}")
        strangers = [key for key in self._trust if key not in {m.key for m in entry.roster}]
        if strangers:
            raise JournalError(
                f"the trusted key {strangers[0].hex()[:16]}… is not in the roster: signed anew by others"
            )
        if digest(["commonprior/recipe/1", entry.recipe]) != entry.recipe_hash:
            raise JournalError("the recipe does not have the hash that the entry names")
        self._opening = entry
        try:
            self._recipe = recipe_from(entry.recipe, "the recorded recipe")
        except RecipeError:
            self._recipe = None
        if self._run.recipe.exists() and read_toml(self._run.recipe) != without_none(entry.recipe):
            raise JournalError(f"{self._run.recipe} is not the recipe that the sites signed")
        first = self._run.checkpoint(0)
        self._prior = load_prior(first) if first.exists() else None
        if self._prior is not None and self._prior.hash() != entry.prior:
            raise JournalError(f"{first} is not the prior that the sites started from")

    def _round(self, entry: Round, data: bytes, signatures: Signatures, opening: Opening) -> None:
        if entry.round != self._rounds + 1:
            raise JournalError(f"round {entry.round} follows round {self._rounds}")
        if entry.previous != self._head:
            raise JournalError("it does not follow the entry before it")
        if entry.base != self._base:
            raise JournalError("it does not start from the prior before it")
        session = entry.session(opening)
        check_agreement(session, self._grouping(entry), entry)
        signed = signers(data, signatures, opening.roster)
        if len(signed) < session.threshold:
            raise JournalError(f"the entry: signed by {len(signed)} sites, expected {session.threshold}")
        self._recompute(entry, opening, session)
        self._rounds, self._last = entry.round, entry

    def _grouping(self, entry: Round) -> Grouping:
        if self._recipe is None and entry.draw:
            raise JournalError("the sites drew groups, by a recipe that cannot be read: nobody can tell which")
        return self._recipe.sum.grouping if self._recipe is not None else WHOLE

    def _recompute(self, entry: Round, opening: Opening, session: Session) -> None:
        recipe, file = self._recipe, self._run.sum_of(entry.round)
        if recipe is None:
            return
        mechanism, length = recipe.mechanism, entry.length
        if self._prior is not None:
            mechanism, length = mechanism.resume(self._prior.state), recipe.learner.length(self._prior)
        grouping = recipe.sum.grouping
        release = release_of(grouping, len(opening.roster), opening.dropouts, opening.colluders, length,
                             recipe.schedule.tasks_per_site)  # fmt: skip
        # Without its prior, the mechanism of a round is known only where it stays what the recipe says.
        if self._prior is not None or (mechanism.width(length) == length and not mechanism.state()):
            self._account(entry, mechanism, release)
        if self._prior is None or not file.exists():
            self._prior = None
            return
        if (entry.length, entry.encoding) != (mechanism.width(length), mechanism.encoding(release)):
            raise JournalError("its length or encoding is not what the prior and the mechanism make")
        try:
            summed = read_sum(file.read_bytes(), session, grouping, entry, release)
        except ProtocolError:
            raise JournalError(f"{file} is not the sum that the entry names") from None
        self._prior, _ = new_prior(recipe.learner, mechanism, grouping, self._prior, entry.encoding, summed)
        if self._prior.hash() != entry.prior:
            raise JournalError("its sum makes another prior than the one it names")
        self._recomputed += 1

    def _account(self, entry: Round, mechanism: Mechanism, release: Release) -> None:
        unit = mechanism.unit
        cost = spend_of(mechanism.spends(release), unit).times(entry.attempt + 1)
        self._spent = (self._spent or nothing_spent(unit)) + cost
        epsilon = self._spent.epsilon(entry.delta)
        said = math.inf if entry.epsilon < 0 else entry.epsilon
        if said != epsilon and not math.isclose(said, epsilon, rel_tol=1e-6):
            raise JournalError(f"it says epsilon {said:.6g}, but {epsilon:.6g} is spent")
