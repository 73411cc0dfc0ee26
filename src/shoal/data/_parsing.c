/* Rows of CSV and JSON Lines straight into columns, for text that leaves no doubt about what it means.
 *
 * Whatever is out of the ordinary (a malformed record, a blank line, a value that does not plainly have its column's
 * type) ends the loop without a result: Arrow's parser then reads the same bytes and decides. So these loops give what
 * Arrow gives or nothing. All take contiguous buffers and release the interpreter while they run.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "../base/_decimals.h"

#define MAX_WORD 16

typedef struct {
    int kind;          /* 'q' int64, 'd' float64, 'f' float32, 'b' a bit for a truth, 't' microseconds since 1970, 's' text */
    Py_buffer values;  /* 8 bytes a row; 'f': 4; 's': int32 offsets, one more than rows; 'b': bits */
    Py_buffer holes;   /* a bit per row, zeros to begin with: 1 where the row has no value */
    Py_buffer texts;   /* 's': room for the text of all rows */
    Py_buffer name;    /* of JSON's key */
    uint64_t prefix;   /* the first eight bytes of the name and the quote behind it, as far as there are so many */
    uint64_t in_prefix;
    int64_t num_nulls;
    int64_t text_bytes;
    Py_ssize_t seen;   /* 1 + the last row that had this key */
} Column;

typedef struct {
    Column *columns;
    Py_ssize_t count;
    Py_ssize_t num_rows;
    const uint64_t *powers; /* for each power of ten from -MAX_POWER on: high and low 64 bits of its significand */
    char words[64][MAX_WORD];
    int lengths[64];
    int num_words;
} Plan;

/* ---- values: each returns 0 where it is in doubt ----------------------------------------------------------------- */

static inline void set_bit(Py_buffer *bits, Py_ssize_t row) { ((uint8_t *)bits->buf)[row >> 3] |= (uint8_t)(1 << (row & 7)); }

/* The high bit of each byte that is this letter, or lies below it. A byte behind the first one found may be marked
 * wrongly, as subtracting borrows; so only the first mark is to be believed. */
static inline uint64_t marks_of(uint64_t bytes, uint8_t letter)
{
    bytes ^= ONES * letter;
    return (bytes - ONES) & ~bytes & HIGH_BITS;
}

static inline uint64_t marks_below(uint64_t bytes, uint8_t letter) { return (bytes - ONES * letter) & ~bytes & HIGH_BITS; }

/* Reads a whole number; returns where it ends, or NULL in doubt. */
static inline const uint8_t *read_whole(Column *column, Py_ssize_t row, const uint8_t *at, const uint8_t *end)
{
    return read_int64(at, end, (int64_t *)column->values.buf + row);
}

/* Reads a float; returns where it ends, or NULL in doubt. */
static inline const uint8_t *read_real(Column *column, Py_ssize_t row, const uint8_t *at, const uint8_t *end,
                                       const uint64_t *powers)
{
    double value;
    at = read_double(at, end, powers, &value);
    if (at == NULL)
        return NULL;
    if (column->kind == 'f')
        return to_single(value, (float *)column->values.buf + row) ? at : NULL;
    ((double *)column->values.buf)[row] = value;
    return at;
}

/* Reads a number of whichever kind the column has; returns where it ends, or NULL in doubt and for other kinds. */
static inline const uint8_t *read_number(Column *column, Py_ssize_t row, const uint8_t *at, const uint8_t *end,
                                         const uint64_t *powers)
{
    if (column->kind == 'q')
        return read_whole(column, row, at, end);
    return column->kind == 'd' || column->kind == 'f' ? read_real(column, row, at, end, powers) : NULL;
}

static inline int two_digits(const uint8_t *at) { return is_digit(at[0]) && is_digit(at[1]) ? (at[0] - '0') * 10 + at[1] - '0' : -1; }

