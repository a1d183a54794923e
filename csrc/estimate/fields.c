/* fields.c -- the structs of the door as tables: names, bounds, words. */
#include "family.h"

#define XX(field, fallback, least, most, text)                                \
    {#field, text, (uint32_t)offsetof(ts_layer, field), fallback, least, most},
const ts_field ts_layer_fields[] = {TS_LAYER_MAP(XX)};
#undef XX
#define XX(field, fallback, least, most, text)                                \
    {#field, text, (uint32_t)offsetof(ts_stack, field), fallback, least, most},
const ts_field ts_stack_fields[] = {TS_STACK_MAP(XX)};
#undef XX
#define XX(field, fallback, least, most, text)                                \
    {#field, text, (uint32_t)offsetof(ts_model, field), fallback, least, most},
const ts_field ts_model_fields[] = {TS_MODEL_MAP(XX)};
#undef XX
#define XX(field, fallback, least, most, text)                                \
    {#field, text, (uint32_t)offsetof(ts_run, field), fallback, least, most},
const ts_field ts_run_fields[] = {TS_RUN_MAP(XX)};
#undef XX
#define XX(field, fallback, least, most, text)                                \
    {#field, text, (uint32_t)offsetof(ts_profile, field), fallback, least,    \
     most},
const ts_field ts_profile_fields[] = {TS_PROFILE_MAP(XX)};
#undef XX

const size_t ts_layer_field_count = TS_COUNT_OF(ts_layer_fields);
const size_t ts_stack_field_count = TS_COUNT_OF(ts_stack_fields);
const size_t ts_model_field_count = TS_COUNT_OF(ts_model_fields);
const size_t ts_run_field_count = TS_COUNT_OF(ts_run_fields);
const size_t ts_profile_field_count = TS_COUNT_OF(ts_profile_fields);

/* ---- words ------------------------------------------------------------- */

#define XX(name, text, ...) text,
static const char *const number_words[] = {TS_FORMAT_WORDS(XX) NULL};
static const char *const mixer_words[] = {TS_MIXER_WORDS(XX) NULL};
static const char *const mlp_words[] = {TS_MLP_WORDS(XX) NULL};
static const char *const norm_words[] = {TS_NORM_WORDS(XX) NULL};
static const char *const mode_words[] = {TS_MODE_WORDS(XX) NULL};
static const char *const method_words[] = {TS_METHOD_WORDS(XX) NULL};
static const char *const recompute_words[] = {TS_RECOMPUTE_WORDS(XX) NULL};
static const char *const attention_words[] = {TS_ATTENTION_WORDS(XX) NULL};
static const char *const loss_words[] = {TS_LOSS_WORDS(XX) NULL};
static const char *const optimizer_words[] = {TS_OPTIMIZER_WORDS(XX) NULL};
static const char *const family_words[] = {TS_FAMILY_MAP(XX) NULL};
static const char *const kernel_words[] = {TS_KERNEL_WORDS(XX) NULL};
static const char *const provider_words[] = {TS_PROVIDER_WORDS(XX) NULL};
static const char *const norm_code_words[] = {TS_NORM_CODE_WORDS(XX) NULL};
static const char *const order_words[] = {TS_NORM_ORDER_WORDS(XX) NULL};
static const char *const act_words[] = {TS_ACT_WORDS(XX) NULL};
static const char *const rope_words[] = {TS_ROPE_WORDS(XX) NULL};
static const char *const kv_cut_words[] = {TS_KV_CUT_WORDS(XX) NULL};
static const char *const mask_words[] = {TS_MASK_WORDS(XX) NULL};
static const char *const softmax_words[] = {TS_SOFTMAX_WORDS(XX) NULL};
static const char *const router_words[] = {TS_ROUTER_WORDS(XX) NULL};
static const char *const instant_words[] = {TS_INSTANT_WORDS(XX) NULL};
static const char *const component_words[] = {TS_COMPONENT_WORDS(XX) NULL};
static const char *const counter_words[] = {TS_COUNTER_WORDS(XX) NULL};
#undef XX

static const struct {
    const char *field;
    const char *const *words;
} worded[] = {
    {"mixer", mixer_words},           {"mlp", mlp_words},
    {"norm", norm_words},             {"mode", mode_words},
    {"method", method_words},         {"recompute", recompute_words},
    {"attention", attention_words},   {"loss", loss_words},
    {"optimizer", optimizer_words},   {"family", family_words},
    {"weight_format", number_words},  {"dtype", number_words},
    {"param_dtype", number_words},    {"grad_dtype", number_words},
    {"state_dtype", number_words},    {"adapter_dtype", number_words},
    {"kv_format", number_words},      {"kernel", kernel_words},
    {"provider", provider_words},
    {"norm_code", norm_code_words},
    {"norm_order", order_words},      {"act", act_words},
    {"rope", rope_words},             {"mask", mask_words},
    {"softmax", softmax_words},       {"router", router_words},
    {"kv_cut", kv_cut_words},
};

const char *const *ts_field_words(const char *field)
{
    for (size_t i = 0; i < TS_COUNT_OF(worded); i++)
        if (strcmp(worded[i].field, field) == 0) return worded[i].words;
    return NULL;
}

const char *ts_instant_name(ts_instant instant)
{
    return (unsigned)instant < TS_INSTANT_COUNT ? instant_words[instant] : "?";
}

const char *ts_component_name(ts_component component)
{
    return (unsigned)component < TS_COMPONENT_COUNT
               ? component_words[component]
               : "?";
}

const char *ts_counter_name(ts_counter counter)
{
    return (unsigned)counter < TS_COUNTER_COUNT ? counter_words[counter] : "?";
}

ts_counter ts_component_counter(ts_component component)
{
#define XX(name, text, counter) TS_COUNTER_##counter,
    static const ts_counter counters[] = {TS_COMPONENT_WORDS(XX)};
#undef XX
    return counters[component];
}

static const struct {
    const char *name, *text, *source;
} formulas[] = {
#define XX(name, word, text, source) {word, text, source},
    TS_FORMULA_MAP(XX)
#undef XX
};

const char *ts_formula_name(ts_formula formula)
{
    return (unsigned)formula < TS_FORMULA_COUNT ? formulas[formula].name : "?";
}

const char *ts_formula_text(ts_formula formula)
{
    return (unsigned)formula < TS_FORMULA_COUNT ? formulas[formula].text : "?";
}

const char *ts_formula_source(ts_formula formula)
{
    return (unsigned)formula < TS_FORMULA_COUNT ? formulas[formula].source
                                                : "?";
}

/* ---- fallbacks and bounds ---------------------------------------------- */

static uint64_t *at(void *base, const ts_field *field)
{
    return (uint64_t *)((uint8_t *)base + field->offset);
}

static uint64_t get(const void *base, const ts_field *field)
{
    return *(const uint64_t *)((const uint8_t *)base + field->offset);
}

static void fill(void *base, const ts_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++)
        *at(base, &fields[i]) = fields[i].fallback;
}

void ts_layer_default(ts_layer *layer)
{
    fill(layer, ts_layer_fields, ts_layer_field_count);
}

void ts_model_default(ts_model *model)
{
    memset(model, 0, sizeof *model);
    fill(model, ts_model_fields, ts_model_field_count);
    fill(&model->decoder, ts_stack_fields, ts_stack_field_count);
    fill(&model->encoder, ts_stack_fields, ts_stack_field_count);
    fill(&model->vision, ts_stack_fields, ts_stack_field_count);
}

void ts_run_default(ts_run *run)
{
    fill(run, ts_run_fields, ts_run_field_count);
}

void ts_profile_default(ts_profile *profile)
{
    fill(profile, ts_profile_fields, ts_profile_field_count);
}

static ts_status bounds(const void *base, const ts_field *fields,
                        size_t count, const char *where, ts_error *error)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = get(base, &fields[i]);
        if (value >= fields[i].least && value <= fields[i].most) continue;
        return ts_fail(error, TS_ARGUMENT,
                       "%s%s is %llu, not between %llu and %llu", where,
                       fields[i].name, (unsigned long long)value,
                       (unsigned long long)fields[i].least,
                       (unsigned long long)fields[i].most);
    }
    return TS_OK;
}

static ts_status divides(uint64_t part, uint64_t whole, const char *part_name,
                         const char *whole_name, ts_error *error)
{
    if (part > 0 && whole % part == 0) return TS_OK;
    return ts_fail(error, TS_ARGUMENT, "%s %llu does not divide %s %llu",
                   part_name, (unsigned long long)part, whole_name,
                   (unsigned long long)whole);
}

static ts_status check_layer(const ts_layer *layer, ts_error *error)
{
    TS_TRY(bounds(layer, ts_layer_fields, ts_layer_field_count, "", error));
    if (layer->mixer == TS_MIXER_ATTENTION) {
        if (layer->heads == 0 || layer->head_dim == 0)
            return ts_fail(error, TS_ARGUMENT,
                           "attention needs heads and head_dim, got %llu and"
                           " %llu",
                           (unsigned long long)layer->heads,
                           (unsigned long long)layer->head_dim);
        TS_TRY(divides(layer->kv_heads, layer->heads, "kv_heads", "heads",
                       error));
    }
    if (layer->mixer == TS_MIXER_LATENT
        && (layer->kv_rank == 0 || layer->rope_dim > layer->head_dim))
        return ts_fail(error, TS_ARGUMENT,
                       "latent attention needs kv_rank, and rope_dim within"
                       " head_dim, got %llu, %llu and %llu",
                       (unsigned long long)layer->kv_rank,
                       (unsigned long long)layer->rope_dim,
                       (unsigned long long)layer->head_dim);
    if (layer->mlp == TS_MLP_MOE
        && (layer->experts == 0 || layer->active_experts == 0
            || layer->active_experts > layer->experts))
        return ts_fail(error, TS_ARGUMENT,
                       "active_experts is %llu, not between 1 and experts"
                       " %llu",
                       (unsigned long long)layer->active_experts,
                       (unsigned long long)layer->experts);
    return TS_OK;
}

static ts_status check_stack(const ts_stack *stack, const char *name,
                             ts_error *error)
{
    if (stack->layer_count == 0) return TS_OK;
    TS_TRY(bounds(stack, ts_stack_fields, ts_stack_field_count, name, error));
    if (stack->hidden == 0)
        return ts_fail(error, TS_ARGUMENT, "%shidden is 0", name);
    if (stack->layer_count > TS_MAX_LAYERS
        || stack->kind_count > TS_MAX_KINDS)
        return ts_fail(error, TS_ARGUMENT,
                       "%s%u layers of %u kinds, more than %d of %d", name,
                       stack->layer_count, stack->kind_count, TS_MAX_LAYERS,
                       TS_MAX_KINDS);
    for (uint32_t i = 0; i < stack->layer_count; i++)
        if (stack->kind_of[i] >= stack->kind_count)
            return ts_fail(error, TS_ARGUMENT,
                           "%slayer %u is of kind %u, of %u kinds", name, i,
                           stack->kind_of[i], stack->kind_count);
    for (uint32_t i = 0; i < stack->kind_count; i++)
        TS_TRY(check_layer(&stack->kinds[i], error));
    return TS_OK;
}

ts_status ts_model_check(const ts_model *model, ts_error *error)
{
    TS_TRY(bounds(model, ts_model_fields, ts_model_field_count, "", error));
    TS_TRY(check_stack(&model->decoder, "decoder: ", error));
    TS_TRY(check_stack(&model->encoder, "encoder: ", error));
    return check_stack(&model->vision, "vision: ", error);
}

/* tp may exceed the key/value heads (they are repeated), not the query heads.
 */
static ts_status check_heads(const ts_model *model, const ts_run *run,
                             ts_error *error)
{
    for (uint32_t i = 0; i < model->decoder.kind_count; i++) {
        const ts_layer *layer = &model->decoder.kinds[i];
        if (layer->mixer != TS_MIXER_ATTENTION
            && layer->mixer != TS_MIXER_LATENT)
            continue;
        TS_TRY(divides(run->tp, layer->heads, "tp", "heads", error));
    }
    return TS_OK;
}

/* Experts are dealt whole, and there must be some to deal. */
static ts_status check_experts(const ts_model *model, const ts_run *run,
                               ts_error *error)
{
    bool any = false;

    if (run->ep == 1) return TS_OK;
    for (uint32_t i = 0; i < model->decoder.kind_count; i++) {
        const ts_layer *layer = &model->decoder.kinds[i];
        if (layer->mlp != TS_MLP_MOE) continue;
        any = true;
        TS_TRY(divides(run->ep, layer->experts, "ep", "experts", error));
    }
    if (any) return TS_OK;
    return ts_fail(error, TS_ARGUMENT, "ep is %llu, and no layer has experts",
                   (unsigned long long)run->ep);
}

/* Both parts of ZeRO++ change how sharded weights are gathered. */
static ts_status check_zeropp(const ts_run *run, ts_error *error)
{
    if (run->zero < 3 && (run->hpz > 0 || run->quantized_gather))
        return ts_fail(error, TS_ARGUMENT,
                       "%s shards nothing at zero %llu: it needs zero 3",
                       run->hpz > 0 ? "hpz" : "quantized_gather",
                       (unsigned long long)run->zero);
    if (run->hpz == 0) return TS_OK;
    return divides(run->hpz, run->dp, "hpz", "dp", error);
}

ts_status ts_run_check(const ts_model *model, const ts_run *run,
                       ts_error *error)
{
    TS_TRY(bounds(run, ts_run_fields, ts_run_field_count, "", error));
    TS_TRY(check_heads(model, run, error));
    TS_TRY(check_experts(model, run, error));
    uint64_t layers = model->decoder.layer_count;
    if (run->pp * run->vpp > ts_max(layers, 1))
        return ts_fail(error, TS_ARGUMENT,
                       "pp %llu times vpp %llu exceeds the %llu layers",
                       (unsigned long long)run->pp,
                       (unsigned long long)run->vpp,
                       (unsigned long long)layers);
    TS_TRY(divides(run->replicas, run->dp, "replicas", "dp", error));
    TS_TRY(check_zeropp(run, error));
    if (run->zero > 0 && run->fsdp > 0)
        return ts_fail(error, TS_ARGUMENT,
                       "zero %llu and fsdp %llu shard the same things: choose"
                       " one",
                       (unsigned long long)run->zero,
                       (unsigned long long)run->fsdp);
    return TS_OK;
}

ts_status ts_profile_check(const ts_profile *profile, ts_error *error)
{
    return bounds(profile, ts_profile_fields, ts_profile_field_count,
                  "profile: ", error);
}
