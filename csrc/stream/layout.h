/* layout.h -- how a budget is divided: a function of numbers.
 *
 *     | stage | stage | stage |  chunk  chunk  chunk  chunk ... |
 *       one a thread            never more bytes than are left */
#ifndef TS_STREAM_LAYOUT_H
#define TS_STREAM_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t budget;
    int fetchers;   /* threads that fetch, the caller counted */
    bool delivers;  /* chunks are handed out; else only looked at */
    bool stages;    /* something is converted, gathered or only looked at */
    uint64_t piece; /* bytes that must stand in a stage together */
    bool cold;      /* from the disk: larger chunks pay */
} ts_layout_question;

typedef struct {
    uint64_t stage;            /* bytes, of each fetcher */
    uint64_t least, start, most; /* chunk bytes */
} ts_layout;

void ts_layout_of(const ts_layout_question *question, ts_layout *out);

#endif
