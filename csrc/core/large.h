/* large.h -- malloc for memory that is about to be filled from end to end.
 *
 * Fresh pages of 4 KiB are given at about 2.5 GB/s, huge ones at 11 (measured
 * on an EPYC under Linux 6.18): for the metadata of a large checkpoint that is
 * half of the time it takes to open it.  Blocks of 2 MiB and more are aligned
 * to huge pages and advised so; smaller ones are plain malloc. */
#ifndef TS_CORE_LARGE_H
#define TS_CORE_LARGE_H

#include <stddef.h>

/* NULL when there is no memory; never NULL for 0.  Freed by free(). */
void *ts_large_new(size_t size);

#endif
