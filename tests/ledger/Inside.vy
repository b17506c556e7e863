# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A door to what the modules compute, for tests
"""
import lanes
import merkle


@external
@pure
def mean(sums: uint256[128], words: uint256, count: uint256) -> DynArray[uint256, 64]:
    """
    @notice lanes.mean
    """
    return lanes.mean(sums, words, count)


@external
@pure
def added(sums: uint256[128], delta: Bytes[2048]) -> uint256[128]:
    """
    @notice lanes.added
    """
    return lanes.added(sums, delta)


@external
@pure
def root_of(delta: Bytes[2048]) -> bytes32:
    """
    @notice merkle.root_of
    """
    return merkle.root_of(delta)


@external
@pure
def root_from(leaf: bytes32, index: uint256, size: uint256, proof: DynArray[bytes32, 20]) -> bytes32:
    """
    @notice merkle.root_from
    """
    return merkle.root_from(leaf, index, size, proof)
