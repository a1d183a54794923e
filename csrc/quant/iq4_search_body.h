/* iq4_search_body.h -- the search of iq4_encode_kernel.c on as many groups at
 * once as a register has lanes: each computes what the plain loop would, in
 * its order.
 *
 * The file that includes this includes lanes_*.h before, and defines the type
 * lookup and
 *
 *     lookup lookup_make(void)
 *     lanes nearest(const lookup *, lanes)    the nearest code, within 134
 *     void store(const lookup *, const float *x, float inverse, uint8_t *out)
 *
 * where the last makes 16 bytes of the codes of 32 elements, and knows what to
 * do where their products are no numbers. */
#ifndef TS_QUANT_IQ4_SEARCH_BODY_H
#define TS_QUANT_IQ4_SEARCH_BODY_H

#include "iq4_encode.h"

enum { ROOM = 32 * LANES };

typedef struct {
    lanes qx, qq; /* sums of w q x and of w q q */
} sums;

TS_TARGET static inline sums weigh(const lookup *table, const lanes x[32],
                                   lanes inverse)
{
    sums of = {lanes_set(0), lanes_set(0)};
    for (int j = 0; j < 32; j++) {
        lanes q = nearest(table, inverse * x[j]);
        lanes wq = x[j] * x[j] * q;
        of.qx += wq * x[j];
        of.qq += wq * q;
    }
    return of;
}

/* The first value of largest magnitude of each group. */
TS_TARGET static inline lanes peaks_of(const lanes x[32])
{
    lanes most = lanes_set(0), peak = lanes_set(0);
    for (int j = 0; j < 32; j++) {
        lanes magnitude = lanes_abs(x[j]);
        picks is_more = lanes_less(most, magnitude);
        most = lanes_choose(is_more, magnitude, most);
        peak = lanes_choose(is_more, x[j], peak);
    }
    return peak;
}

TS_TARGET static inline void search(const lookup *table, const float *from,
                                    float scales[LANES])
{
    float turned[ROOM];
    lanes x[32];
    for (int g = 0; g < LANES; g++)
        for (int j = 0; j < 32; j++)
            turned[LANES * j + g] = from[32 * g + j];
    for (int j = 0; j < 32; j++) x[j] = lanes_load(turned + LANES * j);

    const lanes zero = lanes_set(0), one = lanes_set(1);
    lanes peak = peaks_of(x);
    picks is_zero = lanes_less(lanes_abs(peak), lanes_set(TS_IQ4_EPSILON));
    peak = lanes_choose(is_zero, one, peak);
    sums of = weigh(table, x, one / (peak / lanes_set(127)));
    lanes d = lanes_choose(lanes_less(zero, of.qq), of.qx / of.qq, zero);
    lanes best = d * of.qx;
    for (int step = -7; step <= 7; step++) {
        of = weigh(table, x, lanes_set((float)(step - 127)) / peak);
        picks is_better = lanes_both(
            lanes_less(zero, of.qq),
            lanes_less(best * of.qq, of.qx * of.qx));
        d = lanes_choose(is_better, of.qx / of.qq, d);
        best = lanes_choose(is_better, d * of.qx, best);
    }
    lanes_store(scales, lanes_choose(is_zero, zero, d));
}

/* The next whole and finite blocks of n elements; zeros after them. */
TS_TARGET static inline size_t take(const uint8_t *in, size_t left, int n,
                                    float x[ROOM])
{
    size_t taken = 0, most = ROOM < left ? ROOM : left;
    while (taken < most && ts_take_finite(in + 4 * taken, x + taken, n))
        taken += (size_t)n;
    memset(x + taken, 0, sizeof *x * (ROOM - taken));
    return taken;
}

#define IQ4_NL_KERNEL(name)                                                   \
    TS_TARGET TS_QUANTIZE_KERNEL(name)                                        \
    {                                                                         \
        const lookup table = lookup_make();                                   \
        float x[ROOM], scales[LANES];                                         \
        size_t done = 0, taken;                                               \
        while ((taken = take(in, count - done, 32, x)) > 0) {                 \
            search(&table, x, scales);                                        \
            for (size_t g = 0; g < taken / 32; g++, out += 18) {              \
                ts_store_half(out, scales[g]);                                \
                store(&table, x + 32 * g, ts_inverse(scales[g]), out + 2);    \
            }                                                                 \
            done += taken;                                                    \
            in += 4 * taken;                                                  \
        }                                                                     \
        return done;                                                          \
    }

#define IQ4_XS_KERNEL(name)                                                   \
    TS_TARGET TS_QUANTIZE_KERNEL(name)                                        \
    {                                                                         \
        const lookup table = lookup_make();                                   \
        float x[ROOM], scales[LANES], inverses[8];                            \
        size_t done = 0, taken;                                               \
        while ((taken = take(in, count - done, 256, x)) > 0) {                \
            search(&table, x, scales);                                        \
            for (size_t b = 0; b < taken / 256; b++, out += 136) {            \
                ts_store_scales_iq4_xs(scales + 8 * b, out, inverses);        \
                for (size_t k = 0; k < 8; k++)                                \
                    store(&table, x + 256 * b + 32 * k, inverses[k],          \
                          out + 8 + 16 * k);                                  \
            }                                                                 \
            done += taken;                                                    \
            in += 4 * taken;                                                  \
        }                                                                     \
        return done;                                                          \
    }

#endif
