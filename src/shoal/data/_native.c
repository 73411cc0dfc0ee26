/* The inner loops of a loader: where rows lie, and moving them into a batch. native.py holds a twin of each function
 * that gives the same bytes with NumPy alone, says what the arguments are, and is the only caller.
 *
 * Every function takes buffers, checks their sizes before it works, and lets other threads run while it does. Base
 * addresses are those of mapped files: the caller keeps the maps alive, and has checked the bytes that are read. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#ifndef _WIN32
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include "_second_thread.h"
#include "_streaming.h"

#define MAX_BUFFERS 64
#define MAX_COLUMNS (MAX_BUFFERS - 8)
/* Rows whose first bytes are asked for before they are copied: enough to hide one miss, few enough for the fill buffers. */
#define AHEAD 6
/* What a thread takes at a time when two share a batch, and the least that is worth two. */
#define SHARED_BYTES (32 << 10)
#define WORTH_SHARING (64 << 10)
#define BLOCK_WORDS 64
#define LANES 256

#if defined(__GNUC__) && __GNUC__ >= 12 && defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
/* 64-bit products are one instruction with AVX-512 and a dozen without: the loader of the library picks at run time. */
#define WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDE
#endif

#if defined(__GNUC__) && __GNUC__ >= 6 && defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define COUNTING __attribute__((target_clones("popcnt", "default")))
#else
#define COUNTING
#endif

#if defined(__GNUC__) || defined(__clang__)
#define FETCH(address) __builtin_prefetch((const void *)(address), 0, 3)
#define TRAILING_ZEROS(word) __builtin_ctzll(word)
#else
#define FETCH(address) ((void)(address))
static int TRAILING_ZEROS(uint64_t word) {
    int place = 0;
    while (!(word >> place & 1)) place++;
    return place;
}
#endif

/* ---- arguments ---------------------------------------------------------------------------------------------------- */

typedef struct {
    Py_buffer buffers[MAX_BUFFERS];
    int count;
} Borrowed;

static void give_back(Borrowed *held) {
    while (held->count > 0) PyBuffer_Release(&held->buffers[--held->count]);
}

/* Borrows an array's memory; `num_items` is set to how many items of `item_bytes` it holds. NULL with an error set. */
static void *borrow(Borrowed *held, PyObject *array, Py_ssize_t item_bytes, int writable, Py_ssize_t *num_items) {
    Py_buffer *buffer = &held->buffers[held->count];
    if (PyObject_GetBuffer(array, buffer, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0) return NULL;
    held->count++;
    if (buffer->len % item_bytes) {
        PyErr_Format(PyExc_ValueError, "%zd bytes are no array of %zd-byte items", buffer->len, item_bytes);
        return NULL;
    }
    *num_items = buffer->len / item_bytes;
    /* An empty array may have no address; what is never read may have any. */
    return buffer->buf ? buffer->buf : (void *)held;
}

static int expect(Borrowed *held, int holds, const char *message) {
    if (holds) return 1;
    give_back(held);
    PyErr_SetString(PyExc_ValueError, message);
    return 0;
}

static int num_arguments(Py_ssize_t found, Py_ssize_t wanted) {
    if (found == wanted) return 1;
    PyErr_Format(PyExc_TypeError, "expected %zd arguments, found %zd", wanted, found);
    return 0;
}

#define BORROW(target, array, type, writable, count)                                   \
    type *target = borrow(&held, array, sizeof(type), writable, &count);               \
    if (!target) {                                                                     \
        give_back(&held);                                                              \
        return NULL;                                                                   \
    }

#define NUMBER(target, object)                                                         \
    int64_t target = PyLong_AsLongLong(object);                                        \
    if (target == -1 && PyErr_Occurred()) {                                            \
        give_back(&held);                                                              \
        return NULL;                                                                   \
    }

#define DONE                                                                           \
    give_back(&held);                                                                  \
    Py_RETURN_NONE;

/* ---- permute ------------------------------------------------------------------------------------------------------ */

typedef struct {
    const uint64_t *keys;
    int num_rounds, left_bits, right_bits;
} Network;

WIDE static void pass(const Network *network, uint64_t *values, Py_ssize_t count) {
    uint64_t left[LANES], right[LANES];
    const int right_bits = network->right_bits;
    const uint64_t right_mask = ((uint64_t)1 << right_bits) - 1;
    for (Py_ssize_t i = 0; i < count; i++) {
        left[i] = values[i] >> right_bits;
        right[i] = values[i] & right_mask;
    }
    for (int round = 0; round < network->num_rounds; round++) {
        const uint64_t key = network->keys[round];
        const uint64_t *source = round % 2 ? left : right;
        uint64_t *target = round % 2 ? right : left;
        const int shift = 64 - (round % 2 ? right_bits : network->left_bits);
        for (Py_ssize_t i = 0; i < count; i++) {
            uint64_t mixed = (source[i] ^ key) * UINT64_C(0xBF58476D1CE4E5B9);
            mixed = (mixed ^ (mixed >> 32)) * UINT64_C(0x94D049BB133111EB);
            target[i] ^= mixed >> shift;
        }
    }
    for (Py_ssize_t i = 0; i < count; i++) values[i] = left[i] << right_bits | right[i];
}

static void permute_block(const Network *network, uint64_t size, uint64_t start, uint64_t *out, Py_ssize_t count) {
    uint64_t outside[LANES];
    Py_ssize_t places[LANES];
    for (Py_ssize_t i = 0; i < count; i++) out[i] = start + (uint64_t)i;
    pass(network, out, count);
    Py_ssize_t left = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        outside[left] = out[i];
        places[left] = i;
        left += out[i] >= size;
    }
    while (left) {
        pass(network, outside, left);
        Py_ssize_t still = 0;
        for (Py_ssize_t i = 0; i < left; i++) {
            uint64_t image = outside[i];
            Py_ssize_t place = places[i];
            out[place] = image;
            outside[still] = image;
            places[still] = place;
            still += image >= size;
        }
        left = still;
    }
}

