"""What a site agreed to before a run, and what it refuses whatever a coordinator says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from commonprior import plugin
from commonprior.defence.layers import Layers
from commonprior.errors import PolicyRefusal
from commonprior.learners import Learner
from commonprior.networks import Network
from commonprior.privacy import Mechanism
from commonprior.session import Session
from commonprior.site.policy import Policy
from commonprior.sums import SecureSum


@dataclass(frozen=True)
class Terms:
    """What a site agreed to before the run: its own copy of everything that decides what leaves it.

    `epsilon` (0: no limit) and `delta` are the run's budget, `rows` the public number of tasks a round, `dropouts` and
    `colluders` what its sum is to bear, `ledger` the kind of ledger, `public` whether updates are shown to everybody,
    and `defence` how they are judged then.
    """

    recipe_hash: bytes
    learner: Learner
    mechanism: Mechanism
    sum: SecureSum
    coordinator: bytes
    rows: int
    seed: int
    epsilon: float
    delta: float
    dropouts: int
    colluders: int
    ledger: str = "none"
    public: bool = False
    defence: Layers = field(default_factory=Layers)


@dataclass
class Consent:
    """A site's own policy, applied to what a coordinator proposes. `trusted` are the keys that it counts.

    `names` says whose keys they are, as far as the site knows: nobody else may go by such a name.
    """

    name: str
    terms: Terms
    policy: Policy
    trusted: frozenset[bytes]
    names: Mapping[str, bytes] = field(default_factory=dict)

    def check_session(self, session: Session) -> None:
        """Refuse another recipe, an insecure sum, an unknown learner or network, a small or a strange roster."""
        terms, policy = self.terms, self.policy
        if session.recipe != terms.recipe_hash:
            raise PolicyRefusal(f"{self.name} agreed to another recipe")
        # A recipe's hash covers these, but whoever opens a run says them once more: fewer colluders are less noise.
        if (session.dropouts, session.colluders) != (terms.dropouts, terms.colluders):
            raise PolicyRefusal(
                f"{self.name} agreed to {terms.dropouts} dropouts and {terms.colluders} colluders, not to "
                f"{session.dropouts} and {session.colluders}"
            )
        if terms.sum.insecure and not policy.allow_insecure_sum:
            raise PolicyRefusal(f"{self.name} takes part in secure sums only: {terms.sum.insecure}")
        for kind in _kinds(terms.learner, Learner):
            if policy.learners and kind not in policy.learners:
                raise PolicyRefusal(f"{self.name} does not allow the learner {kind}, only {', '.join(policy.learners)}")
        for network in _kinds(terms.learner, Network):
            if policy.networks and network not in policy.networks:
                raise PolicyRefusal(f"{self.name} does not allow the network {network}")
        self.check_cohort([m.key for m in session.roster], session.colluders)
        self._check_strangers(session)
        self._check_names(session)
        self._check_key_holders(session)

    def _check_strangers(self, session: Session) -> None:
        """Refuse a roster whose unknown sites could, all of them together, break the sum's threshold."""
        n, g = len(session.roster), session.colluders
        strangers = n - len(self.trusted.intersection(m.key for m in session.roster))
        if 2 * session.threshold <= n + g + strangers:
            raise PolicyRefusal(
                f"{self.name} does not trust {strangers} of {n} sites: with {g} assumed colluders they could open what "
                f"{session.threshold} sites can; expected 2 · (sites - dropouts) > sites + colluders + sites that are "
                f"not trusted, so trust more of them or allow fewer dropouts"
            )

    def _check_names(self, session: Session) -> None:
        """Refuse a roster that gives a name this site knows to another key, or a key it knows another name."""
        known: dict[bytes, list[str]] = {}
        for name, key in self.names.items():
            known.setdefault(key, []).append(name)
        for member in session.roster:
            others = known.get(member.key, [member.name])
            if self.names.get(member.name, member.key) != member.key or member.name not in others:
                raise PolicyRefusal(
                    f"{self.name} knows {others[0]} by another name or key than the roster's {member.name}, "
                    f"{member.key.hex()[:16]}…"
                )

    def _check_key_holders(self, session: Session) -> None:
        """Refuse a site that this one does not trust where it alone could read every update."""
        for seat in sorted(self.terms.sum.key_holders(session)):
            if session.roster[seat].key not in self.trusted:
                raise PolicyRefusal(
                    f"{self.name} does not trust {session.roster[seat].name}, who would hold the key of the sum and "
                    f"could read each update alone: trust it, or name another sum.key_holder"
                )

    def check_losses(self, before: float, after: float) -> None:
        """Refuse a prior under which this site's own tasks lose more than its policy allows."""
        worst = self.policy.worst_loss
        # A log-likelihood may have either sign: a loss `worst` times as large is so much of its size further up.
        if worst and not after <= before + (worst - 1) * abs(before):
            # No numbers: this is sealed to the coordinator, and it is about tasks that are shown to no one.
            raise PolicyRefusal(f"{self.name}'s own tasks lose more under the new prior than its worst_loss allows")

    def check_mechanism(self, mechanism: Mechanism) -> None:
        """Refuse too large a clip, too little noise, groups without noise, or noise beside answers that have none."""
        policy, clip, noise = self.policy, mechanism.clip, mechanism.noise
        if policy.worst_loss and noise > 0:
            raise PolicyRefusal(
                f"{self.name} judges priors by its own tasks (worst_loss = {policy.worst_loss:g}), which no noise "
                f"hides and no epsilon counts: set worst_loss = 0 where rounds are noised"
            )
        if 0 < policy.maximum_clip < clip:
            raise PolicyRefusal(f"{self.name} allows a clip of at most {policy.maximum_clip}, the round has {clip}")
        if noise < policy.minimum_noise:
            raise PolicyRefusal(f"{self.name} wants noise of at least {policy.minimum_noise}, the round has {noise}")
        groups = self.terms.sum.grouping.groups
        if groups > 1 and noise == 0 and not policy.allow_noiseless_groups:
            raise PolicyRefusal(
                f"{self.name} wants noise where {groups} groups sum apart: without it, the groups of two rounds differ "
                f"while the updates hardly do, and so their sums give a site's update away"
            )

    def check_cohort(self, keys: Sequence[bytes], colluders: int) -> None:
        """Refuse a sum with too few sites that this one trusts."""
        cohort = len(self.trusted.intersection(keys)) - colluders
        if cohort < self.policy.minimum_cohort:
            raise PolicyRefusal(
                f"{self.name} wants {self.policy.minimum_cohort} sites that it trusts in a sum, itself included and "
                f"{colluders} assumed colluders taken off; here are {cohort}"
            )


def _kinds(part: object, of: type) -> list[str]:
    """Return the kinds of every such part that something is made of, itself and the parts of its parts included."""
    own = [plugin.kind_of(part)] if isinstance(part, of) else []
    if isinstance(part, tuple | list):
        return [kind for value in part for kind in _kinds(value, of)]
    if not dataclasses.is_dataclass(part):
        return own
    return own + [kind for field in dataclasses.fields(part) for kind in _kinds(getattr(part, field.name), of)]
