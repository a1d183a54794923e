/* io.h -- the door of io/: open files and bring ranges of them into memory,
 * and make new ones that appear whole or not at all.
 *
 *     ts_file     one open file (or a block of memory that plays one), shared
 *                 freely between threads; knows who it was when opened
 *     ts_reader   one thread's way of reading: the engine, and what the engine
 *                 needs (an aligned edge page, a ring, a mapping)
 *     ts_output   a file that is being written, under another name until it
 *                 is complete (output.h)
 *
 * pread carries all behaviour.  The other engines are used where a probe says
 * that they work and help; a reader says which one it took and why. */
#ifndef TS_IO_IO_H
#define TS_IO_IO_H

#include <stdbool.h>

#include "core/buffer.h"
#include "core/status.h"
#include "output.h"

/* ---- files ---------------------------------------------------------- */

typedef struct ts_file ts_file;

typedef struct {
    uint64_t device, inode, size;
    int64_t mtime_ns;
} ts_file_identity;

/* Open for reading a regular file; anything else is TS_ARGUMENT ("is a
 * directory" and the like are TS_IO with their errno).  Starts with one
 * reference. */
ts_status ts_file_open(const char *path, ts_file **out, ts_error *error);

/* Open `name` inside the folder of `beside`: name is one path component, not
 * "." or "..", without '/', NUL or control characters (TS_FORMAT otherwise,
 * because such names come out of files). */
ts_status ts_file_open_beside(const ts_file *beside, const char *name,
                              size_t name_size, ts_file **out,
                              ts_error *error);

/* Memory that plays a file; `memory` is retained.  label is shown as path. */
ts_status ts_file_wrap(ts_buffer *memory, const char *label, ts_file **out,
                       ts_error *error);

ts_file *ts_file_retain(ts_file *file);
void ts_file_release(ts_file *file); /* NULL is fine; closes at the last */

const char *ts_file_path(const ts_file *file); /* as opened, for messages */
uint64_t ts_file_size(const ts_file *file);    /* when it was opened */
ts_buffer *ts_file_memory(const ts_file *file); /* NULL for real files */
void ts_file_identity_of(const ts_file *file, ts_file_identity *out);

/* Is the open file still what it was, and does its path still lead to it?
 * TS_CHANGED with the reason otherwise. */
ts_status ts_file_check(const ts_file *file, ts_error *error);

/* Fill `into` with exactly size bytes from offset.  Retries EINTR and short
 * reads; a file that ends early is TS_CHANGED when it has shrunk since it was
 * opened and TS_FORMAT when the range was never inside.  Any number of
 * threads may read one file.  Errors name the file and the byte. */
ts_status ts_file_read(const ts_file *file, uint64_t offset, void *into,
                       size_t size, ts_error *error);

/* Advice: the kernel may start reading this range.  Never fails. */
void ts_file_will_need(const ts_file *file, uint64_t offset, uint64_t size);

/* Bytes of the range that are in the page cache now, by cachestat(2) where
 * the kernel has it (6.5), else mincore(2).  Memory counts as cached.
 * False when neither works. */
bool ts_file_cached(const ts_file *file, uint64_t offset, uint64_t size,
                    uint64_t *cached);

/* Ask the kernel to forget clean cached pages of the file (benchmarks). */
void ts_file_drop_cache(const ts_file *file);

/* ---- engines -------------------------------------------------------- */

typedef enum {
    TS_ENGINE_AUTO,   /* choose per range */
    TS_ENGINE_PREAD,  /* buffered pread */
    TS_ENGINE_DIRECT, /* O_DIRECT; broken blocks at the ends via a bounce */
    TS_ENGINE_MAP,    /* map the range, copy from it */
    TS_ENGINE_URING,  /* io_uring, several requests in flight */
    TS_ENGINE_MEMORY, /* the file is memory: a copy */
    TS_ENGINE_COUNT
} ts_engine;

const char *ts_engine_name(ts_engine engine); /* "pread" */
bool ts_engine_find(const char *name, ts_engine *out);

/* Does this engine work for this file on this machine?  `reason` (128 bytes)
 * says why not, or is "". */
bool ts_engine_probe(ts_engine engine, const ts_file *file, char *reason);

/* Give `into` the remainder of `offset` modulo this, and O_DIRECT and io_uring
 * need no copy.  Any other address works, through a bounce buffer. */
#define TS_READER_ALIGNMENT 4096

typedef struct ts_reader ts_reader;

typedef struct {
    uint64_t bytes[TS_ENGINE_COUNT]; /* delivered by each engine */
    uint64_t ns[TS_ENGINE_COUNT];    /* time spent in each */
    uint64_t calls;                  /* system calls that moved data */
} ts_reader_stats;

/* engine AUTO decides per range: cached ranges by pread; cold ones by the
 * engine that ts_engine_choose() picks from what the file's readers have
 * measured.  It never picks MAP: a file cut short while it is mapped raises
 * SIGBUS, and no check beforehand rules that out. */
ts_status ts_reader_new(ts_engine engine, ts_reader **out, ts_error *error);
void ts_reader_free(ts_reader *reader); /* NULL is fine */

/* Bytes that a reader itself keeps allocated (edge pages, ring buffers). */
size_t ts_reader_overhead(ts_engine engine);

/* As ts_file_read, through the engine.  O_DIRECT that stops working for a file
 * (EINVAL, say) is left alone by all its readers from then on, a ring or a
 * mapping that does by this reader; pread brings what they did not. */
ts_status ts_reader_read(ts_reader *reader, const ts_file *file,
                         uint64_t offset, void *into, size_t size,
                         ts_error *error);

const ts_reader_stats *ts_reader_stats_of(const ts_reader *reader);

/* Pure: which engine for the cold ranges of the next stretch of a file
 * (TS_STRETCH bytes), from bytes and nanoseconds measured so far and the
 * number of stretches decided before.  Begins with O_DIRECT, tries the others,
 * keeps the fastest, all so seldom that it costs about 1 % each.
 * `usable` is a bit set of 1 << engine; PREAD when it is empty. */
#define TS_STRETCH ((uint64_t)16 << 20)

ts_engine ts_engine_choose(const ts_reader_stats *cold, unsigned usable,
                           uint64_t round);

#endif