static PyObject *permute(PyObject *self, PyObject *const *args, Py_ssize_t num_args) {
    if (!num_arguments(num_args, 6)) return NULL;
    Borrowed held = {.count = 0};
    Py_ssize_t num_keys, count;
    NUMBER(start, args[0]);
    NUMBER(size, args[1]);
    NUMBER(left_bits, args[2]);
    NUMBER(right_bits, args[3]);
    BORROW(keys, args[4], uint64_t, 0, num_keys);
    BORROW(out, args[5], uint64_t, 1, count);
    const int fits = left_bits > 0 && right_bits > 0 && left_bits + right_bits <= 63 && start >= 0 &&
                     start + (int64_t)count <= size && size <= (int64_t)1 << (left_bits + right_bits);
    if (!expect(&held, fits, "the stretch is not inside the domain")) return NULL;
    const Network network = {keys, (int)num_keys, (int)left_bits, (int)right_bits};
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t done = 0; done < count; done += LANES)
        permute_block(&network, (uint64_t)size, (uint64_t)(start + done), out + done,
                      count - done < LANES ? count - done : LANES);
    Py_END_ALLOW_THREADS
    DONE
}

/* ---- locate ------------------------------------------------------------------------------------------------------- */

/* The stretch that holds a row: guessed as if all had equally many rows, then walked to; a bad guess is bisected. */
static int32_t find_stretch(const int64_t *stops, int32_t count, double per_row, int64_t row) {
    int32_t at = (int32_t)((double)row * per_row);
    if (at >= count) at = count - 1;
    for (int steps = 0; steps < 8; steps++) {
        if (row >= stops[at]) at++;
        else if (at && row < stops[at - 1]) at--;
        else return at;
    }
    int32_t low = 0, high = count - 1;
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        if (row < stops[middle]) high = middle;
        else low = middle + 1;
    }
    return low;
}

static PyObject *locate(PyObject *self, PyObject *const *args, Py_ssize_t num_args) {
    if (!num_arguments(num_args, 3)) return NULL;
    Borrowed held = {.count = 0};
    Py_ssize_t num_rows, num_stretches, num_places;
    BORROW(rows, args[0], int64_t, 0, num_rows);
    BORROW(stops, args[1], int64_t, 0, num_stretches);
    BORROW(places, args[2], int32_t, 1, num_places);
    if (!expect(&held, num_places == num_rows && num_stretches < INT32_MAX, "places and rows differ in number"))
        return NULL;
    const int64_t total = num_stretches ? stops[num_stretches - 1] : 0;
    const double per_row = total ? (double)num_stretches / (double)total : 0;
    int outside = 0;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < num_rows; i++) {
        if (rows[i] < 0 || rows[i] >= total) {
            outside = 1;
            break;
        }
        places[i] = find_stretch(stops, (int32_t)num_stretches, per_row, rows[i]);
    }
    Py_END_ALLOW_THREADS
    give_back(&held);
    return PyBool_FromLong(!outside);
}

