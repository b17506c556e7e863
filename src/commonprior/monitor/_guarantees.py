"""What is promised and how to check it: privacy in plain words, what the sum hides, and the record."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from commonprior.accountant import NEIGHBOURING
from commonprior.monitor._html import Markup, element, join, paragraph
from commonprior.monitor._words import count, equal, figure, percent, power

WEAK = 5.0
"""From this epsilon on, a report adds that the promise is weak: odds may change more than a hundredfold."""


class Privacy(NamedTuple):
    """The (epsilon, delta) that one `unit` has spent, of `budget` (0: no limit); epsilon None: no guarantee."""

    unit: str
    epsilon: float | None
    delta: float
    budget: float

    @property
    def spent(self) -> float | None:
        """Epsilon where it is a guarantee; None where it is missing, infinite, negative or not a number."""
        return self.epsilon if self.epsilon is not None and 0 <= self.epsilon < math.inf else None

    @property
    def short(self) -> str:
        """The guarantee in one line."""
        if self.spent is None:
            return "no differential privacy"
        return f"{equal('ε', figure(self.spent))} at {equal('δ', power(self.delta))} for each {self.unit}"


def privacy_sentence(privacy: Privacy, insecure: str) -> str:
    """Return the guarantee as the headline says it."""
    hidden = "The sum was not secure" if insecure else "Single updates were hidden in a secure sum"
    if privacy.spent is None:
        return f"{hidden}; no noise was added, so there is no differential privacy guarantee."
    return f"{hidden}; the run has spent {privacy.short}."


def privacy_block(privacy: Privacy, insecure: str, trust: str = "") -> Markup:
    """Return what the run gives away, and about whom."""
    if insecure:
        hidden = element("p", {"class": "warning"}, element("strong", None, "The sum is not secure. "), insecure)
    elif trust:
        hidden = paragraph(
            "The sum: the coordinator saw no single site's update, only their total. Trust: ", trust, "."
        )
    else:
        hidden = paragraph(
            "The sum: nobody saw the update of a single site, the coordinator neither; only their total came out. This "
            "holds while no more sites work with the coordinator than the recipe allows for (",
            element("code", None, "colluders"), ")."
        )  # fmt: skip
    if privacy.spent is None:
        return join(paragraph(
            element("strong", None, "No differential privacy. "), "Nothing was noised, so every total and the finished "
            "prior may give away something about the tasks behind them. To change that, set ",
            element("code", None, "noise"), " in the recipe's mechanism.",
        ), hidden)  # fmt: skip
    return join(_spent(privacy, privacy.spent), _plainly(privacy, privacy.spent), hidden)


def record_block(name: str, head: str, prior: str, audit: str, sites: Sequence[str], ledger: str = "") -> Markup:
    """Return the record: its head, the prior's hash, how to verify both, and who took part."""
    if not head:
        return paragraph("This run has no record yet.")
    command = audit or f"commonprior audit {shlex.quote(f'runs/{name}')} --expect-head {head}"
    return join(
        element("dl", {"class": "hashes"},
            element("dt", None, "Journal head"), element("dd", None, element("code", None, head)),
            element("dt", None, "Hash of the prior"), element("dd", None, element("code", None, prior or "–")),
            element("dt", None, "Ledger"), element("dd", None, ledger or "none: the sites' signed record alone"),
            element("dt", None, "To verify"), element("dd", None, element("code", {"class": "command"}, command)),
        ),
        paragraph(
            "The command reads the record from its first byte, checks every site's signature, adds up the privacy "
            "spent, and recomputes each prior from its sum as far as the run folder still has the sums. A forged "
            "record with other keys looks whole by itself: ask a site for the head that it signed and compare."
        ),
        element("h3", None, f"The roster, {count(len(sites), 'site')}"),
        element("ol", {"class": "roster"}, *[element("li", None, site) for site in sites]),
    )  # fmt: skip


def _spent(privacy: Privacy, epsilon: float) -> Markup:
    if privacy.budget > 0:
        share = min(1.0, epsilon / privacy.budget)
        said = f"{percent(share)} of the budget, {equal('ε', figure(privacy.budget))}, is spent."
        gauge = element("span", {"style": f"width:{share * 100:.1f}%"})
        budget = join(
            element("div", {"class": "gauge", "role": "img", "aria-label": said}, gauge),
            element("p", {"class": "caption"}, said),
        )
    else:
        budget = element("p", {"class": "caption"}, "The recipe sets no budget.")
    return join(element("p", {"class": "large"}, privacy.short), budget)


def _plainly(privacy: Privacy, epsilon: float) -> Markup:
    unit = privacy.unit
    sure = 1 / (1 + math.exp(-epsilon))
    surely = f"at most {percent(sure)} sure" if sure <= 0.9999 else "all but certain (over 99.99%)"
    several = (f" Several {unit}s together are protected less: k of them by k times this ε, at a larger δ."
               if unit == "task" else "")  # fmt: skip
    weak = " That is a weak promise: it comes close to no limit at all." if epsilon >= WEAK else ""
    return join(
        paragraph(
            f"In plain words: someone sees every total and every prior of this run, knows everything else, and thinks "
            f"it an even bet whether a given {unit} took part. What they see can make them {surely}, "
            f"except with a chance of about {power(privacy.delta)}.{weak}{several}"
        ),
        paragraph(
            f"Unit: one {unit}. Neighbouring relation: {NEIGHBOURING}. Two runs are neighbours if they differ in one "
            f"{unit}'s row alone, which is there in one run and is replaced by zeros in the other."
        ),
    )  # fmt: skip
