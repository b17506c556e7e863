"""How many neighbours: against fractions, against counting every case, and against the figures of our own notes."""

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior.aggregation import release_of
from commonprior.errors import InputError
from commonprior.sums import _fleet_terms
from commonprior.sums._fleet_terms import Terms, terms_of, unsigned
from commonprior.sums._tails import looks, missing, most, split_bits
from commonprior.sums.grouped import Grouped
from commonprior.sums.masked import Masked
from commonprior.sums.plain import Plain


def tail(population, marked, drawn, m):
    """P(more than m of the drawn are marked), by the recurrence of the hypergeometric law in fractions."""
    x = max(0, drawn - (population - marked))
    p, above = Fraction(1), Fraction(0)
    for i in range(drawn):  # P(X = 0) of the mirrored law, one draw after the other
        p *= Fraction(population - marked - i, population - i) if x == 0 else 1
    if x:
        p = Fraction(math.comb(marked, x), math.comb(population, drawn))
    while x <= min(marked, drawn):
        if x > m:
            above += p
        p *= Fraction((marked - x) * (drawn - x), (x + 1) * (population - marked - drawn + x + 1))
        x += 1
    return above


def counted(population, marked, drawn, m):
    """The same by looking at every set of `drawn`."""
    sets = list(itertools.combinations(range(population), drawn))
    return Fraction(sum(sum(item < marked for item in chosen) > m for chosen in sets), len(sets))


@pytest.mark.parametrize(("population", "marked", "drawn"), [(7, 3, 4), (9, 0, 3), (8, 8, 5), (10, 6, 1), (9, 5, 7)])
def test_the_tail_of_the_test_is_what_counting_gives(population, marked, drawn):
    for m in range(-1, drawn + 1):
        assert tail(population, marked, drawn, m) == counted(population, marked, drawn, m)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_most_is_the_exact_quantile(data):
    population = data.draw(st.integers(1, 60))
    marked, drawn = (data.draw(st.integers(0, population)) for _ in range(2))
    bits, times = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 1000))
    m = most(population, marked, drawn, bits, times)
    assert times * tail(population, marked, drawn, m) <= Fraction(1, 2**bits)
    assert m == 0 or times * tail(population, marked, drawn, m - 1) > Fraction(1, 2**bits)


def passes(shown, valid, r):
    """P(r items drawn from `shown`, so many of them valid, are all valid)."""
    return math.prod((Fraction(max(0, valid - i), shown - i) for i in range(r)), start=Fraction(1))


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_looks_are_enough_whatever_the_split_and_one_fewer_is_not(data):
    shown = data.draw(st.integers(2, 30))
    valid, bits = data.draw(st.integers(0, 2 * shown - 1)), data.draw(st.integers(1, 50))
    r = looks(shown, valid, bits, 7)

    def worst(r):
        splits = ((v, valid - v) for v in range(valid + 1) if v <= shown and valid - v <= shown)
        return max(passes(shown, v, r) * passes(shown, w, r) for v, w in splits)

    assert 49 * worst(r) <= Fraction(1, 2**bits)
    assert r == 0 or 49 * worst(r - 1) > Fraction(1, 2**bits)


