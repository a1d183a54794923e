/* engine.h -- the engines that reader.c may take instead of pread.
 *
 * An engine never fails: it brings as much of the beginning of a range as it
 * can and returns how many bytes that is.  What is missing the reader gets by
 * pread, which either works or knows how to say what is wrong.  So there is
 * one place that turns a system's refusal into a sentence, and a broken
 * engine costs speed, not results. */
#ifndef TS_IO_ENGINE_H
#define TS_IO_ENGINE_H

#include "file.h"

#define TS_REASON_SIZE 128 /* what ts_engine_probe's caller provides */

/* "what: why", in the words of the system. */
void ts_reason_os(char *reason, const char *what, int os_errno);

/* ---- direct.c ------------------------------------------------------- */

typedef enum {
    TS_DIRECT_UNTRIED, /* zero */
    TS_DIRECT_READY,
    TS_DIRECT_BROKEN,
} ts_direct_state;

/* Aligned memory that O_DIRECT needs where the caller's will not do. */
typedef struct {
    uint8_t *memory; /* owned: TS_BOUNCE_SIZE bytes at TS_READER_ALIGNMENT */
} ts_bounce;

/* Two edge pages come first, then the space for ranges that do not fit.
 * 128 KiB: over it the copy out of the bounce leaves the cache, and a budget
 * of 1 MiB must hold two readers. */
#define TS_BOUNCE_BODY ((size_t)128 << 10)
#define TS_BOUNCE_SIZE (2 * (size_t)TS_READER_ALIGNMENT + TS_BOUNCE_BODY)

/* The O_DIRECT descriptor, opened if need be; NULL when it does not work. */
const ts_direct *ts_direct_of(const ts_file *file);

/* Stop using it, for all readers of this file. */
void ts_direct_break(const ts_file *file, int os_errno);

size_t ts_direct_take(const ts_file *file, uint64_t offset, void *into,
                      size_t size, const ts_bounce *bounce, uint64_t *calls);

/* `into` can hold the body of a direct read of `offset` without a copy. */
static inline bool ts_direct_fits(const ts_direct *direct, uint64_t offset,
                                  const void *into)
{
    return (((uintptr_t)into - offset) & (direct->block - 1)) == 0;
}

bool ts_direct_probe(const ts_file *file, char *reason);

/* ---- map.c ---------------------------------------------------------- */

/* Sets *broken when mappings do not work here at all. */
size_t ts_map_take(const ts_file *file, uint64_t offset, void *into,
                   size_t size, bool *broken, uint64_t *calls);
bool ts_map_probe(const ts_file *file, char *reason);

/* ---- uring.c -------------------------------------------------------- */

typedef struct ts_uring ts_uring;

/* 0, or the errno that says why there is no ring. */
int ts_uring_new(ts_uring **out);
void ts_uring_free(ts_uring *uring); /* NULL is fine */
bool ts_uring_is_broken(const ts_uring *uring);
size_t ts_uring_overhead(void);

size_t ts_uring_take(ts_uring *uring, const ts_file *file, uint64_t offset,
                     void *into, size_t size, const ts_bounce *bounce,
                     uint64_t *calls);
bool ts_uring_probe(const ts_file *file, char *reason);

/* ---- residency.c ---------------------------------------------------- */

typedef enum {
    TS_RESIDENCE_UNKNOWN,
    TS_RESIDENCE_CACHED, /* every page (or every page that was asked about) */
    TS_RESIDENCE_COLD,   /* none */
    TS_RESIDENCE_MIXED,
} ts_residence;

/* As ts_file_cached, but cheap everywhere: a few pages of a long range stand
 * for the rest.  *share is the cached part in 1/256. */
ts_residence ts_file_residence(const ts_file *file, uint64_t offset,
                               uint64_t size, unsigned *share);

#endif
