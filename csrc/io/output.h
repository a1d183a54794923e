/* output.h -- a file that appears whole or not at all.
 *
 *     new      .model.gguf.5be1f00dcafe4242.tmp, in the folder of the path
 *     append   forward, through one buffer         }
 *     patch    over what was written before        }  any number of times
 *     shift    make room at the front              }
 *     seal     all of it on the disk: fsync
 *     publish  renamed over the path, and the folder fsynced
 *
 * Until publish whatever stood at the path stands there untouched, and free
 * takes the temporary file away; what a killed process left goes when the same
 * path is written next (temp.h).  The first failure is final: after a failed
 * write or fsync the kernel has forgotten which pages never reached the disk,
 * so no second fsync could tell.  One thread uses an output at a time; in a
 * forked child it is only memory to be freed. */
#ifndef TS_IO_OUTPUT_H
#define TS_IO_OUTPUT_H

#include "core/status.h"

typedef struct ts_output ts_output;

/* What append gathers small pieces in; larger ones go past it. */
#define TS_OUTPUT_BUFFER ((size_t)256 << 10)

/* Shifts are whole multiples of this; of a body that begins on one, most file
 * systems of today make room without copying a byte. */
#define TS_OUTPUT_GRAIN 4096

/* What is at path must be a regular file, whose mode the new one gets, or a
 * symbolic link, which is replaced and not followed, or nothing. */
ts_status ts_output_new(const char *path, ts_output **out, ts_error *error);
void ts_output_free(ts_output *output); /* NULL is fine */

/* Take this many bytes of the disk now, so that a full one says so before any
 * work is done.  Systems that cannot are not asked twice. */
ts_status ts_output_reserve(ts_output *output, uint64_t size,
                            ts_error *error);

ts_status ts_output_append(ts_output *output, const void *bytes, uint64_t size,
                           ts_error *error);
ts_status ts_output_zeros(ts_output *output, uint64_t size, ts_error *error);

/* Overwrite bytes that were appended before. */
ts_status ts_output_patch(ts_output *output, uint64_t offset,
                          const void *bytes, uint64_t size, ts_error *error);

/* Forget all but the first `size` bytes; what comes next goes there. */
ts_status ts_output_rewind(ts_output *output, uint64_t size, ts_error *error);

/* Look again at bytes that were appended. */
ts_status ts_output_look(ts_output *output, uint64_t offset, void *into,
                         uint64_t size, ts_error *error);

/* Move everything from byte `at` to the end `by` bytes further; what is left
 * between is unspecified.  `by` is a multiple of TS_OUTPUT_GRAIN. */
ts_status ts_output_shift(ts_output *output, uint64_t at, uint64_t by,
                          ts_error *error);

/* Nothing will be appended for a while: the buffer is written, and its memory
 * given back until something is. */
ts_status ts_output_rest(ts_output *output, ts_error *error);

uint64_t ts_output_size(const ts_output *output); /* appended so far */
const char *ts_output_path(const ts_output *output);

ts_status ts_output_seal(ts_output *output, ts_error *error);

/* Seals first where that has not happened.  name: one component, in the same
 * folder, other than the path's own; NULL for the path itself. */
ts_status ts_output_publish(ts_output *output, const char *name,
                            ts_error *error);

#endif
