/* kquants_search_body.h -- the searches of kquants_encode_kernel.c on as many
 * groups at once as a register has lanes.
 *
 * The order of a sum decides its last bit, so the elements of one group cannot
 * share a register; the same element of many groups can.  Every lane computes
 * what the plain loop would, in its order; what that skips is computed and
 * not chosen.
 *
 * The file that includes this defines TS_TARGET, LANES, the types lanes (of
 * floats) and picks (of truth values), and the few operations on them that C
 * has no operator for: lanes_set, lanes_load, lanes_store, lanes_min,
 * lanes_max, lanes_abs, lanes_sqrt, lanes_less, lanes_equal, lanes_differ,
 * lanes_both, lanes_all, lanes_choose and lanes_round_even. */
#ifndef TS_QUANT_KQUANTS_SEARCH_BODY_H
#define TS_QUANT_KQUANTS_SEARCH_BODY_H

#include "kquants_encode.h"

/* A search looks at this many groups: one block of groups of 16, or two of
 * groups of 32. */
enum { GROUPS = 16 };

/* Element i of LANES groups, n apart. */
TS_TARGET static inline void gather(const float *x, int n, lanes *out)
{
    float turned[32 * LANES];
    for (int l = 0; l < LANES; l++)
        for (int i = 0; i < n; i++) turned[i * LANES + l] = x[l * n + i];
    for (int i = 0; i < n; i++) out[i] = lanes_load(turned + i * LANES);
}

/* To nearest even between least and most, for what is below 2^22. */
TS_TARGET static inline lanes round_between(lanes value, float least,
                                            float most)
{
    lanes sum = value + lanes_set(TS_ROUNDER);
    sum = lanes_max(sum, lanes_set(TS_ROUNDER + least));
    return lanes_min(sum, lanes_set(TS_ROUNDER + most))
        - lanes_set(TS_ROUNDER);
}

/* ---- scale and minimum ------------------------------------------------- */

TS_TARGET static inline lanes error_of(const ts_min_rule *rule, const lanes *x,
                                       const lanes *w, const lanes *codes,
                                       lanes scale, lanes min)
{
    lanes sum = lanes_set(0);
    for (int i = 0; i < rule->group; i++) {
        lanes off = scale * codes[i] + min - x[i];
        if (rule->is_absolute) sum += w[i] * lanes_abs(off);
        else sum += w[i] * (off * off);
    }
    return sum;
}

/* False where a code might not be a small number: then nothing is found, and
 * the plain search knows what to do. */
