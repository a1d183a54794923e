/* numa.h -- memory near the thread that fills it, where a machine has nodes.
 *
 * libnuma is opened at run time: a machine without it, or with one node, has
 * one node here and every call below does nothing.  TENSORSTREAM_NUMA_NODES
 * sets another number, so that one node can play several in tests. */
#ifndef TS_CORE_NUMA_H
#define TS_CORE_NUMA_H

#include <stddef.h>

int ts_numa_nodes(void);                           /* at least 1 */
void ts_numa_bind(void *at, size_t size, int node); /* pages not yet touched */
void ts_numa_run_on(int node); /* the calling thread, from now on */

#endif
