"""What can be reached from some objects, looked for without touching a reference count.

A branch shares its snapshot's heap, and whoever counts a reference to an object writes to the page that it lies on.
So this follows pointers as the collector does, by ``tp_traverse``, which reads only, and keeps its own notes in memory
that it gives back.
"""

import types

cimport cython
from cpython.object cimport PyObject, traverseproc, visitproc
from libc.stdint cimport int32_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        traverseproc tp_traverse
    PyTypeObject *Py_TYPE(PyObject *)
    int PyType_HasFeature(PyTypeObject *, unsigned long)
    int PyType_Check(PyObject *)
    int PyType_IsSubtype(PyTypeObject *, PyTypeObject *)
    int PyModule_Check(PyObject *)
    int PyFunction_Check(PyObject *)
    PyObject *PyFunction_GET_CLOSURE(PyObject *)
    PyObject *PyFunction_GET_DEFAULTS(PyObject *)
    PyObject *PyFunction_GET_KW_DEFAULTS(PyObject *)
    enum:
        Py_TPFLAGS_HAVE_GC
        Py_TPFLAGS_HEAPTYPE

cdef extern from "simulation/lasting.h":
    Py_ssize_t snapserv_keep_all(list objects)
    Py_ssize_t snapserv_keep_code(list modules)
    int snapserv_gather_code(list functions) except -1

cdef extern from "stdlib.h" nogil:
    void srand(unsigned int)
    char *initstate(unsigned int, char *, size_t)
    char *setstate(char *)

# The head of numpy's array and of its dtype, which extensions compiled for any version read alike: PyArrayObject_fields
# and PyArray_Descr of numpy/ndarraytypes.h.
cdef struct Array:
    Py_ssize_t refcount
    void *type
    PyObject **data
    int axes
    Py_ssize_t *shape
    Py_ssize_t *strides
    PyObject *base
    Dtype *dtype

cdef struct Dtype:
    Py_ssize_t refcount
    void *type
    PyObject *scalars
    char kind

cdef enum Verdict:
    LEAF
    INSIDE
    WANTED
    ARRAY

cdef struct Table:
    uintptr_t *keys
    char *verdicts
    size_t size
    size_t used

cdef struct Walk:
    Table seen
    Table kinds
    PyObject **queue
    int32_t *parents
    size_t room
    size_t count
    size_t at
    size_t most
    bint too_many
    bint failed
    PyTypeObject **wanted
    int wanted_count
    PyTypeObject *array
    PyObject *enters


@cython.overflowcheck(False)  # the product is meant to
cdef size_t place(Table *table, uintptr_t key) noexcept:
    cdef size_t at = ((key >> 4) * <size_t>0x9E3779B97F4A7C15) >> 20
    at &= table.size - 1
    while table.keys[at] != 0 and table.keys[at] != key:
        at = (at + 1) & (table.size - 1)
    return at


cdef bint grow(Table *table) noexcept:
    cdef Table larger
    cdef size_t i, at
    larger.size = table.size * 2 if table.size else 1024
    larger.used = table.used
    larger.keys = <uintptr_t *>calloc(larger.size, sizeof(uintptr_t))
    larger.verdicts = <char *>calloc(larger.size, 1)
    if larger.keys == NULL or larger.verdicts == NULL:
        free(larger.keys)
        free(larger.verdicts)
        return False
    for i in range(table.size):
        if table.keys[i] != 0:
            at = place(&larger, table.keys[i])
            larger.keys[at] = table.keys[i]
            larger.verdicts[at] = table.verdicts[i]
    free(table.keys)
    free(table.verdicts)
    table[0] = larger
    return True


cdef bint insert(Table *table, uintptr_t key, char verdict) noexcept:
    """Put a key in that is not there; return whether there was memory for it."""
    if table.used * 2 >= table.size and not grow(table):
        return False
    cdef size_t at = place(table, key)
    table.keys[at] = key
    table.verdicts[at] = verdict
    table.used += 1
    return True


cdef char verdict_of(Walk *walk, PyTypeObject *kind) noexcept:
    cdef size_t at = place(&walk.kinds, <uintptr_t>kind)
    if walk.kinds.keys[at] != 0:
        return walk.kinds.verdicts[at]
    cdef char verdict = LEAF
    cdef int i
    for i in range(walk.wanted_count):
        if PyType_IsSubtype(kind, walk.wanted[i]):
            verdict = WANTED
    if verdict == LEAF:
        if PyType_IsSubtype(kind, walk.array):
            verdict = ARRAY
        elif PyType_HasFeature(kind, Py_TPFLAGS_HAVE_GC):
            verdict = INSIDE
    if not insert(&walk.kinds, <uintptr_t>kind, verdict):
        walk.failed = True
    return verdict


cdef int visit(PyObject *thing, void *given) noexcept:
    """Take note of what an object refers to, where it has not been met."""
    cdef Walk *walk = <Walk *>given
    if thing == NULL:
        return 0
    cdef char verdict = verdict_of(walk, Py_TYPE(thing))
    if verdict == LEAF or walk.failed:
        return walk.failed
    cdef size_t at = place(&walk.seen, <uintptr_t>thing)
    if walk.seen.keys[at] != 0:
        return 0
    if walk.count >= walk.most:
        walk.too_many = True
        return 0
    if not insert(&walk.seen, <uintptr_t>thing, verdict) or not enqueue(walk, thing):
        walk.failed = True
        return 1
    return 0


cdef bint enqueue(Walk *walk, PyObject *thing) noexcept:
    cdef void *grown
    if walk.count == walk.room:
        walk.room = walk.room * 2 if walk.room else 1024
        grown = realloc(walk.queue, walk.room * sizeof(PyObject *))
        if grown == NULL:
            return False
        walk.queue = <PyObject **>grown
        grown = realloc(walk.parents, walk.room * sizeof(int32_t))
        if grown == NULL:
            return False
        walk.parents = <int32_t *>grown
    walk.queue[walk.count] = thing
    walk.parents[walk.count] = <int32_t>walk.at
    walk.count += 1
    return True