TS_TARGET static inline bool search_lanes(const ts_min_rule *rule,
                                          const lanes *x, float *scales,
                                          float *mins)
{
    const int n = rule->group;
    const float most = (float)rule->most;
    lanes w[32], codes[32], mean = lanes_set(0);
    if (!rule->is_absolute) {
        for (int i = 0; i < n; i++) mean += x[i] * x[i];
        mean = lanes_sqrt(mean / lanes_set((float)n));
    }
    for (int i = 0; i < n; i++) w[i] = mean + lanes_abs(x[i]);
    lanes low = x[0], high = x[0], sum_w = w[0], sum_x = w[0] * x[0];
    for (int i = 1; i < n; i++) {
        low = lanes_min(low, x[i]);
        high = lanes_max(high, x[i]);
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    low = lanes_min(low, lanes_set(0));
    /* A flat group gets a range, so that nothing overflows, and no scale. */
    const picks is_flat = lanes_equal(high, low);
    high = lanes_choose(is_flat, low + lanes_set(1), high);

    lanes inverse = lanes_set(most) / (high - low);
    lanes scale = lanes_set(1) / inverse, min = low, least = lanes_set(0);
    for (int k = -1; k <= rule->tries; k++) {
        if (k >= 0)
            inverse = lanes_set(rule->first + rule->step * (float)k + most)
                / (high - min);
        lanes reach = lanes_max(lanes_abs(high - min), lanes_abs(low - min));
        picks is_small = lanes_less(lanes_abs(inverse) * reach,
                                    lanes_set(0x1p20f));
        if (!lanes_all(is_small)) return false;
        lanes l = lanes_set(0), l2 = lanes_set(0), xl = lanes_set(0);
        for (int i = 0; i < n; i++) {
            lanes code = round_between(inverse * (x[i] - min), 0, most);
            lanes weighed = w[i] * code;
            codes[i] = code;
            l += weighed;
            l2 += weighed * code;
            xl += weighed * x[i];
        }
        if (k < 0) {
            least = error_of(rule, x, w, codes, scale, min);
            continue;
        }
        lanes divisor = sum_w * l2 - l * l;
        lanes line = (sum_w * xl - sum_x * l) / divisor;
        lanes start = (l2 * sum_x - l * xl) / divisor;
        picks is_above = lanes_less(lanes_set(0), start);
        line = lanes_choose(is_above, xl / l2, line);
        start = lanes_choose(is_above, lanes_set(0), start);
        lanes error = error_of(rule, x, w, codes, line, start);
        picks is_better = lanes_both(lanes_less(lanes_set(0), divisor),
                                     lanes_less(error, least));
        least = lanes_choose(is_better, error, least);
        scale = lanes_choose(is_better, line, scale);
        min = lanes_choose(is_better, start, min);
    }
    min = lanes_choose(is_flat, low, min);
    lanes_store(scales, lanes_choose(is_flat, lanes_set(0), scale));
    lanes_store(mins, lanes_set(0) - min);
    return true;
}

TS_TARGET static inline void search_mins(const ts_min_rule *rule,
                                         const float *x, float *scales,
                                         float *mins)
{
    for (int g = 0; g < GROUPS; g += LANES) {
        const float *at = x + g * rule->group;
        uint8_t codes[32];
        lanes turned[32];
        gather(at, rule->group, turned);
        if (search_lanes(rule, turned, scales + g, mins + g)) continue;
        for (int l = 0; l < LANES; l++)
            scales[g + l] = ts_search_min(rule, at + l * rule->group, codes,
                                          mins + g + l);
    }
}

/* ---- scale alone ------------------------------------------------------- */

typedef struct {
    lanes x[16], squares[16], cubes[16];
    lanes peak;    /* 1 where all is about zero */
    picks is_zero;
} group;

TS_TARGET static inline void group_load(group *of, const float *x)
{
    lanes most = lanes_set(0), peak = lanes_set(0);
    gather(x, 16, of->x);
    for (int i = 0; i < 16; i++) {
        lanes magnitude = lanes_abs(of->x[i]);
        picks is_more = lanes_less(most, magnitude);
        most = lanes_choose(is_more, magnitude, most);
        peak = lanes_choose(is_more, of->x[i], peak);
        of->squares[i] = of->x[i] * of->x[i];
        of->cubes[i] = of->squares[i] * of->x[i];
    }
    of->is_zero = lanes_less(most, lanes_set(TS_GROUP_EPSILON));
    of->peak = lanes_choose(of->is_zero, lanes_set(1), peak);
}

/* Codes have magnitudes up to half and no more than a tenth of nine above. */
TS_TARGET static inline void try_scale(const group *of, lanes inverse,
                                       float half, lanes *codes, lanes *lx,
                                       lanes *l2)
{
    *lx = *l2 = lanes_set(0);
    for (int i = 0; i < 16; i++) {
        codes[i] = round_between(inverse * of->x[i], -half, half - 1);
        *lx += of->cubes[i] * codes[i];
        *l2 += of->squares[i] * codes[i] * codes[i];
    }
}

TS_TARGET static inline void search_q6(const float *x, float *scales)
{
    for (int g = 0; g < GROUPS; g += LANES) {
        group of;
        lanes codes[16], lx, l2;
        group_load(&of, x + 16 * g);
        try_scale(&of, lanes_set(-32) / of.peak, 32, codes, &lx, &l2);
        lanes scale = lanes_choose(lanes_equal(l2, lanes_set(0)),
                                   lanes_set(0), lx / l2);
        lanes best = scale * lx;
        for (int k = -9; k <= 9; k++) {
            if (k == 0) continue;
            lanes inverse = lanes_set(-(32 + 0.1f * (float)k)) / of.peak;
            try_scale(&of, inverse, 32, codes, &lx, &l2);
            picks is_better = lanes_both(lanes_less(lanes_set(0), l2),
                                         lanes_less(best * l2, lx * lx));
            scale = lanes_choose(is_better, lx / l2, scale);
            best = lanes_choose(is_better, scale * lx, best);
        }
        lanes_store(scales + g,
                    lanes_choose(of.is_zero, lanes_set(0), scale));
    }
}

TS_TARGET static inline void search_q3(const float *x, float *scales)
{
    for (int g = 0; g < GROUPS; g += LANES) {
        group of;
        lanes codes[16], lx, l2;
        group_load(&of, x + 16 * g);
        try_scale(&of, lanes_set(-4) / of.peak, 4, codes, &lx, &l2);
        for (int round = 0; round < 5; round++)
            for (int i = 0; i < 16; i++) {
                lanes less_lx = lx - of.cubes[i] * codes[i];
                lanes less_l2 = l2 - of.squares[i] * codes[i] * codes[i];
                lanes code = lanes_round_even(of.x[i] * less_l2 / less_lx, -4,
                                              3);
                lanes new_lx = less_lx + of.cubes[i] * code;
                lanes new_l2 = less_l2 + of.squares[i] * code * code;
                picks is_better = lanes_both(
                    lanes_both(lanes_less(lanes_set(0), less_lx),
                               lanes_less(lanes_set(0), new_l2)),
                    lanes_less(lx * lx * new_l2, new_lx * new_lx * l2));
                /* The code it had would give the sums it had, but for what
                 * rounding makes of them. */
                is_better = lanes_both(is_better,
                                       lanes_differ(code, codes[i]));
                codes[i] = lanes_choose(is_better, code, codes[i]);
                lx = lanes_choose(is_better, new_lx, lx);
                l2 = lanes_choose(is_better, new_l2, l2);
            }
        lanes scale = lanes_choose(lanes_less(lanes_set(0), l2), lx / l2,
                                   lanes_set(0));
        lanes_store(scales + g,
                    lanes_choose(of.is_zero, lanes_set(0), scale));
    }
}

/* ---- blocks ------------------------------------------------------------ */

/* Two blocks make sixteen groups of 32; a last one is its own neighbour. */
#define PAIR_KERNEL(name, stem, size, RULE)                                   \
    TS_TARGET TS_QUANTIZE_KERNEL(name)                                        \
    {                                                                         \
        static const ts_min_rule rule = RULE;                                 \
        float x[512], scales[GROUPS], mins[GROUPS];                           \
        size_t done = 0;                                                      \
        while (done < count && ts_take_finite(in, x, 256)) {                  \
            bool has_two = done + 256 < count                                 \
                && ts_take_finite(in + 1024, x + 256, 256);                   \
            if (!has_two) memcpy(x + 256, x, sizeof x / 2);                   \
            search_mins(&rule, x, scales, mins);                              \
            ts_finish_##stem(x, scales, mins, out);                           \
            if (has_two)                                                      \
                ts_finish_##stem(x + 256, scales + 8, mins + 8,               \
                                 out + (size));                               \
            size_t blocks = has_two ? 2 : 1;                                  \
            done += 256 * blocks;                                             \
            in += 1024 * blocks;                                              \
            out += (size) * blocks;                                           \
        }                                                                     \
        return done;                                                          \
    }

TS_TARGET static inline void q2_k_block(const float x[256], uint8_t *out)
{
    static const ts_min_rule rule = TS_Q2_K_RULE;
    float scales[GROUPS], mins[GROUPS];
    search_mins(&rule, x, scales, mins);
    ts_finish_q2_k(x, scales, mins, out);
}

TS_TARGET static inline void q3_k_block(const float x[256], uint8_t *out)
{
    float scales[GROUPS];
    search_q3(x, scales);
    ts_finish_q3_k(x, scales, out);
}

TS_TARGET static inline void q6_k_block(const float x[256], uint8_t *out)
{
    float scales[GROUPS];
    search_q6(x, scales);
    ts_finish_q6_k(x, scales, out);
}

#endif
