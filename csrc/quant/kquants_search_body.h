/* kquants_search_body.h -- the searches of kquants_encode_kernel.c on as many
 * groups at once as a register has lanes.
 *
 * The order of a sum decides its last bit, so the elements of one group cannot
 * share a register; the same element of many groups can.  Every lane computes
 * what the plain loop would, in its order; what that skips is computed and
 * not chosen.
 *
 * The file that includes this includes lanes_*.h before. */
#ifndef TS_QUANT_KQUANTS_SEARCH_BODY_H
#define TS_QUANT_KQUANTS_SEARCH_BODY_H

#include "kquants_encode.h"

/* Several registers of groups go side by side, as many as there are registers
 * for: each sum is one addition after the other, and while one waits the
 * others' are done. */
enum { SIDES = LANES / 4, GROUPS = SIDES * LANES };

/* Element i of GROUPS groups, n apart. */
TS_TARGET static inline void gather(const float *x, int n, lanes out[][SIDES])
{
    float turned[32 * GROUPS];
    for (int g = 0; g < GROUPS; g++)
        for (int i = 0; i < n; i++) turned[i * GROUPS + g] = x[g * n + i];
    for (int i = 0; i < n; i++)
        for (int s = 0; s < SIDES; s++)
            out[i][s] = lanes_load(turned + i * GROUPS + s * LANES);
}

/* To nearest even between least and most, for what is below 2^22. */
TS_TARGET static inline lanes round_between(lanes value, float least,
                                            float most)
{
    return lanes_clamp(value + lanes_set(TS_ROUNDER), TS_ROUNDER + least,
                       TS_ROUNDER + most)
        - lanes_set(TS_ROUNDER);
}

/* ---- scale and minimum ------------------------------------------------- */

typedef struct {
    lanes x[32][SIDES], w[32][SIDES]; /* elements and their weights */
    lanes low[SIDES], high[SIDES];
    lanes sum_w[SIDES], sum_x[SIDES];
    picks is_flat[SIDES];
} weighed;

typedef struct {
    lanes scale[SIDES], min[SIDES];
} fits;

TS_TARGET static inline void weigh_lanes(const ts_min_rule *rule, weighed *of,
                                         const float *x)
{
    const int n = rule->group;
    gather(x, n, of->x);
    for (int s = 0; s < SIDES; s++) {
        lanes mean = lanes_set(0);
        if (!rule->is_absolute) {
            for (int i = 0; i < n; i++) mean += of->x[i][s] * of->x[i][s];
            mean = lanes_sqrt(mean / lanes_set((float)n));
        }
        for (int i = 0; i < n; i++)
            of->w[i][s] = mean + lanes_abs(of->x[i][s]);
        lanes low = of->x[0][s], high = low;
        lanes sum_w = of->w[0][s], sum_x = sum_w * low;
        for (int i = 1; i < n; i++) {
            low = lanes_min(low, of->x[i][s]);
            high = lanes_max(high, of->x[i][s]);
            sum_w += of->w[i][s];
            sum_x += of->w[i][s] * of->x[i][s];
        }
        low = lanes_min(low, lanes_set(0));
        /* A flat group gets a range, so that nothing overflows, and no
         * scale. */
        of->is_flat[s] = lanes_equal(high, low);
        of->high[s] = lanes_choose(of->is_flat[s], low + lanes_set(1), high);
        of->low[s] = low;
        of->sum_w[s] = sum_w;
        of->sum_x[s] = sum_x;
    }
}

/* The best line through the codes of these inverse scales, as fit_line;
 * is_line where there is one. */
