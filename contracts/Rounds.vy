# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Rounds: how one prior becomes the next, and by whose consent
@notice A run is begun by two thirds of the votes, in one of three modes that its terms name for good.
    Hidden deltas: updates were added under a secure sum; `record` takes the record's bytes and two thirds of the votes.
    Public deltas: `open`, then each contributor's `commit`; then `finalise` is given the deltas and the ballots, checks
    the ones against their commitments and counts the others, and averages what was accepted. Where a vector is too
    large for a contract, `propose` takes the Merkle root of the mean instead, and anyone may dispute it.
    A contributor who is left out shows its delta or its root by itself (`reveal`), and then nobody can leave it out.
    Nothing waits for anyone: after its deadlines a round goes on without whoever is missing, or is opened anew.
@dev Errors begin with R. Times are the chain's: on a chain of one's own they prove nothing.
    A vector has 32 numbers a word; the last word is filled up with zeros.
"""
import ballots
import lanes
import merkle

interface Quorum:
    def weigh(signers: DynArray[address, 64], number: uint256) -> (DynArray[uint256, 64], uint256): view
    def standing(who: address, number: uint256) -> (uint256, uint256): view
    def weight_at(who: address, number: uint256) -> uint256: view
    def notice() -> uint256: view

interface Registry:
    def begin(run: bytes32, family: bytes32, recipe: bytes32, prior: bytes32, proposer: address): nonpayable
    def append(run: bytes32, prior: bytes32, entry: bytes32): nonpayable
    def head(run: bytes32) -> (uint256, bytes32, address): view

HIDDEN: constant(uint256) = 0
DIRECT: constant(uint256) = 1
OPTIMISTIC: constant(uint256) = 2
# Arguments of these sizes lie in memory from their first to their last place, used or not, and memory costs gas.
CONTRIBUTORS: constant(uint256) = 256
PAGE: constant(uint256) = 16  # deltas in a transaction
LARGE: constant(uint256) = 32  # contributors of large vectors
ENTRY: constant(uint256) = 49152
SHORT_ENTRY: constant(uint256) = 1024  # of a round whose commitments are on the chain already

event Opened:
    run: indexed(bytes32)
    round: indexed(uint256)
    attempt: uint256
    base: bytes32

event Committed:
    run: indexed(bytes32)
    who: indexed(address)
    round: uint256
    attempt: uint256
    digest: bytes32

event Revealed:
    run: indexed(bytes32)
    who: indexed(address)
    root: bytes32
    salt: bytes32

event Finalised:
    run: indexed(bytes32)
    round: indexed(uint256)
    attempt: uint256
    prior: bytes32
    entry: bytes32
    taken: uint256
    mean: DynArray[uint256, 64]

event Proposed:
    run: indexed(bytes32)
    round: indexed(uint256)
    attempt: uint256
    prior: bytes32
    taken: uint256
    mean_root: bytes32
    proposer: address

event Void:
    run: indexed(bytes32)
    round: indexed(uint256)
    attempt: uint256

struct Terms:
    mode: uint256
    words: uint256  # of 32 numbers
    least: uint256  # contributors, and contributors that must be accepted
    commit_seconds: uint256
    reveal_seconds: uint256
    finalise_seconds: uint256
    bond: uint256

struct Current:
    round: uint256
    attempt: uint256
    opened: uint256  # seconds
    snapshot: uint256  # block
    committed: uint256
    revealed: uint256
    excluded: uint256
    phase: uint256

struct Partial:
    names: bytes32
    count: uint256
    taken: uint256
    summed: DynArray[uint256, 128]

struct Work:
    names: bytes32
    count: uint256
    taken: uint256
    summed: uint256[128]

struct Proposal:
    prior: bytes32
    entry: bytes32
    mean_root: bytes32
    names: bytes32  # over contributors, roots and who was accepted
    seal: bytes32
    proposer: address
    since: uint256

IDLE: constant(uint256) = 0
OPEN: constant(uint256) = 1
PROPOSED: constant(uint256) = 2

quorum: public(immutable(Quorum))
registry: public(immutable(Registry))
disputes: public(immutable(address))

_terms: HashMap[bytes32, uint256]
_current: HashMap[bytes32, uint256]
commit_of: public(HashMap[bytes32, HashMap[address, bytes32]])
revealed_of: public(HashMap[bytes32, HashMap[address, bool]])
excluded_of: public(HashMap[bytes32, HashMap[address, bool]])
pages: public(HashMap[bytes32, HashMap[address, bytes32]])
proposals: public(HashMap[bytes32, Proposal])
seals: public(HashMap[bytes32, bytes32])


@deploy
def __init__(quorum_: Quorum, registry_: Registry, disputes_: address):
    """
    @param disputes_ The contract that may void and settle proposals.
    """
    quorum = quorum_
    registry = registry_
    disputes = disputes_


# Beginning, recording: both modes


@external
def begin(
    family: bytes32, recipe: bytes32, prior: bytes32, entry: Bytes[ENTRY], terms: Terms, proposer: address,
    signatures: DynArray[Bytes[65], ballots.MOST_BALLOTS],
):
    """
    @notice Begin the run whose opening record `entry` is; the run's name is that record's hash.
    """
    assert msg.sender == tx.origin, "R: origin"  # an audit reads the record from the transaction itself
    run: bytes32 = sha256(entry)
    assert terms.mode <= OPTIMISTIC, "R: mode"
    if terms.mode != HIDDEN:
        assert terms.least > 0 and terms.least <= (CONTRIBUTORS if terms.mode == DIRECT else LARGE), "R: least"
        assert terms.words > 0 and (terms.mode == OPTIMISTIC or terms.words <= 64), "R: words"
        times: uint256 = terms.commit_seconds + terms.reveal_seconds + terms.finalise_seconds
        assert 4 * times <= staticcall quorum.notice(), "R: times"
    subject: bytes32 = keccak256(abi_encode(family, recipe, terms, proposer))
    question: ballots.Question = ballots.Question(
        run=run, round=0, attempt=0, base=empty(bytes32), prior=prior, entry=run, subject=subject
    )
    self._agreed(question, signatures, block.number - 1)
    self._terms[run] = self._packed(terms)
    extcall registry.begin(run, family, recipe, prior, proposer)


@external
def record(
    run: bytes32, attempt: uint256, prior: bytes32, entry: Bytes[ENTRY], signatures: DynArray[Bytes[65], ballots.MOST_BALLOTS]
):
    """
    @notice Hidden deltas: enter the next round. The record holds the roster's commitments and the sum's hash.
    """
    assert msg.sender == tx.origin, "R: origin"  # an audit reads the record from the transaction itself
    number: uint256 = 0
    base: bytes32 = empty(bytes32)
    proposer: address = empty(address)
    number, base, proposer = staticcall registry.head(run)
    assert self._terms[run] & 255 == HIDDEN, "R: mode"
    question: ballots.Question = ballots.Question(
        run=run, round=number + 1, attempt=attempt, base=base, prior=prior, entry=sha256(entry), subject=empty(bytes32)
    )
    self.seals[self._key(run, number + 1, attempt)] = self._agreed(question, signatures, block.number - 1)
    extcall registry.append(run, prior, question.entry)


# Public deltas


@external
def open(run: bytes32):
    """
    @notice Open the next round, or the next attempt at one whose time is over.
    """
    number: uint256 = 0
    base: bytes32 = empty(bytes32)
    proposer: address = empty(address)
    number, base, proposer = staticcall registry.head(run)
    terms: Terms = self._terms_of(run)
    assert terms.mode != HIDDEN, "R: mode"
    last: Current = self._current_of(run)
    assert last.phase != PROPOSED, "R: proposed"
    times: uint256 = terms.commit_seconds + terms.reveal_seconds + terms.finalise_seconds
    # Where the proposer is gone, any member may go on in its place.
    free: bool = proposer == empty(address) or (last.opened > 0 and block.timestamp >= last.opened + 4 * times)
    assert proposer == msg.sender or (
        free and staticcall quorum.weight_at(msg.sender, block.number - 1) > 0
    ), "R: proposer"
    assert last.phase == IDLE or block.timestamp >= last.opened + times, "R: open"
    attempt: uint256 = last.attempt + 1 if last.round == number + 1 else 0
    self._keep(run, Current(
        round=number + 1, attempt=attempt, opened=block.timestamp, snapshot=block.number - 1,
        committed=0, revealed=0, excluded=0, phase=OPEN,
    ))
    log Opened(run=run, round=number + 1, attempt=attempt, base=base)


@external
def commit(run: bytes32, digest: bytes32):
    """
    @notice Bind oneself to an update: keccak256 of (contributor, key, base, Merkle root, salt). It cannot be copied:
        the contributor's own address is in it.
    """
    now: Current = self._current_of(run)
    terms: Terms = self._terms_of(run)
    assert now.phase == OPEN, "R: phase"
    assert block.timestamp < now.opened + terms.commit_seconds, "R: late"
    assert now.committed < (CONTRIBUTORS if terms.mode == DIRECT else LARGE), "R: full"
    key: bytes32 = self._key(run, now.round, now.attempt)
    assert self.commit_of[key][msg.sender] == empty(bytes32) and digest != empty(bytes32), "R: twice"
    weight: uint256 = 0
    deposit: uint256 = 0
    weight, deposit = staticcall quorum.standing(msg.sender, now.snapshot)
    assert weight > 0, "R: member"
    assert deposit >= terms.bond, "R: bond"
    self.commit_of[key][msg.sender] = digest
    now.committed += 1
    self._keep(run, now)
    log Committed(run=run, who=msg.sender, round=now.round, attempt=now.attempt, digest=digest)


@external
def reveal(run: bytes32, root: bytes32, salt: bytes32, delta: Bytes[2048]):
    """
    @notice Show one's update, or for a large one its root, so that nobody can leave it out.
    """
    now: Current = self._current_of(run)
    terms: Terms = self._terms_of(run)
    key: bytes32 = self._key(run, now.round, now.attempt)
    assert now.phase == OPEN, "R: phase"
    over: uint256 = now.opened + terms.commit_seconds
    assert block.timestamp >= over and block.timestamp < over + terms.reveal_seconds, "R: late"
    shown: bytes32 = root
    if terms.mode == DIRECT:
        assert len(delta) == 32 * terms.words, "R: length"
        shown = merkle.root_of(delta)
    assert self._digest(key, msg.sender, self._head(run), shown, salt) == self.commit_of[key][msg.sender], "R: hash"
    assert not self.revealed_of[key][msg.sender], "R: twice"
    self.revealed_of[key][msg.sender] = True
    now.revealed += 1
    self._keep(run, now)
    log Revealed(run=run, who=msg.sender, root=shown, salt=salt)


@external
def page(
    run: bytes32, so_far: Partial, contributors: DynArray[address, PAGE], salts: DynArray[bytes32, PAGE],
    deltas: DynArray[Bytes[2048], PAGE], taken: uint256,
):
    """
    @notice Add some contributors' deltas where all of them are too many for one transaction. What has been added so far
        is kept as a hash, each caller's by itself; bit i of `taken` says whether number i of the round is averaged.
    """
    now: Current = self._current_of(run)
    key: bytes32 = self._key(run, now.round, now.attempt)
    assert now.phase == OPEN, "R: phase"
    whole: Work = self._taken_up(key, so_far)
    assert taken & (2**whole.count - 1) == whole.taken, "R: taken"
    words: uint256 = self._terms_of(run).words
    base: bytes32 = self._head(run)
    assert len(contributors) == len(salts) and len(salts) == len(deltas), "R: length"
    for i: uint256 in range(len(contributors), bound=PAGE):
        whole = self._take(whole, words, key, base, contributors[i], salts[i], deltas[i], taken)
    kept: Partial = Partial(names=whole.names, count=whole.count, taken=whole.taken, summed=[])
    if whole.taken != 0:
        for i: uint256 in range(2 * words, bound=128):
            kept.summed.append(whole.summed[i])
    self.pages[key][msg.sender] = keccak256(abi_encode(kept))


@external
def finalise(
    run: bytes32, prior: bytes32, entry: Bytes[SHORT_ENTRY], so_far: Partial,
    contributors: DynArray[address, CONTRIBUTORS], roots: DynArray[bytes32, LARGE],
    salts: DynArray[bytes32, LARGE], deltas: DynArray[Bytes[2048], PAGE], taken: uint256,
    mean_root: bytes32, signatures: DynArray[Bytes[65], ballots.MOST_BALLOTS],
    scores: DynArray[Bytes[CONTRIBUTORS], ballots.MOST_BALLOTS],
):
    """
    @notice Take what two thirds of the votes accept. Small vectors: average their deltas and enter the prior that comes
        of them. Large ones: propose the Merkle root of their mean, which can be disputed for a while.
    @param contributors All of the round, in rising order.
    @param roots Of all contributors, where vectors are large; else nothing.
    @param salts Of all contributors where vectors are large, else of those that no page has added, as `deltas`.
    @param scores A row for each signature, a byte for each contributor.
    """
    assert msg.sender == tx.origin, "R: origin"  # an audit reads the record from the transaction itself
    now: Current = self._current_of(run)
    terms: Terms = self._terms_of(run)
    key: bytes32 = self._key(run, now.round, now.attempt)
    base: bytes32 = self._head(run)
    assert now.phase == OPEN, "R: phase"
    assert block.timestamp >= now.opened + terms.commit_seconds, "R: early"
    count: uint256 = len(contributors)
    assert count >= terms.least, "R: least"
    whole: Work = self._taken_up(key, so_far)
    first: uint256 = whole.count
    assert taken & (2**first - 1) == whole.taken, "R: taken"
    if terms.mode == DIRECT:
        assert count == first + len(deltas) and len(salts) == len(deltas) and len(roots) == 0, "R: length"
    else:
        assert terms.mode == OPTIMISTIC and first == 0, "R: mode"
        assert len(roots) == count and len(salts) == count and len(deltas) == 0, "R: length"
        weight: uint256 = 0
        deposit: uint256 = 0
        weight, deposit = staticcall quorum.standing(msg.sender, now.snapshot)
        assert weight > 0 and deposit >= terms.bond, "R: bond"

    names: bytes32 = empty(bytes32)
    accepted: bytes32 = empty(bytes32)
    last: uint256 = 0
    revealed: uint256 = 0
    averaged: uint256 = 0
    for i: uint256 in range(count, bound=CONTRIBUTORS):
        who: address = contributors[i]
        assert convert(who, uint256) > last, "R: order"
        last = convert(who, uint256)
        names = keccak256(abi_encode(names, who))
        averaged += (taken >> i) & 1
        if now.excluded > 0:
            assert not self.excluded_of[key][who], "R: excluded"
        if now.revealed > 0 and self.revealed_of[key][who]:
            revealed += 1
        if terms.mode == OPTIMISTIC:
            assert self._digest(key, who, base, roots[i], salts[i]) == self.commit_of[key][who], "R: hash"
            if (taken >> i) & 1 == 1:
                accepted = keccak256(abi_encode(accepted, who, roots[i]))
        elif i >= first:
            whole = self._take(whole, terms.words, key, base, who, salts[i - first], deltas[i - first], taken)
    assert terms.mode == OPTIMISTIC or names == whole.names, "R: contributors"
    late: bool = block.timestamp >= now.opened + terms.commit_seconds + terms.reveal_seconds
    assert count + now.excluded >= now.committed or (late and revealed == now.revealed), "R: missing"
    assert averaged >= terms.least, "R: least"
    assert count == CONTRIBUTORS or taken >> count == 0, "R: taken"

    question: ballots.Question = ballots.Question(
        run=run, round=now.round, attempt=now.attempt, base=base, prior=prior, entry=sha256(entry),
        subject=keccak256(abi_encode(names, taken)),  # whoever brings the ballots must not choose who is averaged
    )
    domain: bytes32 = ballots.domain(self)
    signers: DynArray[address, ballots.MOST_BALLOTS] = []
    assert len(scores) == len(signatures), "R: scores"
    for i: uint256 in range(len(signatures), bound=ballots.MOST_BALLOTS):
        assert len(scores[i]) == count, "R: scores"
        signers.append(ballots.signer(ballots.digest(domain, question, keccak256(scores[i])), signatures[i]))
    weights: DynArray[uint256, ballots.MOST_BALLOTS] = []
    total: uint256 = 0
    weights, total = staticcall quorum.weigh(signers, now.snapshot)
    votes: bytes32 = empty(bytes32)
    agreed: uint256 = 0
    accepting: uint256[CONTRIBUTORS] = empty(uint256[CONTRIBUTORS])
    for i: uint256 in range(len(signers), bound=ballots.MOST_BALLOTS):
        row: Bytes[CONTRIBUTORS] = scores[i]
        agreed += weights[i]
        votes = keccak256(abi_encode(votes, weights[i], keccak256(row)))
        for j: uint256 in range(count, bound=CONTRIBUTORS):
            if convert(slice(row, j, 1), uint256) > 0:
                accepting[j] = unsafe_add(accepting[j], weights[i])
    assert 3 * agreed >= 2 * total, "R: two thirds"
    for j: uint256 in range(count, bound=CONTRIBUTORS):
        assert (3 * accepting[j] >= 2 * total) == ((taken >> j) & 1 == 1), "R: taken"

    seal: bytes32 = keccak256(abi_encode(names, taken, votes))
    if terms.mode == DIRECT:
        self.seals[key] = seal
        now.phase = IDLE
        log Finalised(
            run=run, round=now.round, attempt=now.attempt, prior=prior, entry=question.entry, taken=taken,
            mean=lanes.mean(whole.summed, terms.words, averaged),
        )
        extcall registry.append(run, prior, question.entry)
    else:
        self.proposals[key] = Proposal(
            prior=prior, entry=question.entry, mean_root=mean_root, names=accepted, seal=seal, proposer=msg.sender,
            since=block.timestamp,
        )
        now.phase = PROPOSED
        log Proposed(
            run=run, round=now.round, attempt=now.attempt, prior=prior, taken=taken, mean_root=mean_root,
            proposer=msg.sender,
        )
    self._keep(run, now)


@external
def settle(run: bytes32):
    """
    @notice Enter the prior of a proposal that nobody has shown to be wrong.
    """
    assert msg.sender == disputes, "R: disputes"
    now: Current = self._current_of(run)
    assert now.phase == PROPOSED, "R: phase"
    key: bytes32 = self._key(run, now.round, now.attempt)
    self.seals[key] = self.proposals[key].seal
    now.phase = IDLE
    self._keep(run, now)
    extcall registry.append(run, self.proposals[key].prior, self.proposals[key].entry)


@external
def void(run: bytes32):
    """
    @notice Throw a proposal out; the round can be opened anew at once.
    """
    assert msg.sender == disputes, "R: disputes"
    now: Current = self._current_of(run)
    assert now.phase == PROPOSED, "R: phase"
    now.phase = IDLE
    self._keep(run, now)
    log Void(run=run, round=now.round, attempt=now.attempt)


@external
def exclude(run: bytes32, who: address):
    """
    @notice Leave out a contributor who was asked for a part of its update and did not give it.
    """
    assert msg.sender == disputes, "R: disputes"
    now: Current = self._current_of(run)
    key: bytes32 = self._key(run, now.round, now.attempt)
    if not self.excluded_of[key][who]:
        self.excluded_of[key][who] = True
        now.excluded += 1
        if self.revealed_of[key][who]:
            now.revealed -= 1
        self._keep(run, now)


# Reading


@external
@view
def terms_of(run: bytes32) -> Terms:
    """
    @notice Return what a run was begun with.
    """
    return self._terms_of(run)


@external
@view
def current_of(run: bytes32) -> Current:
    """
    @notice Return where a run of public deltas stands.
    """
    return self._current_of(run)


@external
@view
def disputed(run: bytes32) -> (uint256, uint256, bytes32, bytes32, address):
    """
    @notice Return what a dispute about the run's proposal is about: words, bond, who was accepted (a hash of names and
        roots), the root of their mean, and who proposed it.
    """
    now: Current = self._current_of(run)
    assert now.phase == PROPOSED, "R: phase"
    terms: Terms = self._terms_of(run)
    key: bytes32 = self._key(run, now.round, now.attempt)
    return (
        terms.words, terms.bond, self.proposals[key].names, self.proposals[key].mean_root, self.proposals[key].proposer
    )


@external
@pure
def key_of(run: bytes32, round: uint256, attempt: uint256) -> bytes32:
    """
    @notice Return the name of one attempt at one round.
    """
    return self._key(run, round, attempt)


# Inside


@internal
@view
def _agreed(
    question: ballots.Question, signatures: DynArray[Bytes[65], ballots.MOST_BALLOTS], snapshot: uint256
) -> bytes32:
    """
    @notice Revert unless two thirds of the votes signed; return the seal over who did.
    """
    digest: bytes32 = ballots.digest(ballots.domain(self), question, keccak256(b""))
    signers: DynArray[address, ballots.MOST_BALLOTS] = []
    seal: bytes32 = empty(bytes32)
    for signature: Bytes[65] in signatures:
        who: address = ballots.signer(digest, signature)
        signers.append(who)
        seal = keccak256(abi_encode(seal, who))
    weights: DynArray[uint256, ballots.MOST_BALLOTS] = []
    total: uint256 = 0
    weights, total = staticcall quorum.weigh(signers, snapshot)
    agreed: uint256 = 0
    for weight: uint256 in weights:
        agreed += weight
    assert 3 * agreed >= 2 * total, "R: two thirds"
    return seal


@internal
@view
def _taken_up(key: bytes32, so_far: Partial) -> Work:
    """
    @notice Return what the caller's pages have added, to go on from; nothing where there is none.
    """
    work: Work = empty(Work)
    if so_far.count > 0:
        assert self.pages[key][msg.sender] == keccak256(abi_encode(so_far)), "R: page"
        work.names = so_far.names
        work.count = so_far.count
        work.taken = so_far.taken
        for i: uint256 in range(len(so_far.summed), bound=128):
            work.summed[i] = so_far.summed[i]
    return work


@internal
@view
def _take(
    so_far: Work, words: uint256, key: bytes32, base: bytes32, who: address, salt: bytes32, delta: Bytes[2048],
    taken: uint256,
) -> Work:
    assert len(delta) == 32 * words, "R: length"
    root: bytes32 = merkle.root_of(delta)
    assert self._digest(key, who, base, root, salt) == self.commit_of[key][who], "R: hash"
    whole: Work = so_far
    if (taken >> whole.count) & 1 == 1:
        whole.summed = lanes.added(whole.summed, delta)
        whole.taken |= 1 << whole.count
    whole.names = keccak256(abi_encode(whole.names, who))
    whole.count += 1
    return whole


@internal
@view
def _head(run: bytes32) -> bytes32:
    number: uint256 = 0
    base: bytes32 = empty(bytes32)
    proposer: address = empty(address)
    number, base, proposer = staticcall registry.head(run)
    return base


@internal
@pure
def _key(run: bytes32, round: uint256, attempt: uint256) -> bytes32:
    return keccak256(abi_encode(run, round, attempt))


@internal
@pure
def _digest(key: bytes32, who: address, base: bytes32, root: bytes32, salt: bytes32) -> bytes32:
    return keccak256(abi_encode(who, key, base, root, salt))


@internal
@pure
def _packed(terms: Terms) -> uint256:
    assert terms.words < 2**32 and terms.least < 2**16 and terms.bond < 2**96, "R: terms"
    assert max(max(terms.commit_seconds, terms.reveal_seconds), terms.finalise_seconds) < 2**32, "R: terms"
    return (
        terms.mode | (terms.words << 8) | (terms.least << 40) | (terms.commit_seconds << 56)
        | (terms.reveal_seconds << 88) | (terms.finalise_seconds << 120) | (terms.bond << 152) | (1 << 255)
    )


@internal
@view
def _terms_of(run: bytes32) -> Terms:
    packed: uint256 = self._terms[run]
    assert packed != 0, "R: unknown"
    return Terms(
        mode=packed & 255, words=(packed >> 8) & (2**32 - 1), least=(packed >> 40) & (2**16 - 1),
        commit_seconds=(packed >> 56) & (2**32 - 1), reveal_seconds=(packed >> 88) & (2**32 - 1),
        finalise_seconds=(packed >> 120) & (2**32 - 1), bond=(packed >> 152) & (2**96 - 1),
    )


@internal
def _keep(run: bytes32, now: Current):
    self._current[run] = (
        now.round | (now.attempt << 48) | (now.opened << 80) | (now.snapshot << 128) | (now.committed << 192)
        | (now.revealed << 208) | (now.excluded << 224) | (now.phase << 240)
    )


@internal
@view
def _current_of(run: bytes32) -> Current:
    packed: uint256 = self._current[run]
    return Current(
        round=packed & (2**48 - 1), attempt=(packed >> 48) & (2**32 - 1), opened=(packed >> 80) & (2**48 - 1),
        snapshot=(packed >> 128) & (2**64 - 1), committed=(packed >> 192) & (2**16 - 1),
        revealed=(packed >> 208) & (2**16 - 1), excluded=(packed >> 224) & (2**16 - 1), phase=(packed >> 240) & 255,
    )