/* "2026-11-21 09:30:00", with a "T" for the space and three or six digits of a second's fraction if it likes. */
static int put_instant(Column *column, Py_ssize_t row, const uint8_t *at, const uint8_t *end)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    Py_ssize_t size = end - at;
    if ((size != 19 && size != 23 && size != 26) || at[4] != '-' || at[7] != '-' || (at[10] != ' ' && at[10] != 'T') ||
        at[13] != ':' || at[16] != ':' || (size > 19 && at[19] != '.'))
        return 0;
    int century = two_digits(at), year = two_digits(at + 2), month = two_digits(at + 5), day = two_digits(at + 8);
    int hour = two_digits(at + 11), minute = two_digits(at + 14), second = two_digits(at + 17);
    if (century < 0 || year < 0 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 || minute < 0 ||
        minute > 59 || second < 0 || second > 59)
        return 0;
    year += century * 100;
    if (year < 1 || day > lengths[month - 1] + (month == 2 && year % 4 == 0 && (year % 100 || year % 400 == 0)))
        return 0;
    int64_t fraction = 0;
    for (const uint8_t *digit = at + 20; digit < end; digit++) {
        if (!is_digit(*digit))
            return 0;
        fraction = fraction * 10 + (*digit - '0');
    }
    if (size == 23)
        fraction *= 1000;
    /* Days in a calendar whose years begin in March, so that the day that comes and goes is the last. */
    int64_t shifted = year - (month <= 2), of_400 = shifted / 400, in_400 = shifted - of_400 * 400;
    int64_t in_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t days = of_400 * 146097 + in_400 * 365 + in_400 / 4 - in_400 / 100 + in_year - 719468;
    ((int64_t *)column->values.buf)[row] = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000000 + fraction;
    return 1;
}

static int put_truth(Column *column, Py_ssize_t row, const uint8_t *at, const uint8_t *end)
{
    Py_ssize_t size = end - at;
    if (size == 4 && !memcmp(at, "true", 4))
        set_bit(&column->values, row);
    else if (size != 5 || memcmp(at, "false", 5))
        return 0;
    return 1;
}

/* How many bytes a character of UTF-8 beyond ASCII has; 0 for what is none. */
static int length_of_character(const uint8_t *at, const uint8_t *end)
{
    uint8_t first = at[0];
    int size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || end - at < size)
        return 0;
    for (int index = 1; index < size; index++)
        if ((at[index] & 0xC0) != 0x80)
            return 0;
    /* Longer than needed, a half of a pair, or beyond the last character. */
    if ((first == 0xE0 && at[1] < 0xA0) || (first == 0xED && at[1] > 0x9F) || (first == 0xF0 && at[1] < 0x90) ||
        (first == 0xF4 && at[1] > 0x8F))
        return 0;
    return size;
}

static int put_plain(Column *column, Py_ssize_t row, const uint8_t *at, const uint8_t *end, const uint64_t *powers)
{
    if (column->kind == 't')
        return put_instant(column, row, at, end);
    return column->kind == 'b' ? put_truth(column, row, at, end) : read_number(column, row, at, end, powers) == end;
}

static inline void put_null(Column *column, Py_ssize_t row)
{
    column->num_nulls++;
    set_bit(&column->holes, row);
    if (column->kind == 's')
        ((int32_t *)column->values.buf)[row + 1] = (int32_t)column->text_bytes;
    else if (column->kind == 'f')
        ((float *)column->values.buf)[row] = 0;
    else if (column->kind != 'b')
        ((int64_t *)column->values.buf)[row] = 0;
}

static inline void end_text(Column *column, Py_ssize_t row, const uint8_t *out)
{
    column->text_bytes = out - (uint8_t *)column->texts.buf;
    ((int32_t *)column->values.buf)[row + 1] = (int32_t)column->text_bytes;
}

/* Copies text up to a quote, a control character, one beyond ASCII or one more letter; returns where that stands.
 * Copies eight bytes at once, and so up to eight too many: there is room, as no text is longer than what was read. */
