/* cgroup.h -- what the memory control groups around this process allow.
 *
 *     /sys/fs/cgroup  <-  pod  <-  container  <-  ours
 *
 * Every group on the way up may set a limit, and the kernel obeys them all.
 * Files stay open; when the process is moved, the groups are found anew. */
#ifndef TS_MONITOR_CGROUP_H
#define TS_MONITOR_CGROUP_H

#include "monitor.h"

typedef struct ts_cgroup ts_cgroup;

/* root is borrowed and must outlive the result; "" is the real one. */
ts_status ts_cgroup_new(const char *root, ts_cgroup **out, ts_error *error);
void ts_cgroup_free(ts_cgroup *cgroup); /* NULL is fine */

/* Fill in the three cgroup fields of *out; UNKNOWN for what cannot be read. */
void ts_cgroup_sample(ts_cgroup *cgroup, ts_memory *out);

#endif