/* ---- gather ------------------------------------------------------------------------------------------------------- */

static void fetch_row(const char *source, int64_t num_bytes) {
    /* Longer rows are streamed by the hardware once their start has come. */
    const int64_t limit = num_bytes < 1024 ? num_bytes : 1024;
    for (int64_t at = 0; at < limit; at += 64) FETCH(source + at);
}

#define COPY_NUMBERS(type)                                                             \
    for (Py_ssize_t i = 0; i < count; i++) {                                           \
        if (i + 2 * AHEAD < count)                                                     \
            FETCH(bases[places[i + 2 * AHEAD]] + rows[i + 2 * AHEAD] * width);         \
        type value;                                                                    \
        memcpy(&value, (const char *)(intptr_t)(bases[places[i]] + rows[i] * width), sizeof value); \
        memcpy(out + i * (Py_ssize_t)sizeof value, &value, sizeof value);              \
    }

static void gather_column(const int64_t *rows, const int32_t *places, Py_ssize_t count, const int64_t *bases,
                          int64_t width, char *out) {
    switch (width) {
        case 1: COPY_NUMBERS(uint8_t) return;
        case 2: COPY_NUMBERS(uint16_t) return;
        case 4: COPY_NUMBERS(uint32_t) return;
        case 8: COPY_NUMBERS(uint64_t) return;
    }
    for (Py_ssize_t i = 0; i < count && i < AHEAD; i++)
        fetch_row((const char *)(intptr_t)(bases[places[i]] + rows[i] * width), width);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            fetch_row((const char *)(intptr_t)(bases[places[i + AHEAD]] + rows[i + AHEAD] * width), width);
        memcpy(out + i * width, (const char *)(intptr_t)(bases[places[i]] + rows[i] * width), (size_t)width);
    }
}

static void stream_column(const int64_t *rows, const int32_t *places, Py_ssize_t count, const int64_t *bases,
                          int64_t width, char *out) {
    for (Py_ssize_t i = 0; i < count; i++)
        copy_streaming(out + i * width, (const char *)(intptr_t)(bases[places[i]] + rows[i] * width), (size_t)width);
    end_streaming();
}

typedef struct {
    const int64_t *rows, *bases, *widths;
    const int32_t *places;
    Py_ssize_t count, num_stretches, num_columns, rows_a_block;
    char **outs;
} Gather;

static void gather_block(void *job, Py_ssize_t index) {
    const Gather *gather = job;
    const Py_ssize_t first = index * gather->rows_a_block;
    const Py_ssize_t left = gather->count - first;
    const Py_ssize_t count = left < gather->rows_a_block ? left : gather->rows_a_block;
    for (Py_ssize_t column = 0; column < gather->num_columns; column++) {
        const int64_t width = gather->widths[column];
        const int streams = width >= STREAMED_ROW_BYTES && gather->count * width >= STREAMED_BYTES;
        (streams ? stream_column : gather_column)(gather->rows + first, gather->places + first, count,
                                                  gather->bases + column * gather->num_stretches, width,
                                                  gather->outs[column] + first * width);
    }
}

/* How many of `count` rows with `num_bytes` in all a thread takes at a time; all of them where that is little. */
static Py_ssize_t rows_a_block(Py_ssize_t count, int64_t num_bytes) {
    if (num_bytes < WORTH_SHARING) return count > 0 ? count : 1;
    const int64_t rows = SHARED_BYTES * (int64_t)count / num_bytes;
    return rows > 0 ? (Py_ssize_t)rows : 1;
}

static int are_places(const int32_t *places, Py_ssize_t count, Py_ssize_t num_stretches) {
    int fits = 1;
    for (Py_ssize_t i = 0; i < count; i++) fits &= places[i] >= 0 && places[i] < num_stretches;
    return fits;
}

