/* Decimal numbers in text to the nearest whole, double or single number, for text that leaves no doubt.
 *
 * Each returns NULL or 0 where it is in doubt: a slower reader then takes the same bytes and decides.
 */
#ifndef SHOAL_DECIMALS_H
#define SHOAL_DECIMALS_H

#include <stdint.h>
#include <string.h>

#define MAX_POWER 64

static inline int is_digit(uint8_t letter) { return letter >= '0' && letter <= '9'; }

#define ONES 0x0101010101010101ull
#define HIGH_BITS 0x8080808080808080ull

/* Eight bytes at once, the first of them in the lowest bits. */
static inline uint64_t eight(const uint8_t *at)
{
    uint64_t bytes;
    memcpy(&bytes, at, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    bytes = __builtin_bswap64(bytes);
#endif
    return bytes;
}

/* Appends the digits that stand here to a number, eight at once (Lemire 2018, "Quickly parsing eight digits"); returns
 * where they end. More than 19 overflow. */
static inline const uint8_t *add_digits(const uint8_t *at, const uint8_t *end, uint64_t *number)
{
    static const uint32_t powers[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    while (end - at >= 8) {
        uint64_t digits = eight(at) ^ ONES * '0';
        uint64_t others = (((digits & ~HIGH_BITS) + ONES * 0x76) | digits) & HIGH_BITS;
        int count = others ? __builtin_ctzll(others) >> 3 : 8;
        if (count == 0)
            return at;
        /* Zeros in front of fewer than eight. */
        digits <<= 64 - 8 * count;
        digits = digits * 10 + (digits >> 8);
        digits = ((digits & 0xFF000000FF) * 0xF424000000064 + (digits >> 16 & 0xFF000000FF) * 0x271000000001) >> 32;
        *number = *number * powers[count] + digits;
        at += count;
        if (count < 8)
            return at;
    }
    for (; at < end && is_digit(*at); at++)
        *number = *number * 10 + (uint64_t)(*at - '0');
    return at;
}

/* Reads a whole number of 64 bits; returns where it ends. */
static inline const uint8_t *read_int64(const uint8_t *at, const uint8_t *end, int64_t *found)
{
    int is_negative = at < end && *at == '-';
    const uint8_t *begin = at += is_negative;
    uint64_t digits = 0;
    at = add_digits(at, end, &digits);
    /* A leading zero is no number in JSON; 18 digits always fit, and 19 show it by themselves. */
    if (at == begin || at - begin > 19 || (*begin == '0' && at - begin > 1) ||
        (at - begin == 19 && digits > (uint64_t)INT64_MAX + (uint64_t)is_negative))
        return NULL;
    *found = (int64_t)(is_negative ? 0 - digits : digits);
    return at;
}

/* digits * 10**power, rounded once to the nearest double, by the method of Eisel and Lemire (Lemire 2021, "Number
 * parsing at a gigabyte per second"; Mushtak and Lemire 2023 for why no case is left open). Returns 0 beyond the table,
 * and for what is no normal number. */
static int nearest_double(uint64_t digits, int power, const uint64_t *powers, double *found)
{
    static const double exact[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                   1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    /* Both sides are exact, so the one division or product rounds once. */
    if (digits <= (uint64_t)1 << 53 && power >= -22 && power <= 22) {
        *found = power < 0 ? (double)digits / exact[-power] : (double)digits * exact[power];
        return 1;
    }
    if (digits == 0) {
        *found = 0;
        return 1;
    }
    if (power < -MAX_POWER || power > MAX_POWER)
        return 0;
    int zeros = __builtin_clzll(digits);
    digits <<= zeros;
    const uint64_t *of_ten = powers + 2 * (power + MAX_POWER);
    unsigned __int128 product = (unsigned __int128)digits * of_ten[0];
    uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
    if ((high & 0x1FF) == 0x1FF) {
        uint64_t more = (uint64_t)(((unsigned __int128)digits * of_ten[1]) >> 64);
        low += more;
        high += low < more;
    }
    int upper = (int)(high >> 63);
    uint64_t mantissa = high >> (upper + 9);
    int exponent = (((152170 + 65536) * power) >> 16) + 63 + upper - zeros + 1023;
    if (exponent <= 0 || exponent >= 0x7FE)
        return 0;
    if (low <= 1 && power >= -4 && power <= 23 && (mantissa & 3) == 1 && mantissa << (upper + 9) == high)
        mantissa &= ~(uint64_t)1;
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    if (mantissa >= (uint64_t)1 << 53) {
        mantissa = (uint64_t)1 << 52;
        exponent++;
    }
    uint64_t bits = (mantissa & (((uint64_t)1 << 52) - 1)) | (uint64_t)exponent << 52;
    memcpy(found, &bits, 8);
    return 1;
}

/* digits * 10**power; `is_cut` says that more digits follow, so that the number lies above, and below the next one. */
typedef struct {
    uint64_t digits;
    int power;
    int is_cut;
} Decimal;

/* Keeps the first 19 digits from the first that is not zero: so many always fit 64 bits. Each digit less is a power
 * more, before the point and behind it. */
static void cut_digits(const uint8_t *at, const uint8_t *end, Decimal *decimal)
{
    int kept = 0;
    decimal->digits = 0;
    for (; at < end; at++) {
        if (*at == '.' || (*at == '0' && kept == 0))
            continue;
        if (kept == 19) {
            decimal->is_cut |= *at != '0';
            decimal->power++;
        } else {
            decimal->digits = decimal->digits * 10 + (uint64_t)(*at - '0');
            kept++;
        }
    }
}

static int nearest_to(const Decimal *decimal, const uint64_t *powers, double *found)
{
    double above;
    if (!nearest_double(decimal->digits, decimal->power, powers, found))
        return 0;
    /* The number lies between two that have the same nearest double, or it is in doubt. */
    return !decimal->is_cut ||
           (nearest_double(decimal->digits + 1, decimal->power, powers, &above) && above == *found);
}

/* Rounds to single precision: rounded twice is rounded right, but in the middle between two; and normal numbers only. */
static inline int to_single(double value, float *found)
{
    uint64_t bits, magnitude;
    memcpy(&bits, &value, 8);
    magnitude = bits & ~((uint64_t)1 << 63);
    if ((bits & 0x1FFFFFFF) == 0x10000000 || (magnitude && magnitude < (uint64_t)(1023 - 126) << 52) ||
        magnitude >= (uint64_t)(1023 + 127) << 52)
        return 0;
    *found = (float)value;
    return 1;
}

/* Reads a number as JSON and CSV write it; returns where it ends. `powers` holds, for each power of ten from -MAX_POWER
 * on, the high and low 64 bits of its significand. */
static inline const uint8_t *read_double(const uint8_t *at, const uint8_t *end, const uint64_t *powers, double *found)
{
    int is_negative = at < end && *at == '-', exponent = 0;
    const uint8_t *begin = at += is_negative;
    Decimal decimal = {0};
    at = add_digits(at, end, &decimal.digits);
    if (at == begin || (*begin == '0' && at - begin > 1))
        return NULL;
    if (at < end && *at == '.') {
        const uint8_t *fraction = ++at;
        at = add_digits(at, end, &decimal.digits);
        if (at == fraction)
            return NULL;
        decimal.power = -(int)(at - fraction);
    }
    if (at - begin > 19)
        cut_digits(begin, at, &decimal);
    if (at < end && (*at | 32) == 'e') {
        at++;
        int is_down = at < end && *at == '-';
        at += at < end && (*at == '-' || *at == '+');
        const uint8_t *first = at;
        for (; at < end && at - first < 3 && is_digit(*at); at++)
            exponent = exponent * 10 + (*at - '0');
        if (at == first)
            return NULL;
        decimal.power += is_down ? -exponent : exponent;
    }
    double value;
    if (!nearest_to(&decimal, powers, &value))
        return NULL;
    *found = is_negative ? -value : value;
    return at;
}

#endif