def cut_off(graph, honest, gone, least):
    """Whether some honest sites can be cut off, however the `gone` are chosen: every case, one after the other."""
    for away in itertools.chain.from_iterable(itertools.combinations(range(honest), x) for x in range(gone + 1)):
        left = [i for i in range(honest) if i not in away]
        for a in range(least, len(left) // 2 + 1):
            for chosen in itertools.combinations(left, a):
                inside = {*chosen, *away, *range(honest, len(graph))}
                if all(graph[i] <= inside for i in chosen):
                    return True
    return False


@pytest.mark.parametrize(
    ("honest", "colluders", "gone", "drawn", "least"),
    [(4, 0, 0, 1, 2), (4, 0, 0, 1, 1), (4, 1, 0, 2, 1), (5, 0, 1, 2, 1), (5, 0, 0, 2, 2), (4, 1, 1, 3, 1)],
)
def test_the_bound_on_being_cut_off_holds_over_every_graph(honest, colluders, gone, drawn, least):
    n = honest + colluders
    choices = [[set(c) for c in itertools.combinations([j for j in range(n) if j != i], drawn)] for i in range(honest)]
    graphs = [[*graph, *({0} for _ in range(colluders))] for graph in itertools.product(*choices)]
    exact = sum(cut_off(graph, honest, gone, least) for graph in graphs) / len(graphs)
    bound = 2 ** -split_bits(honest, colluders, gone, drawn, least)
    assert exact <= bound
    assert bound == 0 or bound <= 60 * max(exact, 1e-3)


def fewest(n, dropouts, colluders, bits, enough):
    """The smallest k with a t between the quantiles, by fractions alone; `bits` of the two bounds."""
    for k in range(1, n):
        gone = next(m for m in range(k + 1) if tail(n - 1, dropouts, k, m) <= Fraction(1, 2 ** bits[0]))
        bad = next(m for m in range(k + 1) if n * tail(n - 1, colluders, k, m) <= Fraction(1, 2 ** bits[1]))
        if enough(k, k - gone, bad):
            return k
    return None


def semi_honest(k, t, bad):
    return t > bad


def active(k, t, bad):
    return 2 * t > k + bad


@pytest.mark.parametrize(
    ("dropouts", "colluders", "rule", "k"),
    [(100, 100, semi_honest, 52), (100, 100, active, 113), (333, 100, active, 583), (333, 333, active, None)],
)
def test_the_figures_of_our_notes_for_a_thousand_sites(dropouts, colluders, rule, k):
    """Bound 2^-40 on any site's colluders by the union over sites, and on one site's dropouts."""
    if k:
        near = (k - 1, k)
        found = [rule(j, j - most(999, dropouts, j, 40, 1), most(999, colluders, j, 40, 1000)) for j in near]
        assert found == [False, True]
        assert tail(999, dropouts, k, most(999, dropouts, k, 40, 1)) <= Fraction(1, 2**40)
        assert 1000 * tail(999, colluders, k, most(999, colluders, k, 40, 1000)) <= Fraction(1, 2**40)
    else:
        ks = range(1, 1000)
        assert not any(rule(j, j - most(999, dropouts, j, 40, 1), most(999, colluders, j, 40, 1000)) for j in ks)


def test_a_small_case_found_twice():
    for dropouts, colluders in ((6, 6), (10, 3), (3, 0)):
        ours = next(k for k in range(1, 60) if k - most(59, dropouts, k, 20, 1) > most(59, colluders, k, 20, 60))
        assert ours == fewest(60, dropouts, colluders, (20, 20), semi_honest)


@pytest.mark.parametrize(
    ("n", "dropouts", "colluders", "terms"),
    [
        (51, 5, 5, Terms(12, 7, 46)),
        (100, 10, 10, Terms(21, 11, 90)),
        (300, 30, 30, Terms(48, 25, 40)),
        (1000, 100, 0, Terms(25, 6, 38)),
        (1000, 100, 100, Terms(67, 36, 45)),
        (1000, 333, 100, Terms(167, 65, 108)),
    ],
)
def test_the_terms_hold_every_bound_and_one_holder_fewer_does_not(n, dropouts, colluders, terms):
    k, t, spot = terms.holders, terms.threshold, terms.spot
    assert (_fleet_terms._fewest(n, dropouts, colluders), _fleet_terms._terms(n, dropouts, colluders, k)) == (k, terms)
    left = n - dropouts
    assert n * tail(n - 1, dropouts, k, k - t) <= Fraction(1, 2**42)
    bad = next(m for m in range(k + 1) if n * tail(left - 1, colluders, k, m) <= Fraction(1, 2**46))
    assert bad < t
    assert split_bits(n - colluders, colluders, dropouts, k, t - bad + 1) >= 46
    half, rest = (n + colluders) // 2, -(-(n + colluders) // 2)
    assert n**2 * passes(left, half, spot) * passes(left, rest, spot) <= Fraction(1, 2**46)
    assert _fleet_terms._terms(n, dropouts, colluders, k - 1) is None
    assert 16 * 3 * Fraction(1, 2**46) + Fraction(1, 2**42) == Fraction(1, 2**40)


@pytest.mark.parametrize(
    ("n", "dropouts", "colluders", "lacks"),
    [(200, 20, 0, 8), (300, 30, 30, 2), (300, 60, 0, 7), (1000, 100, 100, 4), (1000, 50, 0, 13)],
)
def test_so_many_sites_may_be_missing_and_no_more(n, dropouts, colluders, lacks):
    """In fractions: sites that nobody among the others drew, whichever they are, and looks at as many signatures."""
    k = _fleet_terms._fewest(n, dropouts, colluders)
    terms, shown, honest = _fleet_terms._terms(n, dropouts, colluders, k), n - dropouts, n - colluders
    bits = 300

    def avoided(m):
        """A little more than the expected number of sets of m that at least so many others did not draw."""
        avoids = Fraction(math.comb(n - 1 - m, k), math.comb(n - 1, k))
        p = Fraction(math.ceil(avoids * 2**bits), 2**bits)
        few = range(honest - dropouts - m, honest - m + 1)
        whole, part = p.numerator, p.denominator - p.numerator
        ways = sum(math.comb(honest - m, x) * whole**x * part ** (honest - m - x) for x in few)
        return math.comb(honest, m) * Fraction(ways, p.denominator ** (honest - m))

    bad = next(m for m in range(k + 1) if n * tail(shown - 1, colluders, k, m) <= Fraction(1, 2**46))
    together = 1 + terms.threshold - bad

    def confined(m):
        """The same of so many of the m who drew nobody but the m, colluders, and as many others as may drop out."""
        if m < together:
            return 0
        x = min(dropouts, honest - m)
        each = Fraction(math.comb(m - 1 + x + colluders, k), math.comb(n - 1, k))
        return min(1, math.comb(m, together) * math.comb(honest - m, x) * each**together)

    sets = {m: avoided(m) for m in range(1, lacks + 8)}

    def opens(more):
        """A bound on the chance of `more` or more; what is left out above falls by a half each time."""
        unnoticed = min(1, honest * passes(shown, shown - more, terms.spot))
        any_, one_signed = (2 * sum(sets[m] * w(m) for m in sets if m >= more) for w in (lambda m: 1, confined))
        return min(1, any_) * unnoticed + one_signed

    assert sets[lacks + 7] < sets[lacks + 6] / 2
    assert unsigned(n, dropouts, colluders) == lacks
    assert opens(lacks + 1) <= Fraction(1, 2**45)
    assert opens(lacks) / 2 > Fraction(1, 2**46)


def missed(graph, honest, gone):
    """How many can be missing at most, the smaller side, so that nobody else in the sum drew one of them."""
    return max(
        m
        for m in range(honest // 2 + 1)
        for lost in itertools.combinations(range(honest), m)
        if sum(i not in lost and not graph[i] & set(lost) for i in range(honest)) >= max(honest - gone - m, m)
    )


@pytest.mark.parametrize(("honest", "gone", "drawn"), [(4, 0, 1), (4, 1, 2), (5, 0, 2), (5, 1, 2)])
def test_the_bound_on_who_is_missing_holds_over_every_graph(honest, gone, drawn):
    """Without any look at signatures."""
    choices = [
        [set(c) for c in itertools.combinations([j for j in range(honest) if j != i], drawn)] for i in range(honest)
    ]
    graphs = list(itertools.product(*choices))
    for bits in (1, 3, 6):
        few = missing(honest, 0, gone, drawn, 1, 0, bits)
        assert sum(few < missed(graph, honest, gone) for graph in graphs) <= len(graphs) / 2**bits


def test_where_every_signature_is_looked_at_nobody_is_missing():
    assert [unsigned(n, 5, 5) for n in (20, 50, 60, 133)] == [0] * 4
    assert unsigned(134, 5, 5) > 0
    assert unsigned(134, 5, 5, 133) == 0
    assert Masked().unsigned(1000, 100, 100) == Grouped(3, Masked()).unsigned(3000, 100, 100) == 4
    assert Plain().unsigned(1000, 100, 100) == 0


def test_noise_does_not_count_on_those_who_may_be_missing():
    assert release_of(Masked(), 1000, 100, 100, 7, 1).honest == 900 - 100 - 4
    assert release_of(Masked(), 20, 2, 3, 7, 1).honest == 18 - 3
    assert release_of(Masked(), 1000, 100, 100, 7, 1, public=True).honest == 1


def test_half_and_half_has_no_session_at_all(session):
    with pytest.raises(InputError, match="expected 2 · .sites - dropouts. > sites . colluders"):
        session(n=51, dropouts=17, colluders=17)


def test_where_the_draw_would_leave_out_hardly_anyone_everyone_is_taken(session):
    assert terms_of(session(n=51, dropouts=20, colluders=9)) is None
    assert terms_of(session(n=13, dropouts=1), 12) is None
    assert terms_of(session(n=50, dropouts=5)) is None
    assert terms_of(session(n=51, dropouts=5)) is not None


def test_a_neighbour_more_than_needed_is_taken_where_it_fits_and_left_out_where_it_does_not(session):
    assert _fleet_terms._terms(500, 50, 50, 55)
    assert not _fleet_terms._terms(500, 50, 50, 56)
    made = session(n=51, dropouts=5, colluders=5)
    for wanted in range(12, 49):
        assert terms_of(made, wanted).holders <= wanted


@pytest.mark.parametrize(("n", "dropouts", "colluders", "wanted"), [(500, 50, 50, 56), (600, 120, 30, 68)])
def test_noise_is_sized_for_the_terms_that_hold_where_the_wanted_ones_do_not_fit(n, dropouts, colluders, wanted):
    assert _fleet_terms._terms(n, dropouts, colluders, wanted) is None
    assert unsigned(n, dropouts, colluders, wanted) == unsigned(n, dropouts, colluders, wanted - 1) > 0