TS_TARGET static inline void try_lines(const ts_min_rule *rule,
                                       const weighed *of,
                                       const lanes inverse[SIDES],
                                       const lanes min[SIDES],
                                       lanes codes[][SIDES], fits *line,
                                       picks is_line[SIDES])
{
    lanes l[SIDES], l2[SIDES], xl[SIDES];
    for (int s = 0; s < SIDES; s++) l[s] = l2[s] = xl[s] = lanes_set(0);
    for (int i = 0; i < rule->group; i++)
        for (int s = 0; s < SIDES; s++) {
            lanes x = of->x[i][s];
            lanes code = round_between(inverse[s] * (x - min[s]), 0,
                                       (float)rule->most);
            lanes weight = of->w[i][s] * code;
            codes[i][s] = code;
            l[s] += weight;
            l2[s] += weight * code;
            xl[s] += weight * x;
        }
    for (int s = 0; s < SIDES; s++) {
        lanes sum_w = of->sum_w[s], sum_x = of->sum_x[s];
        lanes divisor = sum_w * l2[s] - l[s] * l[s];
        lanes scale = (sum_w * xl[s] - sum_x * l[s]) / divisor;
        lanes start = (l2[s] * sum_x - l[s] * xl[s]) / divisor;
        picks is_above = lanes_less(lanes_set(0), start);
        line->scale[s] = lanes_choose(is_above, xl[s] / l2[s], scale);
        line->min[s] = lanes_choose(is_above, lanes_set(0), start);
        is_line[s] = lanes_less(lanes_set(0), divisor);
    }
}

TS_TARGET static inline void errors_of(const ts_min_rule *rule,
                                       const weighed *of,
                                       lanes codes[][SIDES], const fits *line,
                                       lanes sums[SIDES])
{
    for (int s = 0; s < SIDES; s++) sums[s] = lanes_set(0);
    for (int i = 0; i < rule->group; i++)
        for (int s = 0; s < SIDES; s++) {
            lanes off = line->scale[s] * codes[i][s] + line->min[s]
                - of->x[i][s];
            if (rule->is_absolute) sums[s] += of->w[i][s] * lanes_abs(off);
            else sums[s] += of->w[i][s] * (off * off);
        }
}

/* False where a code might not be a small number. */
TS_TARGET static inline bool are_small(const weighed *of,
                                       const lanes inverse[SIDES],
                                       const lanes min[SIDES])
{
    bool are = true;
    for (int s = 0; s < SIDES; s++) {
        lanes reach = lanes_max(lanes_abs(of->high[s] - min[s]),
                                lanes_abs(of->low[s] - min[s]));
        picks is_small = lanes_less(lanes_abs(inverse[s]) * reach,
                                    lanes_set(0x1p20f));
        are = are && lanes_all(is_small);
    }
    return are;
}

/* False where nothing is found, and the plain search knows what to do. */
TS_TARGET static inline bool search_lanes(const ts_min_rule *rule,
                                          const weighed *of, fits *best)
{
    const float most = (float)rule->most;
    lanes inverse[SIDES], codes[32][SIDES], least[SIDES], error[SIDES];
    fits line;
    picks is_line[SIDES];
    for (int s = 0; s < SIDES; s++) {
        inverse[s] = lanes_set(most) / (of->high[s] - of->low[s]);
        best->scale[s] = lanes_set(1) / inverse[s];
        best->min[s] = of->low[s];
    }
    if (!are_small(of, inverse, best->min)) return false;
    try_lines(rule, of, inverse, best->min, codes, &line, is_line);
    errors_of(rule, of, codes, best, least);
    for (int k = 0; k <= rule->tries; k++) {
        float reach = rule->first + rule->step * (float)k + most;
        for (int s = 0; s < SIDES; s++)
            inverse[s] = lanes_set(reach) / (of->high[s] - best->min[s]);
        if (!are_small(of, inverse, best->min)) return false;
        try_lines(rule, of, inverse, best->min, codes, &line, is_line);
        errors_of(rule, of, codes, &line, error);
        for (int s = 0; s < SIDES; s++) {
            picks is_better = lanes_both(is_line[s],
                                         lanes_less(error[s], least[s]));
            least[s] = lanes_choose(is_better, error[s], least[s]);
            best->scale[s] = lanes_choose(is_better, line.scale[s],
                                          best->scale[s]);
            best->min[s] = lanes_choose(is_better, line.min[s], best->min[s]);
        }
    }
    return true;
}

