#include "io.h"

#include "core/base.h"

/* A stretch by each engine before any is believed. */
#define TRIAL TS_STRETCH

/* An engine that needs r times as long loses (r - 1) stretches each time it
 * is tried again, so once in 100 (r - 1) stretches costs 1 %. */
#define PATIENCE 100.0
#define SHORTEST 8.0
#define LONGEST 65536.0

/* Those that go past the page cache are tried first: what buffered reading
 * reads ahead would make the next stretch look cached, and nothing else would
 * ever be tried. */
static const unsigned engines[] = {TS_ENGINE_DIRECT, TS_ENGINE_URING,
                                   TS_ENGINE_PREAD, TS_ENGINE_MAP};

static bool may(unsigned usable, unsigned engine)
{
    return (usable >> engine & 1) != 0;
}

static double pace(const ts_reader_stats *stats, unsigned engine)
{
    return (double)stats->ns[engine] / (double)stats->bytes[engine];
}

static uint64_t period(double pace, double best)
{
    double stretches = best > 0 ? PATIENCE * (pace / best - 1) : LONGEST;

    if (stretches < SHORTEST) return (uint64_t)SHORTEST;
    return (uint64_t)(stretches < LONGEST ? stretches : LONGEST);
}

ts_engine ts_engine_choose(const ts_reader_stats *cold, unsigned usable,
                           uint64_t round)
{
    unsigned best = TS_ENGINE_AUTO;

    for (size_t k = 0; k < TS_COUNT_OF(engines); k++) {
        unsigned i = engines[k];
        if (!may(usable, i)) continue;
        if (cold->bytes[i] < TRIAL) return (ts_engine)i;
        if (best == TS_ENGINE_AUTO || pace(cold, i) < pace(cold, best))
            best = i;
    }
    if (best == TS_ENGINE_AUTO) return TS_ENGINE_PREAD;
    for (size_t k = 0; k < TS_COUNT_OF(engines); k++) {
        unsigned i = engines[k];
        if (!may(usable, i) || i == best) continue;
        uint64_t every = period(pace(cold, i), pace(cold, best));
        if (round % every == i % every) return (ts_engine)i;
    }
    return (ts_engine)best;
}
