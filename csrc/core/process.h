/* process.h -- did we fork?
 *
 * After fork the child has our memory but none of our threads, and a lock that
 * another thread held stays locked for ever.  What owns threads or locks keeps
 * the generation it was made in; in a later one it must not be used. */
#ifndef TS_CORE_PROCESS_H
#define TS_CORE_PROCESS_H

#include <stdint.h>

uint64_t ts_process_generation(void); /* grows by one in every child */

#endif
