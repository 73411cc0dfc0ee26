/* Waiting for counters in shared memory with the interpreter let go. waiting.py holds a twin in Python, says what the
 * arguments are, and is the only caller. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_waiting.h"

static Counter *counter_at(Py_buffer *memory, Py_ssize_t offset) {
    if (offset < 0 || offset % 8 || offset + (Py_ssize_t)sizeof(Counter) > memory->len) {
        PyErr_Format(PyExc_ValueError, "no counter at byte %zd of %zd", offset, memory->len);
        return NULL;
    }
    return (Counter *)((char *)memory->buf + offset);
}

static PyObject *raise_to(PyObject *module, PyObject *arguments) {
    Py_buffer memory;
    Py_ssize_t offset;
    unsigned long long value;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "w*nK", &memory, &offset, &value)) return NULL;
    Counter *counter = counter_at(&memory, offset);
    if (counter) raise_counter(counter, value);
    PyBuffer_Release(&memory);
    if (!counter) return NULL;
    Py_RETURN_NONE;
}

static PyObject *wait_for(PyObject *module, PyObject *arguments) {
    Py_buffer memory;
    Py_ssize_t stride, count;
    unsigned long long value;
    long long spin_ns, timeout_ns;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "w*nnKLL", &memory, &stride, &count, &value, &spin_ns, &timeout_ns)) return NULL;
    if (stride <= 0 || count < 1 || !counter_at(&memory, 0) || !counter_at(&memory, stride * (count - 1))) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "expected one counter or more");
        PyBuffer_Release(&memory);
        return NULL;
    }
    int all = 1;
    Py_BEGIN_ALLOW_THREADS
    int64_t began = now_ns();
    for (Py_ssize_t place = 0; place < count && all; place++) {
        Counter *counter = (Counter *)((char *)memory.buf + stride * place);
        all = await_counter(counter, value, began + spin_ns, began + timeout_ns);
    }
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&memory);
    return PyBool_FromLong(all);
}

static PyMethodDef methods[] = {
    {"raise_to", raise_to, METH_VARARGS, "raise_to(memory, offset, value)"},
    {"wait_for", wait_for, METH_VARARGS, "wait_for(memory, stride, count, value, spin_ns, timeout_ns) -> bool"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_waiting", "Waiting for counters; see waiting.py.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__waiting(void) { return PyModuleDef_Init(&definition); }
