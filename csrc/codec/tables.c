/* tables.c -- which spans of a plane share a rANS table.
 *
 * Rows of a matrix differ in scale, which moves their exponents: one table for
 * all of a chunk pays 0.05 bits a symbol for the mixture.  Spans are sorted by
 * the mean of a sample of their symbols, cut into classes of equally many, and
 * neighbouring classes are joined as long as that costs less than a table. */
#include <stdlib.h>

#include "rans.h"

/* Bytes that a table has to save: its own, some 30, and what a fit to a sample
 * promises too much. */
enum { TABLE = 72 };

static void count_run(const uint8_t *symbols, size_t some,
                      uint32_t seen[4][256])
{
    size_t i = 0;

    for (; i + 4 <= some; i += 4)
        for (unsigned k = 0; k < 4; k++) seen[k][symbols[i + k]]++;
    for (; i < some; i++) seen[0][symbols[i]]++;
}

static void add_up(uint32_t seen[4][256], ts_sample *out)
{
    for (unsigned i = 0; i < 256; i++) {
        uint32_t all = seen[0][i] + seen[1][i] + seen[2][i] + seen[3][i];
        out->seen[i] += all;
        out->total += all;
    }
}

static void count_runs(const uint8_t *symbols, size_t count, size_t every,
                       uint32_t seen[4][256])
{
    for (size_t at = 0; at < count; at += every)
        count_run(symbols + at, (size_t)ts_min(TS_SAMPLE_RUN, count - at),
                  seen);
}

void ts_sample_plane(const uint8_t *symbols, size_t count, size_t every,
                     ts_sample *out)
{
    uint32_t seen[4][256] = {{0}};

    memset(out, 0, sizeof *out);
    out->whole = every == TS_SAMPLE_RUN;
    count_runs(symbols, count, every, seen);
    add_up(seen, out);
}

/* ---- classes ---------------------------------------------------------- */

static uint32_t sum_of(const uint8_t *symbols, size_t some)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < some; i++) sum += symbols[i];
    return sum;
}

