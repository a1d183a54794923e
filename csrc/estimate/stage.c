/* stage.c -- which layers a pipeline stage holds, and what they weigh. */
#include "family.h"

/* Layers of chunk `chunk` of `chunks`, dealt in order. */
static uint64_t chunk_start(uint64_t layers, uint64_t chunks, uint64_t chunk)
{
    uint64_t each = layers / chunks, more = layers % chunks;
    return chunk * each + ts_min(chunk, more);
}

void ts_stage_share(const ts_model *model, const ts_run *run, uint64_t stage,
                    ts_share *out)
{
    const ts_stack *stack = &model->decoder;
    uint64_t chunks = run->pp * run->vpp;

    memset(out, 0, sizeof *out);
    for (uint64_t chunk = stage; chunk < chunks; chunk += run->pp) {
        uint64_t at = chunk_start(stack->layer_count, chunks, chunk);
        uint64_t stop = chunk_start(stack->layer_count, chunks, chunk + 1);
        out->layers += stop - at;
        for (; at < stop; at++) out->count[stack->kind_of[at]]++;
    }
    out->first = stage == 0;
    out->last = stage == run->pp - 1;
}

void ts_whole_share(const ts_stack *stack, ts_share *out)
{
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < stack->layer_count; i++)
        out->count[stack->kind_of[i]]++;
    out->layers = stack->layer_count;
    out->first = out->last = true;
}

/* LoRA (2106.09685): r (in + out) a matrix; DoRA (2402.09353) one magnitude
 * an output more.  B of a column-split matrix and A of a row-split one are
 * split with it. */
static ts_wide adapter(const ts_matrix *part, const ts_run *run)
{
    if (run->method != TS_METHOD_LORA && run->method != TS_METHOD_DORA)
        return 0;
    uint32_t asked = (uint32_t)run->targets;
    if (part->target == 0 || (part->target & ~asked & TS_TARGET_EXPERTS)
        || (part->target & asked & ~(uint32_t)TS_TARGET_EXPERTS) == 0)
        return 0;
    ts_wide each = (ts_wide)run->rank * (part->in + part->out);
    if (run->method == TS_METHOD_DORA) each += part->out;
    return each * part->copies;
}

static void add_layer(const ts_stack *stack, const ts_layer *layer,
                      uint64_t times, const ts_run *run, ts_weights *to)
{
    ts_matrices all;
    ts_wide size = 0;

    ts_layer_matrices(stack, layer, &all);
    for (uint32_t i = 0; i < all.count; i++) {
        ts_matrix part = ts_matrix_share(&all.list[i], run);
        ts_wide count = (ts_wide)part.in * part.out * part.copies;
        ts_wide one = ts_number_matrix(run->weight_format, part.in, part.out);
        ts_wide bytes = one * part.copies;
        bool expert = part.split == TS_SPLIT_EXPERT;

        if (part.keep) {
            to->kept += count * times;
        } else if (expert) {
            to->experts += count * times;
            to->expert_bytes += bytes * times;
        } else {
            to->matrices += count * times;
            to->matrix_bytes += bytes * times;
        }
        if (!part.keep)
            to->rests += (ts_wide)ts_block_rest(one) * part.copies * times;
        if ((ts_wide)part.in * part.out > to->largest_matrix)
            to->largest_matrix = (ts_wide)part.in * part.out;
        if (part.bias) to->vectors += (ts_wide)part.out * part.copies * times;
        to->adapters += adapter(&part, run) * times;
        to->tensors += part.copies * (part.bias ? 2 : 1) * times;
        size += count;
    }
    to->vectors += all.vectors * times;
    to->tensors += layer->norms * times;
    if (size + all.vectors > to->largest) to->largest = size + all.vectors;
}

void ts_stack_weights(const ts_stack *stack, const ts_share *share,
                      const ts_run *run, ts_weights *add_to)
{
    for (uint32_t i = 0; i < stack->kind_count; i++)
        if (share->count[i] > 0)
            add_layer(stack, &stack->kinds[i], share->count[i], run, add_to);
    if (share->last) {
        uint64_t norm = stack->norm_bias ? 2 : 1;
        if (stack->norm != TS_NORM_NONE)
            add_to->vectors +=
                (ts_wide)stack->final_norms * norm * stack->hidden;
        add_to->vectors += stack->extra;
    }
    if (share->first)
        add_to->embedding += (ts_wide)stack->positions * stack->hidden;
}

static ts_wide elements(const ts_weights *w)
{
    return w->matrices + w->experts + w->kept + w->vectors + w->embedding
           + w->head;
}

/* Adapters sit on the tower only when they are told to; quantised checkpoints
 * may leave it as it was. */
