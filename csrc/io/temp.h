/* temp.h -- private to io/: what a file is called until it is complete.
 *
 *     .model.gguf.5be1f00dcafe4242.tmp     in the folder of model.gguf
 *
 * Whoever writes one holds a lock on it (flock) until it has its name.  The
 * lock goes with the process, so a file without one was left by a process that
 * was killed, and the next writer of the same name takes it away. */
#ifndef TS_IO_TEMP_H
#define TS_IO_TEMP_H

#include <stdbool.h>

enum { TS_TEMP_NAME = 256 };

/* A new file beside `name`, locked, of the mode that the umask leaves.  Its
 * name goes to temp.  -1 with errno. */
int ts_temp_open(int folder, const char *name, char temp[TS_TEMP_NAME]);

/* Is `entry` such a name for `name`? */
bool ts_temp_is(const char *entry, const char *name);

/* Take away what dead writers of `name` left.  Never fails: what cannot be
 * seen, locked or removed stays.  Nothing is done on file systems that other
 * machines write to, where a lock may hold on one of them only. */
void ts_temp_sweep(int folder, const char *name);

#endif
