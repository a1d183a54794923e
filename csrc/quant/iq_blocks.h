/* iq_blocks.h -- how the IQ blocks are laid out: the body of each decoder.
 *
 * Included once by each file that says how to write eight elements.  It
 * defines before: TARGET, an attribute or nothing; DECODER(stem), the head of
 * a kernel; the type `table` and
 *
 *     table scaled(float scale, const float values[8])
 *     void put(float *y, uint32_t fields, int bits, table, uint32_t signs)
 *
 * where bit k of signs turns element k around.  Fields of two bits come in
 * sixteen bits, those of three in two halves of twelve. */
#ifndef TS_QUANT_IQ_BLOCKS_H
#define TS_QUANT_IQ_BLOCKS_H

#include "iq.h"

/* In ggml's order of operations, which decides about denormals. */
static inline float iq_scale(float d, uint32_t code, float step)
{
    return d * (0.5f + (float)code) * step;
}

/* d; for each 32 elements four indexes, and a word of four times seven signs
 * below a scale of four bits. */
TARGET DECODER(iq2_xxs)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 66) {
        float d = ts_load_half(in);
        for (int group = 0; group < 8; group++) {
            const uint8_t *index = in + 2 + 8 * group;
            uint32_t word = ts_load_u32(index + 4);
            table values
                = scaled(iq_scale(d, word >> 28, 0.25f), ts_iq2_values);
            for (int k = 0; k < 4; k++, y += 8)
                put(y, ts_iq2_xxs_grid[index[k]], 2, values,
                    ts_iq_signs(word >> 7 * k));
        }
    }
}

/* d; 32 words of nine bits of index and seven signs; 8 bytes with a scale
 * for each 16 elements. */
TARGET DECODER(iq2_xs)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 74) {
        float d = ts_load_half(in);
        for (int group = 0; group < 16; group++) {
            uint32_t scale = in[66 + group / 2] >> group % 2 * 4 & 15;
            table values = scaled(iq_scale(d, scale, 0.25f), ts_iq2_values);
            for (int k = 0; k < 2; k++, y += 8) {
                uint32_t word = ts_load_u16(in + 2 + 4 * group + 2 * k);
                put(y, ts_iq2_xs_grid[word & 511], 2, values,
                    ts_iq_signs(word >> 9));
            }
        }
    }
}

/* d; 32 bytes of indexes, 32 of signs, 8 with two more bits for each index,
 * 8 of scales. */
TARGET DECODER(iq2_s)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 82) {
        float d = ts_load_half(in);
        for (int i = 0; i < 32; i++, y += 8) {
            uint32_t scale = in[74 + i / 4] >> i / 2 % 2 * 4 & 15;
            uint32_t high = in[66 + i / 4] >> i % 4 * 2 & 3;
            put(y, ts_iq2_s_grid[in[2 + i] | high << 8], 2,
                scaled(iq_scale(d, scale, 0.25f), ts_iq2_values), in[34 + i]);
        }
    }
}

static inline uint32_t two_fours(uint32_t first, uint32_t second)
{
    return first | second << 12;
}

/* d; 64 indexes, each of four elements; 8 words as in IQ2_XXS. */
TARGET DECODER(iq3_xxs)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 98) {
        float d = ts_load_half(in);
        for (int group = 0; group < 8; group++) {
            const uint8_t *index = in + 2 + 8 * group;
            uint32_t word = ts_load_u32(in + 66 + 4 * group);
            table values
                = scaled(iq_scale(d, word >> 28, 0.5f), ts_iq3_xxs_values);
            for (int k = 0; k < 4; k++, y += 8, index += 2)
                put(y,
                    two_fours(ts_iq3_xxs_grid[index[0]],
                              ts_iq3_xxs_grid[index[1]]),
                    3, values, ts_iq_signs(word >> 7 * k));
        }
    }
}

/* d; 64 indexes, 8 bytes with one more bit for each, 32 bytes of signs, four
 * with a scale for each 32 elements. */
TARGET DECODER(iq3_s)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 110) {
        float d = ts_load_half(in);
        for (int group = 0; group < 8; group++) {
            uint32_t scale = in[106 + group / 2] >> group % 2 * 4 & 15;
            uint32_t high = (uint32_t)in[66 + group] << 8;
            const uint8_t *index = in + 2 + 8 * group;
            table values = scaled(d * (float)(1 + 2 * scale), ts_iq3_s_values);
            for (int k = 0; k < 4; k++, y += 8, index += 2, high >>= 2)
                put(y,
                    two_fours(ts_iq3_s_grid[index[0] | (high & 256)],
                              ts_iq3_s_grid[index[1] | (high >> 1 & 256)]),
                    3, values, in[74 + 4 * group + k]);
        }
    }
}

/* d; 32 indexes; 8 words, for 32 elements each: three more bits for four
 * indexes, a scale of three bits, the direction of the eighth. */
TARGET DECODER(iq1_s)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 50) {
        float d = ts_load_half(in);
        for (int group = 0; group < 8; group++) {
            uint32_t word = ts_load_u16(in + 34 + 2 * group);
            table values = scaled(d * (float)(2 * (word >> 12 & 7) + 1),
                                  ts_iq1_values[word >> 15]);
            for (int k = 0; k < 4; k++, y += 8) {
                uint32_t high = word >> 3 * k & 7;
                put(y, ts_iq1_grid[in[2 + 4 * group + k] | high << 8], 2,
                    values, 0);
            }
        }
    }
}

/* 32 indexes; 16 bytes with three more bits and a direction for each; four
 * words of four scales of three bits, whose top nibbles together are d. */
TARGET DECODER(iq1_m)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 56) {
        uint32_t d_bits = 0;
        for (int k = 0; k < 4; k++)
            d_bits |= (uint32_t)(in[49 + 2 * k] >> 4) << 4 * k;
        float d = ts_f32_of_f16((uint16_t)d_bits);
        for (int i = 0; i < 32; i++, y += 8) {
            uint32_t scale
                = ts_load_u16(in + 48 + i / 8 * 2) >> i / 2 % 4 * 3 & 7;
            uint32_t high = in[32 + i / 2] >> i % 2 * 4 & 15;
            table values = scaled(d * (float)(2 * scale + 1),
                                  ts_iq1_values[high >> 3]);
            put(y, ts_iq1_grid[in[i] | (high & 7) << 8], 2, values, 0);
        }
    }
}

#endif
