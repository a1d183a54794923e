/* tower.h -- what sees: patches into a tower of layers, its output through a
 * projector into the decoder's sequence.  One file for all families; a tower
 * that stands still keeps nothing, but its pass needs room. */
#ifndef TS_ESTIMATE_TOWER_H
#define TS_ESTIMATE_TOWER_H

#include "family.h"

/* Bytes on one rank, all images of a batch together. */
typedef struct {
    ts_wide pixels;    /* as the processor made them, F32 */
    ts_wide attention, mlp, residual; /* kept by layers for backward */
    ts_wide inputs;    /* of layers that are recomputed */
    ts_wide projector; /* kept on the way into the decoder */
    ts_wide again;     /* one layer, while it runs backward */
    ts_wide passing;   /* the widest moment of a pass that keeps nothing */
    ts_wide features;  /* what the decoder gets */
    bool trains;       /* tower or adapters on it, so that backward comes */
} ts_tower;

void ts_tower_saved(const ts_model *model, const ts_run *run,
                    const ts_profile *profile, ts_tower *out);
/* Instants that only runs with images pass through. */
uint32_t ts_tower_instants(const ts_tower *tower);

#endif
