"""Everything that anyone may do to the six contracts, in any order: what must hold then holds after every step, and
from wherever it ends, waiting and what anybody may do open the next round.
"""

import re

import numpy as np
from eth_hash.auto import keccak
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from commonprior.ballot import Ballot
from commonprior.canonical import digest
from commonprior.errors import LedgerError
from commonprior.ledger import merkle
from commonprior.ledger.client import Rules
from commonprior.ledger.public import chosen, in_order, mean_of

from ._consortium import (
    BOND,
    HIDDEN_TERMS,
    LARGE_TERMS,
    NOBODY,
    SMALL_TERMS,
    consortium,
    votes_of,
    word,
)

PER_ROUND, PRICE = 10**6, 10**6
RULES = Rules(notice=40_000, window=6_000, answer=1_200, price=PRICE)
REASON = re.compile(r"^[A-Z]: [a-z ]+$")
members = st.integers(0, 4)
publics = st.sampled_from(["direct", "large"])
several = st.lists(members, min_size=2, max_size=5, unique=True)


def rarely(values):
    """None three times out of four."""
    return st.one_of(st.none(), st.none(), st.none(), values)


class Ledger(RuleBasedStateMachine):
    """`attempts`: what is under way in each public run, by its name; `over`: what finished rounds were made of."""

    @initialize(stake=st.booleans())
    def deploy(self, stake):
        self.made = consortium(5, None, rules=RULES._replace(stake=stake))
        self.stake, self.runs, self.attempts, self.over, self.demands = stake, {}, {}, [], []
        self.nobodys = 0
        for name, terms in (("direct", SMALL_TERMS), ("large", LARGE_TERMS), ("hidden", HIDDEN_TERMS)):
            self.runs[name] = self.made.begin(terms, name=name), terms
        self.hidden, self.signed, self.paid, self.seed, self.changes = (0, word("prior 0")), [], {}, 0, 0

    def turn(self, name):
        """Look at one of the runs."""
        self.made.run, self.made.terms = self.runs[name]
        return self.made

    def tried(self, act, *values):
        """Do what may be refused, but only ever with a reason of the contracts' own."""
        try:
            return act(*values) or True
        except LedgerError as error:
            if not REASON.match(str(error)):
                raise
            return None

    def deposits(self):
        return {m.address: self.made.read("Quorum", "deposits", m.address) for m in self.made.members}

    # Stakes and places

    @rule(i=members, amount=st.integers(0, 2 * 10**8))
    def deposit(self, i, amount):
        self.tried(self.made.deposit, self.made.members[i], amount)

    @rule(i=members, amount=st.sampled_from([0, 1, BOND, BOND, 10**7, 10**8 - BOND // 2, 10**10]))
    def request(self, i, amount):
        self.tried(self.made.write, self.made.members[i], "Quorum", "request", amount)

    @precondition(lambda self: any(self.made.read("Quorum", "notices", m.address)[0] for m in self.made.members))
    @rule(i=members)
    def withdraw(self, i):
        self.tried(self.made.write, self.made.members[i], "Quorum", "withdraw")

    @rule(i=st.integers(3, 4), admitted=st.booleans(), voters=st.integers(1, 5))
    def change(self, i, admitted, voters):
        made, member = self.made, self.made.members[i].address
        where = made.contracts.counter.__class__(made.contracts.chain.number, made.contracts.address("Quorum"))
        fields = member.rjust(32, b"\0") + int(admitted).to_bytes(32, "big") + self.changes.to_bytes(32, "big")
        inner = keccak(keccak(b"Change(address member,bool admitted,uint256 number)") + fields)
        signed = [m.sign_digest(keccak(b"\x19\x01" + where.domain + inner)) for m in made.members[:voters]]
        if self.tried(made.write, made.members[0], "Quorum", "change", member, admitted, signed):
            self.changes += 1

    @rule(seconds=st.sampled_from([1, 600, 600, 1200, 6000, 40_000]))
    def wait(self, seconds):
        self.made.wait(seconds)

    # A round of public deltas

    @rule(name=publics, i=members, several=several, seconds=st.sampled_from([0, 600, 600, 600, 1200]),
          lie=st.booleans())  # fmt: skip
    def open(self, name, i, several, seconds, lie):
        """Open a round and have some commit; now and then go on to its end, or what would be its end."""
        made = self.turn(name)
        if self.tried(made.write, made.members[i], "Rounds", "open", made.run):
            self.seed += 1
            updates = made.updates(seed=self.seed)
            self.attempts[name] = {"attempt": made.rounds.attempt(), "updates": updates, "in": [], "said": None}
            self.commit(name, several)
            made.wait(seconds)
            if seconds:
                self.finalise(name, None, None, i, lie, None, None)

    @precondition(lambda self: self.attempts)
    @rule(name=publics, several=several)
    def commits(self, name, several):
        self.commit(name, several)

    def commit(self, name, several):
        made, now = self.turn(name), self.attempts.get(name)
        for i in several if now else ():
            if self.tried(made.rounds.commit, made.members[i], now["attempt"], now["updates"][i]):
                assert now["updates"][i] not in now["in"]
                now["in"].append(now["updates"][i])

    @precondition(lambda self: self.showing())
    @rule(name=publics, i=members)
    def reveal(self, name, i):
        made, now = self.turn(name), self.attempts.get(name)
        if now and self.tried(made.rounds.reveal, made.members[i], now["updates"][i]):
            assert now["updates"][i] in now["in"]

    def showing(self):
        """Rounds that are open with somebody in them."""
        return [name for name, now in self.attempts.items() if now["in"] and not now["said"]]

    @precondition(lambda self: self.showing())
    @rule(name=publics, without=rarely(members), against=rarely(members), i=members, lie=st.booleans(),
          silent=rarely(st.integers(1, 2)), twice=rarely(st.just(True)))  # fmt: skip
    def judge(self, name, without, against, i, lie, silent, twice):
        self.finalise(name, without, against, i, lie, silent, twice)

    def finalise(self, name, without, against, i, lie, silent, twice):
        made, now = self.turn(name), self.attempts.get(name)
        if not now or not now["in"] or made.phase != 1:
            return
        updates = [u for u in in_order(now["in"]) if without is None or u != now["updates"][without]] or now["in"]
        row = bytes(0 if against is not None and u == now["updates"][against] else 50 * i + 5 for u in updates)
        weights, _ = made.weights(now["attempt"])
        voters = [m for m in made.members if weights[m.address]][silent or 0 :]
        taken = sum(1 << place for place, score in enumerate(row) if score)
        prior, entry = made.named()
        ballots = made.ballots(now["attempt"], updates, prior, entry, scores=row, who=voters)
        if twice and voters:
            ballots[NOBODY] = ballots[voters[0].address]  # one ballot under two names
        if name == "direct":
            done = self.tried(made.rounds.finalise, made.members[i], updates, taken, prior, entry, ballots)
            if not done:
                return
            assert not twice
            self.check_mean(made.mean(done[-1]), chosen(updates, taken))
            self.over.append((name, now["attempt"], made.seal_of(now["attempt"], updates, taken, ballots)))
            del self.attempts[name]
            return
        mean = mean_of([u.delta for u in chosen(updates, taken)]) if taken else bytes(768)
        mean = bytes([mean[0] ^ lie]) + mean[1:]
        root = merkle.root(mean)
        if self.tried(made.rounds.propose, made.members[i], updates, taken, prior, entry, root, ballots):
            assert not twice
            seal = made.seal_of(now["attempt"], updates, taken, ballots)
            now["said"] = {
                "accepted": chosen(updates, taken),
                "mean": mean,
                "lie": lie,
                "by": made.members[i],
                "seal": seal,
            }

    def check_mean(self, said, accepted):
        rows = np.stack([np.frombuffer(u.delta, np.int8) for u in accepted]).astype(np.float64)
        np.testing.assert_array_equal(np.frombuffer(said, np.int8), np.floor(rows.mean(0) + 0.5).astype(np.int8))

    # Disputes

    @precondition(lambda self: self.proposed())
    @rule(i=members, chunk=st.sampled_from([0, 0, 1, 2]))
    def challenge(self, i, chunk):
        made, now = self.turn("large"), self.attempts["large"]
        self.seed += 1
        salt, before, said = word(f"salt {self.seed}"), self.deposits(), now["said"]
        whole = sum(self.whole().values())
        made.rounds.announce(made.members[i], chunk, salt)
        made.mine()
        done = self.tried(made.rounds.challenge, made.members[i], chunk, salt, said["accepted"], said["mean"])
        assert bool(done) == (bool(said["lie"]) and chunk == 0), "an honest mean was void, or a lie stood"
        if done:
            assert before[said["by"].address] - self.deposits()[said["by"].address] <= BOND
            self.nobodys += whole - sum(self.whole().values())
            del self.attempts["large"]

    def proposed(self):
        return bool(self.attempts.get("large", {}).get("said"))

    @precondition(lambda self: "large" in self.attempts)
    @rule(i=members, who=members, chunk=st.integers(0, 3))
    def demand(self, i, who, chunk):
        made, now = self.turn("large"), self.attempts["large"]
        made.write(made.members[i], "Token", "approve", made.contracts.address("Disputes"), PRICE)
        if self.tried(made.write, made.members[i], "Disputes", "demand", made.run, made.members[who].address, chunk):
            self.demands.append((now["attempt"], now["updates"][who], chunk))

    @precondition(lambda self: self.demands)
    @rule(data=st.data())
    def supply(self, data):
        made, which = self.turn("large"), data.draw(st.integers(0, len(self.demands) - 1))
        attempt, update, chunk = self.demands[which]
        if self.tried(made.rounds.supply, made.of(update.who), attempt, update, chunk):
            del self.demands[which]

    @precondition(lambda self: self.demands)
    @rule(data=st.data())
    def expire(self, data):
        self.expired(data.draw(st.integers(0, len(self.demands) - 1)))

    def expired(self, which):
        made, now = self.turn("large"), self.attempts.get("large")
        attempt, update, chunk = self.demands[which]
        said = (now["said"] or {}) if now and now["attempt"].key == attempt.key else {}
        inside = said.get("accepted", [])
        where = made.run, attempt.current.round, attempt.current.attempt, update.who, chunk
        accepted = [u.who for u in inside], [u.root for u in inside]
        if self.tried(made.write, made.members[0], "Disputes", "expire", *where, *accepted):
            del self.demands[which]
            if update in inside:
                assert made.phase == 0
                del self.attempts["large"]

    @precondition(lambda self: self.proposed())
    @rule(i=members)
    def settle(self, i):
        made, now = self.turn("large"), self.attempts["large"]
        if self.tried(made.write, made.members[i], "Disputes", "settle", made.run):
            self.over.append(("large", now["attempt"], now["said"]["seal"]))
            del self.attempts["large"]

    @precondition(lambda self: self.over)
    @rule(data=st.data(), who=members)
    def forfeit(self, data, who):
        name, attempt, (names, taken, weights, scores) = data.draw(st.sampled_from(self.over))
        made, before = self.turn(name), self.whole()
        victim = made.members[who]
        if self.tried(made.forfeit, attempt, victim, names, taken, votes_of(weights, scores)):
            assert victim.address not in names or made.read("Rounds", "excluded_of", attempt.key, victim.address)
            lost = {who: before[who] - now for who, now in self.whole().items()}
            assert 0 <= lost.pop(victim.address) <= BOND
            assert not any(lost.values())

    def whole(self):
        """What of each member's can be slashed: its deposit and what it asked back."""
        read = self.made.read
        return {a: d + read("Quorum", "notices", a)[0] for a, d in self.deposits().items()}

    @precondition(lambda self: self.attempts)
    @rule(name=publics, who=members, honest=st.booleans(), really=rarely(st.just(True)))
    def equivocation(self, name, who, honest, really):
        made, now = self.turn(name), self.attempts.get(name)
        if not now or not (honest or really):
            return
        one = made.rounds.ballot(now["attempt"], now["updates"], 1, word("one"), b"entry", b"\1")
        two = one if honest else made.rounds.ballot(now["attempt"], now["updates"], 1, word("two"), b"entry", b"\1")
        guilty, before = made.members[who], self.whole()
        signed = [guilty.sign_digest(b.digest(made.contracts.counter)) for b in (one, two)]
        done = self.tried(made.write, made.members[0], "Disputes", "equivocation", one.question, two.question, signed,
                          keccak(one.scores), keccak(two.scores))  # fmt: skip
        assert not (done and honest)
        if done:
            assert 0 <= before[guilty.address] - self.whole()[guilty.address] <= BOND

    # Hidden deltas, and what rounds pay

    @rule(voters=st.lists(members, unique=True) | st.just([0, 1, 2, 3, 4]), attempt=st.integers(0, 1))
    def record(self, voters, attempt):
        made, (number, base) = self.turn("hidden"), self.hidden
        prior, entry = made.named()
        ballot = Ballot(made.run, number + 1, attempt, base, prior, digest(entry))
        who = [made.members[i] for i in sorted(voters)]
        block = made.contracts.chain.head().number
        weigh = [made.read("Quorum", "weight_at", m.address, block) for m in who]
        total = made.read("Quorum", "weight_at", NOBODY, block)
        done = self.tried(
            made.contracts.record, made.members[0], made.run, attempt, prior, entry, made.sign(ballot, who)
        )
        assert bool(done) == (all(weigh) and total > 0 and 3 * sum(weigh) >= 2 * total)
        if done:
            self.hidden = number + 1, prior
            self.signed.append((number + 1, attempt, [m.address for m in who]))

    @rule(name=st.sampled_from(["direct", "large", "hidden"]), i=members, amount=st.sampled_from([0, PER_ROUND, 10**7]))
    def fund(self, name, i, amount):
        made = self.turn(name)
        self.tried(made.write, made.members[i], "Token", "approve", made.contracts.address("Rewards"), amount)
        self.tried(made.write, made.members[i], "Rewards", "fund", made.run, amount, PER_ROUND)

    @precondition(lambda self: self.over)
    @rule(data=st.data(), i=members)
    def claim(self, data, i):
        name, attempt, seal = data.draw(st.sampled_from(self.over))
        where = attempt.current
        self.fetched(name, i, where.round, "claim", where.round, where.attempt, *seal)

    @precondition(lambda self: self.signed)
    @rule(data=st.data(), i=members)
    def share(self, data, i):
        number, attempt, names = data.draw(st.sampled_from(self.signed))
        self.fetched("hidden", i, number, "share", number, attempt, names)

    def fetched(self, name, i, number, function, *values):
        made = self.turn(name)
        who = made.members[i]
        before = made.read("Token", "balanceOf", who.address)
        if self.tried(made.write, who, "Rewards", function, made.run, *values):
            self.paid.setdefault((name, number), {})
            assert who.address not in self.paid[name, number], "paid twice"
            self.paid[name, number][who.address] = made.read("Token", "balanceOf", who.address) - before

    # What always holds

    @invariant()
    def tokens_are_conserved(self):
        read, contracts = self.made.read, self.made.contracts

        def balance(account):
            return read("Token", "balanceOf", account)

        everyone = [*(m.address for m in self.made.members), *contracts.addresses]
        assert sum(map(balance, everyone)) == read("Token", "totalSupply")
        assert balance(contracts.address("Quorum")) == sum(self.whole().values()) + self.nobodys
        assert balance(contracts.address("Disputes")) == PRICE * len(self.demands)
        pots = sum(read("Rewards", "pots", run) for run, _ in self.runs.values())
        assert balance(contracts.address("Rewards")) == pots

    @invariant()
    def votes_are_what_stands_behind_them(self):
        read, block = self.made.read, self.made.contracts.chain.head().number
        weights = {m.address: read("Quorum", "weight_at", m.address, block) for m in self.made.members}
        assert sum(weights.values()) == read("Quorum", "weight_at", NOBODY, block)
        if self.stake:
            assert weights == {a: d if d >= RULES.least else 0 for a, d in self.deposits().items()}
        else:
            assert set(weights.values()) <= {0, 1}

    @invariant()
    def no_round_pays_more_than_it_may(self):
        assert all(sum(paid.values()) <= PER_ROUND for paid in self.paid.values())

    def teardown(self):
        """From wherever it stopped: wait, do what anybody may, and the next round is open."""
        if not hasattr(self, "made"):
            return
        self.made.wait(40_000)
        for which in reversed(range(len(self.demands))):
            self.expired(which)
        assert not self.demands
        for name in ("direct", "large"):
            made = self.turn(name)
            if made.phase == 2:
                made.write(made.members[0], "Disputes", "settle", made.run)
            before, block = made.contracts.current(made.run), made.contracts.chain.head().number
            voters = [m for m in made.members if made.read("Quorum", "weight_at", m.address, block)]
            if voters:
                made.rounds.open(voters[0])
                assert made.contracts.current(made.run)[:2] > before[:2]
                assert made.phase == 1


TestLedger = Ledger.TestCase
TestLedger.settings = settings(
    deadline=None, max_examples=30, stateful_step_count=50, suppress_health_check=list(HealthCheck)
)
