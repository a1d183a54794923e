#include "fp4.h"
#include "half.h"
#include "kernels.h"
#include "scales.h"

/* Blocks whose four-bit codes look a value up. */

TS_CONVERT_KERNEL(ts_iq4_nl_decode)
{
    float *y = (void *)out;
    for (; count >= 32; count -= 32, in += 18, y += 32) {
        float d = ts_load_half(in);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)ts_iq4_codes[in[2 + j] & 15];
            y[j + 16] = d * (float)ts_iq4_codes[in[2 + j] >> 4];
        }
    }
}

/* d, two bytes with the top and four with the rest of 8 scales, 128 bytes of
 * codes, 16 for each group of 32. */
TS_CONVERT_KERNEL(ts_iq4_xs_decode)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 136, y += 256) {
        int8_t scales[8];
        ts_scales_iq4_xs(in + 4, ts_load_u16(in + 2), scales);
        float d = ts_load_half(in);
        for (int i = 0; i < 256; i++) {
            int group = i / 32;
            int code = in[8 + group * 16 + i % 16] >> i / 16 % 2 * 4 & 15;
            float scale = d * (float)scales[group];
            y[i] = scale * (float)ts_iq4_codes[code];
        }
    }
}

TS_CONVERT_KERNEL(ts_mxfp4_decode)
{
    float *y = (void *)out;
    for (; count >= 32; count -= 32, in += 17, y += 32) {
        float d = ts_fp4_half_power(in[0]);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)ts_fp4_codes[in[1 + j] & 15];
            y[j + 16] = d * (float)ts_fp4_codes[in[1 + j] >> 4];
        }
    }
}

/* Four scales, then for each a group of 16 elements in 8 bytes. */
TS_CONVERT_KERNEL(ts_nvfp4_decode)
{
    float *y = (void *)out;
    for (; count >= 64; count -= 64, in += 36, y += 64)
        for (int i = 0; i < 64; i++) {
            float d = ts_fp4_half_ue4m3(in[i / 16]);
            int code = in[4 + i / 16 * 8 + i % 8] >> i / 8 % 2 * 4 & 15;
            y[i] = d * (float)ts_fp4_codes[code];
        }
}
