# pragma version 0.4.3
# pragma evm-version cancun
"""
@title The token that stakes are deposited and rewards are paid in (ERC-20)
@notice All there will ever be is made when the contract is; nobody can make more of it, stop it or take it away.
@dev Errors begin with T.
"""
from ethereum.ercs import IERC20

implements: IERC20

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256

name: public(constant(String[32])) = "commonprior credit"
symbol: public(constant(String[8])) = "PRIOR"
decimals: public(constant(uint8)) = 6

totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])


@deploy
def __init__(holders: DynArray[address, 256], each: uint256):
    """
    @notice Give the same amount to every first holder.
    """
    for holder: address in holders:
        self.balanceOf[holder] += each
        self.totalSupply += each
        log Transfer(sender=empty(address), receiver=holder, value=each)


@external
def transfer(receiver: address, amount: uint256) -> bool:
    """
    @notice Move an amount of one's own.
    """
    self._move(msg.sender, receiver, amount)
    return True


@external
def transferFrom(owner: address, receiver: address, amount: uint256) -> bool:
    """
    @notice Move an amount that its owner has allowed the caller to move.
    """
    assert self.allowance[owner][msg.sender] >= amount, "T: allowance"
    self.allowance[owner][msg.sender] -= amount
    self._move(owner, receiver, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    """
    @notice Allow another to move up to an amount.
    """
    self.allowance[msg.sender][spender] = amount
    log Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@internal
def _move(sender: address, receiver: address, amount: uint256):
    assert receiver not in [empty(address), self], "T: receiver"
    assert self.balanceOf[sender] >= amount, "T: balance"
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, value=amount)
