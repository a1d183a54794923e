#include "half.h"
#include "iq.h"
#include "kernels.h"

typedef struct {
    float values[8];
} table;

static table scaled(float scale, const float values[8])
{
    table products;
    for (int k = 0; k < 8; k++) products.values[k] = scale * values[k];
    return products;
}

static void put(float *y, uint32_t fields, int bits, table values,
                uint32_t signs)
{
    for (int k = 0; k < 8; k++) {
        float value = values.values[fields >> bits * k & ((1u << bits) - 1)];
        y[k] = signs >> k & 1 ? -value : value;
    }
}

#define TARGET
#define DECODER(stem) TS_CONVERT_KERNEL(ts_##stem##_decode)
#include "iq_blocks.h"
