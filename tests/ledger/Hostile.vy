# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A token that calls back whom it is told to, in the middle of every movement; and acts as an account of its own
"""

totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
victim: public(address)
call: public(Bytes[1024])
entered: public(uint256)
tried: public(uint256)


@deploy
def __init__(holders: DynArray[address, 256], each: uint256):
    """
    @notice Give everyone the same, and itself.
    """
    for holder: address in holders:
        self.balanceOf[holder] += each
    self.balanceOf[self] += each
    self.totalSupply = each * (len(holders) + 1)


@external
def arm(victim: address, call: Bytes[1024]):
    """
    @notice Say whom to call back, and with what, in the next movement.
    """
    self.victim = victim
    self.call = call


@external
def act(target: address, call: Bytes[1024]):
    """
    @notice Call a contract as an account would.
    """
    raw_call(target, call)


@external
def approve(spender: address, amount: uint256) -> bool:
    """
    @notice As in ERC-20.
    """
    self.allowance[msg.sender][spender] = amount
    return True


@external
def transfer(receiver: address, amount: uint256) -> bool:
    """
    @notice As in ERC-20, and a call back.
    """
    self._move(msg.sender, receiver, amount)
    return True


@external
def transferFrom(owner: address, receiver: address, amount: uint256) -> bool:
    """
    @notice As in ERC-20, and a call back.
    """
    if owner != self:
        self.allowance[owner][msg.sender] -= amount
    self._move(owner, receiver, amount)
    return True


@internal
def _move(sender: address, receiver: address, amount: uint256):
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    if self.victim != empty(address):
        victim: address = self.victim
        self.victim = empty(address)
        self.tried += 1
        if raw_call(victim, self.call, revert_on_failure=False):
            self.entered += 1
