#include "core/base.h"
#include "quant.h"

#define SWAP(bits)                                                            \
    static void swap_##bits(uint8_t *bytes, size_t count)                     \
    {                                                                         \
        for (size_t i = 0; i < count; i++) {                                  \
            uint##bits##_t value;                                             \
            memcpy(&value, bytes + i * sizeof value, sizeof value);           \
            value = __builtin_bswap##bits(value);                             \
            memcpy(bytes + i * sizeof value, &value, sizeof value);           \
        }                                                                     \
    }
SWAP(16)
SWAP(32)
SWAP(64)

void ts_swap_bytes(uint8_t *bytes, size_t count, size_t width)
{
    if (width == 2) swap_16(bytes, count);
    if (width == 4) swap_32(bytes, count);
    if (width == 8) swap_64(bytes, count);
}
