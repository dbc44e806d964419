"""The fire of ``examples/wildfire.py``: one tick of its cellular automaton, and what people do about it.

Cells are visited through the *front*, the list of cells that burn now, so a tick costs its front and writes no page
that the fire does not reach. The list is one array with as many entries as the map has cells. On even ticks it grows
from the bottom and the next one from the top, on odd ticks the other way round. A cell burns once, so this front
and the next have no cell in common and the two ends cannot meet; and only as many entries as the largest front
had are ever written at either end.

Chance is a function, not a sequence: the toss for the edge from a cell to its neighbour is output ``8 * cell +
direction`` of the SplitMix64 stream ``key`` (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014). The order of the front does not matter, there is no state to save, and futures that share a key
toss the same coins, so what differs between them is what was done differently.

Functions trust shapes to agree and check all that clients can change by writing fields.
"""

from libc.math cimport atan, exp, sqrt
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t

import cython

cpdef enum:
    UNBURNT = 0
    BURNING = 1
    BURNT = 2
    NO_FUEL = 3
    FIREBREAK = 4
    WET = 5

cdef double DEGREES = 57.29577951308232
"""In a radian."""

# Directions of spread, clockwise from north: (row, column) of the neighbour.
cdef int8_t *TO_ROW = [-1, -1, 0, 1, 1, 1, 0, -1]
cdef int8_t *TO_COL = [0, 1, 1, 1, 0, -1, -1, -1]


def toss(uint64_t key, uint64_t counter):
    """Return output ``counter`` of stream ``key``: a double of 53 random bits, at least 0 and less than 1."""
    return _toss(key, counter)


def spread(
    uint8_t[:, ::1] state,
    const uint8_t[:, ::1] fuel,
    const float[:, ::1] elevation,
    int32_t[::1] front,
    bint at_top,
    int64_t count,
    const double[::1] catches,
    const double[::1] wind,
    double cell_m,
    double slope_per_degree,
    uint64_t key,
):
    """Let every cell of the front try each neighbour once, then burn out; return (size of the next front, burnt).

    Args:
        state: What each cell is; changed in place.
        fuel: Class of each cell's fuel, an index into ``catches``.
        elevation: In metres.
        front: Flat indices of burning cells at one end; the next front is written at the other.
        at_top: Whether this front stands at the top end.
        count: How many cells this front has.
        catches: 256 probabilities that fuel of a class catches fire on level ground without wind.
        wind: 8 factors, a direction each, clockwise from north.
        cell_m: Side of a cell.
        slope_per_degree: Logarithm of the factor that a degree of slope uphill gives.
        key: Names the random stream.

    Raises:
        ValueError: The front is not one that this module made; whoever wrote the field is to blame.
    """
    cdef int64_t burnt = 0, following
    if catches.shape[0] != 256 or wind.shape[0] != 8:
        raise ValueError("catches has 256 entries and wind has 8")
    if not 0 <= count <= front.shape[0]:
        raise ValueError(f"a front of {count} cells on a map of {front.shape[0]}")
    with nogil:
        following = _spread(
            state, fuel, elevation, front, at_top, count, catches, wind, cell_m, slope_per_degree, key, &burnt
        )
    return following, burnt


def ignite(uint8_t[:, ::1] state, int32_t[::1] front, bint at_top, int64_t count, int64_t row, int64_t col):
    """Set an unburnt cell on fire; return the size of the front with it. Other cells stay as they are.

    Raises:
        IndexError: No such cell.
        ValueError: ``count`` is no size of a front that has room.
    """
    if not (0 <= row < state.shape[0] and 0 <= col < state.shape[1]):
        raise IndexError(f"no cell ({row}, {col})")
    if state[row, col] != UNBURNT:
        return count
    if not 0 <= count < front.shape[0]:
        raise ValueError(f"a front of {count} cells on a map of {front.shape[0]}")
    state[row, col] = BURNING
    front[_slot(front.shape[0], at_top, count)] = <int32_t>(row * state.shape[1] + col)
    return count + 1


def dig(uint8_t[:, ::1] state, int64_t row0, int64_t col0, int64_t row1, int64_t col1):
    """Clear unburnt fuel along a straight line, three cells wide; what else there is stays.

    Raises:
        IndexError: An end lies off the map.
    """
    if not (0 <= row0 < state.shape[0] and 0 <= row1 < state.shape[0]):
        raise IndexError(f"no row {row0} or {row1}")
    if not (0 <= col0 < state.shape[1] and 0 <= col1 < state.shape[1]):
        raise IndexError(f"no column {col0} or {col1}")
    with nogil:
        _dig(state, row0, col0, row1, col1)


