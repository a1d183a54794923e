/* iq.h -- the codebooks of ggml's IQ types, and what the two variants of
 * their decoders share.
 *
 * A codebook entry says which of a few values eight (or four) neighbouring
 * elements have, in fields of two (or three) bits.  Only the entries that
 * matter in practice are in the book, so an index of 8 to 11 bits stands for
 * 16 bits of fields: that is the whole trick of these types. */
#ifndef TS_QUANT_IQ_H
#define TS_QUANT_IQ_H

#include "half.h"

extern const uint16_t ts_iq2_xxs_grid[256];
extern const uint16_t ts_iq2_xs_grid[512];
extern const uint16_t ts_iq2_s_grid[1024];
extern const uint16_t ts_iq3_xxs_grid[256];
extern const uint16_t ts_iq3_s_grid[512];
extern const uint16_t ts_iq1_grid[2048];

static const float ts_iq2_values[8] = {8, 25, 43};
static const float ts_iq3_xxs_values[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static const float ts_iq3_s_values[8] = {1, 3, 5, 7, 9, 11, 13, 15};
/* -1, 0 and 1, moved by an eighth up or down. */
static const float ts_iq1_values[2][8] = {{-0.875f, 0.125f, 1.125f},
                                          {-1.125f, -0.125f, 0.875f}};

/* Seven signs are stored; the eighth makes their number even. */
static inline uint32_t ts_iq_signs(uint32_t seven)
{
    seven &= 127;
    return seven | (uint32_t)__builtin_parity(seven) << 7;
}

#endif