static inline const uint8_t *copy_plain(const uint8_t *at, const uint8_t *end, uint8_t **out, uint8_t also)
{
    uint8_t *to = *out;
    for (; end - at >= 8; at += 8, to += 8) {
        uint64_t bytes = eight(at);
        uint64_t marks = (bytes & HIGH_BITS) | marks_below(bytes, 0x20) | marks_of(bytes, '"') | marks_of(bytes, also);
        memcpy(to, at, 8);
        if (marks) {
            int count = __builtin_ctzll(marks) >> 3;
            *out = to + count;
            return at + count;
        }
    }
    while (at < end && *at >= 0x20 && *at < 0x80 && *at != '"' && *at != also)
        *to++ = *at++;
    *out = to;
    return at;
}

/* ---- CSV --------------------------------------------------------------------------------------------------------- */

static int is_null_word(const Plan *plan, const uint8_t *at, Py_ssize_t size)
{
    if (size == 0)
        return 1;
    for (int word = 0; word < plan->num_words; word++)
        if (plan->lengths[word] == size && !memcmp(plan->words[word], at, (size_t)size))
            return 1;
    return 0;
}

static inline int put_field(const Plan *plan, Column *column, Py_ssize_t row, const uint8_t *at, const uint8_t *end)
{
    if (put_plain(column, row, at, end, plan->powers))
        return 1;
    if (column->kind == 'b' && end - at >= 4 && (*at == 'T' || *at == 'F')) {
        /* As Python writes them. */
        uint8_t lower[5] = {(uint8_t)(*at | 32)};
        if (end - at > 5)
            return 0;
        memcpy(lower + 1, at + 1, (size_t)(end - at - 1));
        return put_truth(column, row, lower, lower + (end - at));
    }
    if (!is_null_word(plan, at, end - at))
        return 0;
    put_null(column, row);
    return 1;
}

static inline int ends_field(const uint8_t *at, const uint8_t *end, uint8_t delimiter)
{
    return at == end || *at == delimiter || *at == '\n' || *at == '\r';
}

/* Reads a text from `at`, which lies before `end`; returns where its field ends, or NULL. */
static const uint8_t *read_csv_text(Column *column, Py_ssize_t row, const uint8_t *at, const uint8_t *end,
                                    uint8_t delimiter)
{
    uint8_t *out = (uint8_t *)column->texts.buf + column->text_bytes;
    int is_quoted = at < end && *at == '"';
    at += is_quoted;
    while ((at = copy_plain(at, end, &out, is_quoted ? '"' : delimiter)) < end) {
        uint8_t letter = *at;
        if (letter == '"') {
            if (!is_quoted)
                return NULL;
            if (at + 1 == end || at[1] != '"')
                break;
            at++; /* two quotes are one of the text */
        } else if (letter == '\n' || letter == '\r') {
            if (is_quoted)
                return NULL;
            break;
        } else if (letter == delimiter && !is_quoted) {
            break;
        } else if (letter >= 0x80) {
            int size = length_of_character(at, end);
            if (!size)
                return NULL;
            for (; size > 1; size--)
                *out++ = *at++;
        }
        *out++ = *at++;
    }
    if (is_quoted && at == end)
        return NULL;
    end_text(column, row, out);
    return at + is_quoted;
}

/* Reads a field that is no text; else as above. */
static const uint8_t *read_other_field(const Plan *plan, Column *column, Py_ssize_t row, const uint8_t *at,
                                       const uint8_t *end, uint8_t delimiter)
{
    int is_quoted = at < end && *at == '"';
    const uint8_t *begin = at += is_quoted;
    for (; at < end && (is_quoted ? *at != '"' : !ends_field(at, end, delimiter)); at++)
        if (*at == '"' || *at == '\n' || *at == '\r' || *at >= 0x80)
            return NULL;
    /* Two quotes in a row end no field: the caller finds no delimiter behind the first. */
    if ((is_quoted && at == end) || !put_field(plan, column, row, begin, at))
        return NULL;
    return at + is_quoted;
}

