/* The loops of ingestion that NumPy does slowly: counting, row sums, row hashes, sorting and gathering.
 *
 * Every function has a twin in NumPy that gives the same bytes (see compiled.py). All take contiguous buffers, check
 * their sizes before they touch them, and release the interpreter while they run. Hashes are those of the xxhash
 * package: its function comes in as an address, there is none of our own here.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NUM_BINS 16384
#define NUM_CLASSES 512

typedef uint64_t (*hash_function)(const void *, size_t);

static int is_too_short(const Py_buffer *buffer, Py_ssize_t count, Py_ssize_t width, const char *name)
{
    if (count >= 0 && width >= 0 && (width == 0 || count <= PY_SSIZE_T_MAX / width) && buffer->len >= count * width)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s has %zd bytes, expected at least %zd of %zd", name, buffer->len, count, width);
    return 1;
}

/* ---- counting ---------------------------------------------------------------------------------------------------- */

static void add_byte_counts(const uint8_t *values, Py_ssize_t size, uint64_t *counts)
{
    /* Four tables: equal neighbours would otherwise wait for each other's store. */
    uint32_t tables[4][256];
    while (size > 0) {
        Py_ssize_t part = size < ((Py_ssize_t)1 << 31) ? size : ((Py_ssize_t)1 << 31);
        Py_ssize_t at = 0;
        memset(tables, 0, sizeof tables);
        for (; at + 8 <= part; at += 8) {
            uint64_t eight;
            memcpy(&eight, values + at, 8);
            tables[0][eight & 255]++;
            tables[1][(eight >> 8) & 255]++;
            tables[2][(eight >> 16) & 255]++;
            tables[3][(eight >> 24) & 255]++;
            tables[0][(eight >> 32) & 255]++;
            tables[1][(eight >> 40) & 255]++;
            tables[2][(eight >> 48) & 255]++;
            tables[3][eight >> 56]++;
        }
        for (; at < part; at++)
            tables[0][values[at]]++;
        for (int value = 0; value < 256; value++)
            counts[value] += (uint64_t)tables[0][value] + tables[1][value] + tables[2][value] + tables[3][value];
        values += part;
        size -= part;
    }
}