static PyObject *gather_rows(PyObject *self, PyObject *const *args, Py_ssize_t num_args) {
    if (!num_arguments(num_args, 5)) return NULL;
    Borrowed held = {.count = 0};
    Py_ssize_t count, num_places, num_bases, num_columns, out_bytes;
    char *outs[MAX_COLUMNS];
    BORROW(rows, args[0], int64_t, 0, count);
    BORROW(places, args[1], int32_t, 0, num_places);
    BORROW(bases, args[2], int64_t, 0, num_bases);
    BORROW(widths, args[3], int64_t, 0, num_columns);
    PyObject *arrays = args[4];
    const int fits = PyTuple_Check(arrays) && PyTuple_GET_SIZE(arrays) == num_columns && num_columns <= MAX_COLUMNS &&
                     num_columns > 0 && num_bases % num_columns == 0 && num_places == count &&
                     are_places(places, count, num_bases / num_columns);
    if (!expect(&held, fits, "columns, addresses or places differ in number")) return NULL;
    for (Py_ssize_t column = 0; column < num_columns; column++) {
        BORROW(out, PyTuple_GET_ITEM(arrays, column), char, 1, out_bytes);
        if (!expect(&held, out_bytes == count * widths[column], "a batch's array has another size")) return NULL;
        outs[column] = out;
    }
    int64_t row_bytes = 0;
    for (Py_ssize_t column = 0; column < num_columns; column++) row_bytes += widths[column];
    Gather gather = {rows, bases, widths, places, count, num_bases / num_columns, num_columns, 0, outs};
    gather.rows_a_block = rows_a_block(count, count * row_bytes);
    Py_BEGIN_ALLOW_THREADS
    run_shared(gather_block, &gather, (count + gather.rows_a_block - 1) / gather.rows_a_block);
    Py_END_ALLOW_THREADS
    DONE
}

static PyObject *gather_bits(PyObject *self, PyObject *const *args, Py_ssize_t num_args) {
    if (!num_arguments(num_args, 5)) return NULL;
    Borrowed held = {.count = 0};
    Py_ssize_t count, num_places, num_stretches, num_firsts, num_out;
    BORROW(rows, args[0], int64_t, 0, count);
    BORROW(places, args[1], int32_t, 0, num_places);
    BORROW(bases, args[2], int64_t, 0, num_stretches);
    BORROW(firsts, args[3], int64_t, 0, num_firsts);
    BORROW(out, args[4], uint8_t, 1, num_out);
    const int fits = num_places == count && num_firsts == num_stretches && num_out == count &&
                     are_places(places, count, num_stretches);
    if (!expect(&held, fits, "bits, addresses or places differ in number")) return NULL;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < count; i++) {
        const int32_t place = places[i];
        const int64_t bit = firsts[place] + rows[i];
        out[i] = bases[place] ? ((const uint8_t *)(intptr_t)bases[place])[bit >> 3] >> (bit & 7) & 1 : 1;
    }
    Py_END_ALLOW_THREADS
    DONE
}

/* ---- rows of varying length --------------------------------------------------------------------------------------- */

static int64_t offset_at(int64_t base, int64_t row, int64_t width) {
    int32_t narrow;
    int64_t wide;
    if (width == 8) {
        memcpy(&wide, (const char *)(intptr_t)(base + row * 8), 8);
        return wide;
    }
    memcpy(&narrow, (const char *)(intptr_t)(base + row * 4), 4);
    return narrow;
}

static PyObject *gather_offsets(PyObject *self, PyObject *const *args, Py_ssize_t num_args) {
    if (!num_arguments(num_args, 7)) return NULL;
    Borrowed held = {.count = 0};
    Py_ssize_t count, num_places, num_stretches, num_limits, num_starts, num_out;
    BORROW(rows, args[0], int64_t, 0, count);
    BORROW(places, args[1], int32_t, 0, num_places);
    BORROW(bases, args[2], int64_t, 0, num_stretches);
    BORROW(limits, args[3], int64_t, 0, num_limits);
    NUMBER(width, args[4]);
    BORROW(starts, args[5], int64_t, 1, num_starts);
    BORROW(out, args[6], int64_t, 1, num_out);
    const int fits = num_places == count && num_limits == num_stretches && num_starts == count &&
                     num_out == count + 1 && (width == 4 || width == 8) && are_places(places, count, num_stretches);
    if (!expect(&held, fits, "offsets, addresses or places differ in number")) return NULL;
    int sane = 1;
    Py_BEGIN_ALLOW_THREADS
    out[0] = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (i + 2 * AHEAD < count)
            FETCH(bases[places[i + 2 * AHEAD]] + rows[i + 2 * AHEAD] * width);
        const int64_t start = offset_at(bases[places[i]], rows[i], width);
        const int64_t length = offset_at(bases[places[i]], rows[i] + 1, width) - start;
        /* In this order, no sum of wild numbers is made. */
        sane &= start >= 0 && length >= 0 && start <= limits[places[i]] && length <= limits[places[i]] - start;
        starts[i] = start;
        out[i + 1] = out[i] + length;
    }
    Py_END_ALLOW_THREADS
    if (!expect(&held, sane, "a row lies outside of its items")) return NULL;
    DONE
}

