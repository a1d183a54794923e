#include "crc_kernel.h"

#include "core/base.h"

/* ---- tables --------------------------------------------------------- */

/* The register is linear in its input, so 256 entries follow from the eight
 * that have one bit.  Those were computed by (Python)
 *     a = [P]; for _ in range(63): a.append(a[-1] >> 1 ^ P * (a[-1] & 1))
 *     slice[k][1 << i] = a[8 * k + 7 - i]
 * and the two of by_n, with x^m the 32 reflected bits of x^m mod P, by
 *     x^(8n + 32) << 1, x^(8n - 32) << 1
 * test_checksum holds all of it against the definition, bit by bit. */
#define BIT(n, i, one) ((((n) >> (i)) & 1) != 0 ? (one) : 0)
#define E1(n, a, b, c, d, e, f, g, h)                                         \
    (BIT(n, 0, a) ^ BIT(n, 1, b) ^ BIT(n, 2, c) ^ BIT(n, 3, d) ^ BIT(n, 4, e) \
     ^ BIT(n, 5, f) ^ BIT(n, 6, g) ^ BIT(n, 7, h))
#define E4(n, ...)                                                            \
    E1(n, __VA_ARGS__), E1(n + 1, __VA_ARGS__), E1(n + 2, __VA_ARGS__),       \
        E1(n + 3, __VA_ARGS__)
#define E16(n, ...)                                                           \
    E4(n, __VA_ARGS__), E4(n + 4, __VA_ARGS__), E4(n + 8, __VA_ARGS__),       \
        E4(n + 12, __VA_ARGS__)
#define E64(n, ...)                                                           \
    E16(n, __VA_ARGS__), E16(n + 16, __VA_ARGS__), E16(n + 32, __VA_ARGS__),  \
        E16(n + 48, __VA_ARGS__)
#define ROW(...)                                                              \
    E64(0, __VA_ARGS__), E64(64, __VA_ARGS__), E64(128, __VA_ARGS__),         \
        E64(192, __VA_ARGS__)

/* clang-format off */
const ts_crc ts_crc32 = {
    .polynomial = 0xedb88320,
    .slice = {
        {ROW(0x77073096, 0xee0e612c, 0x076dc419, 0x0edb8832,
             0x1db71064, 0x3b6e20c8, 0x76dc4190, 0xedb88320)},
        {ROW(0x191b3141, 0x32366282, 0x646cc504, 0xc8d98a08,
             0x4ac21251, 0x958424a2, 0xf0794f05, 0x3b83984b)},
        {ROW(0x01c26a37, 0x0384d46e, 0x0709a8dc, 0x0e1351b8,
             0x1c26a370, 0x384d46e0, 0x709a8dc0, 0xe1351b80)},
        {ROW(0xb8bc6765, 0xaa09c88b, 0x8f629757, 0xc5b428ef,
             0x5019579f, 0xa032af3e, 0x9b14583d, 0xed59b63b)},
        {ROW(0x3d6029b0, 0x7ac05360, 0xf580a6c0, 0x30704bc1,
             0x60e09782, 0xc1c12f04, 0x58f35849, 0xb1e6b092)},
        {ROW(0xcb5cd3a5, 0x4dc8a10b, 0x9b914216, 0xec53826d,
             0x03d6029b, 0x07ac0536, 0x0f580a6c, 0x1eb014d8)},
        {ROW(0xa6770bb4, 0x979f1129, 0xf44f2413, 0x33ef4e67,
             0x67de9cce, 0xcfbd399c, 0x440b7579, 0x8816eaf2)},
        {ROW(0xccaa009e, 0x4225077d, 0x844a0efa, 0xd3e51bb5,
             0x7cbb312b, 0xf9766256, 0x299dc2ed, 0x533b85da)},
    },
    .by_16 = {0x1751997d0, 0x0ccaa009e},
    .by_64 = {0x154442bd4, 0x1c6e41596},
    .by_256 = {0x11542778a, 0x1322d1430},
};

const ts_crc ts_crc32c = {
    .polynomial = 0x82f63b78,
    .slice = {
        {ROW(0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf,
             0x105ec76f, 0x20bd8ede, 0x417b1dbc, 0x82f63b78)},
        {ROW(0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8,
             0x3fc5f181, 0x7f8be302, 0xff17c604, 0xfbc3faf9)},
        {ROW(0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5,
             0x70a27d8a, 0xe144fb14, 0xc76580d9, 0x8b277743)},
        {ROW(0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6,
             0xe964b13d, 0xd725148b, 0xaba65fe7, 0x52a0c93f)},
        {ROW(0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91,
             0x8f2261d3, 0x1ba8b557, 0x37516aae, 0x6ea2d55c)},
        {ROW(0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f,
             0xc00c303e, 0x85f4168d, 0x0e045beb, 0x1c08b7d6)},
        {ROW(0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53,
             0x9c5bfaa6, 0x3d5b83bd, 0x7ab7077a, 0xf56e0ef4)},
        {ROW(0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da,
             0x847609b4, 0x0d006599, 0x1a00cb32, 0x34019664)},
    },
    .by_16 = {0x0f20c0dfe, 0x14cd00bd6},
    .by_64 = {0x0740eef02, 0x09e4addf8},
    .by_256 = {0x0dcb17aa4, 0x0b9e02b86},
};
/* clang-format on */

/* ---- eight bytes a step --------------------------------------------- */

uint32_t ts_crc_scalar(const ts_crc *crc, uint32_t value, const void *bytes,
                       size_t size)
{
    const uint32_t(*slice)[256] = crc->slice;
    const uint8_t *at = bytes;

    for (; size >= 8; at += 8, size -= 8) {
        uint32_t low = ts_load_u32(at) ^ value, high = ts_load_u32(at + 4);
        value = slice[7][low & 255] ^ slice[6][low >> 8 & 255]
                ^ slice[5][low >> 16 & 255] ^ slice[4][low >> 24]
                ^ slice[3][high & 255] ^ slice[2][high >> 8 & 255]
                ^ slice[1][high >> 16 & 255] ^ slice[0][high >> 24];
    }
    for (; size > 0; at++, size--)
        value = value >> 8 ^ slice[0][(value ^ *at) & 255];
    return value;
}

/* ---- combining ------------------------------------------------------ */

/* a * b mod P; bit 31 is x^0. */
static uint32_t multiply(uint32_t polynomial, uint32_t a, uint32_t b)
{
    uint32_t product = 0;

    for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
        if (a & bit) product ^= b;
        b = b >> 1 ^ ((0u - (b & 1)) & polynomial);
    }
    return product;
}

/* x^(8 n) mod P, by squaring. */
static uint32_t power(uint32_t polynomial, uint64_t n)
{
    uint32_t result = 1u << 31, square = 1u << 23;

    for (; n != 0; n >>= 1) {
        if (n & 1) result = multiply(polynomial, result, square);
        square = multiply(polynomial, square, square);
    }
    return result;
}

uint32_t ts_crc_combine(const ts_crc *crc, uint32_t first, uint32_t second,
                        uint64_t second_size)
{
    uint32_t shift = power(crc->polynomial, second_size);
    return multiply(crc->polynomial, shift, first) ^ second;
}