static inline const uint8_t *read_field(const Plan *plan, Column *column, Py_ssize_t row, const uint8_t *at,
                                        const uint8_t *end, uint8_t delimiter)
{
    if (column->kind == 's')
        return read_csv_text(column, row, at, end, delimiter);
    const uint8_t *stop = read_number(column, row, at, end, plan->powers);
    return stop && ends_field(stop, end, delimiter) ? stop : read_other_field(plan, column, row, at, end, delimiter);
}

/* Returns the number of rows, or -1 in doubt. */
static Py_ssize_t read_csv(Plan *plan, const uint8_t *at, const uint8_t *end, uint8_t delimiter)
{
    Py_ssize_t row = 0;
    /* Numbers are read before it is known where they end; and Arrow drops the mark that a text in UTF-8 may begin with. */
    if (strchr("0123456789+-.eE", delimiter) || (end - at >= 3 && !memcmp(at, "\xEF\xBB\xBF", 3)))
        return -1;
    for (; at < end; row++) {
        if (row == plan->num_rows || *at == '\n' || *at == '\r')
            return -1;
        for (Py_ssize_t index = 0; index < plan->count; index++) {
            at = read_field(plan, &plan->columns[index], row, at, end, delimiter);
            if (!at || (index + 1 < plan->count && (at == end || *at++ != delimiter)))
                return -1;
        }
        if (at < end && *at == '\r')
            at++;
        if (at < end && *at++ != '\n')
            return -1;
    }
    return row;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static inline const uint8_t *skip_blanks(const uint8_t *at, const uint8_t *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
        at++;
    return at;
}

/* The character behind "\u"; -1 for half of a pair, for zero and for what is none. */
static int32_t escaped_character(const uint8_t *at, const uint8_t *end)
{
    int32_t found = 0;
    if (end - at < 4)
        return -1;
    for (int index = 0; index < 4; index++) {
        uint8_t letter = at[index];
        int digit = is_digit(letter) ? letter - '0' : (letter | 32) >= 'a' && (letter | 32) <= 'f' ? (letter | 32) - 'a' + 10 : -1;
        if (digit < 0)
            return -1;
        found = found * 16 + digit;
    }
    return found == 0 || (found >= 0xD800 && found <= 0xDFFF) ? -1 : found;
}

static uint8_t *put_character(uint8_t *out, int32_t character)
{
    if (character < 0x80) {
        *out++ = (uint8_t)character;
    } else if (character < 0x800) {
        *out++ = (uint8_t)(0xC0 | character >> 6);
        *out++ = (uint8_t)(0x80 | (character & 63));
    } else {
        *out++ = (uint8_t)(0xE0 | character >> 12);
        *out++ = (uint8_t)(0x80 | (character >> 6 & 63));
        *out++ = (uint8_t)(0x80 | (character & 63));
    }
    return out;
}

/* Reads a text behind its first quote; returns where its last one is, or NULL. */
static const uint8_t *read_text(Column *column, Py_ssize_t row, const uint8_t *at, const uint8_t *end)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint8_t *out = (uint8_t *)column->texts.buf + column->text_bytes;
    while ((at = copy_plain(at, end, &out, '\\')) < end && *at != '"') {
        if (*at < 0x20)
            return NULL;
        if (*at == '\\') {
            if (++at == end)
                return NULL;
            const char *known = *at ? strchr(from, *at) : NULL;
            int32_t character = known ? to[known - from] : *at == 'u' ? escaped_character(at + 1, end) : -1;
            if (character < 0)
                return NULL;
            at += known ? 1 : 5;
            out = put_character(out, character);
            continue;
        }
        int size = length_of_character(at, end);
        if (!size)
            return NULL;
        for (; size; size--)
            *out++ = *at++;
    }
    if (at == end)
        return NULL;
    end_text(column, row, out);
    return at;
}

