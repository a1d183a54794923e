/* proc.h -- a reader of memory figures that keeps its files open.
 *
 * One thread at a time.  It shows the process that opened it: a child made by
 * fork must open its own. */
#ifndef TS_MONITOR_PROC_H
#define TS_MONITOR_PROC_H

#include "monitor.h"

typedef struct ts_proc ts_proc;

ts_status ts_proc_open(const char *root, bool with_pss, ts_proc **out,
                       ts_error *error);
void ts_proc_close(ts_proc *proc); /* NULL is fine */

void ts_proc_sample(ts_proc *proc, ts_memory *out);

#endif
