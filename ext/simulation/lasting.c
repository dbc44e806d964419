#include "lasting.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNED(size) (((size_t)(size) + 15) & ~(size_t)15)

static size_t size_of(PyObject *code)
{
    return (size_t)PyCode_Type.tp_basicsize + (size_t)Py_SIZE(code) * (size_t)PyCode_Type.tp_itemsize;
}

/* A copy of a function's code at a place. Its parts are those of a copy of the interpreter's own making, which is never
 * freed and never used: so each part is counted once. */
static int move_code(PyObject *function, char *place)
{
    PyObject *code = PyFunction_GET_CODE(function), *replace = PyObject_GetAttrString(code, "replace");
    PyObject *copy = replace == NULL ? NULL : PyObject_CallNoArgs(replace);
    Py_XDECREF(replace);
    if (copy == NULL)
        return -1;
    memcpy(place, copy, size_of(copy));
    ((PyObject *)place)->ob_refcnt = (Py_ssize_t)1 << 30; /* it is no allocator's to free */
    return PyObject_SetAttrString(function, "__code__", (PyObject *)place);
}

int snapserv_gather_code(PyObject *functions)
{
    size_t size = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(functions); i++)
        size += ALIGNED(size_of(PyFunction_GET_CODE(PyList_GET_ITEM(functions, i))));
    char *place = aligned_alloc(4096, (size + 4095) & ~(size_t)4095);
    if (place == NULL)
        return PyErr_NoMemory(), -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(functions); i++) {
        PyObject *function = PyList_GET_ITEM(functions, i);
        size_t taken = ALIGNED(size_of(PyFunction_GET_CODE(function)));
        if (move_code(function, place) < 0)
            return -1;
        place += taken;
    }
    return 0;
}

/* 3.14 has another layout, a build without the lock and one for debugging count differently. */
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED) && !defined(Py_REF_DEBUG)

static Py_ssize_t kept;

static void keep(PyObject *thing)
{
    if (_Py_IsImmortal(thing))
        return;
    thing->ob_refcnt = _Py_IMMORTAL_REFCNT;
    kept++;
}

static int is_fleeting(PyObject *thing)
{
    return PyFrame_Check(thing) || PyGen_Check(thing) || PyCoro_CheckExact(thing) || PyAsyncGen_CheckExact(thing);
}

/* What is tracked is among the objects itself, or is not meant. */
static int keep_untracked(PyObject *thing, void *unused)
{
    if (_Py_IsImmortal(thing) || (PyObject_IS_GC(thing) && PyObject_GC_IsTracked(thing)))
        return 0;
    keep(thing);
    traverseproc traverse = Py_TYPE(thing)->tp_traverse;
    return PyObject_IS_GC(thing) && traverse != NULL ? traverse(thing, keep_untracked, unused) : 0;
}

Py_ssize_t snapserv_keep_all(PyObject *objects)
{
    kept = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(objects); i++) {
        PyObject *thing = PyList_GET_ITEM(objects, i);
        if (is_fleeting(thing))
            continue;
        keep(thing);
        traverseproc traverse = Py_TYPE(thing)->tp_traverse;
        if (traverse != NULL)
            traverse(thing, keep_untracked, NULL);
    }
    return kept;
}

static int is_constant(PyObject *thing)
{
    return PyUnicode_CheckExact(thing) || PyLong_CheckExact(thing) || PyFloat_CheckExact(thing) ||
           PyBytes_CheckExact(thing) || PyComplex_CheckExact(thing);
}

static int is_code(PyObject *thing)
{
    PyTypeObject *kind = Py_TYPE(thing);
    return PyType_Check(thing) || PyFunction_Check(thing) || PyCode_Check(thing) || PyCFunction_CheckExact(thing) ||
           kind == &PyMethodDescr_Type || kind == &PyWrapperDescr_Type || kind == &PyGetSetDescr_Type ||
           kind == &PyMemberDescr_Type || kind == &PyClassMethodDescr_Type || kind == &PyProperty_Type ||
           kind == &PyClassMethod_Type || kind == &PyStaticMethod_Type;
}

/* A tuple of code and constants, and of such tuples: bases, names, defaults. */
static int is_code_alone(PyObject *tuple)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i);
        if (item != NULL && !_Py_IsImmortal(item) && !is_constant(item) && !is_code(item) &&
            !(PyTuple_CheckExact(item) && is_code_alone(item)))
            return 0;
    }
    return 1;
}

static int keep_if_code(PyObject *thing, void *owner)
{
    if (_Py_IsImmortal(thing))
        return 0;
    /* The names of a type, and of a function, are in dicts of their own. */
    int names = PyDict_CheckExact(thing) && (PyType_Check(owner) || PyFunction_Check(owner));
    if (!names && !is_constant(thing) && !is_code(thing) && !(PyTuple_CheckExact(thing) && is_code_alone(thing)))
        return 0;
    keep(thing);
    traverseproc traverse = Py_TYPE(thing)->tp_traverse;
    if (PyCode_Check(thing)) { /* which the collector does not look into */
        PyCodeObject *code = (PyCodeObject *)thing;
        PyObject *parts[] = {code->co_consts, code->co_names, code->co_name, code->co_qualname, code->co_filename,
                             code->co_localsplusnames, code->co_localspluskinds, code->co_linetable,
                             code->co_exceptiontable};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            if (parts[i] != NULL)
                keep_if_code(parts[i], thing);
        return 0;
    }
    return PyObject_IS_GC(thing) && traverse != NULL ? traverse(thing, keep_if_code, thing) : 0;
}

Py_ssize_t snapserv_keep_code(PyObject *modules)
{
    kept = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(modules); i++) {
        PyObject *module = PyList_GET_ITEM(modules, i), *name, *value;
        Py_ssize_t at = 0;
        if (!PyModule_Check(module))
            continue;
        PyObject *names = PyModule_GetDict(module);
        keep(module);
        keep(names);
        while (PyDict_Next(names, &at, &name, &value)) {
            keep_if_code(name, module);
            keep_if_code(value, module);
        }
    }
    return kept;
}

#else

Py_ssize_t snapserv_keep_all(PyObject *objects)
{
    (void)objects;
    return 0;
}

Py_ssize_t snapserv_keep_code(PyObject *modules)
{
    (void)modules;
    return 0;
}

#endif