cdef void look_into_array(Walk *walk, PyObject *thing) noexcept:
    cdef Array *array = <Array *>thing
    cdef Py_ssize_t count = 1
    cdef int axis
    if array.base != NULL:  # whose memory it shows a part of
        visit(array.base, walk)
        return
    if array.dtype.kind != b"O" or array.data == NULL:
        return
    for axis in range(array.axes):
        count *= array.shape[axis]
    for axis in range(count):
        visit(array.data[axis], walk)


cdef int look_into(Walk *walk, PyObject *thing, char verdict) except -1:
    cdef PyTypeObject *kind = Py_TYPE(thing)
    if verdict == ARRAY:
        look_into_array(walk, thing)
        if not PyType_HasFeature(kind, Py_TPFLAGS_HAVE_GC):
            return 0
    elif PyFunction_Check(thing):  # not its globals: they are a module's
        visit(PyFunction_GET_CLOSURE(thing), walk)
        visit(PyFunction_GET_DEFAULTS(thing), walk)
        visit(PyFunction_GET_KW_DEFAULTS(thing), walk)
        return 0
    elif PyType_Check(thing):
        if not PyType_HasFeature(<PyTypeObject *>thing, Py_TPFLAGS_HEAPTYPE):
            return 0
        if not (<object>walk.enters)(<object>thing):
            return 0
    elif PyModule_Check(thing) and walk.parents[walk.at] >= 0:
        return 0
    if kind.tp_traverse != NULL:
        kind.tp_traverse(thing, <visitproc>visit, walk)
    return 0


def reach(list roots, tuple wanted, type array, enters, skip=(), size_t most=1 << 31):
    """Return what of some kinds can be reached from ``roots``, the nearest first, and whether that is all of it.

    Args:
        roots: Where to begin. A module among them is looked into, and no other module is.
        wanted: Types. What is an instance of one is found, and not looked into.
        array: numpy's array type: arrays of objects are looked into.
        enters: Whether a class that is met is looked into, and so what it holds for all instances.
        skip: Objects that are not looked into.
        most: How many objects are looked at.

    Returns:
        A list of ``(found, holders)``, where the holders are what it was reached through, the nearest first; and
        whether there was nothing beyond ``most``. What is held by a suspended generator, a closure, a bound method or
        a default argument is reached; what only a C library or a weak reference holds is not.

    Raises:
        MemoryError: There is none for the notes that this takes.
    """
    cdef Walk walk
    cdef int i
    cdef int32_t parent
    cdef PyObject *thing
    memset(&walk, 0, sizeof(walk))
    walk.most = most
    walk.array = <PyTypeObject *>array
    walk.enters = <PyObject *>enters
    walk.wanted_count = len(wanted)
    found = []
    try:
        walk.wanted = <PyTypeObject **>malloc(max(1, len(wanted)) * sizeof(PyTypeObject *))
        if walk.wanted == NULL or not grow(&walk.seen) or not grow(&walk.kinds):
            raise MemoryError
        for i in range(len(wanted)):
            walk.wanted[i] = <PyTypeObject *>wanted[i]
        for each in skip:
            if walk.seen.keys[place(&walk.seen, <uintptr_t><PyObject *>each)] == 0:
                if not insert(&walk.seen, <uintptr_t><PyObject *>each, LEAF):
                    raise MemoryError
        walk.at = <size_t>-1
        for each in roots:
            visit(<PyObject *>each, &walk)
        walk.at = 0
        while walk.at < walk.count and not walk.failed:
            thing = walk.queue[walk.at]
            verdict = verdict_of(&walk, Py_TYPE(thing))
            if verdict == WANTED:
                holders = []
                parent = walk.parents[walk.at]
                while parent >= 0 and len(holders) < 16:
                    holders.append(<object>walk.queue[parent])
                    parent = walk.parents[parent]
                found.append((<object>thing, holders))
            else:
                look_into(&walk, thing, verdict)
            walk.at += 1
        if walk.failed:
            raise MemoryError
        return found, not walk.too_many
    finally:
        free(walk.wanted)
        free(walk.seen.keys)
        free(walk.seen.verdicts)
        free(walk.kinds.keys)
        free(walk.kinds.verdicts)
        free(walk.queue)
        free(walk.parents)


def c_state():
    """Return where ``rand`` and ``random`` of the C library stand, as bytes to compare: initstate(3)."""
    cdef char other[128]
    cdef char *state = initstate(1, other, sizeof(other))
    # Only when it is exchanged does it hold where in it they stand, and which of five sizes it has.
    cdef size_t size = (8, 32, 64, 128, 256)[(<int32_t *>state)[0] % 5]
    held = state[:size]
    setstate(state)
    return held


def seed_c(unsigned int seed):
    """Seed ``rand`` and ``random`` of the C library."""
    srand(seed)


def keep_all(objects: list) -> int:
    """Have these objects, and what they refer to, never be freed, and never counted; return how many that are.

    None before Python 3.12, where all references are counted.
    """
    return snapserv_keep_all(objects)


def keep_code(modules: list) -> int:
    """Have functions, types, constants and names that are reached from modules never be freed: as `keep_all`."""
    return snapserv_keep_code(modules)


def gather_code(functions: list) -> None:
    """Have the code of these functions, which the interpreter writes to as it learns, lie side by side, for good."""
    for function in functions:
        if type(function) is not types.FunctionType:
            raise TypeError(f"{function!r} is no function of Python's")
    snapserv_gather_code(functions)
