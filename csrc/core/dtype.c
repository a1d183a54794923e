#include "dtype.h"

#include <string.h>

#include "base.h"

typedef struct {
    const char *name;
    uint16_t count, size;
    uint8_t class;
} row;

static const row rows[TS_DTYPE_COUNT] = {
#define XX(symbol, name, count, size, class)                                  \
    {name, count, size, TS_CLASS_##class},
    TS_DTYPE_MAP(XX)
#undef XX
};

#define XX(symbol, name, count, size, class)                                  \
    _Static_assert((size) <= TS_DTYPE_MAX_BLOCK, name);
TS_DTYPE_MAP(XX)
#undef XX

const char *ts_dtype_name(ts_dtype dtype) { return rows[dtype].name; }

uint32_t ts_dtype_block_count(ts_dtype dtype) { return rows[dtype].count; }

uint32_t ts_dtype_block_size(ts_dtype dtype) { return rows[dtype].size; }

ts_dtype_class ts_dtype_class_of(ts_dtype dtype)
{
    return (ts_dtype_class)rows[dtype].class;
}

bool ts_dtype_find(const char *name, size_t name_size, ts_dtype *out)
{
    for (int i = 0; i < TS_DTYPE_COUNT; i++)
        if (strlen(rows[i].name) == name_size
            && memcmp(rows[i].name, name, name_size) == 0) {
            *out = (ts_dtype)i;
            return true;
        }
    return false;
}

bool ts_dtype_bytes(ts_dtype dtype, uint64_t elements, uint64_t *out)
{
    uint64_t count = rows[dtype].count;
    return elements % count == 0
        && ts_mul(elements / count, rows[dtype].size, out);
}
