/* The JSON of an ordinary inference request straight into tensors: names, types and shapes as the model has them, lists
 * of numbers, and perhaps an id. Whatever is out of the ordinary (other members, texts with escapes, a number that is in
 * doubt, anything wrong) ends without a result: the reader in Python then takes the same bytes and decides. So this
 * gives what that one gives, or nothing.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#include "../../base/_decimals.h"

#define MAX_INPUTS 32
#define MAX_DIMENSIONS 8
#define PLAN "shoal.serve.wire._infer_body.plan"

typedef struct {
    const char *name, *datatype;
    Py_ssize_t name_bytes, datatype_bytes;
    char kind; /* 'f' a float, 'i' a signed and 'u' an unsigned whole number */
    int item_bytes;
    int num_dimensions;
    int64_t sizes[MAX_DIMENSIONS]; /* -1 for the rows */
} Input;

typedef struct {
    PyObject *fields, *powers_owner; /* they keep what the pointers point to */
    const uint64_t *powers;
    int num_inputs;
    Input inputs[MAX_INPUTS];
} Plan;

/* What stands in one entry of a request's inputs. */
typedef struct {
    int place; /* of the input, -1 before its name */
    int has_datatype, num_dimensions, is_read;
    int64_t shape[MAX_DIMENSIONS];
    const char *datatype;
    Py_ssize_t datatype_bytes;
    const uint8_t *data; /* where the list begins */
} Entry;

