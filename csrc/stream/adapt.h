/* adapt.h -- how large the next chunk should be: a function of numbers.
 *
 * Two rules.  SPEED climbs: it tries twice the present size, then half of it,
 * goes on in the direction that wins, and looks around again later, ever more
 * rarely while nothing changes; a size must win by 4 % to replace another, so
 * noise does not move it.  CLASSIC is the rule of the streamer this library
 * replaces: above 90 % of the memory limit the size is multiplied by 0.8, below
 * 50 % by 1.2, within its bounds.  Under either, memory pressure wins over
 * speed. */
#ifndef TS_STREAM_ADAPT_H
#define TS_STREAM_ADAPT_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    TS_ADAPT_NONE,
    TS_ADAPT_SPEED,   /* of bytes: what streams use */
    TS_ADAPT_CLASSIC, /* of elements: StreamingConfig's */
} ts_adapt_rule;

typedef struct {
    ts_adapt_rule rule;
    uint64_t least, most; /* bounds, inclusive */
    uint64_t size;        /* the answer: bytes, or elements under CLASSIC */
    /* SPEED only */
    uint64_t home;     /* the size that is believed best */
    int probe;         /* 0: at home; else which of the neighbours is on trial */
    int heading;       /* the trial that home was won in; 0: not just won */
    int tries;         /* windows of this trial so far */
    double home_rate;  /* bytes/s at home, the best of late; 0: not yet known */
    uint64_t windows;  /* windows at home since the last look around */
    uint64_t patience; /* windows to stay before the next look */
    uint64_t changes;  /* times that home moved */
} ts_adapt;

/* least, most and start are rounded to powers of two under SPEED. */
void ts_adapt_begin(ts_adapt *adapt, ts_adapt_rule rule, uint64_t least,
                    uint64_t most, uint64_t start);

/* One window of work at adapt->size is over. */
typedef struct {
    double rate;     /* bytes/s of one worker in this window */
    double pressure; /* memory used / memory allowed: 0 unknown, 1 full */
} ts_adapt_window;

/* Returns the size for the next window. */
uint64_t ts_adapt_step(ts_adapt *adapt, const ts_adapt_window *window);

/* How many chunks to have on the way: `stalls` of `deliveries` found the next
 * one not ready.  Doubles while more than one in ten waits, and lets go of one
 * when none does, within [2, most]. */
uint32_t ts_adapt_depth(uint32_t depth, uint32_t most, uint32_t stalls,
                        uint32_t deliveries);

#endif
