"""A site's own rules, in its own file, outside anything that a coordinator or a researcher sends it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from commonprior.appendlog import write_whole
from commonprior.errors import InputError
from commonprior.tables import build, to_table


@dataclass(frozen=True)
class Policy:
    """What a site will take part in. An empty allow-list allows every kind that is installed.

    `minimum_cohort` counts identities that the site itself trusts, itself included, less the assumed colluders;
    `maximum_clip` (0: no limit) and `minimum_noise` bound the mechanism, `maximum_epsilon` (0: no limit) the whole run,
    at `delta` or the recipe's, whichever is smaller.
    `worst_loss` (0: not judged) is how many times the loss on its own tasks a round's prior may have before the site
    refuses to sign it. `allow_noiseless_groups` lets updates without noise into sums by groups, whose differences can
    give them away.
    """

    minimum_cohort: int = 3
    maximum_clip: float = 0.0
    minimum_noise: float = 0.0
    maximum_epsilon: float = 0.0
    delta: float = 1e-5
    worst_loss: float = 0.0
    learners: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    allow_insecure_sum: bool = False
    allow_noiseless_groups: bool = False

    def __post_init__(self) -> None:
        if self.minimum_cohort < 2:
            raise InputError(f"minimum_cohort = {self.minimum_cohort}: a sum of one hides nothing; expected at least 2")
        if not 0 < self.delta < 1:
            raise InputError(f"delta = {self.delta}: expected a chance above 0 and below 1, such as 1e-5")
        if self.worst_loss and self.worst_loss < 1:
            raise InputError(f"worst_loss = {self.worst_loss}: expected at least 1, for a round as good as the one "
                             f"before, or 0 not to judge")  # fmt: skip


def read_policy(path: Path) -> Policy:
    """Read a policy file; a missing file is the default policy."""
    if not path.exists():
        return Policy()
    try:
        table = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML: {error}") from None
    return build(Policy, table, str(path))


def write_policy(policy: Policy, path: Path) -> None:
    """Write a policy file with every field, so that a person sees what can be set."""
    write_whole(path, tomli_w.dumps(to_table(policy)).encode())