static inline const uint8_t *skip_blanks(const uint8_t *at, const uint8_t *end)
{
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

/* Takes one mark and the blanks around it; NULL where another stands. */
static inline const uint8_t *take(const uint8_t *at, const uint8_t *end, uint8_t mark)
{
    at = skip_blanks(at, end);
    return at < end && *at == mark ? skip_blanks(at + 1, end) : NULL;
}

/* Reads a text of printable ASCII without escapes; returns what follows its quote. */
static const uint8_t *read_text(const uint8_t *at, const uint8_t *end, const char **text, Py_ssize_t *num_bytes)
{
    if (at >= end || *at != '"')
        return NULL;
    const uint8_t *begin = ++at;
    while (at < end && *at >= ' ' && *at < 0x7F && *at != '"' && *at != '\\')
        at++;
    if (at >= end || *at != '"')
        return NULL;
    *text = (const char *)begin;
    *num_bytes = at - begin;
    return at + 1;
}

static inline int is_text(const char *text, Py_ssize_t num_bytes, const char *expected, Py_ssize_t expected_bytes)
{
    return num_bytes == expected_bytes && memcmp(text, expected, (size_t)num_bytes) == 0;
}

static const uint8_t *read_shape(const uint8_t *at, const uint8_t *end, Entry *entry)
{
    int count = 0;
    if ((at = take(at, end, '[')) == NULL)
        return NULL;
    while (count < MAX_DIMENSIONS && (at = read_int64(at, end, entry->shape + count)) != NULL) {
        if (entry->shape[count++] < 1)
            return NULL;
        at = skip_blanks(at, end);
        if (at < end && *at == ']') {
            entry->num_dimensions = count;
            return at + 1;
        }
        if ((at = take(at, end, ',')) == NULL)
            return NULL;
    }
    return NULL;
}

/* Skips lists of numbers, which are read when the entry is known. */
static const uint8_t *skip_data(const uint8_t *at, const uint8_t *end)
{
    int depth = 0;
    for (; at < end; at++) {
        if (*at == '[')
            depth++;
        else if (*at == ']' && --depth == 0)
            return at + 1;
        else if (*at == '"' || *at == '{' || depth == 0)
            return NULL;
    }
    return NULL;
}

static inline const uint8_t *read_float(const Input *input, const uint8_t *at, const uint8_t *end,
                                        const uint64_t *powers, char *into)
{
    const uint8_t *begin = at;
    double value;
    /* Much of what is sent is zero. */
    if (end - at > 3 && memcmp(at, "0.0", 3) == 0 && (at[3] == ',' || at[3] == ']')) {
        memset(into, 0, (size_t)input->item_bytes);
        return at + 3;
    }
    if ((at = read_double(at, end, powers, &value)) == NULL)
        return NULL;
    /* To the reader in Python this is the whole number 0, which has no sign. */
    if (value == 0 && *begin == '-' && at == begin + 2)
        return NULL;
    if (input->item_bytes == 8) {
        memcpy(into, &value, 8);
        return at;
    }
    float single;
    if (!to_single(value, &single))
        return NULL;
    memcpy(into, &single, 4);
    return at;
}

/* Reads a whole number: up to three digits by themselves, as pixels and classes have them. */
static inline const uint8_t *read_whole(const uint8_t *at, const uint8_t *end, int64_t *found)
{
    if (end - at > 3 && is_digit(*at)) {
        const uint8_t *next = at + 1;
        int value = *at - '0';
        if (value && is_digit(*next))
            value = value * 10 + (*next++ - '0');
        if (value > 9 && is_digit(*next))
            value = value * 10 + (*next++ - '0');
        if (*next == ',' || *next == ']') {
            *found = value;
            return next;
        }
    }
    return read_int64(at, end, found);
}

static inline const uint8_t *read_integer(const Input *input, const uint8_t *at, const uint8_t *end, char *into)
{
    int64_t value;
    if ((at = read_whole(at, end, &value)) == NULL)
        return NULL;
    /* 1.0 and 1e0 are no whole numbers to the reader in Python. */
    if (at < end && (*at == '.' || (*at | 32) == 'e'))
        return NULL;
    int is_signed = input->kind == 'i';
    if (!is_signed && value < 0)
        return NULL;
    switch (input->item_bytes) {
    case 1:
        if (is_signed ? value < INT8_MIN || value > INT8_MAX : value > UINT8_MAX)
            return NULL;
        *(uint8_t *)into = (uint8_t)value;
        return at;
    case 2: {
        if (is_signed ? value < INT16_MIN || value > INT16_MAX : value > UINT16_MAX)
            return NULL;
        uint16_t bits = (uint16_t)value;
        memcpy(into, &bits, 2);
        return at;
    }
    case 4: {
        if (is_signed ? value < INT32_MIN || value > INT32_MAX : value > UINT32_MAX)
            return NULL;
        uint32_t bits = (uint32_t)value;
        memcpy(into, &bits, 4);
        return at;
    }
    default:
        memcpy(into, &value, 8);
        return at;
    }
}

/* Reads `count` numbers between brackets. */
static const uint8_t *read_numbers(const Input *input, const uint8_t *at, const uint8_t *end, const uint64_t *powers,
                                   int64_t count, char **into)
{
    char *to = *into;
    int item_bytes = input->item_bytes, is_float = input->kind == 'f';
    if ((at = take(at, end, '[')) == NULL)
        return NULL;
    for (int64_t i = 0; i < count; i++, to += item_bytes) {
        at = is_float ? read_float(input, at, end, powers, to) : read_integer(input, at, end, to);
        if (at == NULL || at >= end)
            return NULL;
        if (*at <= ' ')
            at = skip_blanks(at, end);
        if (at >= end || *at != (i + 1 < count ? ',' : ']'))
            return NULL;
        at++;
        if (i + 1 < count && at < end && *at <= ' ')
            at = skip_blanks(at, end);
    }
    *into = to;
    return at;
}

/* Reads lists in lists, as long at every level as the shape says. */
static const uint8_t *read_nested(const Input *input, const Entry *entry, int level, const uint8_t *at,
                                  const uint8_t *end, const uint64_t *powers, char **into)
{
    int64_t count = entry->shape[level];
    if (level == entry->num_dimensions - 1)
        return read_numbers(input, at, end, powers, count, into);
    if ((at = take(at, end, '[')) == NULL)
        return NULL;
    for (int64_t i = 0; i < count; i++) {
        if ((at = read_nested(input, entry, level + 1, at, end, powers, into)) == NULL)
            return NULL;
        at = skip_blanks(at, end);
        if (at >= end || *at != (i + 1 < count ? ',' : ']'))
            return NULL;
        at = i + 1 < count ? skip_blanks(at + 1, end) : at + 1;
    }
    return at;
}

/* Makes the bytes of one tensor; returns where its text ends. */
static const uint8_t *read_data(const Plan *plan, const Entry *entry, const uint8_t *end, PyObject **tensors)
{
    const Input *input = plan->inputs + entry->place;
    int64_t count = 1;
    /* A number takes two letters at least: a shape beyond the text asks for no memory. */
    for (int i = 0; i < entry->num_dimensions; i++)
        if (entry->shape[i] > end - entry->data || (count *= entry->shape[i]) > end - entry->data)
            return NULL;
    PyObject *tensor = PyBytes_FromStringAndSize(NULL, count * input->item_bytes);
    if (tensor == NULL)
        return NULL;
    char *into = PyBytes_AS_STRING(tensor);
    const uint8_t *inside = skip_blanks(entry->data + 1, end);
    int is_nested = entry->num_dimensions > 1 && inside < end && *inside == '[';
    const uint8_t *behind = is_nested ? read_nested(input, entry, 0, entry->data, end, plan->powers, &into)
                                      : read_numbers(input, entry->data, end, plan->powers, count, &into);
    tensors[entry->place] = tensor;
    return behind;
}

/* Whether an entry is the input that it names, in type and shape; its rows are compared with those of the others. */
static int fits(const Plan *plan, const Entry *entry, int64_t *num_rows)
{
    const Input *input = plan->inputs + entry->place;
    if (!is_text(entry->datatype, entry->datatype_bytes, input->datatype, input->datatype_bytes) ||
        entry->num_dimensions != input->num_dimensions)
        return 0;
    for (int i = 0; i < input->num_dimensions; i++) {
        if (input->sizes[i] >= 0) {
            if (entry->shape[i] != input->sizes[i])
                return 0;
        } else if (*num_rows < 0)
            *num_rows = entry->shape[i];
        else if (*num_rows != entry->shape[i])
            return 0;
    }
    return 1;
}

static inline int is_known(const Entry *entry)
{
    return entry->place >= 0 && entry->has_datatype && entry->num_dimensions > 0;
}

static const uint8_t *read_known(const Plan *plan, Entry *entry, const uint8_t *end, PyObject **tensors,
                                 int64_t *num_rows)
{
    if (!fits(plan, entry, num_rows) || tensors[entry->place] != NULL)
        return NULL;
    entry->is_read = 1;
    return read_data(plan, entry, end, tensors);
}

static const uint8_t *read_member(const Plan *plan, const uint8_t *at, const uint8_t *end, Entry *entry,
                                  PyObject **tensors, int64_t *num_rows)
{
    const char *key, *text;
    Py_ssize_t key_bytes, text_bytes;
    if ((at = read_text(at, end, &key, &key_bytes)) == NULL || (at = take(at, end, ':')) == NULL)
        return NULL;
    if (is_text(key, key_bytes, "name", 4) && entry->place < 0) {
        if ((at = read_text(at, end, &text, &text_bytes)) == NULL)
            return NULL;
        for (int i = 0; i < plan->num_inputs; i++)
            if (is_text(text, text_bytes, plan->inputs[i].name, plan->inputs[i].name_bytes))
                entry->place = i;
        return entry->place < 0 ? NULL : at;
    }
    if (is_text(key, key_bytes, "datatype", 8) && !entry->has_datatype) {
        entry->has_datatype = 1;
        return read_text(at, end, &entry->datatype, &entry->datatype_bytes);
    }
    if (is_text(key, key_bytes, "shape", 5) && entry->num_dimensions == 0)
        return read_shape(at, end, entry);
    if (is_text(key, key_bytes, "data", 4) && entry->data == NULL) {
        entry->data = at;
        return is_known(entry) ? read_known(plan, entry, end, tensors, num_rows) : skip_data(at, end);
    }
    return NULL;
}

static const uint8_t *read_entry(const Plan *plan, const uint8_t *at, const uint8_t *end, PyObject **tensors,
                                 int64_t *num_rows)
{
    Entry entry = {.place = -1};
    if ((at = take(at, end, '{')) == NULL)
        return NULL;
    while ((at = read_member(plan, at, end, &entry, tensors, num_rows)) != NULL) {
        at = skip_blanks(at, end);
        if (at < end && *at == '}')
            break;
        if ((at = take(at, end, ',')) == NULL)
            return NULL;
    }
    if (at == NULL || entry.data == NULL || !is_known(&entry))
        return NULL;
    if (!entry.is_read && read_known(plan, &entry, at, tensors, num_rows) == NULL)
        return NULL;
    return at + 1;
}

static const uint8_t *read_entries(const Plan *plan, const uint8_t *at, const uint8_t *end, PyObject **tensors,
                                   int64_t *num_rows)
{
    if ((at = take(at, end, '[')) == NULL)
        return NULL;
    for (int i = 0; i < plan->num_inputs; i++) {
        if ((at = read_entry(plan, at, end, tensors, num_rows)) == NULL)
            return NULL;
        at = skip_blanks(at, end);
        if (at >= end || *at != (i + 1 < plan->num_inputs ? ',' : ']'))
            return NULL;
        at++;
    }
    return at;
}

static int read_body(const Plan *plan, const uint8_t *at, const uint8_t *end, PyObject **tensors, const char **id,
                     Py_ssize_t *id_bytes, int64_t *num_rows)
{
    const char *key;
    Py_ssize_t key_bytes;
    int has_inputs = 0;
    if ((at = take(at, end, '{')) == NULL)
        return 0;
    for (;;) {
        if ((at = read_text(at, end, &key, &key_bytes)) == NULL || (at = take(at, end, ':')) == NULL)
            return 0;
        if (is_text(key, key_bytes, "inputs", 6) && !has_inputs) {
            has_inputs = 1;
            at = read_entries(plan, at, end, tensors, num_rows);
        } else if (is_text(key, key_bytes, "id", 2) && *id == NULL)
            at = read_text(at, end, id, id_bytes);
        else
            return 0;
        if (at == NULL)
            return 0;
        at = skip_blanks(at, end);
        if (at < end && *at == '}')
            return has_inputs && skip_blanks(at + 1, end) == end;
        if ((at = take(at, end, ',')) == NULL)
            return 0;
    }
}

PyDoc_STRVAR(read_doc, "read(plan, body) -> (id or None, rows or -1, tensors as bytes, in the plan's order), or None in doubt");

static PyObject *read_request(PyObject *module, PyObject *const *args, Py_ssize_t num_args)
{
    (void)module;
    if (num_args != 2)
        return PyErr_Format(PyExc_TypeError, "read() takes a plan and a body");
    const Plan *plan = PyCapsule_GetPointer(args[0], PLAN);
    if (plan == NULL)
        return NULL;
    if (!PyBytes_CheckExact(args[1]))
        Py_RETURN_NONE;
    const uint8_t *begin = (const uint8_t *)PyBytes_AS_STRING(args[1]);
    PyObject *tensors[MAX_INPUTS] = {NULL}, *result = NULL, *all = NULL;
    const char *id = NULL;
    Py_ssize_t id_bytes = 0;
    int64_t num_rows = -1;
    int is_plain = read_body(plan, begin, begin + PyBytes_GET_SIZE(args[1]), tensors, &id, &id_bytes, &num_rows);
    if (is_plain && (all = PyTuple_New(plan->num_inputs)) != NULL) {
        for (int i = 0; i < plan->num_inputs; i++) {
            PyTuple_SET_ITEM(all, i, tensors[i]);
            tensors[i] = NULL;
        }
        result = Py_BuildValue("z#LN", id, id_bytes, (long long)num_rows, all);
    }
    for (int i = 0; i < plan->num_inputs; i++)
        Py_XDECREF(tensors[i]);
    if (result == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return result;
}

static void free_plan(PyObject *capsule)
{
    Plan *plan = PyCapsule_GetPointer(capsule, PLAN);
    if (plan != NULL) {
        Py_XDECREF(plan->fields);
        Py_XDECREF(plan->powers_owner);
        PyMem_Free(plan);
    }
}

static int plan_input(Input *input, PyObject *field)
{
    PyObject *sizes;
    int kind;
    if (!PyArg_ParseTuple(field, "y#y#CiO!", &input->name, &input->name_bytes, &input->datatype, &input->datatype_bytes,
                          &kind, &input->item_bytes, &PyTuple_Type, &sizes))
        return 0;
    Py_ssize_t count = PyTuple_GET_SIZE(sizes);
    if (count < 1 || count > MAX_DIMENSIONS || strchr("fiu", kind) == NULL || (kind == 'f' && input->item_bytes < 4)) {
        PyErr_SetString(PyExc_ValueError, "an input that has no plan");
        return 0;
    }
    input->kind = (char)kind;
    input->num_dimensions = (int)count;
    for (Py_ssize_t i = 0; i < count; i++) {
        input->sizes[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(sizes, i));
        if (input->sizes[i] == -1 && PyErr_Occurred())
            return 0;
    }
    return 1;
}

PyDoc_STRVAR(plan_doc, "plan(inputs, powers) -> what read() needs; inputs are (name, datatype, kind, item bytes, sizes)");

static PyObject *plan_request(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *fields, *powers;
    if (!PyArg_ParseTuple(args, "O!O!", &PyTuple_Type, &fields, &PyBytes_Type, &powers))
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(fields);
    if (count < 1 || count > MAX_INPUTS || PyBytes_GET_SIZE(powers) != (2 * MAX_POWER + 1) * 16)
        return PyErr_Format(PyExc_ValueError, "inputs or powers of another number than the plan has room for");
    Plan *made = PyMem_Calloc(1, sizeof *made);
    if (made == NULL)
        return PyErr_NoMemory();
    PyObject *capsule = PyCapsule_New(made, PLAN, free_plan);
    if (capsule == NULL) {
        PyMem_Free(made);
        return NULL;
    }
    made->fields = Py_NewRef(fields);
    made->powers_owner = Py_NewRef(powers);
    made->powers = (const uint64_t *)(const void *)PyBytes_AS_STRING(powers);
    made->num_inputs = (int)count;
    for (Py_ssize_t i = 0; i < count; i++)
        if (!plan_input(made->inputs + i, PyTuple_GET_ITEM(fields, i))) {
            Py_DECREF(capsule);
            return NULL;
        }
    return capsule;
}

static PyMethodDef methods[] = {
    {"plan", plan_request, METH_VARARGS, plan_doc},
    {"read", (PyCFunction)(void (*)(void))read_request, METH_FASTCALL, read_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_infer_body", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__infer_body(void) { return PyModule_Create(&definition); }