typedef struct {
    const int64_t *starts, *bases, *offsets;
    const int32_t *places;
    int64_t item_bytes, row_items;
    Py_ssize_t count, rows_a_block;
    char *out;
} Items;

static void gather_items_block(void *job, Py_ssize_t index) {
    const Items *items = job;
    const int64_t *starts = items->starts, *bases = items->bases, *offsets = items->offsets;
    const int32_t *places = items->places;
    const Py_ssize_t first = index * items->rows_a_block;
    const Py_ssize_t stop = items->count - first < items->rows_a_block ? items->count : first + items->rows_a_block;
    const int streams = offsets[items->count] * items->item_bytes >= STREAMED_BYTES;
    for (Py_ssize_t i = first; i < stop; i++) {
        if (i + 2 < stop)
            fetch_row((const char *)(intptr_t)(bases[places[i + 2]] + starts[i + 2] * items->item_bytes),
                      (offsets[i + 3] - offsets[i + 2]) * items->item_bytes);
        char *target = items->out + (items->row_items ? i * items->row_items : offsets[i]) * items->item_bytes;
        const char *source = (const char *)(intptr_t)(bases[places[i]] + starts[i] * items->item_bytes);
        const size_t num_bytes = (size_t)((offsets[i + 1] - offsets[i]) * items->item_bytes);
        if (streams && num_bytes >= STREAMED_ROW_BYTES) copy_streaming(target, source, num_bytes);
        else if (num_bytes) memcpy(target, source, num_bytes);
    }
    if (streams) end_streaming();
}

static PyObject *gather_items(PyObject *self, PyObject *const *args, Py_ssize_t num_args) {
    if (!num_arguments(num_args, 7)) return NULL;
    Borrowed held = {.count = 0};
    Py_ssize_t count, num_places, num_stretches, num_offsets, out_bytes;
    BORROW(starts, args[0], int64_t, 0, count);
    BORROW(places, args[1], int32_t, 0, num_places);
    BORROW(bases, args[2], int64_t, 0, num_stretches);
    NUMBER(item_bytes, args[3]);
    BORROW(offsets, args[4], int64_t, 0, num_offsets);
    NUMBER(row_items, args[5]);
    BORROW(out, args[6], char, 1, out_bytes);
    int fits = num_places == count && num_offsets == count + 1 && item_bytes > 0 && offsets[0] == 0 &&
               are_places(places, count, num_stretches);
    int64_t longest = 0;
    for (Py_ssize_t i = 0; fits && i < count; i++) {
        const int64_t length = offsets[i + 1] - offsets[i];
        fits = length >= 0;
        longest = length > longest ? length : longest;
    }
    /* Rows of `row_items` each leave the rest of a row as it is; 0 means one row right behind the other. */
    if (fits) fits = row_items ? longest <= row_items && out_bytes == count * row_items * item_bytes
                               : out_bytes == offsets[count] * item_bytes;
    if (!expect(&held, fits, "items, addresses or places differ in number")) return NULL;
    Items items = {starts, bases, offsets, places, item_bytes, row_items, count, 0, out};
    items.rows_a_block = rows_a_block(count, offsets[count] * item_bytes);
    Py_BEGIN_ALLOW_THREADS
    run_shared(gather_items_block, &items, (count + items.rows_a_block - 1) / items.rows_a_block);
    Py_END_ALLOW_THREADS
    DONE
}

/* ---- what is unchecked -------------------------------------------------------------------------------------------- */

