/* pack.c -- elements to a stored chunk. */
#include "chunk.h"

static bool all_the_same(const uint8_t *in, size_t size)
{
    return size < 2 || memcmp(in, in + 1, size - 1) == 0;
}

/* One section of one plane: every chunk can be stored so. */
static uint32_t pack_bytes(const uint8_t *in, size_t size, uint32_t elements,
                           uint8_t *out)
{
    bool constant = all_the_same(in, size);
    uint8_t *section = out + TS_CHUNK_HEAD;
    uint8_t *plane = section + TS_SECTION_HEAD;
    size_t held = constant ? 0 : size;
    size_t padded = (size_t)ts_round_up(held, TS_FRAME_ALIGN);

    memset(out, 0, TS_FRAME_ALIGN);
    ts_put_u32(out, elements);
    out[4] = 1;
    section[0] = TS_FORM_DENSE;
    section[1] = TS_LAYOUT_BYTES;
    section[2] = 1;
    ts_put_u32(section + 4, (uint32_t)size);
    plane[0] = constant ? TS_CODER_CONST : TS_CODER_RAW;
    plane[1] = constant ? in[0] : 0;
    ts_put_u32(plane + 4, TS_FRAME_ALIGN);
    ts_put_u32(plane + 8, (uint32_t)held);
    memcpy(out + TS_FRAME_ALIGN, in, held);
    memset(out + TS_FRAME_ALIGN + held, 0, padded - held);
    return (uint32_t)(TS_FRAME_ALIGN + padded);
}

ts_status ts_chunk_pack(ts_pack_mode mode, ts_dtype dtype, const uint8_t *in,
                        uint32_t elements, uint8_t *out, uint32_t *size,
                        ts_packer *packer, ts_error *error)
{
    uint64_t bytes;

    (void)mode;
    (void)packer;
    (void)error;
    (void)ts_dtype_bytes(dtype, elements, &bytes);
    *size = pack_bytes(in, (size_t)bytes, elements, out);
    return TS_OK;
}
