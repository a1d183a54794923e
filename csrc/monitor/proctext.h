/* proctext.h -- the small text files that the kernel writes on demand.
 *
 * A file of /proc or of a control group is made anew by every read at offset
 * 0, so one that stays open costs a tenth of one that is opened each time. */
#ifndef TS_MONITOR_PROCTEXT_H
#define TS_MONITOR_PROCTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The file descriptor of root + path, or -1 with errno. */
int ts_proctext_open(const char *root, const char *path);
void ts_proctext_close(int *fd); /* -1 is fine, and what it leaves */

/* The text as it is now, with a NUL behind it, cut to room - 1 bytes.  False,
 * and "", when there is none. */
bool ts_proctext_read(int fd, char *out, size_t room);

/* All of a file of unknown length, for the caller to free; NULL when it cannot
 * be read, is longer than limit, or memory is short. */
char *ts_proctext_load(const char *root, const char *path, size_t limit);

/* The number at the beginning of text, after blanks.  UINT64_MAX, which is
 * TS_MEMORY_UNKNOWN, for what is no number or does not fit: "max" as well. */
uint64_t ts_proctext_number(const char *text);

/* The number behind key on the line that begins with key, in bytes: "kB" is
 * heeded.  UINT64_MAX when there is no such line. */
uint64_t ts_proctext_field(const char *text, const char *key);

#endif
