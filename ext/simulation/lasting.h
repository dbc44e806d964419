#ifndef SNAPSERV_LASTING_H
#define SNAPSERV_LASTING_H

#include <Python.h>

/* Objects that are there for as long as the process is, taken out of the counting of references: whoever uses one does
 * not write to its page, which a branch would copy. This is the interpreter's own way with None (PEP 683), from 3.12 on;
 * before that, and in builds that count differently, nothing is done, and 0 is returned. */

/* All of these objects, and what they refer to. Frames and generators are left out. Returns how many. */
Py_ssize_t snapserv_keep_all(PyObject *objects);

/* Code that is reached from modules: functions, types, descriptors, constants and names. What else a module holds may be
 * data, and is left to be freed. Returns how many. */
Py_ssize_t snapserv_keep_code(PyObject *modules);

/* Have the code of these functions, which the interpreter writes to while it learns, lie side by side, for good. Returns
 * -1 with an exception where that fails; those before are moved then. */
int snapserv_gather_code(PyObject *functions);

#endif