/* Reads the value of a key; returns where it ends, or NULL. */
static const uint8_t *read_value(const Plan *plan, Column *column, Py_ssize_t row, const uint8_t *at, const uint8_t *end)
{
    if (at < end && *at == '"') {
        const uint8_t *begin = ++at;
        if (column->kind == 's') {
            at = read_text(column, row, at, end);
            return at ? at + 1 : NULL;
        }
        at = column->kind == 't' ? memchr(at, '"', (size_t)(end - at)) : NULL;
        return at && put_instant(column, row, begin, at) ? at + 1 : NULL;
    }
    const uint8_t *begin = at, *stop = read_number(column, row, at, end, plan->powers);
    if (stop && stop < end && (*stop == ',' || *stop == '}' || *stop <= ' '))
        return stop;
    while (at < end && *at != ',' && *at != '}' && *at > ' ')
        at++;
    if (at - begin == 4 && !memcmp(begin, "null", 4)) {
        put_null(column, row);
        return at;
    }
    return column->kind != 't' && put_plain(column, row, begin, at, plan->powers) ? at : NULL;
}

/* Finds the column of a key behind its first quote, and where the key's last quote is; the keys of most rows come in
 * the order of those before. */
static Column *find_key(Plan *plan, Py_ssize_t expected, const uint8_t *at, const uint8_t *end)
{
    for (Py_ssize_t tried = 0; tried < plan->count; tried++) {
        Column *column = &plan->columns[expected + tried < plan->count ? expected + tried : expected + tried - plan->count];
        Py_ssize_t size = column->name.len;
        if (end - at < 8 ? end - at <= size : (eight(at) & column->in_prefix) != column->prefix)
            continue;
        if ((size < 8 && end - at >= 8) || (end - at > size && at[size] == '"' && !memcmp(at, column->name.buf, (size_t)size)))
            return column;
    }
    return NULL;
}

static const uint8_t *read_object(Plan *plan, Py_ssize_t row, const uint8_t *at, const uint8_t *end)
{
    Py_ssize_t num_keys = 0, expected = 0;
    at = skip_blanks(at, end);
    if (at == end || *at++ != '{')
        return NULL;
    at = skip_blanks(at, end);
    int is_empty = at < end && *at == '}';
    at += is_empty;
    while (!is_empty) {
        if (at == end || *at++ != '"')
            return NULL;
        Column *column = find_key(plan, expected, at, end);
        if (!column || column->seen == row + 1)
            return NULL;
        column->seen = row + 1;
        expected = column + 1 - plan->columns == plan->count ? 0 : column + 1 - plan->columns;
        num_keys++;
        at = skip_blanks(at + column->name.len + 1, end);
        if (at == end || *at++ != ':')
            return NULL;
        at = read_value(plan, column, row, skip_blanks(at, end), end);
        if (!at)
            return NULL;
        at = skip_blanks(at, end);
        if (at == end || (*at != ',' && *at != '}'))
            return NULL;
        if (*at++ == '}')
            break;
        at = skip_blanks(at, end);
    }
    for (Py_ssize_t index = 0; num_keys < plan->count && index < plan->count; index++)
        if (plan->columns[index].seen != row + 1) {
            put_null(&plan->columns[index], row);
            num_keys++;
        }
    return skip_blanks(at, end);
}

static Py_ssize_t read_json(Plan *plan, const uint8_t *at, const uint8_t *end)
{
    Py_ssize_t row = 0;
    for (; at < end; row++) {
        at = row == plan->num_rows ? NULL : read_object(plan, row, at, end);
        if (!at || (at < end && *at++ != '\n'))
            return -1;
    }
    return row;
}

/* ---- Python's side ----------------------------------------------------------------------------------------------- */

static void release(Plan *plan, Py_buffer *data, Py_buffer *powers)
{
    for (Py_ssize_t index = 0; index < plan->count; index++) {
        Py_buffer *buffers[] = {&plan->columns[index].values, &plan->columns[index].holes, &plan->columns[index].texts,
                                &plan->columns[index].name};
        for (int at = 0; at < 4; at++)
            if (buffers[at]->obj)
                PyBuffer_Release(buffers[at]);
    }
    free(plan->columns);
    PyBuffer_Release(data);
    PyBuffer_Release(powers);
}

