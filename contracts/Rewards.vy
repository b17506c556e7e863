# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Rewards: what a round pays, to be fetched by those who earned it
@notice Whoever likes funds a run with an amount a round. Public deltas: each contributor's share is its score, the mean
    of the votes weighed by their stake, each clipped to their median, so that a minority can lift nobody. Hidden deltas:
    nobody can tell who was good, so all who signed share alike. What is not earned, and bonds that were forfeited,
    stay in the run's pot. Nothing is ever sent to anyone who does not ask.
@dev Errors begin with W.
"""
from ethereum.ercs import IERC20

interface Rounds:
    def seals(key: bytes32) -> bytes32: view
    def registry() -> address: view

interface Registry:
    def head(run: bytes32) -> (uint256, bytes32, address): view

CONTRIBUTORS: constant(uint256) = 256
MOST: constant(uint256) = 64

event Funded:
    run: indexed(bytes32)
    amount: uint256
    per_round: uint256

event Claimed:
    run: indexed(bytes32)
    who: indexed(address)
    round: uint256
    amount: uint256

rounds: public(immutable(Rounds))
disputes: public(immutable(address))
token: public(immutable(IERC20))

pots: public(HashMap[bytes32, uint256])
per_round: public(HashMap[bytes32, uint256])
claimed: public(HashMap[bytes32, HashMap[address, bool]])


@deploy
def __init__(rounds_: Rounds, disputes_: address, token_: IERC20):
    """
    @param rounds_ The contract that seals who voted what in each round.
    @param disputes_ The contract that sends forfeited bonds here, and says for which run.
    """
    rounds = rounds_
    disputes = disputes_
    token = token_


@external
@nonreentrant
def fund(run: bytes32, amount: uint256, per_round: uint256):
    """
    @notice Put an amount into a run's pot. Each round may pay at most what a funder says who puts in as much at once:
        the largest so far counts, so that nobody can set it for others with next to nothing. It counts for rounds that
        are over too, so whoever raises it pays for them, or could fetch with it what others put in.
    """
    assert amount > 0, "W: amount"
    if per_round > self.per_round[run]:
        done: uint256 = 0
        prior: bytes32 = empty(bytes32)
        proposer: address = empty(address)
        done, prior, proposer = staticcall Registry(staticcall rounds.registry()).head(run)
        assert per_round < 2**128 and per_round * (done + 1) <= amount, "W: per round"
        self.per_round[run] = per_round
    assert self.per_round[run] > 0, "W: per round"
    self.pots[run] += amount
    log Funded(run=run, amount=amount, per_round=self.per_round[run])
    assert extcall token.transferFrom(msg.sender, self, amount), "W: token"


@external
def credit(run: bytes32, amount: uint256):
    """
    @notice Count a bond that has come in towards the pot of the run in which it was forfeited.
    """
    assert msg.sender == disputes, "W: disputes"
    self.pots[run] += amount


@external
@nonreentrant
def claim(
    run: bytes32, round: uint256, attempt: uint256, contributors: DynArray[address, CONTRIBUTORS], taken: uint256,
    weights: DynArray[uint256, MOST], scores: DynArray[Bytes[CONTRIBUTORS], MOST],
):
    """
    @notice Public deltas: fetch one's share of a finished round, with what its seal was made of.
    """
    key: bytes32 = keccak256(abi_encode(run, round, attempt))
    names: bytes32 = empty(bytes32)
    place: uint256 = CONTRIBUTORS
    count: uint256 = len(contributors)
    for i: uint256 in range(count, bound=CONTRIBUTORS):
        names = keccak256(abi_encode(names, contributors[i]))
        if contributors[i] == msg.sender:
            place = i
    assert place < count and (taken >> place) & 1 == 1, "W: not a contributor"
    assert len(scores) == len(weights), "W: scores"
    votes: bytes32 = empty(bytes32)
    total: uint256 = 0
    own: DynArray[uint256, MOST] = []
    for i: uint256 in range(len(weights), bound=MOST):
        row: Bytes[CONTRIBUTORS] = scores[i]
        votes = keccak256(abi_encode(votes, weights[i], keccak256(row)))
        own.append(convert(slice(row, place, 1), uint256))
        total += weights[i]
    assert keccak256(abi_encode(names, taken, votes)) == staticcall rounds.seals(key), "W: seal"
    self._pay(run, round, key, self.per_round[run] * self._score(own, weights, total) // (255 * count * total))


@external
@nonreentrant
def share(run: bytes32, round: uint256, attempt: uint256, signers: DynArray[address, MOST]):
    """
    @notice Hidden deltas: fetch one's equal share of a round that one signed.
    """
    key: bytes32 = keccak256(abi_encode(run, round, attempt))
    seal: bytes32 = empty(bytes32)
    for who: address in signers:
        seal = keccak256(abi_encode(seal, who))
    assert msg.sender in signers, "W: not a signer"
    assert seal == staticcall rounds.seals(key), "W: seal"
    self._pay(run, round, key, self.per_round[run] // len(signers))


@internal
@pure
def _score(scores: DynArray[uint256, MOST], weights: DynArray[uint256, MOST], total: uint256) -> uint256:
    """
    @notice Return the sum of weight * min(score, median): the median is the least score that half of the weight is at
        or below.
    """
    median: uint256 = 255
    for candidate: uint256 in scores:
        if candidate < median:
            below: uint256 = 0
            for i: uint256 in range(len(scores), bound=MOST):
                if scores[i] <= candidate:
                    below += weights[i]
            if 2 * below >= total:
                median = candidate
    out: uint256 = 0
    for i: uint256 in range(len(scores), bound=MOST):
        out += weights[i] * min(scores[i], median)
    return out


@internal
def _pay(run: bytes32, round: uint256, key: bytes32, due: uint256):
    assert not self.claimed[key][msg.sender], "W: twice"
    self.claimed[key][msg.sender] = True
    amount: uint256 = min(due, self.pots[run])
    self.pots[run] -= amount
    log Claimed(run=run, who=msg.sender, round=round, amount=amount)
    if amount > 0:
        assert extcall token.transfer(msg.sender, amount), "W: token"
