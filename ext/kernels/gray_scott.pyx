"""The reaction and diffusion of ``examples/gray_scott.py``: one tick over every cell, in place.

A tick rewrites both fields in place, row by row from the top. A row needs its neighbours as they were before the tick:
the one below still is, and three rows of each field are kept aside, namely the first row, the row above and
the row itself.
"""

from libc.string cimport memcpy

cdef extern from *:
    """
    typedef float *restrict snapserv_row;
    typedef const float *restrict snapserv_old_row;
    """
    # Rows that no other pointer of the same function reaches: what the compiler must know to use SIMD.
    ctypedef float *row_t "snapserv_row"
    ctypedef const float *old_row_t "snapserv_old_row"


def react(
    float[:, ::1] u,
    float[:, ::1] v,
    float[:, :, ::1] aside,
    float diffusion_u,
    float diffusion_v,
    float feed,
    float kill,
):
    """Advance both fields by one tick on a torus.

    All arithmetic is in single precision, in the order written here, with the five-point Laplacian
    ``((up + down) + (left + right)) - 4 * here``.

    Args:
        u: Concentration of the substrate.
        v: Concentration of the catalyst, of the same shape.
        aside: Scratch of shape (2, 3, columns); its contents mean nothing between calls.
        diffusion_u: Diffusion of u, in cells squared a tick.
        diffusion_v: Diffusion of v, likewise.
        feed: Rate at which u is fed and v is flushed out.
        kill: Rate at which v decays besides.

    Raises:
        ValueError: Shapes that do not agree, or a field without cells.
    """
    if u.shape[0] == 0 or u.shape[1] == 0 or v.shape[0] != u.shape[0] or v.shape[1] != u.shape[1]:
        raise ValueError("u and v have one shape, of at least 1 × 1")
    if aside.shape[0] != 2 or aside.shape[1] != 3 or aside.shape[2] != u.shape[1]:
        raise ValueError("aside has the shape (2, 3, columns)")
    with nogil:
        _react(u, v, aside, diffusion_u, diffusion_v, feed, kill)


cdef int _react(
    float[:, ::1] u,
    float[:, ::1] v,
    float[:, :, ::1] aside,
    float diffusion_u,
    float diffusion_v,
    float feed,
    float kill,
) except -1 nogil:
    cdef:
        Py_ssize_t rows = u.shape[0], cols = u.shape[1], row
        size_t nbytes = <size_t>cols * sizeof(float)
        float *u_first = &aside[0, 0, 0]
        float *u_above = &aside[0, 1, 0]
        float *u_here = &aside[0, 2, 0]
        float *v_first = &aside[1, 0, 0]
        float *v_above = &aside[1, 1, 0]
        float *v_here = &aside[1, 2, 0]
        float *u_below
        float *v_below
    memcpy(u_first, &u[0, 0], nbytes)
    memcpy(v_first, &v[0, 0], nbytes)
    memcpy(u_above, &u[rows - 1, 0], nbytes)
    memcpy(v_above, &v[rows - 1, 0], nbytes)
    for row in range(rows):
        memcpy(u_here, &u[row, 0], nbytes)
        memcpy(v_here, &v[row, 0], nbytes)
        u_below = &u[row + 1, 0] if row + 1 < rows else u_first
        v_below = &v[row + 1, 0] if row + 1 < rows else v_first
        _react_row(
            &u[row, 0], &v[row, 0], u_above, u_here, u_below, v_above, v_here, v_below,
            cols, diffusion_u, diffusion_v, feed, kill,
        )
        u_above, u_here = u_here, u_above
        v_above, v_here = v_here, v_above
    return 0


cdef void _react_row(
    row_t u,
    row_t v,
    old_row_t u_above,
    old_row_t u_here,
    old_row_t u_below,
    old_row_t v_above,
    old_row_t v_here,
    old_row_t v_below,
    Py_ssize_t cols,
    float diffusion_u,
    float diffusion_v,
    float feed,
    float kill,
) noexcept nogil:
    """Write one row; the columns at its ends, which wrap around, stand apart so that the rest is a plain loop."""
    cdef:
        Py_ssize_t col, end, last = cols - 1
        float flush = feed + kill
        float around_u, around_v
    for col in range(1, last):
        around_u = (u_above[col] + u_below[col]) + (u_here[col - 1] + u_here[col + 1])
        around_v = (v_above[col] + v_below[col]) + (v_here[col - 1] + v_here[col + 1])
        u[col] = _next_u(u_here[col], v_here[col], around_u, diffusion_u, feed)
        v[col] = _next_v(u_here[col], v_here[col], around_v, diffusion_v, flush)
    for end in range(2):
        col = end * last
        around_u = (u_above[col] + u_below[col]) + (u_here[(col + last) % cols] + u_here[(col + 1) % cols])
        around_v = (v_above[col] + v_below[col]) + (v_here[(col + last) % cols] + v_here[(col + 1) % cols])
        u[col] = _next_u(u_here[col], v_here[col], around_u, diffusion_u, feed)
        v[col] = _next_v(u_here[col], v_here[col], around_v, diffusion_v, flush)


# A literal 1.0 or 4.0 is a double in C and would make the whole expression one: hence the casts.
cdef inline float _next_u(float u, float v, float around, float diffusion, float feed) noexcept nogil:
    return u + (diffusion * (around - <float>4 * u) - u * v * v + feed * (<float>1 - u))


cdef inline float _next_v(float u, float v, float around, float diffusion, float flush) noexcept nogil:
    return v + (diffusion * (around - <float>4 * v) + u * v * v - flush * v)