static int is_roomy(const Column *column, Py_ssize_t num_rows, Py_ssize_t num_bytes)
{
    Py_ssize_t bits = (num_rows + 7) / 8;
    if (column->holes.len < bits || !strchr("qdfbts", column->kind))
        return 0;
    if (column->kind == 's')
        return column->values.len / 4 > num_rows && column->texts.len >= num_bytes;
    return column->kind == 'b' ? column->values.len >= bits : column->values.len / (column->kind == 'f' ? 4 : 8) >= num_rows;
}

static void put_prefix(Column *column)
{
    uint8_t prefix[8] = {0}, mask[8] = {0};
    size_t size = column->name.len < 8 ? (size_t)column->name.len : 8;
    memcpy(prefix, column->name.buf, size);
    memset(mask, 0xFF, size < 8 ? size + 1 : 8);
    if (size < 8)
        prefix[size] = '"';
    column->prefix = eight(prefix);
    column->in_prefix = eight(mask);
}

static int plan_columns(Plan *plan, PyObject *list, PyObject *words, Py_ssize_t num_bytes)
{
    plan->columns = calloc((size_t)PyList_GET_SIZE(list) + 1, sizeof(Column));
    if (!plan->columns) {
        PyErr_NoMemory();
        return 0;
    }
    for (; plan->count < PyList_GET_SIZE(list); plan->count++) {
        Column *column = &plan->columns[plan->count];
        PyObject *given = PyList_GET_ITEM(list, plan->count);
        if (!PyTuple_Check(given) || !PyArg_ParseTuple(given, "Cw*w*w*y*", &column->kind, &column->values,
                                                       &column->holes, &column->texts, &column->name)) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "columns must be tuples");
            return 0;
        }
        if (!is_roomy(column, plan->num_rows, num_bytes)) {
            plan->count++;
            PyErr_Format(PyExc_ValueError, "column %zd has no room for %zd rows", plan->count - 1, plan->num_rows);
            return 0;
        }
        if (column->kind == 's')
            ((int32_t *)column->values.buf)[0] = 0;
        put_prefix(column);
    }
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(words); index++) {
        char *word;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyList_GET_ITEM(words, index), &word, &size))
            return 0;
        if (size > MAX_WORD || plan->num_words == 64) {
            PyErr_SetString(PyExc_ValueError, "too many words for no value, or one too long");
            return 0;
        }
        memcpy(plan->words[plan->num_words], word, (size_t)size);
        plan->lengths[plan->num_words++] = (int)size;
    }
    return 1;
}

static PyObject *parsed(const Plan *plan, Py_ssize_t num_rows)
{
    PyObject *told = PyList_New(0);
    for (Py_ssize_t index = 0; told && index < plan->count; index++) {
        PyObject *entry = Py_BuildValue("(LL)", (long long)plan->columns[index].num_nulls,
                                        (long long)plan->columns[index].text_bytes);
        if (!entry || PyList_Append(told, entry))
            Py_CLEAR(told);
        Py_XDECREF(entry);
    }
    return told ? Py_BuildValue("(nN)", num_rows, told) : NULL;
}

static PyObject *parse(PyObject *module, PyObject *args)
{
    Py_buffer data, powers;
    PyObject *columns, *words;
    Plan plan = {0};
    int delimiter;
    if (!PyArg_ParseTuple(args, "y*CnO!O!y*", &data, &delimiter, &plan.num_rows, &PyList_Type, &columns, &PyList_Type,
                          &words, &powers))
        return NULL;
    Py_ssize_t num_rows = -1;
    if (powers.len < (2 * MAX_POWER + 1) * 16 || plan.num_rows < 0 || data.len > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "no table of powers, or too much text");
    } else if (plan_columns(&plan, columns, words, data.len) && plan.count) {
        plan.powers = powers.buf;
        Py_BEGIN_ALLOW_THREADS
        const uint8_t *begin = data.buf;
        num_rows = delimiter == '{' ? read_json(&plan, begin, begin + data.len)
                                    : read_csv(&plan, begin, begin + data.len, (uint8_t)delimiter);
        Py_END_ALLOW_THREADS
    }
    PyObject *result = NULL;
    if (!PyErr_Occurred())
        result = num_rows < 0 ? Py_NewRef(Py_None) : parsed(&plan, num_rows);
    release(&plan, &data, &powers);
    return result;
}

