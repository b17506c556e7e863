# pragma version 0.4.3
"""
@title int8 numbers, 32 to a word: their sum and their mean, for at most 256 contributors
@notice A number x of -128..127 stands as the byte x + 128 once its sign bit is flipped. The sum of 256 such bytes is at
    most 65,280, so a lane of 16 bits never runs over into its neighbour; with one contributor more it could. Two
    words of lanes hold the sums of one word of numbers: of the bytes at even places, from the right, and at odd ones.
"""

MOST: constant(uint256) = 256
WORDS: constant(uint256) = 64  # of 32 numbers: 2,048 of them
LANES: constant(uint256) = 128

EVEN: constant(uint256) = 450552876409790643671482431940419874915447411150352389258589821042463539455  # 00ff 16 times
SIGNS: constant(uint256) = 58123087930888129467517984631811969432229639361576439988433610796128943505536  # 80 32 times
HALF: constant(uint256) = 1766820105243087041267848467410591083712559083657179364930612997358944255  # 0000ffff 8 times
LOW: constant(uint256) = 6874786401724074090536375359574284372422408885825600641753357966377215  # 000000ff 8 times
ONES: constant(uint256) = 26959946673427741531515197488526605382048662297355296634326893985793  # 00000001 8 times


@internal
@pure
def added(lanes: uint256[LANES], delta: Bytes[2048]) -> uint256[LANES]:
    """
    @notice Add one contributor's numbers to the sums.
    @param lanes Two words for each 32 numbers.
    @param delta The numbers, 32 bytes a word, the last word filled up with zeros.
    """
    total: uint256[LANES] = lanes
    for i: uint256 in range(len(delta) // 32, bound=WORDS):
        word: uint256 = convert(extract32(delta, unsafe_mul(i, 32)), uint256) ^ SIGNS
        at: uint256 = unsafe_mul(i, 2)
        total[at] = unsafe_add(total[at], word & EVEN)
        at = unsafe_add(at, 1)
        total[at] = unsafe_add(total[at], (word >> 8) & EVEN)
    return total


@internal
@pure
def mean_word(even: uint256, odd: uint256, count: uint256) -> uint256:
    """
    @notice Return 32 means, floor(sum / count + 1/2), as int8 again.
    @dev Eight at a time in lanes of 32 bits: with y = sum + count // 2 and m = 2^24 // count + 1, y * m stays below
        2^32 and its top byte is y // count, for every count to 256 and every y that can occur.
    """
    reciprocal: uint256 = unsafe_add(unsafe_div(16777216, count), 1)
    half: uint256 = unsafe_mul(ONES, count >> 1)
    out: uint256 = (unsafe_mul(unsafe_add(even & HALF, half), reciprocal) >> 24) & LOW
    out |= ((unsafe_mul(unsafe_add(odd & HALF, half), reciprocal) >> 24) & LOW) << 8
    out |= ((unsafe_mul(unsafe_add((even >> 16) & HALF, half), reciprocal) >> 24) & LOW) << 16
    out |= ((unsafe_mul(unsafe_add((odd >> 16) & HALF, half), reciprocal) >> 24) & LOW) << 24
    return out ^ SIGNS


@internal
@pure
def mean(lanes: uint256[LANES], words: uint256, count: uint256) -> DynArray[uint256, WORDS]:
    """
    @notice Return the means of all numbers, 32 to a word.
    """
    assert count > 0 and count <= MOST, "L: count"
    out: DynArray[uint256, WORDS] = []
    for i: uint256 in range(words, bound=WORDS):
        out.append(self.mean_word(lanes[unsafe_mul(i, 2)], lanes[unsafe_add(unsafe_mul(i, 2), 1)], count))
    return out
