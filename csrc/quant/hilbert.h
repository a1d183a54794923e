/* hilbert.h -- the loops of the Hilbert mapping that quant.h offers.
 *
 * Element d of a sequence goes to the d-th place along the curve through a
 * square of 2^order places a side: the one that begins at (0, 0), ends at
 * (side - 1, 0), and whose every run of 4^k places from a multiple of 4^k on
 * is a square.  So the means of such runs are means of squares. */
#ifndef TS_QUANT_HILBERT_H
#define TS_QUANT_HILBERT_H

#include <stddef.h>
#include <stdint.h>

/* Elements are width bytes: 1, 2, 4 or 8.  image: rows of the square; places
 * beyond count are left as they are. */
void ts_hilbert_spread(const uint8_t *in, size_t count, unsigned order,
                       size_t width, uint8_t *image);
void ts_hilbert_collect(const uint8_t *image, size_t count, unsigned order,
                        size_t width, uint8_t *out);

/* The means of runs of 4, of 16, and so on to 4^levels: one level after the
 * other, each of one mean for each run that holds an element. */
void ts_hilbert_average(const float *x, size_t count, unsigned levels,
                        float *out);

#endif