static PyObject *count_byte(PyObject *module, PyObject *args)
{
    Py_buffer data;
    unsigned char byte;
    if (!PyArg_ParseTuple(args, "y*b", &data, &byte))
        return NULL;
    Py_ssize_t found = 0;
    Py_BEGIN_ALLOW_THREADS
    const uint8_t *at = data.buf, *end = at + data.len;
    while (at < end) {
        /* 255 at a time: the sum of a lane of bytes cannot overflow, so many lanes count at once. */
        Py_ssize_t part = end - at < 255 * 64 ? end - at : 255 * 64;
        if (part < 255 * 64) {
            for (Py_ssize_t index = 0; index < part; index++)
                found += at[index] == byte;
        } else {
            uint8_t lanes[64] = {0};
            for (int step = 0; step < 255; step++)
                for (int lane = 0; lane < 64; lane++)
                    lanes[lane] += at[step * 64 + lane] == byte;
            for (int lane = 0; lane < 64; lane++)
                found += lanes[lane];
        }
        at += part;
    }
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    return PyLong_FromSsize_t(found);
}

/* The first of two letters, or `end`. */
static inline const uint8_t *find_either(const uint8_t *at, const uint8_t *end, uint8_t one, uint8_t other)
{
#ifdef __SSE2__
    const __m128i ones = _mm_set1_epi8((char)one), others = _mm_set1_epi8((char)other);
    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)at);
        int marks = _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(bytes, ones), _mm_cmpeq_epi8(bytes, others)));
        if (marks)
            return at + __builtin_ctz((unsigned)marks);
    }
#endif
    for (; end - at >= 8; at += 8) {
        uint64_t bytes = eight(at), marks = marks_of(bytes, one) | marks_of(bytes, other);
        if (marks)
            return at + (__builtin_ctzll(marks) >> 3);
    }
    while (at < end && *at != one && *at != other)
        at++;
    return at;
}

/* Where a value that is open at `at` is closed, or `end`; two quotes are one of the value. */
static const uint8_t *find_close(const uint8_t *at, const uint8_t *end)
{
    for (at = find_either(at, end, '"', '"'); at < end && end - at > 1 && at[1] == '"';)
        at = find_either(at + 2, end, '"', '"');
    return at;
}

/* Returns (how many bytes are whole records, the place of the quote whose value is never closed or -1). */
static PyObject *scan_quotes(PyObject *module, PyObject *args)
{
    Py_buffer view;
    unsigned char delimiter;
    Py_ssize_t longest;
    if (!PyArg_ParseTuple(args, "y*bn", &view, &delimiter, &longest))
        return NULL;
    const uint8_t *data = view.buf, *end = data + view.len, *at = data;
    Py_ssize_t whole = 0, open = -1;
    Py_BEGIN_ALLOW_THREADS
    while ((at = find_either(at, end, '"', '\n')) < end) {
        const uint8_t *found = at++;
        uint8_t before = found > data ? found[-1] : '\n';
        if (*found == '\n') {
            whole = at - data;
        } else if (before == delimiter || before == '\n' || before == '\r') {
            const uint8_t *close = find_close(at, end);
            if (close == end || close - found > longest) {
                open = found - data;
                break;
            }
            at = close + 1;
        }
    }
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return Py_BuildValue("nn", whole, open);
}

static PyMethodDef methods[] = {
    {"parse", parse, METH_VARARGS, "Read rows of text into columns; None in doubt."},
    {"count_byte", count_byte, METH_VARARGS, "How often a byte occurs."},
    {"scan_quotes", scan_quotes, METH_VARARGS, "Where the last whole record ends, and which quote is never closed."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_parsing", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__parsing(void) { return PyModule_Create(&definition); }
