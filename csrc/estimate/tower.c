#include "tower.h"

#include "block.h"

/* The tower's own run: images are its sequences, and it trains, has adapters
 * or stands still whatever the decoder does. */
static ts_run run_of(const ts_run *run)
{
    bool adapted = run->targets & TS_TARGET_VISION
                   && (run->method == TS_METHOD_LORA
                       || run->method == TS_METHOD_DORA);
    ts_run its = *run;

    its.batch = run->batch * run->images;
    its.seq = run->image_patches;
    its.recompute = TS_RECOMPUTE_NONE;
    its.sp = 0;
    if (run->train_vision)
        its.method = TS_METHOD_FULL;
    else if (!adapted)
        its.method = TS_METHOD_FROZEN;
    if (!run->pack_vision) its.weight_format = run->dtype;
    return its;
}

/* Elements a patch of a layer that keeps nothing: the stream and the norm's
 * output, and q, k, v with what rotation makes of them, or the MLP's. */
static ts_wide passing(const ts_stack *stack, const ts_layer *l)
{
    ts_wide heads = 6 * (ts_wide)l->heads * l->head_dim;
    ts_wide wide = (l->gated ? 3 : 2) * (ts_wide)l->ffn;

    return 3 * (ts_wide)stack->hidden + (heads > wide ? heads : wide);
}

static ts_wide scores(const ts_run *its, const ts_layer *l, uint64_t width)
{
    uint64_t seen = l->window > 0 ? ts_min(l->window, its->seq) : its->seq;

    if (its->attention != TS_ATTENTION_EAGER) return 0;
    return (ts_wide)its->batch * its->seq * seen * l->heads * (2 * width + 4);
}

static void read_layers(const ts_stack *stack, const ts_run *its,
                        const ts_profile *profile, ts_tower *out)
{
    ts_wide patches = (ts_wide)its->batch * its->seq;
    uint64_t width = ts_number_width(its->dtype);

    for (uint32_t i = 0; i < stack->layer_count; i++) {
        const ts_layer *l = &stack->kinds[stack->kind_of[i]];
        ts_wide pass = patches * passing(stack, l) * width
                       + scores(its, l, width);
        ts_block one;
        if (pass > out->passing) out->passing = pass;
        if (its->method == TS_METHOD_FROZEN) continue;
        ts_block_saved(stack, l, its, profile, patches, &one);
        ts_wide again = ts_block_sum(&one) + one.backward;
        if (again > out->again) out->again = again;
        if (its->vision_recompute) {
            out->inputs += patches * stack->hidden * width;
            continue;
        }
        out->attention += one.attention;
        out->mlp += one.mlp;
        out->residual += one.residual;
    }
}

/* Where anything up to it trains: its input and the norm's, what lies between
 * its linears before and after the activation. */
static ts_wide projector(const ts_model *model, ts_wide patches,
                         ts_wide tokens, uint64_t width)
{
    return (2 * patches * model->vision.hidden
            + 2 * tokens * model->projector_ffn)
           * width;
}

uint32_t ts_tower_instants(const ts_tower *tower)
{
    if (tower->pixels == 0) return 0;
    return TS_DURING(TS_AT_VISION)
           | (tower->trains ? TS_DURING(TS_AT_VISION_BACKWARD) : 0);
}

void ts_tower_saved(const ts_model *model, const ts_run *run,
                    const ts_profile *profile, ts_tower *out)
{
    const ts_stack *stack = &model->vision;
    ts_run its = run_of(run);
    ts_wide patches = (ts_wide)its.batch * its.seq;
    uint64_t square = ts_max(model->merge, 1) * ts_max(model->merge, 1);
    ts_wide tokens = run->image_tokens > 0
                         ? (ts_wide)run->batch * run->image_tokens
                         : patches / square;
    uint64_t width = ts_number_width(run->dtype);

    *out = (ts_tower){0};
    if (stack->layer_count == 0 || patches == 0) return;
    out->trains = its.method != TS_METHOD_FROZEN;
    out->pixels = patches * 3 * ts_max(model->frames, 1) * model->patch
                  * model->patch * 4;
    out->features = tokens * model->decoder.hidden * width;
    read_layers(stack, &its, profile, out);
    if (out->trains || run->train_projector)
        out->projector = projector(model, patches, tokens, width);
}