/* GROUPS groups. */
TS_TARGET static inline void search_mins(const ts_min_rule *rule,
                                         const float *x, float *scales,
                                         float *mins)
{
    weighed of;
    fits best;
    uint8_t codes[32];
    weigh_lanes(rule, &of, x);
    if (!search_lanes(rule, &of, &best)) {
        for (int g = 0; g < GROUPS; g++)
            scales[g] = ts_search_min(rule, x + g * rule->group, codes,
                                      mins + g);
        return;
    }
    for (int s = 0; s < SIDES; s++) {
        picks is_flat = of.is_flat[s];
        lanes min = lanes_choose(is_flat, of.low[s], best.min[s]);
        lanes_store(scales + s * LANES,
                    lanes_choose(is_flat, lanes_set(0), best.scale[s]));
        lanes_store(mins + s * LANES, lanes_set(0) - min);
    }
}

/* ---- scale alone ------------------------------------------------------- */

typedef struct {
    lanes x[16][SIDES], squares[16][SIDES], cubes[16][SIDES];
    lanes peak[SIDES]; /* 1 where all is about zero */
    picks is_zero[SIDES];
} powers;

typedef struct {
    lanes lx[SIDES], l2[SIDES];
} sums;

TS_TARGET static inline void powers_load(powers *of, const float *x)
{
    gather(x, 16, of->x);
    for (int s = 0; s < SIDES; s++) {
        lanes most = lanes_set(0), peak = lanes_set(0);
        for (int i = 0; i < 16; i++) {
            lanes at = of->x[i][s], magnitude = lanes_abs(at);
            picks is_more = lanes_less(most, magnitude);
            most = lanes_choose(is_more, magnitude, most);
            peak = lanes_choose(is_more, at, peak);
            of->squares[i][s] = at * at;
            of->cubes[i][s] = of->squares[i][s] * at;
        }
        of->is_zero[s] = lanes_less(most, lanes_set(TS_GROUP_EPSILON));
        of->peak[s] = lanes_choose(of->is_zero[s], lanes_set(1), peak);
    }
}

/* Codes of the inverse scales `reach` over the peak; they have magnitudes up
 * to half and no more than a tenth of nine above. */
TS_TARGET static inline sums try_scales(const powers *of, float reach,
                                        float half, lanes codes[][SIDES])
{
    lanes inverse[SIDES];
    sums found;
    for (int s = 0; s < SIDES; s++) {
        inverse[s] = lanes_set(reach) / of->peak[s];
        found.lx[s] = found.l2[s] = lanes_set(0);
    }
    for (int i = 0; i < 16; i++)
        for (int s = 0; s < SIDES; s++) {
            lanes code = round_between(inverse[s] * of->x[i][s], -half,
                                       half - 1);
            codes[i][s] = code;
            found.lx[s] += of->cubes[i][s] * code;
            found.l2[s] += of->squares[i][s] * code * code;
        }
    return found;
}

TS_TARGET static inline void store_scales(const powers *of,
                                          const lanes scale[SIDES],
                                          float *scales)
{
    for (int s = 0; s < SIDES; s++)
        lanes_store(scales + s * LANES,
                    lanes_choose(of->is_zero[s], lanes_set(0), scale[s]));
}

TS_TARGET static inline void search_q6(const float *x, float *scales)
{
    powers of;
    lanes codes[16][SIDES], scale[SIDES], best[SIDES];
    powers_load(&of, x);
    sums first = try_scales(&of, -32, 32, codes);
    for (int s = 0; s < SIDES; s++) {
        lanes lx = first.lx[s], l2 = first.l2[s];
        scale[s] = lanes_choose(lanes_equal(l2, lanes_set(0)), lanes_set(0),
                                lx / l2);
        best[s] = scale[s] * lx;
    }
    for (int k = -9; k <= 9; k++) {
        if (k == 0) continue;
        sums next = try_scales(&of, -(32 + 0.1f * (float)k), 32, codes);
        for (int s = 0; s < SIDES; s++) {
            lanes lx = next.lx[s], l2 = next.l2[s];
            picks is_better = lanes_both(lanes_less(lanes_set(0), l2),
                                         lanes_less(best[s] * l2, lx * lx));
            scale[s] = lanes_choose(is_better, lx / l2, scale[s]);
            best[s] = lanes_choose(is_better, scale[s] * lx, best[s]);
        }
    }
    store_scales(&of, scale, scales);
}

