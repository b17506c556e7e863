"""How many neighbours a site of a fleet needs: exact bounds, once a session, before anything is sent.

A site shares its secrets out to k *holders*, drawn from everyone who announced keys; any t of them open one of the two.
For n sites, of whom D may drop out and g work with the coordinator, T = n - D, and with a chance of at most 2^-42 for
each of the four to fail:

    opening     every site keeps t holders when any D sites are gone that do not depend on the draw: k - t bounds the
                hypergeometric tail of D of n - 1, for all n sites together. Bad luck here costs one attempt.
    secrecy     no site draws more than c < t colluders, of the T - 1 others that a coordinator must leave in
    company     no honest survivors can be cut off from the others, though the coordinator sees the graph before it
                says who dropped out: each keeps t - c honest holders (t of them open its seed), so whoever is cut off
                would be t - c + 1 sites at least, and the union bound over all such sets is small
    one answer  no two sites can be brought to release shares for different survivor sets: n + g signatures are all
                that two sets can have, and each site looks at `spot` of the T that it is shown: all, if they are few

The last three hold for 16 attempts at one round together: a coordinator sees the graph, and may give an attempt up to
get another one. More attempts are refused. Bell et al. 2020 (CCS, eprint 2020/704, section 4) let neighbourhoods
disagree, and so need 2t > k + c; here the fleet agrees on one survivor set: c < t is enough, and k is about half.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

from commonprior.errors import RecipeError
from commonprior.session import Session
from commonprior.sums._tails import looks, missing, most, split_bits

COMPLETE = 50
"""Up to this many sites, everyone is everyone's neighbour unless a recipe says otherwise."""

ATTEMPTS = 16
_BITS = 42
_SECRECY_BITS = _BITS + (ATTEMPTS - 1).bit_length()
_ALL = 128
"""Of so few signatures all are looked at: 13 ms, and no survivor can be missing."""


@dataclass(frozen=True)
class Terms:
    """`holders` k and `threshold` t as above; a site looks at `spot` of the signatures that it is shown."""

    holders: int
    threshold: int
    spot: int


def terms_of(session: Session, neighbours: int = 0) -> Terms | None:
    """Return the terms of a fleet, or None for the complete graph.

    `neighbours` 0: the fewest that do, from 51 sites on, if the draw then leaves out anybody at all. Raises
    `RecipeError`, with the numbers, where `neighbours` are too few, or the attempt is one too many.
    """
    n, dropouts, colluders = len(session.roster), session.dropouts, session.colluders
    if (n <= COMPLETE and not neighbours) or neighbours >= n - 1:
        return None
    least = _fewest(n, dropouts, colluders)
    if not neighbours and 2 * least >= n - 1:
        return None
    terms = _fitting(n, dropouts, colluders, neighbours or least)
    if terms is None:
        raise RecipeError(
            f"sum.neighbours = {neighbours or least} of {n} sites, of whom {dropouts} may drop out and {colluders} "
            f"collude: expected at least {least}, so that every site keeps enough honest holders but for a chance of "
            f"2^-{_BITS - 2}; take that, or 0 for what is needed"
        )
    if session.attempt >= ATTEMPTS:
        raise RecipeError(
            f"attempt {session.attempt} at round {session.round}: neighbours are drawn for at most {ATTEMPTS} attempts "
            f"at a round, as each draws anew; find out why they fail"
        )
    return terms


def unsigned(n: int, dropouts: int, colluders: int, neighbours: int = 0) -> int:
    """Return how many of T - g honest survivors may be missing from a sum that the others believe them in.

    0 where every site looks at every signature.
    """
    if (n <= COMPLETE and not neighbours) or neighbours >= n - 1:
        return 0
    least = _fewest(n, dropouts, colluders)
    terms = _fitting(n, dropouts, colluders, neighbours or least) if neighbours or 2 * least < n - 1 else None
    if terms is None:
        return 0
    k, t, spot = terms.holders, terms.threshold, terms.spot
    signs = 1 + t - _most_colluders(n, dropouts, colluders, k)
    return missing(n - colluders, colluders, dropouts, k, signs, spot, _SECRECY_BITS)


def _fitting(n: int, dropouts: int, colluders: int, wanted: int) -> Terms | None:
    """Return the terms of as many holders as wanted, or of the most below that fit; None where there are none.

    One neighbour more may round a bound the wrong way: then one of them is left out again.
    """
    fit = (_terms(n, dropouts, colluders, k) for k in range(wanted, _fewest(n, dropouts, colluders) - 1, -1))
    return next((terms for terms in fit if terms), None)


@cache
def _fewest(n: int, dropouts: int, colluders: int) -> int:
    """Return the smallest k that does; n - 1, the complete graph, where none below it does."""
    return next((k for k in itertools.count(1) if k >= n - 1 or _terms(n, dropouts, colluders, k)), n - 1)


@cache
def _terms(n: int, dropouts: int, colluders: int, k: int) -> Terms | None:
    """Return the terms of k holders, or None where a bound fails."""
    survivors = n - dropouts
    if k >= survivors:
        return None
    gone = most(n - 1, dropouts, k, _BITS, n)
    bad = _most_colluders(n, dropouts, colluders, k)
    t = k - gone
    if t <= bad or split_bits(n - colluders, colluders, dropouts, k, t - bad + 1) < _SECRECY_BITS:
        return None
    few = survivors <= _ALL
    return Terms(k, t, survivors if few else looks(survivors, n + colluders, _SECRECY_BITS, n))


def _most_colluders(n: int, dropouts: int, colluders: int, k: int) -> int:
    """Return c: hardly any site draws more colluders, however many others the coordinator leaves out."""
    others = n - dropouts - 1
    return most(others, min(colluders, others), k, _SECRECY_BITS, n)