void ts_vision_weights(const ts_model *model, const ts_run *run,
                       ts_weights *add_to)
{
    ts_wide before = elements(add_to), tables = add_to->embedding;
    ts_run its = *run;
    ts_share whole;

    if (model->vision.layer_count == 0) return;
    if (!run->pack_vision) its.weight_format = run->dtype;
    if (!(run->targets & TS_TARGET_VISION)) its.targets = 0;
    ts_whole_share(&model->vision, &whole);
    ts_stack_weights(&model->vision, &whole, &its, add_to);
    /* Its table of positions is no embedding of tokens. */
    add_to->vectors += add_to->embedding - tables + model->projector;
    add_to->embedding = tables;
    add_to->projector = model->projector;
    add_to->tower = elements(add_to) - before - model->projector;
}

ts_wide ts_vision_trained(const ts_run *run, const ts_weights *weights)
{
    return (run->train_vision ? weights->tower : 0)
           + (run->train_projector ? weights->projector : 0);
}

void ts_stage_weights(const ts_model *model, const ts_run *run,
                      const ts_share *share, ts_weights *out)
{
    uint64_t width = model->embed_dim > 0 ? model->embed_dim
                                          : model->decoder.hidden;
    ts_wide table = (ts_wide)ts_divide_up(model->vocab, run->tp) * width;
    bool alone = share->first && share->last;

    memset(out, 0, sizeof *out);
    ts_stack_weights(&model->decoder, share, run, out);
    if (share->first) {
        ts_share whole;
        out->embedding += table;
        if (model->layer_embed > 0)
            out->embedding += (ts_wide)model->vocab * model->layer_embed
                              * model->decoder.layer_count;
        ts_whole_share(&model->encoder, &whole);
        if (model->encoder.layer_count > 0)
            ts_stack_weights(&model->encoder, &whole, run, out);
        ts_vision_weights(model, run, out);
    }
    if (!share->last || !model->head) return;
    /* A tied head is the embedding; on another stage it is a copy of it. */
    if (!model->tied || !alone) out->head += table;
    if (model->head_bias) out->vectors += ts_divide_up(model->vocab, run->tp);
    if (run->targets & TS_TARGET_HEAD) {
        ts_matrix head = {width, ts_divide_up(model->vocab, run->tp), 1,
                          TS_TARGET_HEAD, TS_SPLIT_COLUMN, false, true};
        out->adapters += adapter(&head, run);
    }
}

/* bytes * part / whole, rounded up; what is not there is not held. */
static ts_wide held(uint64_t bytes, ts_wide part, ts_wide whole)
{
    if (whole >= TS_MOST_BYTES) return bytes; /* no model: refused later */
    return whole > 0 ? (bytes * part + whole - 1) / whole : 0;
}

ts_wide ts_held_bytes(const ts_model *model, const ts_weights *rank)
{
    ts_run one;
    ts_share share;
    ts_weights all;

    if (model->held_layers + model->held_tables + model->held_vision == 0)
        return 0;
    ts_run_default(&one);
    ts_stage_share(model, &one, 0, &share);
    ts_stage_weights(model, &one, &share, &all);
    ts_wide tables = all.embedding + all.head;
    ts_wide vision = all.tower + all.projector;
    ts_wide mine = rank->embedding + rank->head;
    ts_wide sight = rank->tower + rank->projector;
    return held(model->held_tables, mine, tables)
           + held(model->held_vision, sight, vision)
           + held(model->held_layers, elements(rank) - mine - sight,
                  elements(&all) - tables - vision);
}

static ts_status fits(ts_wide count, const char *what, uint64_t *out,
                      ts_error *error)
{
    if (count >= TS_MOST_BYTES)
        return ts_fail(error, TS_ARGUMENT, "2^62 %s or more", what);
    *out = (uint64_t)count;
    return TS_OK;
}

ts_status ts_model_parameters(const ts_model *model, uint64_t *out,
                              ts_error *error)
{
    ts_run run;
    ts_share share;
    ts_weights weights;

    ts_run_default(&run);
    ts_stage_share(model, &run, 0, &share);
    ts_stage_weights(model, &run, &share, &weights);
    return fits(elements(&weights), "parameters", out, error);
}

ts_status ts_adapter_parameters(const ts_model *model, const ts_run *run,
                                uint64_t *out, ts_error *error)
{
    ts_wide sum = 0;
    ts_run whole = *run;

    whole.tp = whole.ep = whole.etp = 1;
    for (uint64_t stage = 0; stage < run->pp; stage++) {
        ts_share share;
        ts_weights weights;
        ts_stage_share(model, &whole, stage, &share);
        ts_stage_weights(model, &whole, &share, &weights);
        sum += weights.adapters;
    }
    return fits(sum, "parameters", out, error);
}
