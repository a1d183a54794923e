#include "sum_kernel.h"

#include "core/base.h"

uint64_t ts_sum_scalar(const void *words, size_t count)
{
    const uint8_t *at = words;
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++) sum += ts_load_u64(at + 8 * i);
    return sum;
}