static PyObject *count_bytes(PyObject *module, PyObject *args)
{
    Py_buffer values, counts;
    if (!PyArg_ParseTuple(args, "y*w*", &values, &counts))
        return NULL;
    int failed = is_too_short(&counts, 256, 8, "counts");
    if (!failed) {
        Py_BEGIN_ALLOW_THREADS
        add_byte_counts(values.buf, values.len, counts.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&counts);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *sum_byte_rows(PyObject *module, PyObject *args)
{
    Py_buffer values, counts, sums, squares;
    Py_ssize_t row_bytes;
    if (!PyArg_ParseTuple(args, "y*nw*w*w*", &values, &row_bytes, &counts, &sums, &squares))
        return NULL;
    Py_ssize_t num_rows = row_bytes > 0 ? values.len / row_bytes : 0;
    int failed = is_too_short(&counts, 256, 8, "counts") || is_too_short(&sums, num_rows, 8, "sums") ||
                 is_too_short(&squares, num_rows, 8, "squares");
    if (!failed) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t row = 0; row < num_rows; row++) {
            const uint8_t *at = (const uint8_t *)values.buf + row * row_bytes;
            int64_t sum = 0, square = 0;
            /* 32768 squares of bytes stay below 2**31: 32-bit lanes, twice as many at once. */
            for (Py_ssize_t start = 0; start < row_bytes; start += 32768) {
                int stop = (int)(row_bytes - start < 32768 ? row_bytes - start : 32768);
                uint32_t part_sum = 0, part_square = 0;
                for (int i = 0; i < stop; i++) {
                    uint32_t value = at[start + i];
                    part_sum += value;
                    part_square += value * value;
                }
                sum += part_sum;
                square += part_square;
            }
            ((int64_t *)sums.buf)[row] = sum;
            ((int64_t *)squares.buf)[row] = square;
            /* In the same pass: the row is in the nearest cache now. */
            if (row_bytes >= 4096)
                add_byte_counts(at, row_bytes, counts.buf);
        }
        if (row_bytes < 4096)
            add_byte_counts(values.buf, num_rows * row_bytes, counts.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&counts);
    PyBuffer_Release(&sums);
    PyBuffer_Release(&squares);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

typedef struct {
    uint64_t *histogram;
    uint64_t counts[NUM_CLASSES];
    uint64_t mantissas[NUM_CLASSES];
    int64_t count;
    int64_t missing;
    double low;
    double high;
} Tally;

static inline void add_single(Tally *tally, float value)
{
    uint32_t bits;
    value += 0.0f; /* -0.0 counts as 0.0 */
    memcpy(&bits, &value, 4);
    tally->counts[bits >> 23]++;
    tally->mantissas[bits >> 23] += bits & ((1u << 23) - 1);
    tally->histogram[(bits & 0x80000000u ? ~bits : bits | 0x80000000u) >> 18]++;
}

#define TALLY_WHOLE(NAME, TYPE)                                                                                        \
    static void NAME(Tally *tally, const TYPE *values, const uint8_t *valid, Py_ssize_t size)                          \
    {                                                                                                                  \
        TYPE low = 0, high = 0;                                                                                        \
        for (Py_ssize_t at = 0; at < size; at++) {                                                                     \
            if (valid && !valid[at])                                                                                   \
                continue;                                                                                              \
            TYPE value = values[at];                                                                                   \
            low = tally->count && low < value ? low : value;                                                           \
            high = tally->count && high > value ? high : value;                                                        \
            tally->count++;                                                                                            \
            add_single(tally, (float)value);                                                                           \
        }                                                                                                              \
        tally->low = (double)low;                                                                                      \
        tally->high = (double)high;                                                                                    \
    }

#define TALLY_REAL(NAME, TYPE)                                                                                         \
    static void NAME(Tally *tally, const TYPE *values, const uint8_t *valid, Py_ssize_t size)                          \
    {                                                                                                                  \
        TYPE low = (TYPE)INFINITY, high = -(TYPE)INFINITY;                                                             \
        for (Py_ssize_t at = 0; at < size; at++) {                                                                     \
            if (valid && !valid[at])                                                                                   \
                continue;                                                                                              \
            TYPE value = values[at];                                                                                   \
            if (value != value) {                                                                                      \
                tally->missing++;                                                                                      \
                continue;                                                                                              \
            }                                                                                                          \
            low = value < low ? value : low;                                                                           \
            high = value > high ? value : high;                                                                        \
            tally->count++;                                                                                            \
            add_single(tally, (float)value);                                                                           \
        }                                                                                                              \
        tally->low = (double)low;                                                                                      \
        tally->high = (double)high;                                                                                    \
    }

TALLY_WHOLE(tally_int8, int8_t)
TALLY_WHOLE(tally_int16, int16_t)
TALLY_WHOLE(tally_int32, int32_t)
TALLY_WHOLE(tally_int64, int64_t)
TALLY_WHOLE(tally_uint8, uint8_t)
TALLY_WHOLE(tally_uint16, uint16_t)
TALLY_WHOLE(tally_uint32, uint32_t)
TALLY_WHOLE(tally_uint64, uint64_t)
TALLY_REAL(tally_single, float)
TALLY_REAL(tally_double, double)

/* Returns the width of the kind, 0 for an unknown one; with a tally, counts the values. */
static int tally_kind(int kind, Tally *tally, const void *values, const uint8_t *valid, Py_ssize_t size)
{
#define CASE(LETTER, NAME, TYPE)                                                                                       \
    case LETTER:                                                                                                       \
        if (tally)                                                                                                     \
            NAME(tally, values, valid, size);                                                                          \
        return (int)sizeof(TYPE);
    switch (kind) {
        CASE('b', tally_int8, int8_t)
        CASE('h', tally_int16, int16_t)
        CASE('i', tally_int32, int32_t)
        CASE('q', tally_int64, int64_t)
        CASE('B', tally_uint8, uint8_t)
        CASE('H', tally_uint16, uint16_t)
        CASE('I', tally_uint32, uint32_t)
        CASE('Q', tally_uint64, uint64_t)
        CASE('f', tally_single, float)
        CASE('d', tally_double, double)
    }
#undef CASE
    return 0;
}

static PyObject *tally_result(const Tally *tally)
{
    PyObject *classes = PyList_New(0);
    if (!classes)
        return NULL;
    for (int class_ = 0; class_ < NUM_CLASSES; class_++) {
        if (!tally->counts[class_])
            continue;
        PyObject *entry = Py_BuildValue("(iKK)", class_, (unsigned long long)tally->counts[class_],
                                        (unsigned long long)tally->mantissas[class_]);
        if (!entry || PyList_Append(classes, entry)) {
            Py_XDECREF(entry);
            Py_DECREF(classes);
            return NULL;
        }
        Py_DECREF(entry);
    }
    return Py_BuildValue("(LLddN)", (long long)tally->count, (long long)tally->missing, tally->low, tally->high,
                         classes);
}

static PyObject *count_numbers(PyObject *module, PyObject *args)
{
    Py_buffer values, histogram, valid = {0};
    int kind;
    if (!PyArg_ParseTuple(args, "y*Cz*w*", &values, &kind, &valid, &histogram))
        return NULL;
    PyObject *result = NULL;
    int width = tally_kind(kind, NULL, NULL, NULL, 0);
    Tally *tally = calloc(1, sizeof(Tally));
    if (!tally)
        PyErr_NoMemory();
    else if (!width)
        PyErr_Format(PyExc_ValueError, "no such kind of number: %c", kind);
    else if (!is_too_short(&histogram, NUM_BINS, 8, "histogram") &&
             !(valid.buf && is_too_short(&valid, values.len / width, 1, "valid"))) {
        tally->histogram = histogram.buf;
        Py_BEGIN_ALLOW_THREADS
        tally_kind(kind, tally, values.buf, valid.buf, values.len / width);
        Py_END_ALLOW_THREADS
        result = tally_result(tally);
    }
    free(tally);
    PyBuffer_Release(&values);
    PyBuffer_Release(&histogram);
    if (valid.obj)
        PyBuffer_Release(&valid);
    return result;
}

/* ---- row hashes -------------------------------------------------------------------------------------------------- */

/* One stretch of every row's content. 'v': a byte, 1 where the row has a value. 'f': `width` bytes, zeros where it has
 * none. 'n': the length in bytes of a text as int64, 0 where it has none. 't': the text itself. */
typedef struct {
    int kind;
    Py_ssize_t width;
    Py_buffer values;  /* 'f': the values; 'n' and 't': int32 offsets, in units of `width` bytes */
    Py_buffer data;    /* 't': what the offsets point into */
    Py_buffer valid;   /* a byte per row, or none */
} Piece;

static void release_pieces(Piece *pieces, Py_ssize_t count)
{
    for (Py_ssize_t at = 0; at < count; at++) {
        if (pieces[at].values.obj)
            PyBuffer_Release(&pieces[at].values);
        if (pieces[at].data.obj)
            PyBuffer_Release(&pieces[at].data);
        if (pieces[at].valid.obj)
            PyBuffer_Release(&pieces[at].valid);
    }
    free(pieces);
}

static int check_piece(const Piece *piece, Py_ssize_t num_rows)
{
    if (piece->valid.buf && is_too_short(&piece->valid, num_rows, 1, "valid"))
        return 0;
    if (piece->kind == 'v')
        return 1;
    if (piece->kind == 'f')
        return piece->width > 0 && !is_too_short(&piece->values, num_rows, piece->width, "values");
    if ((piece->kind != 'n' && piece->kind != 't') || piece->width <= 0 ||
        is_too_short(&piece->values, num_rows + 1, 4, "offsets"))
        return 0;
    if (piece->kind == 'n')
        return 1;
    const int32_t *offsets = piece->values.buf;
    for (Py_ssize_t row = 0; row < num_rows; row++)
        if (offsets[row] < 0 || offsets[row] > offsets[row + 1])
            return 0;
    return (Py_ssize_t)offsets[num_rows] <= piece->data.len / piece->width;
}

static Piece *parse_pieces(PyObject *list, Py_ssize_t num_rows)
{
    Py_ssize_t count = PyList_GET_SIZE(list);
    Piece *pieces = calloc((size_t)count + 1, sizeof(Piece));
    if (!pieces)
        return (Piece *)PyErr_NoMemory();
    for (Py_ssize_t at = 0; at < count; at++) {
        Piece *piece = &pieces[at];
        PyObject *given = PyList_GET_ITEM(list, at);
        if (!PyTuple_Check(given) || !PyArg_ParseTuple(given, "Cnz*z*z*", &piece->kind, &piece->width, &piece->values,
                                                       &piece->data, &piece->valid) ||
            !check_piece(piece, num_rows)) {
            if (!PyErr_Occurred())
                PyErr_Format(PyExc_ValueError, "piece %zd does not describe %zd rows", at, num_rows);
            release_pieces(pieces, count);
            return NULL;
        }
    }
    return pieces;
}

/* Rows are laid out in blocks that stay in the nearest caches, and filled piece by piece: a piece is one plain loop. */
#define BLOCK_ROWS 128
#define BLOCK_BYTES ((size_t)64 << 10)
/* So much may be written behind a row's end, and read behind a text's where there is as much. */
#define SLACK 32

#define PUT_FIXED(TYPE)                                                                                                \
    for (Py_ssize_t at = 0; at < size; at++, ends[at - 1] += sizeof(TYPE))                                             \
        memcpy(ends[at], (const uint8_t *)piece->values.buf + (first + at) * (Py_ssize_t)sizeof(TYPE), sizeof(TYPE));

static void put_fixed(const Piece *piece, Py_ssize_t first, Py_ssize_t size, uint8_t **ends)
{
    const uint8_t *valid = piece->valid.buf ? (const uint8_t *)piece->valid.buf + first : NULL;
    Py_ssize_t width = piece->width;
    if (!valid && width == 8) {
        PUT_FIXED(uint64_t)
    } else if (!valid && width == 4) {
        PUT_FIXED(uint32_t)
    } else if (!valid && width == 1) {
        PUT_FIXED(uint8_t)
    } else {
        for (Py_ssize_t at = 0; at < size; ends[at++] += width)
            if (!valid || valid[at])
                memcpy(ends[at], (const uint8_t *)piece->values.buf + (first + at) * width, (size_t)width);
            else
                memset(ends[at], 0, (size_t)width);
    }
}

static inline void copy_text(uint8_t *to, const uint8_t *from, size_t size, int has_slack)
{
    if (has_slack && size <= SLACK)
        memcpy(to, from, SLACK);
    else if (size)
        memcpy(to, from, size);
}

static void put_texts(const Piece *piece, Py_ssize_t first, Py_ssize_t size, uint8_t **ends)
{
    const uint8_t *valid = piece->valid.buf ? (const uint8_t *)piece->valid.buf + first : NULL;
    const int32_t *offsets = (const int32_t *)piece->values.buf + first;
    for (Py_ssize_t at = 0; at < size; at++) {
        Py_ssize_t from = (Py_ssize_t)offsets[at] * piece->width;
        int64_t length = !valid || valid[at] ? (int64_t)(offsets[at + 1] - offsets[at]) * piece->width : 0;
        if (piece->kind == 'n') {
            memcpy(ends[at], &length, 8);
            ends[at] += 8;
        } else {
            copy_text(ends[at], (const uint8_t *)piece->data.buf + from, (size_t)length, from + SLACK <= piece->data.len);
            ends[at] += length;
        }
    }
}

static void put_piece(const Piece *piece, Py_ssize_t first, Py_ssize_t size, uint8_t **ends)
{
    const uint8_t *valid = piece->valid.buf ? (const uint8_t *)piece->valid.buf + first : NULL;
    if (piece->kind == 'v')
        for (Py_ssize_t at = 0; at < size; at++)
            *ends[at]++ = valid ? valid[at] != 0 : 1;
    else if (piece->kind == 'f')
        put_fixed(piece, first, size, ends);
    else
        put_texts(piece, first, size, ends);
}

/* How many bytes a row takes, texts of rows without a value counted too. */
static size_t room_of_row(const Piece *pieces, Py_ssize_t count, Py_ssize_t row, size_t fixed)
{
    for (Py_ssize_t at = 0; at < count; at++)
        if (pieces[at].kind == 't') {
            const int32_t *offsets = pieces[at].values.buf;
            fixed += (size_t)(offsets[row + 1] - offsets[row]) * (size_t)pieces[at].width;
        }
    return fixed + SLACK;
}

/* Returns 0 when memory ran out. */
static int hash_all(hash_function hash, const Piece *pieces, Py_ssize_t count, Py_ssize_t num_rows, uint64_t *out)
{
    size_t fixed = 0, room = 0;
    uint8_t *block = NULL, *begins[BLOCK_ROWS], *ends[BLOCK_ROWS];
    for (Py_ssize_t at = 0; at < count; at++)
        fixed += pieces[at].kind == 'v' ? 1 : pieces[at].kind == 'n' ? 8 : pieces[at].kind == 'f' ? (size_t)pieces[at].width : 0;
    for (Py_ssize_t first = 0, size; first < num_rows; first += size) {
        size_t starts[BLOCK_ROWS + 1] = {0};
        for (size = 0; size < BLOCK_ROWS && first + size < num_rows && (!size || starts[size] < BLOCK_BYTES); size++)
            starts[size + 1] = starts[size] + room_of_row(pieces, count, first + size, fixed);
        if (starts[size] > room) {
            free(block);
            room = starts[size] * 2;
            block = malloc(room);
            if (!block)
                return 0;
        }
        for (Py_ssize_t at = 0; at < size; at++)
            begins[at] = ends[at] = block + starts[at];
        for (Py_ssize_t at = 0; at < count; at++)
            put_piece(&pieces[at], first, size, ends);
        for (Py_ssize_t at = 0; at < size; at++)
            out[first + at] = hash(begins[at], (size_t)(ends[at] - begins[at]));
    }
    free(block);
    return 1;
}

static PyObject *hash_rows(PyObject *module, PyObject *args)
{
    unsigned long long address;
    Py_ssize_t num_rows;
    PyObject *list;
    Py_buffer out;
    if (!PyArg_ParseTuple(args, "KnO!w*", &address, &num_rows, &PyList_Type, &list, &out))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(list);
    Piece *pieces = is_too_short(&out, num_rows, 8, "out") ? NULL : parse_pieces(list, num_rows);
    int is_done = 0;
    if (pieces) {
        Py_BEGIN_ALLOW_THREADS
        is_done = hash_all((hash_function)(uintptr_t)address, pieces, count, num_rows, out.buf);
        Py_END_ALLOW_THREADS
        if (!is_done)
            PyErr_NoMemory();
        release_pieces(pieces, count);
    }
    PyBuffer_Release(&out);
    if (!is_done)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- distinct values --------------------------------------------------------------------------------------------- */

#define NUM_SLOTS 16384
#define DENSE_SPAN 65536

/* Distinct values met so far, found by the hash of their text: `rows` says where each was met first (for whole numbers
 * it is the number itself). At most `limit` of them, and those beyond `bound` are only counted. */
typedef struct {
    uint64_t bound;
    Py_ssize_t limit;
    Py_ssize_t found;
    int64_t beyond;
    uint64_t *hashes;
    int64_t *counts;
    int64_t *rows;
    int16_t slots[NUM_SLOTS]; /* 1 + a place in the lists above; 0 for none */
} Distinct;

typedef int (*same_function)(const void *context, int64_t first, int64_t second);

/* Returns 0 when there is no room for another value. */
static inline int add_distinct(Distinct *distinct, uint64_t hash, int64_t row, int64_t count, same_function same,
                               const void *context)
{
    if (hash > distinct->bound) {
        distinct->beyond += count;
        return 1;
    }
    size_t slot = hash & (NUM_SLOTS - 1);
    for (; distinct->slots[slot]; slot = (slot + 1) & (NUM_SLOTS - 1)) {
        int place = distinct->slots[slot] - 1;
        /* Equal hashes of different values are two values. */
        if (distinct->hashes[place] == hash && same(context, distinct->rows[place], row)) {
            distinct->counts[place] += count;
            return 1;
        }
    }
    if (distinct->found == distinct->limit)
        return 0;
    distinct->hashes[distinct->found] = hash;
    distinct->counts[distinct->found] = count;
    distinct->rows[distinct->found] = row;
    distinct->slots[slot] = (int16_t)++distinct->found;
    return 1;
}

typedef struct {
    const int32_t *offsets;
    const uint8_t *data;
} TextRows;

static int same_text(const void *context, int64_t first, int64_t second)
{
    const TextRows *texts = context;
    const int32_t *one = texts->offsets + first, *other = texts->offsets + second;
    size_t length = (size_t)(one[1] - one[0]);
    return (size_t)(other[1] - other[0]) == length && !memcmp(texts->data + one[0], texts->data + other[0], length);
}

static int same_number(const void *context, int64_t first, int64_t second)
{
    (void)context;
    return first == second;
}

static int count_all_texts(Distinct *distinct, hash_function hash, const Piece *texts, Py_ssize_t num_rows)
{
    TextRows rows = {texts->values.buf, texts->data.buf};
    const uint8_t *valid = texts->valid.buf;
    for (Py_ssize_t row = 0; row < num_rows; row++) {
        if (valid && !valid[row])
            continue;
        int32_t start = rows.offsets[row], stop = rows.offsets[row + 1];
        if (!add_distinct(distinct, hash(rows.data + start, (size_t)(stop - start)), row, 1, same_text, &rows))
            return 0;
    }
    return 1;
}

/* A whole number of 64 bits as decimal text, written to the end of `room` [24]; returns where it begins. */
static inline const char *as_decimal(uint64_t bits, int is_signed, char *room)
{
    char *at = room + 24;
    int is_negative = is_signed && (int64_t)bits < 0;
    uint64_t rest = is_negative ? 0 - bits : bits;
    for (; rest >= 100; rest /= 100) {
        unsigned pair = (unsigned)(rest % 100);
        *--at = (char)('0' + pair % 10);
        *--at = (char)('0' + pair / 10);
    }
    if (rest >= 10)
        *--at = (char)('0' + rest % 10);
    *--at = (char)('0' + (rest >= 10 ? rest / 10 : rest));
    if (is_negative)
        *--at = '-';
    return at;
}

static inline int add_number(Distinct *distinct, hash_function hash, uint64_t bits, int is_signed, int64_t count)
{
    char room[24];
    const char *text = as_decimal(bits, is_signed, room);
    return add_distinct(distinct, hash(text, (size_t)(room + 24 - text)), (int64_t)bits, count, same_number, NULL);
}

static inline uint64_t widened(const void *values, Py_ssize_t row, int kind)
{
    switch (kind) {
    case 'b': return (uint64_t)(int64_t)((const int8_t *)values)[row];
    case 'h': return (uint64_t)(int64_t)((const int16_t *)values)[row];
    case 'i': return (uint64_t)(int64_t)((const int32_t *)values)[row];
    case 'B': return ((const uint8_t *)values)[row];
    case 'H': return ((const uint16_t *)values)[row];
    case 'I': return ((const uint32_t *)values)[row];
    default: return ((const uint64_t *)values)[row];
    }
}

/* Returns 0 for no room, -1 for no memory. */
static int count_all_numbers(Distinct *distinct, hash_function hash, const void *values, int kind, const uint8_t *valid,
                             Py_ssize_t num_rows)
{
    int is_signed = kind >= 'a', any = 0;
    uint64_t flip = is_signed ? (uint64_t)1 << 63 : 0, low = 0, high = 0;
    for (Py_ssize_t row = 0; row < num_rows; row++) {
        if (valid && !valid[row])
            continue;
        uint64_t ordered = widened(values, row, kind) ^ flip;
        low = any && low < ordered ? low : ordered;
        high = any && high > ordered ? high : ordered;
        any = 1;
    }
    if (any && high - low < DENSE_SPAN && high - low < (uint64_t)num_rows) {
        /* As many places as values could be: no value is written out more than once. */
        uint32_t *counts = calloc((size_t)(high - low) + 1, sizeof(uint32_t));
        if (!counts)
            return -1;
        for (Py_ssize_t row = 0; row < num_rows; row++)
            if (!valid || valid[row])
                counts[(widened(values, row, kind) ^ flip) - low]++;
        int is_room = 1;
        for (uint64_t at = 0; at <= high - low && is_room; at++)
            if (counts[at])
                is_room = add_number(distinct, hash, (low + at) ^ flip, is_signed, counts[at]);
        free(counts);
        return is_room;
    }
    for (Py_ssize_t row = 0; row < num_rows; row++)
        if ((!valid || valid[row]) && !add_number(distinct, hash, widened(values, row, kind), is_signed, 1))
            return 0;
    return 1;
}

static int begin_distinct(Distinct **distinct, unsigned long long bound, const Py_buffer *lists)
{
    Py_ssize_t limit = lists[0].len / 8;
    if (limit > NUM_SLOTS / 2) {
        PyErr_SetString(PyExc_ValueError, "room for more distinct values than can be found");
        return 0;
    }
    if (is_too_short(&lists[1], limit, 8, "counts") || is_too_short(&lists[2], limit, 8, "rows"))
        return 0;
    *distinct = calloc(1, sizeof(Distinct));
    if (!*distinct) {
        PyErr_NoMemory();
        return 0;
    }
    (*distinct)->bound = bound;
    (*distinct)->limit = limit;
    (*distinct)->hashes = lists[0].buf;
    (*distinct)->counts = lists[1].buf;
    (*distinct)->rows = lists[2].buf;
    return 1;
}

static PyObject *distinct_result(Distinct *distinct, int is_done)
{
    PyObject *result = NULL;
    if (is_done < 0)
        PyErr_NoMemory();
    else if (!PyErr_Occurred())
        result = Py_BuildValue("(nL)", is_done ? distinct->found : (Py_ssize_t)-1, (long long)distinct->beyond);
    free(distinct);
    return result;
}

static PyObject *count_texts(PyObject *module, PyObject *args)
{
    unsigned long long address, bound;
    Piece texts = {.kind = 't', .width = 1};
    Py_buffer lists[3];
    if (!PyArg_ParseTuple(args, "Ky*y*z*Kw*w*w*", &address, &texts.values, &texts.data, &texts.valid, &bound, &lists[0],
                          &lists[1], &lists[2]))
        return NULL;
    Py_ssize_t num_rows = texts.values.len / 4 - 1;
    Distinct *distinct = NULL;
    int is_done = 0;
    if (num_rows < 0 || !check_piece(&texts, num_rows)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "the offsets do not describe texts");
    } else if (begin_distinct(&distinct, bound, lists)) {
        Py_BEGIN_ALLOW_THREADS
        is_done = count_all_texts(distinct, (hash_function)(uintptr_t)address, &texts, num_rows);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&texts.values);
    PyBuffer_Release(&texts.data);
    if (texts.valid.obj)
        PyBuffer_Release(&texts.valid);
    for (int at = 0; at < 3; at++)
        PyBuffer_Release(&lists[at]);
    return distinct_result(distinct, is_done);
}

static PyObject *count_wholes(PyObject *module, PyObject *args)
{
    unsigned long long address, bound;
    Py_buffer values, valid = {0}, lists[3];
    int kind;
    if (!PyArg_ParseTuple(args, "Ky*Cz*Kw*w*w*", &address, &values, &kind, &valid, &bound, &lists[0], &lists[1],
                          &lists[2]))
        return NULL;
    int width = kind == 'f' || kind == 'd' ? 0 : tally_kind(kind, NULL, NULL, NULL, 0);
    Distinct *distinct = NULL;
    int is_done = 0;
    if (!width)
        PyErr_Format(PyExc_ValueError, "no such kind of whole number: %c", kind);
    else if (!(valid.buf && is_too_short(&valid, values.len / width, 1, "valid")) &&
             begin_distinct(&distinct, bound, lists)) {
        Py_BEGIN_ALLOW_THREADS
        is_done = count_all_numbers(distinct, (hash_function)(uintptr_t)address, values.buf, kind, valid.buf,
                                    values.len / width);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    if (valid.obj)
        PyBuffer_Release(&valid);
    for (int at = 0; at < 3; at++)
        PyBuffer_Release(&lists[at]);
    return distinct_result(distinct, is_done);
}

/* ---- sorting and gathering --------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t key;
    int64_t row;
} Entry;

/* Eleven bits at a time from the lowest: stable, and as fast whatever the order was. Digits that are all equal are skipped. */
static Entry *sort_by_digits(Entry *from, Entry *to, Py_ssize_t size)
{
    static const int shifts[6] = {0, 11, 22, 33, 44, 55};
    for (int pass = 0; pass < 6; pass++) {
        size_t starts[2048] = {0}, at = 0;
        int shift = shifts[pass];
        for (Py_ssize_t i = 0; i < size; i++)
            starts[(from[i].key >> shift) & 2047]++;
        if (size && starts[(from[0].key >> shift) & 2047] == (size_t)size)
            continue;
        for (int digit = 0; digit < 2048; digit++) {
            size_t count = starts[digit];
            starts[digit] = at;
            at += count;
        }
        for (Py_ssize_t i = 0; i < size; i++)
            to[starts[(from[i].key >> shift) & 2047]++] = from[i];
        Entry *other = from;
        from = to;
        to = other;
    }
    return from;
}

/* Buffers of the parts that rows are gathered from: one each, or offsets and data of texts. */
typedef struct {
    Py_ssize_t count;
    Py_buffer *values;
    Py_buffer *data;
} Parts;

static void release_parts(Parts *parts)
{
    for (Py_ssize_t at = 0; at < parts->count; at++) {
        if (parts->values[at].obj)
            PyBuffer_Release(&parts->values[at]);
        if (parts->data[at].obj)
            PyBuffer_Release(&parts->data[at]);
    }
    free(parts->values);
    free(parts->data);
}

static int parse_parts(PyObject *list, Parts *parts)
{
    parts->count = PyList_GET_SIZE(list);
    parts->values = calloc((size_t)parts->count + 1, sizeof(Py_buffer));
    parts->data = calloc((size_t)parts->count + 1, sizeof(Py_buffer));
    if (!parts->values || !parts->data) {
        PyErr_NoMemory();
        return 0;
    }
    for (Py_ssize_t at = 0; at < parts->count; at++) {
        PyObject *given = PyList_GET_ITEM(list, at);
        if (!PyTuple_Check(given) || !PyArg_ParseTuple(given, "z*z*", &parts->values[at], &parts->data[at])) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "parts must be tuples of buffers");
            return 0;
        }
    }
    return 1;
}

#define MAX_BUCKETS ((size_t)1 << 16)
#define FEW_ENTRIES 48

/* Keys of several parts as if they were one list. */
#define FOR_EACH_KEY(PARTS, KEY)                                                                                       \
    for (Py_ssize_t part = 0; part < (PARTS)->count; part++)                                                           \
        for (const uint64_t *KEY = (PARTS)->values[part].buf, *behind = KEY + (PARTS)->values[part].len / 8;           \
             KEY < behind; KEY++)

static Entry entry_of(const Parts *parts, Py_ssize_t part, const uint64_t *key)
{
    return (Entry){*key, (int64_t)part << 32 | (int64_t)(key - (const uint64_t *)parts->values[part].buf)};
}

/* Hashes spread evenly, so their highest bits alone put nearly every entry in its place: one pass over a table that fits
 * the cache, and a few steps inside each bucket. Returns 0, with nothing sorted, for keys that do not spread. */
static int sort_by_spread(const Parts *parts, Py_ssize_t size, Entry *to)
{
    uint64_t low = UINT64_MAX, high = 0;
    FOR_EACH_KEY(parts, key) {
        low = low < *key ? low : *key;
        high = high > *key ? high : *key;
    }
    size_t buckets = 2, largest = 0;
    int shift = 0;
    while (buckets < MAX_BUCKETS && buckets * 8 < (size_t)size)
        buckets *= 2;
    while (size && ((high - low) >> shift) >= buckets)
        shift++;
    size_t *starts = calloc(buckets + 1, sizeof(size_t));
    if (!starts)
        return 0;
    FOR_EACH_KEY(parts, key)
        starts[((*key - low) >> shift) + 1]++;
    for (size_t bucket = 1; bucket <= buckets; bucket++) {
        largest = largest > starts[bucket] ? largest : starts[bucket];
        starts[bucket] += starts[bucket - 1];
    }
    int is_spread = largest <= FEW_ENTRIES + (size_t)size / buckets * 4;
    if (is_spread)
        FOR_EACH_KEY(parts, key)
            to[starts[(*key - low) >> shift]++] = entry_of(parts, part, key);
    free(starts);
    /* By insertion over the whole: no entry moves out of its bucket, and equal keys keep their order. */
    for (Py_ssize_t i = 1; is_spread && i < size; i++) {
        Entry entry = to[i];
        Py_ssize_t at = i;
        for (; at > 0 && to[at - 1].key > entry.key; at--)
            to[at] = to[at - 1];
        to[at] = entry;
    }
    return is_spread;
}

/* Sorts the rows of all parts by their keys: where each stands, and the keys in order. Returns 0 for no memory. */
static int sort_parts(const Parts *parts, Py_ssize_t size, Entry *entries, uint32_t *part_of, uint32_t *row_of,
                      uint64_t *keys)
{
    const Entry *sorted = entries;
    Entry *others = NULL;
    if (!sort_by_spread(parts, size, entries)) {
        others = malloc(((size_t)size + 1) * sizeof(Entry));
        if (!others)
            return 0;
        Entry *next = entries;
        FOR_EACH_KEY(parts, key)
            *next++ = entry_of(parts, part, key);
        sorted = sort_by_digits(entries, others, size);
    }
    for (Py_ssize_t at = 0; at < size; at++) {
        part_of[at] = (uint32_t)(sorted[at].row >> 32);
        row_of[at] = (uint32_t)sorted[at].row;
        keys[at] = sorted[at].key;
    }
    free(others);
    return 1;
}

static PyObject *sort_rows(PyObject *module, PyObject *args)
{
    PyObject *list;
    Py_buffer entries, part_of, row_of, keys;
    Parts parts = {0};
    if (!PyArg_ParseTuple(args, "O!w*w*w*w*", &PyList_Type, &list, &entries, &part_of, &row_of, &keys))
        return NULL;
    int is_done = 0;
    Py_ssize_t size = 0;
    int is_right = parse_parts(list, &parts);
    for (Py_ssize_t part = 0; is_right && part < parts.count; part++) {
        is_right = parts.values[part].len / 8 <= UINT32_MAX;
        size += parts.values[part].len / 8;
    }
    if (is_right && !is_too_short(&entries, size, sizeof(Entry), "entries") && !is_too_short(&part_of, size, 4, "parts") &&
        !is_too_short(&row_of, size, 4, "rows") && !is_too_short(&keys, size, 8, "keys")) {
        Py_BEGIN_ALLOW_THREADS
        is_done = sort_parts(&parts, size, entries.buf, part_of.buf, row_of.buf, keys.buf);
        Py_END_ALLOW_THREADS
        if (!is_done)
            PyErr_NoMemory();
    }
    if (!is_done && !PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "a part has more rows than have numbers");
    release_parts(&parts);
    PyBuffer_Release(&entries);
    PyBuffer_Release(&part_of);
    PyBuffer_Release(&row_of);
    PyBuffer_Release(&keys);
    if (!is_done)
        return NULL;
    Py_RETURN_NONE;
}

#define AHEAD 16

#define GATHER(TYPE)                                                                                                   \
    for (Py_ssize_t at = 0; at < size; at++) {                                                                         \
        if (part_of[at] >= (size_t)parts->count || row_of[at] >= (size_t)parts->values[part_of[at]].len / sizeof(TYPE)) \
            return 0;                                                                                                  \
        /* Rows come from all over: the next ones are on their way while this one is copied. */                        \
        if (at + AHEAD < size && part_of[at + AHEAD] < (size_t)parts->count)                                           \
            __builtin_prefetch((const TYPE *)parts->values[part_of[at + AHEAD]].buf + row_of[at + AHEAD]);             \
        memcpy(out + at * (Py_ssize_t)sizeof(TYPE),                                                                    \
               (const TYPE *)parts->values[part_of[at]].buf + row_of[at], sizeof(TYPE));                               \
    }                                                                                                                  \
    return 1;

static int gather_fixed_rows(const Parts *parts, const uint32_t *part_of, const uint32_t *row_of, Py_ssize_t size,
                             Py_ssize_t width, uint8_t *out)
{
    if (width == 8) {
        GATHER(uint64_t)
    }
    if (width == 4) {
        GATHER(uint32_t)
    }
    if (width == 1) {
        GATHER(uint8_t)
    }
    for (Py_ssize_t at = 0; at < size; at++) {
        uint32_t part = part_of[at];
        if (part >= (size_t)parts->count || ((Py_ssize_t)row_of[at] + 1) * width > parts->values[part].len)
            return 0;
        memcpy(out + at * width, (const uint8_t *)parts->values[part].buf + (Py_ssize_t)row_of[at] * width, (size_t)width);
    }
    return 1;
}

static PyObject *gather_fixed(PyObject *module, PyObject *args)
{
    PyObject *list;
    Py_buffer part_of, row_of, out;
    Py_ssize_t width;
    Parts parts = {0};
    if (!PyArg_ParseTuple(args, "O!y*y*nw*", &PyList_Type, &list, &part_of, &row_of, &width, &out))
        return NULL;
    Py_ssize_t size = part_of.len / 4;
    int is_done = 0;
    if (width > 0 && !is_too_short(&row_of, size, 4, "rows") && !is_too_short(&out, size, width, "out") &&
        parse_parts(list, &parts)) {
        Py_BEGIN_ALLOW_THREADS
        is_done = gather_fixed_rows(&parts, part_of.buf, row_of.buf, size, width, out.buf);
        Py_END_ALLOW_THREADS
    }
    if (!is_done && !PyErr_Occurred())
        PyErr_SetString(PyExc_IndexError, "a row lies outside its part");
    release_parts(&parts);
    PyBuffer_Release(&part_of);
    PyBuffer_Release(&row_of);
    PyBuffer_Release(&out);
    if (!is_done)
        return NULL;
    Py_RETURN_NONE;
}

/* Where the texts of rows go: `room` bytes at `data`, and their offsets in units of `width` bytes. */
typedef struct {
    int32_t *offsets;
    uint8_t *data;
    Py_ssize_t room;
    Py_ssize_t width;
} Packed;

/* The text that comes soon, by offsets that were fetched a while ago, and the offsets of one that comes later. */
static inline void fetch_ahead(const Parts *parts, const uint32_t *part_of, const uint32_t *row_of, Py_ssize_t at,
                               Py_ssize_t width)
{
    uint32_t later = part_of[at + 2 * AHEAD], soon = part_of[at + AHEAD];
    if (later < (size_t)parts->count)
        __builtin_prefetch((const int32_t *)parts->values[later].buf + row_of[at + 2 * AHEAD]);
    if (soon < (size_t)parts->count && ((Py_ssize_t)row_of[at + AHEAD] + 1) * 4 <= parts->values[soon].len)
        __builtin_prefetch((const uint8_t *)parts->data[soon].buf +
                           ((const int32_t *)parts->values[soon].buf)[row_of[at + AHEAD]] * width);
}

/* Copies as many texts as there is room for; returns how much all of them take, in units of `width` bytes, or -1 for a
 * row that is not there. */
static int64_t pack_texts(const Parts *parts, const uint32_t *part_of, const uint32_t *row_of, Py_ssize_t size,
                          const Packed *to)
{
    int64_t total = 0;
    Py_ssize_t width = to->width;
    for (Py_ssize_t at = 0; at < size && total <= INT32_MAX; at++) {
        if (at + 2 * AHEAD < size)
            fetch_ahead(parts, part_of, row_of, at, width);
        uint32_t part = part_of[at];
        if (part >= (size_t)parts->count || ((Py_ssize_t)row_of[at] + 2) * 4 > parts->values[part].len)
            return -1;
        const int32_t *offsets = (const int32_t *)parts->values[part].buf + row_of[at];
        Py_ssize_t from = (Py_ssize_t)offsets[0] * width, stop = (Py_ssize_t)offsets[1] * width;
        if (from < 0 || from > stop || stop > parts->data[part].len)
            return -1;
        Py_ssize_t begin = (Py_ssize_t)total * width;
        to->offsets[at] = (int32_t)total;
        if (begin + (stop - from) <= to->room)
            copy_text(to->data + begin, (const uint8_t *)parts->data[part].buf + from, (size_t)(stop - from),
                      from + SLACK <= parts->data[part].len && begin + SLACK <= to->room);
        total += offsets[1] - offsets[0];
    }
    if (total <= INT32_MAX)
        to->offsets[size] = (int32_t)total;
    return total;
}

static PyObject *gather_texts(PyObject *module, PyObject *args)
{
    PyObject *list;
    Py_buffer part_of, row_of, offsets, out;
    Py_ssize_t width;
    Parts parts = {0};
    if (!PyArg_ParseTuple(args, "O!y*y*nw*w*", &PyList_Type, &list, &part_of, &row_of, &width, &offsets, &out))
        return NULL;
    Py_ssize_t size = part_of.len / 4;
    int64_t total = -1;
    if (width > 0 && !is_too_short(&row_of, size, 4, "rows") && !is_too_short(&offsets, size + 1, 4, "offsets") &&
        parse_parts(list, &parts)) {
        Packed to = {offsets.buf, out.buf, out.len, width};
        Py_BEGIN_ALLOW_THREADS
        total = pack_texts(&parts, part_of.buf, row_of.buf, size, &to);
        Py_END_ALLOW_THREADS
    }
    if (total < 0 && !PyErr_Occurred())
        PyErr_SetString(PyExc_IndexError, "a row lies outside its part");
    release_parts(&parts);
    PyBuffer_Release(&part_of);
    PyBuffer_Release(&row_of);
    PyBuffer_Release(&offsets);
    PyBuffer_Release(&out);
    return total < 0 ? NULL : PyLong_FromLongLong(total);
}

/* Gathers bits, of parts that may have none: these count as ones. Returns how many are ones, or -1 as above. */
static int64_t gather_all_bits(const Parts *parts, const int64_t *first_of, const uint32_t *part_of, const uint32_t *row_of,
                               Py_ssize_t size, uint8_t *out)
{
    int64_t ones = 0;
    unsigned byte = 0;
    for (Py_ssize_t at = 0; at < size; at++) {
        uint32_t part = part_of[at];
        if (part >= (size_t)parts->count)
            return -1;
        unsigned bit = 1;
        if (parts->values[part].buf) {
            int64_t place = first_of[part] + row_of[at];
            if (place >> 3 >= parts->values[part].len)
                return -1;
            bit = ((const uint8_t *)parts->values[part].buf)[place >> 3] >> (place & 7) & 1;
        }
        ones += bit;
        byte |= bit << (at & 7);
        if ((at & 7) == 7 || at + 1 == size) {
            out[at >> 3] = (uint8_t)byte;
            byte = 0;
        }
    }
    return ones;
}

static PyObject *gather_bits(PyObject *module, PyObject *args)
{
    PyObject *list;
    Py_buffer firsts, part_of, row_of, out;
    Parts parts = {0};
    if (!PyArg_ParseTuple(args, "O!y*y*y*w*", &PyList_Type, &list, &firsts, &part_of, &row_of, &out))
        return NULL;
    Py_ssize_t size = part_of.len / 4, count = PyList_GET_SIZE(list);
    int64_t ones = -1;
    int is_right = !is_too_short(&row_of, size, 4, "rows") && !is_too_short(&out, (size + 7) / 8, 1, "out") &&
                   !is_too_short(&firsts, count, 8, "firsts");
    for (Py_ssize_t at = 0; at < count && is_right; at++)
        if (((const int64_t *)firsts.buf)[at] < 0) {
            PyErr_SetString(PyExc_ValueError, "a part begins before its bits");
            is_right = 0;
        }
    if (is_right && parse_parts(list, &parts)) {
        Py_BEGIN_ALLOW_THREADS
        ones = gather_all_bits(&parts, firsts.buf, part_of.buf, row_of.buf, size, out.buf);
        Py_END_ALLOW_THREADS
    }
    if (ones < 0 && !PyErr_Occurred())
        PyErr_SetString(PyExc_IndexError, "a row lies outside its part");
    release_parts(&parts);
    PyBuffer_Release(&firsts);
    PyBuffer_Release(&part_of);
    PyBuffer_Release(&row_of);
    PyBuffer_Release(&out);
    return ones < 0 ? NULL : PyLong_FromLongLong(ones);
}

/* Makes zeros of the rows that have no bit. */
static PyObject *clear_rows(PyObject *module, PyObject *args)
{
    Py_buffer values, bits;
    Py_ssize_t width;
    if (!PyArg_ParseTuple(args, "w*ny*", &values, &width, &bits))
        return NULL;
    Py_ssize_t size = width > 0 ? values.len / width : 0;
    int failed = is_too_short(&bits, (size + 7) / 8, 1, "bits");
    if (!failed) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t at = 0; at < size; at++)
            if (!(((const uint8_t *)bits.buf)[at >> 3] >> (at & 7) & 1))
                memset((uint8_t *)values.buf + at * width, 0, (size_t)width);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&bits);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"count_bytes", count_bytes, METH_VARARGS, "Add how often each byte occurs to uint64 [256]."},
    {"sum_byte_rows", sum_byte_rows, METH_VARARGS, "As count_bytes, with each row's sum and sum of squares as int64."},
    {"count_numbers", count_numbers, METH_VARARGS, "Add numbers to a histogram; return count, NaNs, range, classes."},
    {"hash_rows", hash_rows, METH_VARARGS, "Hash each row's pieces as one stretch of bytes."},
    {"count_texts", count_texts, METH_VARARGS, "Find distinct texts by their hashes; how many, and the rows beyond."},
    {"count_wholes", count_wholes, METH_VARARGS, "As count_texts, for whole numbers by the hashes of their text."},
    {"sort_rows", sort_rows, METH_VARARGS, "Where the rows of several parts stand in the stable order of their uint64 keys."},
    {"gather_fixed", gather_fixed, METH_VARARGS, "Copy rows of fixed size out of several parts."},
    {"gather_texts", gather_texts, METH_VARARGS, "Copy texts out of several parts, as far as there is room; their total."},
    {"gather_bits", gather_bits, METH_VARARGS, "Copy bits out of several parts; how many are ones."},
    {"clear_rows", clear_rows, METH_VARARGS, "Make zeros of rows of fixed size that have no bit."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_statistics", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__statistics(void) { return PyModule_Create(&definition); }
