"""A site's own rules, in its own file, outside anything that a coordinator or a researcher sends it."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

import tomli_w
from pydantic import ConfigDict, TypeAdapter, ValidationError

from commonprior.errors import InputError


@dataclass(frozen=True)
class Policy:
    """What a site will take part in. An empty allow-list allows every kind that is installed.

    `minimum_cohort` counts identities that the site itself trusts, itself included, less the assumed colluders;
    `maximum_clip` and `minimum_noise` bound the mechanism; `maximum_epsilon` (0: no limit) is over the whole run.
    """

    minimum_cohort: int = 3
    maximum_clip: float = math.inf
    minimum_noise: float = 0.0
    maximum_epsilon: float = 0.0
    learners: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    allow_insecure_sum: bool = False

    def __post_init__(self) -> None:
        if self.minimum_cohort < 2:
            raise InputError(f"minimum_cohort = {self.minimum_cohort}: a sum of one hides nothing; expected at least 2")


def read_policy(path: Path) -> Policy:
    """Read a policy file; a missing file is the default policy."""
    if not path.exists():
        return Policy()
    try:
        table = tomllib.loads(path.read_text())
        known = {f.name for f in fields(Policy)}
        for name in table:
            if name not in known:
                raise InputError(f"{path}: {name}: unknown field; expected one of {', '.join(sorted(known))}")
        adapter = TypeAdapter(Policy, config=ConfigDict(extra="forbid"))
        return adapter.validate_python(table)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))} = {first['input']!r}: {first['msg']}") from None


def write_policy(policy: Policy, path: Path) -> None:
    """Write a policy file with every field, so that a person sees what can be set."""
    table = {f.name: getattr(policy, f.name) for f in fields(Policy)}
    path.write_text(tomli_w.dumps({k: list(v) if isinstance(v, tuple) else v for k, v in table.items()}))