/* Move the code of one element, where that helps. */
TS_TARGET static inline void move_code(lanes x, lanes square, lanes cube,
                                       lanes *code, lanes *lx, lanes *l2)
{
    lanes less_lx = *lx - cube * *code;
    lanes less_l2 = *l2 - square * *code * *code;
    lanes moved = lanes_round_even(x * less_l2 / less_lx, -4, 3);
    lanes new_lx = less_lx + cube * moved;
    lanes new_l2 = less_l2 + square * moved * moved;
    picks is_better = lanes_both(
        lanes_both(lanes_less(lanes_set(0), less_lx),
                   lanes_less(lanes_set(0), new_l2)),
        lanes_less(*lx * *lx * new_l2, new_lx * new_lx * *l2));
    /* The code it had would give the sums it had, but for what rounding makes
     * of them. */
    is_better = lanes_both(is_better, lanes_differ(moved, *code));
    *code = lanes_choose(is_better, moved, *code);
    *lx = lanes_choose(is_better, new_lx, *lx);
    *l2 = lanes_choose(is_better, new_l2, *l2);
}

TS_TARGET static inline void search_q3(const float *x, float *scales)
{
    powers of;
    lanes codes[16][SIDES], scale[SIDES];
    powers_load(&of, x);
    sums now = try_scales(&of, -4, 4, codes);
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < 16; i++)
            for (int s = 0; s < SIDES; s++)
                move_code(of.x[i][s], of.squares[i][s], of.cubes[i][s],
                          &codes[i][s], &now.lx[s], &now.l2[s]);
    for (int s = 0; s < SIDES; s++)
        scale[s] = lanes_choose(lanes_less(lanes_set(0), now.l2[s]),
                                now.lx[s] / now.l2[s], lanes_set(0));
    store_scales(&of, scale, scales);
}

/* ---- blocks ------------------------------------------------------------ */

/* How many of the next blocks are finite, one after the other; where there is
 * room for more, zeros keep them company. */
TS_TARGET static inline int take_blocks(const uint8_t *in, float *x, int room,
                                        size_t left)
{
    int taken = 0;
    while (taken < room && (size_t)taken < left
           && ts_take_finite(in + 1024 * taken, x + 256 * taken, 256))
        taken++;
    memset(x + 256 * taken, 0, sizeof *x * 256 * (size_t)(room - taken));
    return taken;
}

/* search and finish may mention x, scales, mins and out. */
#define SEARCHED_KERNEL(name, group, size, search, finish)                    \
    TS_TARGET TS_QUANTIZE_KERNEL(name)                                        \
    {                                                                         \
        enum { EACH = 256 / (group), ROOM = GROUPS / EACH };                  \
        float all_x[256 * ROOM], all_scales[GROUPS], all_mins[GROUPS];        \
        size_t done = 0;                                                      \
        while (done < count) {                                                \
            int taken = take_blocks(in, all_x, ROOM, (count - done) / 256);   \
            if (taken == 0) break;                                            \
            search(all_x, all_scales, all_mins);                              \
            for (int b = 0; b < taken; b++, in += 1024, out += (size))        \
                finish(all_x + 256 * b, all_scales + EACH * b,                \
                       all_mins + EACH * b, out);                             \
            done += (size_t)taken * 256;                                      \
        }                                                                     \
        return done;                                                          \
    }

#define MIN_KERNEL(name, stem, group, size, RULE)                             \
    TS_TARGET static inline void stem##_search(const float *x, float *scales, \
                                               float *mins)                   \
    {                                                                         \
        static const ts_min_rule rule = RULE;                                 \
        search_mins(&rule, x, scales, mins);                                  \
    }                                                                         \
    SEARCHED_KERNEL(name, group, size, stem##_search, ts_finish_##stem)

#define SCALE_KERNEL(name, stem, size, search)                                \
    TS_TARGET static inline void stem##_search(const float *x, float *scales, \
                                               float *mins)                   \
    {                                                                         \
        (void)mins;                                                           \
        search(x, scales);                                                    \
    }                                                                         \
    TS_TARGET static inline void stem##_finish(                               \
        const float *x, const float *scales, const float *mins, uint8_t *out) \
    {                                                                         \
        (void)mins;                                                           \
        ts_finish_##stem(x, scales, out);                                     \
    }                                                                         \
    SEARCHED_KERNEL(name, 16, size, stem##_search, stem##_finish)

#endif
