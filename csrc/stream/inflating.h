/* inflating.h -- read a deflated tensor, which only goes in order.
 *
 * A stream keeps one inflater and lets one chunk at a time use it, so there is
 * no lock here.  Asking for bytes behind the present place starts over from
 * the beginning: resuming and random access are right, though slow. */
#ifndef TS_STREAM_INFLATING_H
#define TS_STREAM_INFLATING_H

#include "fetch.h"

/* Bytes [skip, skip + size) of the tensor. */
ts_status ts_inflating_read(ts_inflating *inflating, ts_reader *reader,
                            const ts_file *file, const ts_tensor *tensor,
                            uint64_t skip, uint8_t *into, size_t size,
                            ts_error *error);

#endif