static PyObject *find_pending(PyObject *self, PyObject *const *args, Py_ssize_t num_args) {
    if (!num_arguments(num_args, 6)) return NULL;
    Borrowed held = {.count = 0};
    Py_ssize_t count, num_stops, num_places, num_stretches, num_firsts, num_chunks;
    BORROW(starts, args[0], int64_t, 0, count);
    BORROW(stops, args[1], int64_t, 0, num_stops);
    BORROW(places, args[2], int32_t, 0, num_places);
    BORROW(shifts, args[3], int64_t, 0, num_stretches);
    BORROW(firsts, args[4], int64_t, 0, num_firsts);
    BORROW(pending, args[5], uint8_t, 0, num_chunks);
    const int fits = num_stops == count && num_places == count && num_firsts == num_stretches + 1 &&
                     are_places(places, count, num_stretches);
    if (!expect(&held, fits, "stretches and places differ in number")) return NULL;
    PyObject *found = PyList_New(0);
    for (Py_ssize_t i = 0; found && i < count; i++) {
        const int32_t place = places[i];
        if (starts[i] < 0 || starts[i] >= stops[i]) continue;
        int64_t last = firsts[place] + ((stops[i] - 1) >> shifts[place]);
        if (last >= firsts[place + 1]) last = firsts[place + 1] - 1;
        for (int64_t chunk = firsts[place] + (starts[i] >> shifts[place]); found && chunk <= last; chunk++) {
            if (chunk >= num_chunks || !pending[chunk]) continue;
            PyObject *number = PyLong_FromLongLong(chunk);
            if (!number || PyList_Append(found, number) < 0) Py_CLEAR(found);
            Py_XDECREF(number);
        }
    }
    give_back(&held);
    return found;
}

/* ---- select bits -------------------------------------------------------------------------------------------------- */

/* Compilers know these steps and make one instruction of them where the processor has it; where it has not, the
 * function that they would call instead takes several times as long. */
static inline int num_ones(uint64_t word) {
    word -= word >> 1 & UINT64_C(0x5555555555555555);
    word = (word & UINT64_C(0x3333333333333333)) + (word >> 2 & UINT64_C(0x3333333333333333));
    word = (word + (word >> 4)) & UINT64_C(0x0F0F0F0F0F0F0F0F);
    return (int)(word * UINT64_C(0x0101010101010101) >> 56);
}

static inline int64_t select_bit(const uint64_t *bits, const int64_t *ranks, Py_ssize_t num_blocks,
                                 Py_ssize_t num_words, double per_bit, int64_t k) {
    Py_ssize_t block = (Py_ssize_t)((double)k * per_bit);
    if (block >= num_blocks) block = num_blocks - 1;
    int steps = 0;
    while (steps++ < 8) {
        if (block + 1 < num_blocks && ranks[block + 1] <= k) block++;
        else if (ranks[block] > k) block--;
        else break;
    }
    if (steps > 8) {
        Py_ssize_t low = 0, high = num_blocks - 1;
        while (low < high) {
            const Py_ssize_t middle = low + (high - low + 1) / 2;
            if (ranks[middle] <= k) low = middle;
            else high = middle - 1;
        }
        block = low;
    }
    int64_t left = k - ranks[block];
    Py_ssize_t at = block * BLOCK_WORDS;
    const Py_ssize_t end = at + BLOCK_WORDS < num_words ? at + BLOCK_WORDS : num_words;
    for (; at < end; at++) {
        const int ones = num_ones(bits[at]);
        if (left < ones) break;
        left -= ones;
    }
    if (at == end) return -1;
    uint64_t word = bits[at];
    int place = 0;
    for (int width = 32; width >= 8; width /= 2) {
        const int ones = num_ones(word & ((UINT64_C(1) << width) - 1));
        if (left >= ones) {
            left -= ones;
            word >>= width;
            place += width;
        }
    }
    while (left--) word &= word - 1;
    return (int64_t)at * 64 + place + TRAILING_ZEROS(word);
}

COUNTING static int select_all(const uint64_t *bits, const int64_t *ranks, Py_ssize_t num_blocks, Py_ssize_t num_words,
                               const int64_t *ks, Py_ssize_t count, int64_t *out) {
    const int64_t total = ranks[num_blocks];
    const double per_bit = total > 0 ? (double)num_blocks / (double)total : 0;
    int outside = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        const int inside = ks[i] >= 0 && ks[i] < total;
        out[i] = inside ? select_bit(bits, ranks, num_blocks, num_words, per_bit, ks[i]) : -1;
        outside |= out[i] < 0;
    }
    return outside;
}

