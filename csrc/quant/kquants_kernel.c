#include "half.h"
#include "kernels.h"
#include "scales.h"

/* ggml's K blocks: 256 elements in groups of 16 or 32, each with a small
 * integer scale of its own under one half-precision scale d (and dmin, for
 * the kinds that subtract a minimum).  Always (d * scale) first, then the
 * element: the order decides the last bit. */

/* scales[16] (scale, minimum in a byte), 64 bytes of 2-bit codes, d, dmin.
 * In each half of 128, bits 2k of the 32 bytes are elements 32k and on. */
TS_CONVERT_KERNEL(ts_q2_k_decode)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 84, y += 256) {
        float d = ts_load_half(in + 80), dmin = ts_load_half(in + 82);
        for (int i = 0; i < 256; i++) {
            uint32_t scale = in[i / 16];
            uint32_t codes = in[16 + i / 128 * 32 + i % 32];
            uint32_t code = codes >> i / 32 % 4 * 2 & 3;
            y[i] = d * (float)(scale & 15) * (float)code
                - dmin * (float)(scale >> 4);
        }
    }
}

/* 32 bytes of high bits, 64 of low pairs, 12 of scales, d.  A clear high bit
 * takes 4 away. */
TS_CONVERT_KERNEL(ts_q3_k_decode)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 110, y += 256) {
        int8_t scales[16];
        ts_scales_q3_k(in + 96, scales);
        float d = ts_load_half(in + 108);
        for (int i = 0; i < 256; i++) {
            int group = i / 16;
            int low = in[32 + i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3;
            int high = in[i % 32] >> i / 32 & 1;
            y[i] = d * (float)scales[group] * (float)(low + 4 * high - 4);
        }
    }
}

/* d, dmin, 12 bytes of scales, 128 of nibbles: 32 bytes hold 64 elements, the
 * low nibbles first. */
TS_CONVERT_KERNEL(ts_q4_k_decode)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 144, y += 256) {
        float d = ts_load_half(in), dmin = ts_load_half(in + 2);
        uint8_t scales[16];
        ts_scales_q4_k(in + 4, scales);
        for (int i = 0; i < 256; i++) {
            int group = i / 32;
            int code = in[16 + i / 64 * 32 + i % 32] >> group % 2 * 4 & 15;
            y[i] = d * (float)scales[group] * (float)code
                - dmin * (float)scales[8 + group];
        }
    }
}

/* As Q4_K with 32 bytes of fifth bits between: bit k for group k. */
TS_CONVERT_KERNEL(ts_q5_k_decode)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 176, y += 256) {
        float d = ts_load_half(in), dmin = ts_load_half(in + 2);
        uint8_t scales[16];
        ts_scales_q4_k(in + 4, scales);
        for (int i = 0; i < 256; i++) {
            int group = i / 32;
            int low = in[48 + i / 64 * 32 + i % 32] >> group % 2 * 4 & 15;
            int high = in[16 + i % 32] >> group & 1;
            y[i] = d * (float)scales[group] * (float)(low + 16 * high)
                - dmin * (float)scales[8 + group];
        }
    }
}

/* 128 bytes of low nibbles, 64 of high pairs, 16 signed scales, d.  In each
 * half of 128 elements: 64 bytes hold elements 0-63 in their low nibbles and
 * 64-127 in their high ones; the pairs go in steps of 32 elements. */
TS_CONVERT_KERNEL(ts_q6_k_decode)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 210, y += 256) {
        float d = ts_load_half(in + 208);
        for (int i = 0; i < 256; i++) {
            int low = in[i / 128 * 64 + i % 64] >> i / 64 % 2 * 4 & 15;
            int pairs = in[128 + i / 128 * 32 + i % 32];
            int code = low | (pairs >> i / 32 % 4 * 2 & 3) << 4;
            float scale = d * (float)(int8_t)in[192 + i / 16];
            y[i] = scale * (float)(code - 32);
        }
    }
}