/* The mean of a sample, in 1/65536. */
static uint32_t mean_of(const uint8_t *symbols, size_t count, size_t every)
{
    uint64_t sum = 0, seen = 0;

    for (size_t at = 0; at < count; at += every) {
        size_t some = (size_t)ts_min(TS_SAMPLE_RUN, count - at);
        sum += sum_of(symbols + at, some);
        seen += some;
    }
    return seen > 0 ? (uint32_t)((sum << 16) / seen) : 0;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static size_t span_size(size_t count, size_t span)
{
    return (size_t)ts_min(TS_SPAN, count - span * TS_SPAN);
}

void ts_classes_find(const uint8_t *symbols, size_t count, size_t every,
                     void *room, ts_classes *out)
{
    size_t spans = (count + TS_SPAN - 1) / TS_SPAN;
    uint64_t *order = room; /* mean, then number: no two are equal */
    unsigned classes = spans < TS_CLASSES ? (unsigned)spans : TS_CLASSES;

    memset(&out->whole, 0, sizeof out->whole);
    out->whole.whole = every == TS_SAMPLE_RUN;
    out->classes = classes;
    out->spans = spans;
    out->number = (uint8_t *)(order + spans);
    for (size_t i = 0; i < spans; i++)
        order[i] = (uint64_t)mean_of(symbols + i * TS_SPAN,
                                     span_size(count, i), every)
                       << 32
                 | i;
    qsort(order, spans, sizeof *order, ascending);
    for (unsigned k = 0; k < classes; k++) {
        uint32_t seen[4][256] = {{0}};
        for (size_t i = spans * k / classes; i < spans * (k + 1) / classes;
             i++) {
            size_t span = (uint32_t)order[i];
            out->number[span] = (uint8_t)k;
            count_runs(symbols + span * TS_SPAN, span_size(count, span), every,
                       seen);
        }
        memset(&out->of[k], 0, sizeof out->of[k]);
        out->of[k].whole = out->whole.whole;
        add_up(seen, &out->of[k]);
        add_up(seen, &out->whole);
    }
}

/* ---- tables ----------------------------------------------------------- */

/* Classes that share a table. */
typedef struct {
    ts_sample sample;
    uint64_t bits;    /* order-0 entropy of the sample, in 1/65536 */
    unsigned classes; /* how many, neighbours */
} group;

/* Groups in order, and the symbols that any of them has. */
typedef struct {
    group *at[TS_CLASSES];
    unsigned count, first, last;
    uint64_t joined[TS_CLASSES]; /* bits of each with the next */
} groups;

static void add_folded(const ts_sample *from, unsigned low, ts_sample *out)
{
    for (unsigned i = 0; i < 256; i++) out->seen[i >> low] += from->seen[i];
    out->total += from->total;
}

static uint64_t bits_of(const groups *of, const ts_sample *a,
                        const ts_sample *b)
{
    uint32_t total = a->total + b->total;
    uint64_t bits = (uint64_t)total * ts_log2(total);

    for (unsigned i = of->first; i <= of->last; i++) {
        uint32_t seen = a->seen[i] + b->seen[i];
        if (seen > 1) bits -= (uint64_t)seen * ts_log2(seen);
    }
    return bits;
}

static void weigh(groups *it, unsigned i)
{
    if (i + 1 < it->count)
        it->joined[i] =
            bits_of(it, &it->at[i]->sample, &it->at[i + 1]->sample);
}

static void join(groups *it, unsigned i)
{
    group *into = it->at[i], *from = it->at[i + 1];

    for (unsigned k = it->first; k <= it->last; k++)
        into->sample.seen[k] += from->sample.seen[k];
    into->sample.total += from->sample.total;
    into->bits = it->joined[i];
    into->classes += from->classes;
    it->count--;
    for (unsigned k = i + 1; k < it->count; k++) {
        it->at[k] = it->at[k + 1];
        it->joined[k] = it->joined[k + 1];
    }
    weigh(it, i);
    if (i > 0) weigh(it, i - 1);
}

/* Join neighbours, those first that lose the least by it, until there are few
 * and each is worth its table. */
static void join_groups(groups *it, uint64_t worth)
{
    for (unsigned i = 0; i < it->count; i++) weigh(it, i);
    while (it->count > 1) {
        uint64_t least = UINT64_MAX;
        unsigned best = 0;
        for (unsigned i = 0; i + 1 < it->count; i++) {
            uint64_t apart = it->at[i]->bits + it->at[i + 1]->bits;
            uint64_t loss = it->joined[i] > apart ? it->joined[i] - apart : 0;
            if (loss >= least) continue;
            least = loss;
            best = i;
        }
        if (it->count <= TS_RANS_TABLES && least > worth) return;
        join(it, best);
    }
}

static void number_spans(const ts_classes *classes, const groups *of,
                         uint8_t *number)
{
    uint8_t table[TS_CLASSES] = {0};
    unsigned class = 0;

    for (unsigned i = 0; i < of->count; i++)
        for (unsigned k = 0; k < of->at[i]->classes; k++)
            table[class++] = (uint8_t)i;
    for (size_t i = 0; i < classes->spans; i++)
        number[i] = table[classes->number[i]];
}

/* A group for each class, symbols without their lower bits. */
static void begin_groups(const ts_classes *classes, unsigned low, group *made,
                         groups *out)
{
    static const ts_sample none = {.total = 0};
    const uint32_t *seen = classes->whole.seen;

    memset(made, 0, TS_CLASSES * sizeof *made);
    out->count = classes->classes;
    for (out->first = 0; seen[out->first] == 0;) out->first++;
    for (out->last = 255; seen[out->last] == 0;) out->last--;
    out->first >>= low;
    out->last >>= low;
    for (unsigned i = 0; i < out->count; i++) {
        out->at[i] = &made[i];
        made[i].classes = 1;
        made[i].sample.whole = classes->whole.whole;
        add_folded(&classes->of[i], low, &made[i].sample);
        made[i].bits = bits_of(out, &made[i].sample, &none);
    }
}

uint32_t ts_rans_plan_make(const ts_classes *classes, unsigned low,
                           unsigned bits, size_t count, uint8_t *number,
                           ts_rans_plan *out)
{
    uint64_t cost = 0, total = classes->whole.total;
    /* The sample stands for all, so it has to save its share. */
    uint64_t worth = ((uint64_t)TABLE * 8 << 16) * total / count;
    group made[TS_CLASSES];
    groups of;

    begin_groups(classes, low, made, &of);
    join_groups(&of, worth);
    out->bits = bits;
    out->tables = of.count;
    out->number = number;
    number_spans(classes, &of, number);
    for (unsigned i = 0; i < of.count; i++) {
        const ts_sample *sample = &of.at[i]->sample;
        uint32_t one = ts_rans_fit(sample, bits, &out->model[i]);
        if (one == UINT32_MAX) return one;
        cost += (uint64_t)one * sample->total;
    }
    return (uint32_t)ts_min(cost / total, UINT32_MAX - 1);
}