static PyObject *select_bits(PyObject *self, PyObject *const *args, Py_ssize_t num_args) {
    if (!num_arguments(num_args, 4)) return NULL;
    Borrowed held = {.count = 0};
    Py_ssize_t num_words, num_ranks, count, num_out;
    BORROW(bits, args[0], uint64_t, 0, num_words);
    BORROW(ranks, args[1], int64_t, 0, num_ranks);
    BORROW(ks, args[2], int64_t, 0, count);
    BORROW(out, args[3], int64_t, 1, num_out);
    const Py_ssize_t num_blocks = num_ranks - 1;
    const int fits = num_out == count && num_blocks == (num_words + BLOCK_WORDS - 1) / BLOCK_WORDS && ranks[0] == 0;
    if (!expect(&held, fits, "bits, ranks or places differ in number")) return NULL;
    int outside;
    Py_BEGIN_ALLOW_THREADS
    outside = select_all(bits, ranks, num_blocks, num_words, ks, count, out);
    Py_END_ALLOW_THREADS
    give_back(&held);
    return PyBool_FromLong(!outside);
}

/* ---- map a file --------------------------------------------------------------------------------------------------- */

#ifndef _WIN32
/* Unlike Python's own map it keeps no descriptor, and a program may hold many thousand. */
typedef struct {
    PyObject_HEAD
    void *start;
    Py_ssize_t num_bytes;
} Map;

static int borrow_map(PyObject *self, Py_buffer *buffer, int flags) {
    Map *map = (Map *)self;
    return PyBuffer_FillInfo(buffer, self, map->start, map->num_bytes, 1, flags);
}

static void unmap(PyObject *self) {
    Map *map = (Map *)self;
    if (map->num_bytes) munmap(map->start, (size_t)map->num_bytes);
    Py_TYPE(self)->tp_free(self);
}

static PyBufferProcs map_as_buffer = {.bf_getbuffer = borrow_map};

static PyTypeObject map_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "shoal.data._native.Map",
    .tp_basicsize = sizeof(Map),
    .tp_dealloc = unmap,
    .tp_as_buffer = &map_as_buffer,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "The pages of a file.",
};

#ifdef __APPLE__
#define NANOSECONDS(found, kind) ((int64_t)(found).st_##kind##timespec.tv_sec * 1000000000 + (found).st_##kind##timespec.tv_nsec)
#else
#define NANOSECONDS(found, kind) ((int64_t)(found).st_##kind##tim.tv_sec * 1000000000 + (found).st_##kind##tim.tv_nsec)
#endif

static PyObject *map_file(PyObject *self, PyObject *const *args, Py_ssize_t num_args) {
    PyObject *path;
    if (!num_arguments(num_args, 1) || !PyUnicode_FSConverter(args[0], &path)) return NULL;
    struct stat found;
    void *start = NULL;
    int error = 0;
    Py_BEGIN_ALLOW_THREADS
    const int file = open(PyBytes_AS_STRING(path), O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &found) < 0) error = errno;
    else if (found.st_size) {
        start = mmap(NULL, (size_t)found.st_size, PROT_READ, MAP_SHARED, file, 0);
        if (start == MAP_FAILED) error = errno;
    }
    if (file >= 0) close(file);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    if (error) {
        errno = error;
        return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, args[0]);
    }
    Map *map = PyObject_New(Map, &map_type);
    if (!map) {
        if (found.st_size) munmap(start, (size_t)found.st_size);
        return NULL;
    }
    map->start = start;
    map->num_bytes = (Py_ssize_t)found.st_size;
    return Py_BuildValue("(NLLK)", map, (long long)NANOSECONDS(found, m), (long long)NANOSECONDS(found, c),
                         (unsigned long long)found.st_ino);
}

static int add_map(PyObject *module) { return PyType_Ready(&map_type); }
#endif

static int expect_forks(PyObject *module) { return prepare_for_forks(); }

/* ---- module ------------------------------------------------------------------------------------------------------- */

#define FUNCTION(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}

static PyMethodDef functions[] = {
    FUNCTION(permute),        FUNCTION(locate),       FUNCTION(gather_rows),  FUNCTION(gather_bits),
    FUNCTION(gather_offsets), FUNCTION(gather_items), FUNCTION(find_pending), FUNCTION(select_bits),
#ifndef _WIN32
    FUNCTION(map_file),
#endif
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, expect_forks},
#ifndef _WIN32
    {Py_mod_exec, add_map},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "Inner loops of a loader; see native.py.", 0, functions, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
