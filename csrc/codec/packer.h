/* packer.h -- zstd's contexts in a packer, made when first needed. */
#ifndef TS_CODEC_PACKER_H
#define TS_CODEC_PACKER_H

#include <zstd.h>

#include "frame.h"

ZSTD_CCtx *ts_packer_cctx(ts_packer *packer); /* NULL: no memory */
ZSTD_DCtx *ts_packer_dctx(ts_packer *packer);

#endif
