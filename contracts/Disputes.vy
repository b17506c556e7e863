# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Disputes: what can be proved against a proposal, a contributor or a voter, and what it costs them
@notice A proposal names the Merkle root of a mean. Whoever finds one chunk of 256 numbers that is not the mean of its
    contributors' chunks has it computed here: the proposal is void and half its proposer's bond goes to the challenger, who
    announced the challenge in an earlier block, so that nobody can copy it. Whoever lacks a contributor's chunk demands
    it here, with a bond that pays for the answer; without an answer in time the contributor is left out.
    Only what can be proved costs anything: a wrong mean, a withheld or unshown update (its bond and no more), two
    different ballots in one attempt. How good an update was is never punished.
@dev Errors begin with D.
"""
import ballots
import lanes
import merkle
from ethereum.ercs import IERC20

interface Quorum:
    def slash(who: address, amount: uint256, receiver: address) -> uint256: nonpayable
    def award(who: address, amount: uint256, finder: address, share: uint256) -> uint256: nonpayable
    def notice() -> uint256: view

interface Rewards:
    def credit(run: bytes32, amount: uint256): nonpayable

interface Rounds:
    def terms_of(run: bytes32) -> Terms: view
    def current_of(run: bytes32) -> Current: view
    def proposals(key: bytes32) -> Proposal: view
    def disputed(run: bytes32) -> (uint256, uint256, bytes32, bytes32, address): view
    def commit_of(key: bytes32, who: address) -> bytes32: view
    def excluded_of(key: bytes32, who: address) -> bool: view
    def seals(key: bytes32) -> bytes32: view
    def settle(run: bytes32): nonpayable
    def void(run: bytes32): nonpayable
    def exclude(run: bytes32, who: address): nonpayable

CONTRIBUTORS: constant(uint256) = 256
LARGE: constant(uint256) = 32
OPEN: constant(uint256) = 1
PROPOSED: constant(uint256) = 2

event Challenged:
    run: indexed(bytes32)
    chunk: uint256
    challenger: address
    amount: uint256

event Demanded:
    run: indexed(bytes32)
    who: indexed(address)
    chunk: uint256
    until: uint256

event Supplied:
    run: indexed(bytes32)
    who: indexed(address)
    chunk: uint256
    numbers: Bytes[256]

event Excluded:
    run: indexed(bytes32)
    who: indexed(address)

event Forfeited:
    run: indexed(bytes32)
    who: indexed(address)
    amount: uint256

event Equivocated:
    run: indexed(bytes32)
    who: indexed(address)
    amount: uint256

struct Terms:
    mode: uint256
    words: uint256
    least: uint256
    commit_seconds: uint256
    reveal_seconds: uint256
    finalise_seconds: uint256
    bond: uint256

struct Current:
    round: uint256
    attempt: uint256
    opened: uint256
    snapshot: uint256
    committed: uint256
    revealed: uint256
    excluded: uint256
    phase: uint256

struct Proposal:
    prior: bytes32
    entry: bytes32
    mean_root: bytes32
    names: bytes32
    seal: bytes32
    proposer: address
    since: uint256

struct Demand:
    by: address
    until: uint256

rounds: public(immutable(Rounds))
quorum: public(immutable(Quorum))
token: public(immutable(IERC20))
rewards: public(immutable(Rewards))
window: public(immutable(uint256))
answer: public(immutable(uint256))
price: public(immutable(uint256))

announced: public(HashMap[bytes32, uint256])
demands: public(HashMap[bytes32, Demand])
unanswered: public(HashMap[bytes32, uint256])
forfeited: public(HashMap[bytes32, HashMap[address, bool]])
faulted: public(HashMap[bytes32, HashMap[address, bool]])


@deploy
def __init__(
    rounds_: Rounds, quorum_: Quorum, token_: IERC20, rewards_: Rewards, window_: uint256, answer_: uint256,
    price_: uint256,
):
    """
    @param rewards_ Where forfeited bonds go.
    @param window_ Seconds in which a proposal can be disputed.
    @param answer_ Seconds in which a demand must be answered.
    @param price_ What a demand costs if it is answered.
    """
    assert 2 * (window_ + answer_) <= staticcall quorum_.notice(), "D: times"
    rounds = rounds_
    quorum = quorum_
    token = token_
    rewards = rewards_
    window = window_
    answer = answer_
    price = price_


@external
def announce(digest: bytes32):
    """
    @notice Announce a challenge: keccak256 of (challenger, run, chunk, salt).
    """
    assert self.announced[digest] == 0, "D: twice"
    self.announced[digest] = block.number


@external
def challenge(
    run: bytes32, chunk: uint256, salt: bytes32, contributors: DynArray[address, LARGE],
    deltas: DynArray[Bytes[256], LARGE],
    proofs: DynArray[DynArray[bytes32, merkle.DEPTH], LARGE],
    claimed: Bytes[256], claimed_proof: DynArray[bytes32, merkle.DEPTH],
):
    """
    @notice Have one chunk of a proposed mean computed from its contributors' chunks; void the proposal if it differs.
    @param contributors Who was accepted, in rising order, with their chunks and what leads from these to their roots.
    """
    began: uint256 = self.announced[keccak256(abi_encode(msg.sender, run, chunk, salt))]
    assert began > 0 and began < block.number, "D: announce"
    words: uint256 = 0
    bond: uint256 = 0
    accepted: bytes32 = empty(bytes32)
    mean_root: bytes32 = empty(bytes32)
    proposer: address = empty(address)
    words, bond, accepted, mean_root, proposer = staticcall rounds.disputed(run)
    count: uint256 = len(contributors)
    assert len(deltas) == count and len(proofs) == count, "D: length"
    size: uint256 = (words + 7) // 8
    names: bytes32 = empty(bytes32)
    summed: uint256[128] = empty(uint256[128])
    length: uint256 = 256 if chunk + 1 < size else 32 * words - 256 * (size - 1)
    for i: uint256 in range(count, bound=LARGE):
        assert len(deltas[i]) == length, "D: length"
        root: bytes32 = merkle.root_from(merkle.leaf(deltas[i]), chunk, size, proofs[i])
        names = keccak256(abi_encode(names, contributors[i], root))
        summed = lanes.added(summed, deltas[i])
    assert names == accepted, "D: contributors"
    assert merkle.root_from(merkle.leaf(claimed), chunk, size, claimed_proof) == mean_root, "D: proof"
    wrong: bool = len(claimed) != length
    mean: DynArray[uint256, 64] = lanes.mean(summed, length // 32, count)
    for i: uint256 in range(len(mean), bound=64):
        if wrong or convert(extract32(claimed, 32 * i), uint256) != mean[i]:
            wrong = True
            break
    assert wrong, "D: no fault"
    extcall rounds.void(run)
    amount: uint256 = extcall quorum.award(proposer, bond, msg.sender, bond // 2)
    log Challenged(run=run, chunk=chunk, challenger=msg.sender, amount=amount)


@external
def settle(run: bytes32):
    """
    @notice Have a proposal entered that nobody has shown to be wrong in time.
    """
    now: Current = staticcall rounds.current_of(run)
    key: bytes32 = keccak256(abi_encode(run, now.round, now.attempt))
    proposal: Proposal = staticcall rounds.proposals(key)
    assert now.phase == PROPOSED, "D: phase"
    assert block.timestamp >= proposal.since + window, "D: early"
    assert self.unanswered[key] == 0, "D: unanswered"
    extcall rounds.settle(run)


@external
@nonreentrant
def demand(run: bytes32, who: address, chunk: uint256):
    """
    @notice Demand one chunk of a contributor's update, which nobody can check without it; of nobody's, one of the
        proposed mean.
    """
    now: Current = staticcall rounds.current_of(run)
    terms: Terms = staticcall rounds.terms_of(run)
    key: bytes32 = keccak256(abi_encode(run, now.round, now.attempt))
    assert terms.mode == 2, "D: mode"
    if who == empty(address):
        assert now.phase == PROPOSED, "D: phase"
    else:
        assert staticcall rounds.commit_of(key, who) != empty(bytes32), "D: no commitment"
        assert not staticcall rounds.excluded_of(key, who), "D: excluded"
    assert chunk < (terms.words + 7) // 8, "D: chunk"
    if now.phase == PROPOSED:
        proposal: Proposal = staticcall rounds.proposals(key)
        assert block.timestamp < proposal.since + window, "D: late"
    else:
        assert now.phase == OPEN and block.timestamp >= now.opened + terms.commit_seconds, "D: phase"
    name: bytes32 = keccak256(abi_encode(key, who, chunk))
    assert self.demands[name].until == 0, "D: twice"
    self.demands[name] = Demand(by=msg.sender, until=block.timestamp + answer)
    self.unanswered[key] += 1
    log Demanded(run=run, who=who, chunk=chunk, until=block.timestamp + answer)
    assert extcall token.transferFrom(msg.sender, self, price), "D: token"


@external
@nonreentrant
def supply(
    run: bytes32, round: uint256, attempt: uint256, base: bytes32, root: bytes32, salt: bytes32, chunk: uint256,
    numbers: Bytes[256], proof: DynArray[bytes32, merkle.DEPTH],
):
    """
    @notice Answer a demand for a chunk of one's own update; its bond is the answer's pay.
    """
    key: bytes32 = keccak256(abi_encode(run, round, attempt))
    name: bytes32 = keccak256(abi_encode(key, msg.sender, chunk))
    asked: Demand = self.demands[name]
    assert asked.by != empty(address), "D: no demand"
    digest: bytes32 = keccak256(abi_encode(msg.sender, key, base, root, salt))
    assert digest == staticcall rounds.commit_of(key, msg.sender), "D: hash"
    self._supplied(run, key, name, msg.sender, root, chunk, numbers, proof)


@external
@nonreentrant
def supply_mean(
    run: bytes32, round: uint256, attempt: uint256, chunk: uint256, numbers: Bytes[256],
    proof: DynArray[bytes32, merkle.DEPTH],
):
    """
    @notice Answer a demand for a chunk of the proposed mean; whoever has it may, and is paid for it.
    """
    key: bytes32 = keccak256(abi_encode(run, round, attempt))
    name: bytes32 = keccak256(abi_encode(key, empty(address), chunk))
    assert self.demands[name].by != empty(address), "D: no demand"
    root: bytes32 = (staticcall rounds.proposals(key)).mean_root
    self._supplied(run, key, name, empty(address), root, chunk, numbers, proof)


@external
@nonreentrant
def expire(
    run: bytes32, round: uint256, attempt: uint256, who: address, chunk: uint256,
    contributors: DynArray[address, LARGE], roots: DynArray[bytes32, LARGE],
):
    """
    @notice Leave out a contributor who did not answer in time. A proposal with it in the mean is void; its proposer
        loses nothing. Where it is the mean that nobody showed, the proposal is void and half of its bond goes to whoever
        asked.
    @param contributors Who was accepted in the proposal, with their roots; nobody where there is none.
    """
    key: bytes32 = keccak256(abi_encode(run, round, attempt))
    name: bytes32 = keccak256(abi_encode(key, who, chunk))
    asked: Demand = self.demands[name]
    assert asked.by != empty(address) and block.timestamp >= asked.until, "D: demand"
    self.demands[name].by = empty(address)
    self.unanswered[key] -= 1
    now: Current = staticcall rounds.current_of(run)
    current: bool = now.round == round and now.attempt == attempt and now.phase != 0
    if current and who == empty(address):
        if now.phase == PROPOSED:
            extcall rounds.void(run)
            bond: uint256 = (staticcall rounds.terms_of(run)).bond
            proposer: address = (staticcall rounds.proposals(key)).proposer
            amount: uint256 = extcall quorum.award(proposer, bond, asked.by, bond // 2)
            log Challenged(run=run, chunk=chunk, challenger=asked.by, amount=amount)
    elif current:
        extcall rounds.exclude(run, who)
        log Excluded(run=run, who=who)
        if now.phase == PROPOSED:
            assert len(contributors) == len(roots), "D: length"
            names: bytes32 = empty(bytes32)
            inside: bool = False
            for i: uint256 in range(len(contributors), bound=LARGE):
                names = keccak256(abi_encode(names, contributors[i], roots[i]))
                inside = inside or contributors[i] == who
            assert names == (staticcall rounds.proposals(key)).names, "D: contributors"
            if inside:
                extcall rounds.void(run)
    assert extcall token.transfer(asked.by, price), "D: token"


@external
def forfeit(
    run: bytes32, round: uint256, attempt: uint256, who: address, contributors: DynArray[address, CONTRIBUTORS],
    taken: uint256, votes: bytes32,
):
    """
    @notice Take the bond of someone who committed and is not among the contributors of a finished round: it did not
        show its update in time, or would not show a part of it. The bond and no more, and once.
    @param contributors All of the round, with `taken` and `votes` what its seal is made of.
    """
    key: bytes32 = keccak256(abi_encode(run, round, attempt))
    assert staticcall rounds.commit_of(key, who) != empty(bytes32), "D: no commitment"
    assert not self.forfeited[key][who], "D: twice"
    if not staticcall rounds.excluded_of(key, who):
        seal: bytes32 = staticcall rounds.seals(key)
        assert seal != empty(bytes32), "D: not over"
        names: bytes32 = empty(bytes32)
        for name: address in contributors:
            assert name != who, "D: contributed"
            names = keccak256(abi_encode(names, name))
        assert keccak256(abi_encode(names, taken, votes)) == seal, "D: seal"
    self.forfeited[key][who] = True
    amount: uint256 = extcall quorum.slash(who, (staticcall rounds.terms_of(run)).bond, rewards.address)
    extcall rewards.credit(run, amount)
    log Forfeited(run=run, who=who, amount=amount)


@external
def equivocation(
    first: ballots.Question, second: ballots.Question, signatures: DynArray[Bytes[65], 2],
    first_scores: bytes32, second_scores: bytes32,
):
    """
    @notice Show two ballots of one voter in one attempt that say different things. Half of its bond goes to the caller,
        half to the rewards: nobody gains by giving themselves away.
    """
    assert len(signatures) == 2, "D: length"
    assert first.run == second.run and first.round == second.round and first.attempt == second.attempt, "D: same"
    domain: bytes32 = ballots.domain(rounds.address)
    one: bytes32 = ballots.digest(domain, first, first_scores)
    two: bytes32 = ballots.digest(domain, second, second_scores)
    assert one != two, "D: same"
    who: address = ballots.signer(one, signatures[0])
    assert who == ballots.signer(two, signatures[1]), "D: signer"
    key: bytes32 = keccak256(abi_encode(first.run, first.round, first.attempt))
    assert not self.faulted[key][who], "D: twice"
    self.faulted[key][who] = True
    bond: uint256 = (staticcall rounds.terms_of(first.run)).bond
    amount: uint256 = extcall quorum.award(who, bond // 2, msg.sender, bond // 2)
    kept: uint256 = extcall quorum.slash(who, bond - bond // 2, rewards.address)
    extcall rewards.credit(first.run, kept)
    amount += kept
    log Equivocated(run=first.run, who=who, amount=amount)


@internal
def _supplied(
    run: bytes32, key: bytes32, name: bytes32, who: address, root: bytes32, chunk: uint256, numbers: Bytes[256],
    proof: DynArray[bytes32, merkle.DEPTH],
):
    words: uint256 = (staticcall rounds.terms_of(run)).words
    size: uint256 = (words + 7) // 8
    assert len(numbers) == (256 if chunk + 1 < size else 32 * words - 256 * (size - 1)), "D: length"
    assert merkle.root_from(merkle.leaf(numbers), chunk, size, proof) == root, "D: proof"
    self.demands[name].by = empty(address)
    self.unanswered[key] -= 1
    log Supplied(run=run, who=who, chunk=chunk, numbers=numbers)
    assert extcall token.transfer(msg.sender, price), "D: token"