def douse(uint8_t[:, ::1] state, int64_t row, int64_t col, int64_t radius):
    """Wet the burning and unburnt cells within ``radius`` cells of a place, which may lie off the map.

    Raises:
        ValueError: A radius below 0 or above 2**31, or a place as far away.
    """
    cdef int64_t limit = 1 << 31
    if not 0 <= radius <= limit or not -limit <= row <= limit or not -limit <= col <= limit:
        raise ValueError(f"no drop of radius {radius} at ({row}, {col})")
    with nogil:
        _douse(state, row, col, radius)


cdef int64_t _spread(
    uint8_t[:, ::1] state,
    const uint8_t[:, ::1] fuel,
    const float[:, ::1] elevation,
    int32_t[::1] front,
    bint at_top,
    int64_t count,
    const double[::1] catches,
    const double[::1] wind,
    double cell_m,
    double slope_per_degree,
    uint64_t key,
    int64_t *burnt,
) except -1 nogil:
    """Do the work of `spread`; the order of the floating-point operations is part of the contract."""
    cdef:
        int64_t rows = state.shape[0], cols = state.shape[1], cells = front.shape[0]
        int64_t entry, cell, row, col, to_row, to_col, following = 0
        int direction
        double run, rise, chance
        double diagonal_m = cell_m * sqrt(2.0)
    for entry in range(count):
        cell = front[_slot(cells, at_top, entry)]
        if cell < 0 or cell >= rows * cols:
            with gil:
                raise ValueError(f"the front names cell {cell} on a map of {rows} × {cols}")
        row = cell // cols
        col = cell - row * cols
        if state[row, col] != BURNING:  # water or a client's write put it out
            continue
        for direction in range(8):
            to_row = row + TO_ROW[direction]
            to_col = col + TO_COL[direction]
            if to_row < 0 or to_row >= rows or to_col < 0 or to_col >= cols:
                continue
            if state[to_row, to_col] != UNBURNT:
                continue
            run = diagonal_m if direction & 1 else cell_m
            rise = <double>elevation[to_row, to_col] - <double>elevation[row, col]
            chance = catches[fuel[to_row, to_col]] * wind[direction]
            chance = chance * exp(slope_per_degree * (atan(rise / run) * DEGREES))
            if _toss(key, <uint64_t>(cell * 8 + direction)) < chance:
                if following >= cells - count:
                    with gil:
                        raise ValueError("the two ends of the front meet: state was written from outside")
                state[to_row, to_col] = BURNING
                front[_slot(cells, not at_top, following)] = <int32_t>(to_row * cols + to_col)
                following += 1
        state[row, col] = BURNT
        burnt[0] += 1
    return following


cdef inline int64_t _slot(int64_t cells, bint at_top, int64_t entry) noexcept nogil:
    """Return where the front keeps an entry, counted from its end of the array."""
    return cells - 1 - entry if at_top else entry


@cython.overflowcheck(False)  # the mixer is arithmetic modulo 2**64
cdef inline double _toss(uint64_t key, uint64_t counter) noexcept nogil:
    cdef uint64_t z = key + (counter + 1) * <uint64_t>0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return <double>((z ^ (z >> 31)) >> 11) * 1.1102230246251565e-16  # 2**-53


cdef int _dig(uint8_t[:, ::1] state, int64_t row, int64_t col, int64_t row1, int64_t col1) except -1 nogil:
    """Walk Bresenham's line with a square brush of 3 × 3 cells; through such a line no diagonal step leaks."""
    cdef:
        int64_t down = 1 if row1 > row else -1, right = 1 if col1 > col else -1
        int64_t height = (row1 - row) * down, width = (col1 - col) * right
        int64_t error = width - height, twice, brush_row, brush_col
    while True:
        for brush_row in range(max(row - 1, 0), min(row + 2, state.shape[0])):
            for brush_col in range(max(col - 1, 0), min(col + 2, state.shape[1])):
                if state[brush_row, brush_col] == UNBURNT:
                    state[brush_row, brush_col] = FIREBREAK
        if row == row1 and col == col1:
            return 0
        twice = 2 * error
        if twice > -height:
            error -= height
            col += right
        if twice < width:
            error += width
            row += down


cdef int _douse(uint8_t[:, ::1] state, int64_t row, int64_t col, int64_t radius) except -1 nogil:
    cdef int64_t wet_row, wet_col
    for wet_row in range(max(row - radius, 0), min(row + radius + 1, state.shape[0])):
        for wet_col in range(max(col - radius, 0), min(col + radius + 1, state.shape[1])):
            if (wet_row - row) * (wet_row - row) + (wet_col - col) * (wet_col - col) <= radius * radius:
                if state[wet_row, wet_col] == UNBURNT or state[wet_row, wet_col] == BURNING:
                    state[wet_row, wet_col] = WET
    return 0
