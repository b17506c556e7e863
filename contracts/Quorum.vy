# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Quorum: who has a vote, how much it weighs, and what it stands to lose
@notice Two kinds. Authority: those on a list have one vote each, and two thirds of them change the list. Stake: a vote
    weighs what its holder deposited. Either way a deposit is what provable faults and missed reveals are paid from.
    Votes of a round are weighed as they stood in the block before it was opened, so that nothing that happens after
    gives anyone a second say (as in EIP-5805).
@dev Errors begin with Q. The contracts that may take deposits are fixed when this one is made; there is no owner.
"""
from ethereum.ercs import IERC20

AUTHORITY: constant(uint256) = 0
STAKE: constant(uint256) = 1
MOST: constant(uint256) = 64  # ballots in a round
MEMBERS: constant(uint256) = 96  # of whom two thirds are 64
CHANGE: constant(bytes32) = keccak256("Change(address member,bool admitted,uint256 number)")
DOMAIN: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
NAME: constant(bytes32) = keccak256("commonprior")
VERSION: constant(bytes32) = keccak256("1")

event Weighs:
    who: indexed(address)
    weight: uint256

event Deposited:
    who: indexed(address)
    amount: uint256

event Leaves:
    who: indexed(address)
    amount: uint256
    ready: uint256

event Withdrawn:
    who: indexed(address)
    amount: uint256

event Slashed:
    who: indexed(address)
    receiver: indexed(address)
    amount: uint256

struct Notice:
    amount: uint256
    ready: uint256

kind: public(immutable(uint256))
token: public(immutable(IERC20))
rounds: public(immutable(address))
disputes: public(immutable(address))
notice: public(immutable(uint256))
least: public(immutable(uint256))

deposits: public(HashMap[address, uint256])
notices: public(HashMap[address, Notice])
changes: public(uint256)
history: HashMap[address, HashMap[uint256, uint256]]  # block << 192 | weight; of no one: the total
lengths: HashMap[address, uint256]


@deploy
def __init__(
    kind_: uint256, members: DynArray[address, MEMBERS], token_: IERC20, rounds_: address, disputes_: address,
    notice_: uint256, least_: uint256,
):
    """
    @param kind_ 0: authority, 1: stake.
    @param members Who is on the list at first; nobody where votes are staked.
    @param notice_ Seconds between asking for a deposit and having it: longer than any round and its disputes.
    @param least_ The smallest deposit that has a vote, where votes are staked.
    """
    assert kind_ in [AUTHORITY, STAKE], "Q: kind"
    assert kind_ == AUTHORITY or len(members) == 0, "Q: members"
    kind = kind_
    token = token_
    rounds = rounds_
    disputes = disputes_
    notice = notice_
    least = least_
    for who: address in members:
        assert self._at(who, block.number) == 0, "Q: twice"
        self._weigh(who, 1)


@external
@nonreentrant
def deposit(amount: uint256):
    """
    @notice Put down an amount that this contract is allowed to take.
    """
    self.deposits[msg.sender] += amount
    log Deposited(who=msg.sender, amount=amount)
    self._restake(msg.sender)
    assert extcall token.transferFrom(msg.sender, self, amount), "Q: token"


@external
@nonreentrant
def request(amount: uint256):
    """
    @notice Ask for a part of one's deposit. It has no vote from now on, and can be slashed until it is paid out.
    """
    assert amount > 0 and amount <= self.deposits[msg.sender], "Q: amount"
    self.deposits[msg.sender] -= amount
    asked: Notice = self.notices[msg.sender]
    self.notices[msg.sender] = Notice(amount=asked.amount + amount, ready=block.timestamp + notice)
    log Leaves(who=msg.sender, amount=amount, ready=block.timestamp + notice)
    self._restake(msg.sender)


@external
@nonreentrant
def withdraw():
    """
    @notice Take what was asked for, once its notice is over.
    """
    asked: Notice = self.notices[msg.sender]
    assert asked.amount > 0, "Q: nothing"
    assert block.timestamp >= asked.ready, "Q: notice"
    self.notices[msg.sender] = empty(Notice)
    log Withdrawn(who=msg.sender, amount=asked.amount)
    assert extcall token.transfer(msg.sender, asked.amount), "Q: token"


@external
@nonreentrant
def slash(who: address, amount: uint256, receiver: address) -> uint256:
    """
    @notice Take from a deposit, as much as there is of what is due, and pay it out; return how much it was.
    """
    assert msg.sender in [rounds, disputes], "Q: judge"
    taken: uint256 = self._take(who, amount, receiver)
    if taken > 0:
        assert extcall token.transfer(receiver, taken), "Q: token"
    return taken


@external
@nonreentrant
def award(who: address, amount: uint256, finder: address, share: uint256) -> uint256:
    """
    @notice Take from a deposit, and put a share of it on the deposit of whoever showed the fault, who can ask for it
        like its own. The rest is nobody's, and stays here: a fault costs its maker something even if it shows it itself.
    """
    assert msg.sender in [rounds, disputes], "Q: judge"
    taken: uint256 = self._take(who, amount, finder)
    self.deposits[finder] += min(taken, share)
    self._restake(finder)
    return taken


@external
def change(member: address, admitted: bool, signatures: DynArray[Bytes[65], MOST]):
    """
    @notice Put someone on the list or take them off, by two thirds of those on it now, who sign the change's number.
    """
    assert kind == AUTHORITY, "Q: kind"
    domain: bytes32 = keccak256(abi_encode(DOMAIN, NAME, VERSION, chain.id, self))
    inner: bytes32 = keccak256(abi_encode(CHANGE, member, admitted, self.changes))
    digest: bytes32 = keccak256(concat(b"\x19\x01", domain, inner))
    last: uint256 = 0
    agreed: uint256 = 0
    for signature: Bytes[65] in signatures:
        assert len(signature) == 65, "Q: signature"
        r: uint256 = convert(extract32(signature, 0), uint256)
        s: uint256 = convert(extract32(signature, 32), uint256)
        who: address = ecrecover(digest, convert(slice(signature, 64, 1), uint256), r, s)
        assert convert(who, uint256) > last, "Q: order"
        last = convert(who, uint256)
        agreed += self._at(who, block.number)
    total: uint256 = self._at(empty(address), block.number)
    assert total > 0 and 3 * agreed >= 2 * total, "Q: two thirds"
    assert not admitted or total < MEMBERS, "Q: full"
    self.changes += 1
    self._weigh(member, 1 if admitted else 0)


@external
def leave():
    """
    @notice Leave the list. Whoever has left has no vote in any round opened after this block.
    """
    assert kind == AUTHORITY, "Q: kind"
    self._weigh(msg.sender, 0)


@external
@view
def weigh(signers: DynArray[address, MOST], number: uint256) -> (DynArray[uint256, MOST], uint256):
    """
    @notice Return what each signer's vote weighed at the end of a block, and all votes together; the signers come in
        rising order, so each but once.
    """
    assert number < block.number, "Q: block"
    out: DynArray[uint256, MOST] = []
    last: uint256 = 0
    for who: address in signers:
        assert convert(who, uint256) > last, "Q: order"
        last = convert(who, uint256)
        weight: uint256 = self._at(who, number)
        assert weight > 0, "Q: no vote"
        out.append(weight)
    total: uint256 = self._at(empty(address), number)
    assert total > 0, "Q: nobody"  # two thirds of no votes are no votes
    return out, total


@external
@view
def standing(who: address, number: uint256) -> (uint256, uint256):
    """
    @notice Return what a vote weighed at the end of a block, and the deposit behind it now.
    """
    return self._at(who, number), self.deposits[who]


@external
@view
def weight_at(who: address, number: uint256) -> uint256:
    """
    @notice Return what a vote weighed at the end of a block; nobody's is the total.
    """
    return self._at(who, number)


@internal
def _take(who: address, amount: uint256, receiver: address) -> uint256:
    first: uint256 = min(amount, self.deposits[who])
    second: uint256 = 0
    self.deposits[who] -= first
    if first < amount:
        second = min(amount - first, self.notices[who].amount)
        self.notices[who].amount -= second
    self._restake(who)
    log Slashed(who=who, receiver=receiver, amount=first + second)
    return first + second


@internal
def _restake(who: address):
    if kind == STAKE:
        amount: uint256 = self.deposits[who]
        self._weigh(who, amount if amount >= least else 0)


@internal
def _weigh(who: address, weight: uint256):
    assert who != empty(address), "Q: nobody"
    before: uint256 = self._at(who, block.number)
    if before == weight:
        return
    self._write(who, weight)
    self._write(empty(address), self._at(empty(address), block.number) + weight - before)
    log Weighs(who=who, weight=weight)


@internal
def _write(who: address, weight: uint256):
    length: uint256 = self.lengths[who]
    assert weight < 2**192, "Q: weight"
    if length > 0 and self.history[who][length - 1] >> 192 == block.number:
        length -= 1
    else:
        self.lengths[who] = length + 1
    self.history[who][length] = (block.number << 192) | weight


@internal
@view
def _at(who: address, number: uint256) -> uint256:
    low: uint256 = 0
    high: uint256 = self.lengths[who]
    if high > 0 and self.history[who][high - 1] >> 192 <= number:
        low = high
    for _: uint256 in range(64):
        if low >= high:
            break
        middle: uint256 = (low + high) // 2
        if self.history[who][middle] >> 192 <= number:
            low = middle + 1
        else:
            high = middle
    return 0 if low == 0 else self.history[who][low - 1] & (2**192 - 1)
