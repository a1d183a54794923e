#include "encode.h"
#include "fp4.h"
#include "fp4_encode.h"
#include "scales.h"

/* Each element takes the code whose value is nearest, the first of equals:
 * so ties go to the smaller magnitude, and -0 is never used. */
static uint8_t nearest(float x, float d)
{
    int best = 0;
    float least = fabsf((float)ts_fp4_codes[0] * d - x);
    for (int i = 1; i < 16; i++) {
        float error = fabsf((float)ts_fp4_codes[i] * d - x);
        if (error < least) {
            least = error;
            best = i;
        }
    }
    return (uint8_t)best;
}

/* n elements into n / 2 bytes: element j and j + n / 2 share one. */
static void store_nearest(const float *x, int n, float d, uint8_t *out)
{
    for (int j = 0; j < n / 2; j++)
        out[j] = (uint8_t)(nearest(x[j], d) | nearest(x[j + n / 2], d) << 4);
}

static void mxfp4_block(const float x[32], uint8_t *out)
{
    out[0] = ts_mxfp4_exponent(fabsf(ts_peak(x, 32)));
    store_nearest(x, 32, ts_fp4_half_power(out[0]), out + 1);
}

static void nvfp4_block(const float x[64], uint8_t *out)
{
    for (int k = 0; k < 4; k++) {
        const float *group = x + 16 * k;
        out[k] = ts_ue4m3_of_f32(fabsf(ts_peak(group, 16)) / 6);
        store_nearest(group, 16, ts_fp4_half_ue4m3(out[k]), out + 4 + 8 * k);
    }
}

TS_BLOCK_QUANTIZER(ts_mxfp4_quantize, 32, 17, mxfp4_block)
TS_BLOCK_QUANTIZER(ts_nvfp4_quantize, 64, 36, nvfp4_block)
