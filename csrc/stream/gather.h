/* gather.h -- logical, row-major elements out of a strided tensor.
 *
 * Transposed and sliced torch tensors and Fortran-ordered arrays keep their
 * elements elsewhere than a reader expects.  The wanted elements are taken as
 * boxes of the index space; a box whose span fits the scratch memory is read
 * once, a wider one run by run along its densest dimension. */
#ifndef TS_STREAM_GATHER_H
#define TS_STREAM_GATHER_H

#include "fetch.h"

/* Elements [start, start + count) into `into`; scratch is room bytes, at least
 * one page.  Bytes of a deflated tensor are drawn from inflating. */
ts_status ts_gather(ts_reader *reader, ts_inflating *inflating,
                    const ts_file *file, const ts_tensor *tensor,
                    uint64_t start, uint64_t count, uint8_t *scratch,
                    size_t room, uint8_t *into, ts_error *error);

#endif
