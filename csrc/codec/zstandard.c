/* zstandard.c -- planes as standard zstd frames, through libzstd's own API. */
#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_compressSequences, since 1.5.0 */
#include <zstd.h>

#include "chunk.h"
#include "packer.h"

/* Matches of three or four bytes cost more than they give on weights (zstd's
 * issue 3228), and zstd has no mode without them: so it is told that there are
 * none, by a sequence a block that is all literals. */
size_t ts_zstd_literals(ts_packer *packer, const uint8_t *in, size_t size,
                        uint8_t *out, size_t room)
{
    ZSTD_Sequence blocks[TS_FRAME_MOST_CHUNK / ZSTD_BLOCKSIZE_MAX + 1];
    ZSTD_CCtx *context = ts_packer_cctx(packer);
    size_t count = 0;

    if (context == NULL) return 0;
    for (size_t at = 0; at < size && count < TS_COUNT_OF(blocks); count++) {
        size_t some = (size_t)ts_min(size - at, ZSTD_BLOCKSIZE_MAX);
        blocks[count] = (ZSTD_Sequence){0, (unsigned)some, 0, 0};
        at += some;
    }
    ZSTD_CCtx_reset(context, ZSTD_reset_session_and_parameters);
    ZSTD_CCtx_setParameter(context, ZSTD_c_literalCompressionMode,
                           ZSTD_ps_enable);
    ZSTD_CCtx_setParameter(context, ZSTD_c_blockDelimiters,
                           ZSTD_sf_explicitBlockDelimiters);
    size_t made = ZSTD_compressSequences(context, out, room, blocks, count, in,
                                         size);
    return ZSTD_isError(made) ? 0 : made;
}

size_t ts_zstd_matches(ts_packer *packer, int level, const uint8_t *in,
                       size_t size, uint8_t *out, size_t room)
{
    ZSTD_CCtx *context = ts_packer_cctx(packer);

    if (context == NULL) return 0;
    ZSTD_CCtx_reset(context, ZSTD_reset_session_and_parameters);
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
    size_t made = ZSTD_compress2(context, out, room, in, size);
    return ZSTD_isError(made) ? 0 : made;
}

ts_status ts_zstd_unpack(ts_packer *packer, const uint8_t *bytes, size_t size,
                         uint8_t *out, size_t out_size, ts_error *error)
{
    ZSTD_DCtx *context = ts_packer_dctx(packer);

    if (context == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a zstd decoder");
    size_t made = ZSTD_decompressDCtx(context, out, out_size, bytes, size);
    if (ZSTD_isError(made))
        return ts_fail(error, TS_FORMAT, "a zstd frame of %zu bytes: %s", size,
                       ZSTD_getErrorName(made));
    if (made == out_size) return TS_OK;
    return ts_fail(error, TS_FORMAT,
                   "a zstd frame of %zu bytes holds %zu instead of %zu", size,
                   made, out_size);
}
