/* How a name is read, in one pass from left to right.
 *
 * A name is cut into segments at '.' and '/', and segments into words at '_',
 * at a digit and where small letters turn into capitals ("LayerNorm" is layer,
 * norm; "fc1" is fc with the number 1).  Case does not matter.  Each word is
 * looked up whole in the dictionary below and gives a sense; a few senses
 * change in the company of the word before (`phrase`): "gate" says nothing,
 * "gate proj" is an mlp's, "gate inp" is a router.
 *
 * Senses give evidence, of three strengths:
 *
 *     strong    attn, mlp, experts, embed, head ...   says it outright
 *     fair      q, k, v, fc, gate_proj ...            if nothing else does
 *     faint     dense, output, token ...              depends on the place
 *
 * Stronger evidence wins; among equals the later, deeper word wins ("mlp" in
 * attentions.0.mlp, "classifier" in classifier.out_proj), with the exceptions
 * in `outlives`: a bias embedded in an attention is the attention's, the
 * layers of a time embedding are the embedding's.  A normalization is one
 * wherever it stands.  The number of a block ("layers.7") starts afresh: what
 * lies above a block says where it is, not what is in it, so the embedders of
 * embedders.0.transformer.layers.3.mlp do not make that mlp an embedding.
 *
 * The layer is the number of the outermost block: a number after a word that
 * names a stack (layers, blocks, h, blk, stages ...).  Failing that, the first
 * number with a module and a parameter below it, as in convnext.2.dw.weight;
 * the 0 of classifier.0.weight is a position in a list and no layer.  Lists
 * inside an mlp or a head (bbox_predictor.layers.0) are no stacks either.
 *
 * Decided, where a name leaves it open: state-space mixers, rotary tables and
 * projectors between towers are "other"; the convolution that turns pixels or
 * audio into hidden states (conv_in, conv1 outside the layers) is an
 * embedding; poolers and everything that makes scores from hidden states is
 * output; relative position biases belong to their attention.  Outside the
 * layers embeddings come before, with the norms that sit on them, and heads,
 * poolers and final norms after; what is left goes with the layers. */
#include "layers.h"

#include <stddef.h>
#include <string.h>

#include "core/base.h"

typedef enum {
    UNKNOWN,

    /* Evidence on their own: see `meanings`. */
    NORM,
    ATTENTION,
    ATTENTIONS, /* the plural: a list of blocks that are made of it */
    MLP,
    MLPS,
    EMBED,
    EMBEDDING,
    HEAD,
    CLS,
    EXPERT,
    SHARED_EXPERT,
    ROUTER,
    QKV,
    LETTER_QKV,
    FC,
    NUMBERED_FC, /* w1, w2, w3, but not w */
    DENSE,
    LINEAR, /* linear1, linear2; alone it says nothing */
    OUTPUT,
    OUT,
    TOKEN,
    POSITION,
    STEM,
    MIXER,     /* of any kind */
    TIME_MIX,  /* RWKV's recurrence */
    PROJECTOR, /* between towers */
    ELSEWHERE, /* state-space models, rotary tables, necks */
    POSITION_BIAS,

    /* Marks. */
    LORA,
    BIAS,
    QUANT, /* scales, zero points and tables of a quantised weight */

    /* Stacks of layers; the second kind only as a whole segment: "h.5". */
    STACK,
    GGUF_STACK,
    LONE_STACK,
    UP,
    DOWN,

    /* These speak only in company. */
    BBOX,
    CHANNEL,
    CLASS,
    CONV,
    DECODER,
    FEED,
    FORWARD,
    GATE,
    GLOBAL,
    IN,
    INP,
    INPUT,
    INV,
    LETTER_O,
    MAP,
    MIX,
    PATCH,
    POINT,
    PRE,
    PREDICTOR,
    PROJ,
    PROJECT, /* project_q of wav2vec2 is no attention's */
    QUANTISER,
    REL,
    SCALE,
    SHARED,
    TIME,
    TO,
    WEIGHT,
    ZERO,
    SENSES
} sense;

enum { NOTHING, FAINT, FAIR, STRONG };

typedef struct {
    uint8_t strength, kind, marks;
} meaning;

static const meaning meanings[SENSES] = {
    [ATTENTION] = {STRONG, TS_KIND_ATTENTION, 0},
    [ATTENTIONS] = {STRONG, TS_KIND_ATTENTION, 0},
    [MLP] = {STRONG, TS_KIND_MLP, 0},
    [MLPS] = {STRONG, TS_KIND_MLP, 0},
    [EMBED] = {STRONG, TS_KIND_EMBEDDING, 0},
    [EMBEDDING] = {STRONG, TS_KIND_EMBEDDING, 0},
    [HEAD] = {STRONG, TS_KIND_OUTPUT, 0},
    [CLS] = {STRONG, TS_KIND_OUTPUT, 0},
    [ELSEWHERE] = {STRONG, TS_KIND_OTHER, 0},
    [EXPERT] = {STRONG, TS_KIND_MLP, TS_MARK_EXPERT},
    [SHARED_EXPERT] = {STRONG, TS_KIND_MLP, TS_MARK_SHARED_EXPERT},
    [ROUTER] = {STRONG, TS_KIND_MLP, TS_MARK_ROUTER},
    [QKV] = {FAIR, TS_KIND_ATTENTION, 0},
    [LETTER_QKV] = {FAIR, TS_KIND_ATTENTION, 0},
    [FC] = {FAIR, TS_KIND_MLP, 0},
    [DENSE] = {FAINT, TS_KIND_MLP, 0},
    [LINEAR] = {FAINT, TS_KIND_MLP, 0},
    [OUTPUT] = {FAINT, TS_KIND_OUTPUT, 0},
    [OUT] = {FAINT, TS_KIND_OUTPUT, 0},
    [TOKEN] = {FAINT, TS_KIND_EMBEDDING, 0},
    [POSITION] = {FAINT, TS_KIND_EMBEDDING, 0},
    [STEM] = {FAINT, TS_KIND_EMBEDDING, 0},
    [MIXER] = {FAIR, TS_KIND_OTHER, 0},
    [TIME_MIX] = {STRONG, TS_KIND_OTHER, 0},
    [PROJECTOR] = {STRONG, TS_KIND_OTHER, 0},
    [POSITION_BIAS] = {STRONG, TS_KIND_ATTENTION, 0},
    [LORA] = {NOTHING, 0, TS_MARK_LORA},
    [QUANT] = {NOTHING, 0, TS_MARK_SCALE},
};

/* The dictionary: a page a first letter, an empty word ends the page. */
#define LONGEST 16

typedef struct {
    char text[LONGEST]; /* padded with zeros */
    uint8_t sense;
} word;

#define PAGE(letter) static const word page_##letter[]
#define END {"", UNKNOWN}

PAGE(a) = {{"attn", ATTENTION},
           {"attention", ATTENTION},
           {"att", ATTENTION},
           {"attentions", ATTENTIONS},
           {"absmax", QUANT},
           {"attns", ATTENTIONS},
           {"altup", ELSEWHERE},
           {"adaln", NORM},
           END};
PAGE(b) = {{"bias", BIAS},
           {"block", STACK},
           {"blocks", STACK},
           {"blk", GGUF_STACK},
           {"bn", NORM},
           {"bbox", BBOX},
           {"batchnorm", NORM},
           {"batches", NORM}, /* num_batches_tracked */
           {"bottlenecks", STACK},
           END};
PAGE(c) = {{"conv", CONV},
           {"class", CLASS},
           {"cls", CLS},
           {"classifier", HEAD},
           {"crossattention", ATTENTION},
           {"chexps", EXPERT},
           {"channel", CHANNEL},
           {"convs", STACK},
           {"correction", ROUTER}, /* e_score_correction_bias */
           {"connector", PROJECTOR},
           END};
PAGE(d) = {{"down", DOWN},
           {"dense", DENSE},
           {"dora", LORA},
           {"decoder", DECODER},
           END};
PAGE(e) = {{"embed", EMBED},
           {"expert", EXPERT},
           {"experts", EXPERT},
           {"exps", EXPERT},
           {"embeddings", EMBEDDING},
           {"embedding", EMBEDDING},
           {"embd", EMBEDDING},
           {"emb", EMBEDDING},
           {"embedder", EMBEDDING},
           {"embedders", EMBEDDING},
           {"embeds", EMBEDDING},
           {"embs", EMBEDDING},
           {"enorm", NORM},
           END};
PAGE(f) = {{"ffn", MLP},
           {"fc", FC},
           {"feed", FEED},
           {"forward", FORWARD},
           {"ff", MLP},
           {"feedforward", MLP},
           {"ffns", MLPS},
           {"ffw", MLP},
           {"freq", ELSEWHERE},
           {"freqs", ELSEWHERE},
           {"features", STACK},
           {"flows", STACK},
           END};
PAGE(g) = {{"gate", GATE},
           {"global", GLOBAL},
           {"groupnorm", NORM},
           {"groups", STACK},
           {"gn", NORM},
           END};
PAGE(h) = {{"head", HEAD},
           {"h", LONE_STACK},
           {"heads", HEAD},
           {"hnorm", NORM},
           {"hada", LORA},
           END};
PAGE(i) = {{"input", INPUT},
           {"in", IN},
           {"intermediate", MLP},
           {"inv", INV},
           {"inp", INP},
           END};
PAGE(k) = {{"k", LETTER_QKV}, {"key", QKV}, {"kv", QKV}, {"keys", QKV}, END};
PAGE(l) = {{"layers", STACK},
           {"layer", STACK},
           {"ln", NORM},
           {"layernorm", NORM},
           {"layernorms", NORM},
           {"layrnorm", NORM}, /* CLIP's pre_layrnorm is spelt so */
           {"linear", LINEAR},
           {"lora", LORA},
           {"lin", LINEAR},
           {"logit", HEAD},
           {"logits", HEAD},
           {"loss", HEAD}, /* XLNet's lm_loss is a layer */
           {"lstm", ELSEWHERE},
           {"lokr", LORA},
           END};
PAGE(m) = {{"mlp", MLP},
           {"moe", MLP},
           {"mlps", MLP},
           {"mlstm", ELSEWHERE},
           {"mamba", ELSEWHERE},
           {"mixer", MIXER},
           {"merger", PROJECTOR},
           {"mm", PROJECTOR},
           {"mix", MIX},
           {"map", MAP},
           {"mha", ATTENTION},
           END};
PAGE(n) = {{"norm", NORM},
           {"neck", ELSEWHERE},
           {"norms", NORM},
           {"normalization", NORM},
           END};
PAGE(o) = {{"o", LETTER_O}, {"output", OUTPUT}, {"out", OUT}, END};
PAGE(p) = {{"proj", PROJ},
           {"projection", PROJ},
           {"position", POSITION},
           {"pos", POSITION},
           {"positional", POSITION},
           {"positions", POSITION},
           {"patch", PATCH},
           {"pre", PRE},
           {"pooler", HEAD},
           {"predictions", HEAD},
           {"prediction", HEAD},
           {"pred", HEAD},
           {"predictor", PREDICTOR},
           {"project", PROJECT},
           {"projector", PROJECTOR},
           {"point", POINT},
           {"probs", ROUTER}, /* exp_probs_b */
           END};
PAGE(q) = {{"q", LETTER_QKV},
           {"qkv", QKV},
           {"query", QKV},
           {"queries", QKV},
           {"qa", HEAD},
           {"qzeros", QUANT},
           {"quant", QUANTISER},
           END};
PAGE(r) = {{"rel", REL},
           {"relative", REL},
           {"router", ROUTER},
           {"rmsnorm", NORM},
           {"rms", NORM},
           {"running", NORM}, /* running_mean, running_var */
           {"rotary", ELSEWHERE},
           {"rope", ELSEWHERE},
           {"rot", ELSEWHERE},
           {"relationship", HEAD},
           {"resblocks", STACK},
           {"resnets", STACK},
           END};
PAGE(s) = {{"scale", SCALE},
           {"shared", SHARED},
           {"score", HEAD},
           {"ssm", ELSEWHERE},
           {"slstm", ELSEWHERE},
           {"scales", QUANT},
           {"shexp", SHARED_EXPERT},
           {"stages", STACK},
           {"stage", STACK},
           {"stem", STEM},
           {"scb", QUANT},
           {"state", MAP},
           {"selfattention", ATTENTION},
           END};
PAGE(t) = {{"token", TOKEN},
           {"tokens", TOKEN},
           {"to", TO},
           {"time", TIME},
           {"temporal", MIXER},
           {"tok", TOKEN},
           END};
PAGE(u) = {{"up", UP}, {"unembd", HEAD}, END};
PAGE(v) = {{"v", LETTER_QKV},
           {"value", QKV},
           {"values", QKV},
           {"vocab", HEAD},
           END};
PAGE(w) = {{"weight", WEIGHT},
           {"w", NUMBERED_FC},
           {"wi", FC},
           {"wo", FC},
           {"wte", EMBEDDING},
           {"wpe", EMBEDDING},
           {"wqkv", QKV},
           {"wq", QKV},
           {"wk", QKV},
           {"wv", QKV},
           END};
PAGE(z) = {{"zero", ZERO}, END};
PAGE(none) = {END};

static const word *const pages[26] = {
    page_a, page_b, page_c, page_d,    page_e, page_f,    page_g,
    page_h, page_i, page_none, page_k, page_l, page_m,    page_n,
    page_o, page_p, page_q, page_r,    page_s, page_t,    page_u,
    page_v, page_w, page_none, page_none, page_z,
};

/* What a word says after the one before it, in the same segment. */
static sense phrase(sense before, sense now, unsigned words)
{
    switch (now) {
    case FORWARD: return before == FEED ? MLP : now;
    case PROJ:
        if (before == UP || before == DOWN || before == GATE) return FC;
        if (before == LETTER_O) return QKV;
        return before == PATCH ? EMBEDDING : now;
    case CONV: return before == PATCH ? EMBEDDING : now;
    case OUT:
        if (before == TO) return QKV;
        return before == EMBED ? HEAD : now; /* embed_out */
    case IN: return before == CONV ? EMBEDDING : now;
    case GATE: return before == SHARED_EXPERT ? ROUTER : now;
    case INP: return before == GATE ? ROUTER : now;
    case EXPERT: return before == SHARED ? SHARED_EXPERT : now;
    case MLP:
        if (before == POSITION_BIAS) return POSITION_BIAS; /* Swin v2 */
        return before == SHARED ? SHARED_EXPERT : now;
    case EMBED: /* class_embed and bbox_embed of the DETR family */
        return (before == CLASS || before == BBOX) && words == 1 ? HEAD : now;
    case PREDICTOR: return before == BBOX ? HEAD : now;
    case POSITION: return before == REL ? ATTENTION : now;
    case BIAS: return before == POSITION ? POSITION_BIAS : now;
    case MIX:
        return before == TIME      ? TIME_MIX
               : before == CHANNEL ? MLP
                                   : now;
    case LETTER_QKV: return before == PROJECT ? UNKNOWN : now;
    case QKV: return before == OUTPUT ? OUTPUT : now; /* BLIP-2's Q-Former */
    case SCALE:
        if (before == OUTPUT) return words == 1 ? QUANT : OUT;
        return before == WEIGHT || before == INPUT || before == GLOBAL
                       || before == LETTER_QKV
                   ? QUANT
                   : now;
    case WEIGHT: return before == SCALE && words == 1 ? QUANT : now;
    case INV: return before == SCALE ? QUANT : now;
    case POINT: return before == ZERO ? QUANT : now;
    case MAP: return before == QUANTISER ? QUANT : now;
    default: return now;
    }
}

typedef struct {
    uint8_t strength, kind, marks;
    bool bias;      /* the last segment says so */
    bool embedded;  /* near the input: a norm here comes before the layers */
    bool is_gguf;   /* in a "blk" */
    bool is_kohya;  /* lora_unet_down_blocks_1_...: '_' stands for '.' */
    bool conv_stem; /* conv1 outside of all blocks */
    bool decodes;   /* begins with "decoder.": ModernBERT's head */
    bool numbered;  /* the last word: "fc1" */
    sense last;     /* word of this segment, or of the one before a number */
    sense said;     /* the strongest evidence */
    uint32_t words; /* heard in this segment, or in the one before a number */

    /* Segments are numbered from 1; 0 is "nowhere". */
    uint32_t segment;
    uint32_t said_in; /* where the strongest evidence was heard */
    uint32_t norm_in; /* where a normalization was named */

    int32_t layer, expert;
    uint32_t stack;
    int32_t maybe_layer; /* after a word that names no stack */
    uint32_t maybe_stack, maybe_segment;
} reader;

enum { OTHER, DIGIT, SMALL, CAPITAL };

static int class_of(char c)
{
    if (c >= 'a' && c <= 'z') return SMALL;
    if (c >= '0' && c <= '9') return DIGIT;
    if (c >= 'A' && c <= 'Z') return CAPITAL;
    return OTHER;
}

static bool ends_segment(char c) { return c == '.' || c == '/'; }

/* Evidence that stays although what comes now is just as strong. */
static bool outlives(const reader *self, sense now)
{
    switch (now) {
    case EXPERT: return self->kind == TS_KIND_ATTENTION;
    case MLP: return self->kind == TS_KIND_EMBEDDING;
    case EMBED:
    case EMBEDDING:
        return self->kind == TS_KIND_ATTENTION || self->kind == TS_KIND_OTHER;
    case HEAD:
    case CLS:
        return self->kind == TS_KIND_ATTENTION || self->kind == TS_KIND_OTHER
            || (self->marks & TS_MARK_ROUTER) != 0;
    case PROJECTOR: return self->kind == TS_KIND_OUTPUT;
    case TIME_MIX: return true;
    default: return false;
    }
}

static void weigh(reader *self, sense now)
{
    const meaning *said = &meanings[now];

    self->marks |= said->marks;
    if (now == ROUTER) self->marks &= (uint8_t)~TS_MARK_EXPERT;
    if (said->strength == NOTHING || said->strength < self->strength) return;
    if (said->strength == self->strength && outlives(self, now)) return;
    self->strength = said->strength;
    self->kind = said->kind;
    self->said_in = self->segment;
    self->said = now;
}

static sense look_up(const char text[LONGEST])
{
    for (const word *entry = pages[text[0] - 'a']; entry->text[0]; entry++)
        if (memcmp(entry->text, text, LONGEST) == 0)
            return (sense)entry->sense;
    return UNKNOWN;
}

static void hear_norm(reader *self, int32_t number)
{
    self->norm_in = self->segment;
    if (number == 1) self->embedded = true; /* bn1, after the first layer */
}

/* A word and the number glued to it, as in "fc1"; -1 when there is none. */
static void hear(reader *self, sense now, int32_t number, bool is_first)
{
    now = phrase(self->last, now, self->words);
    if (now == LETTER_QKV && (is_first || number >= 0))
        now = UNKNOWN; /* GGUF's tower "v.", or "mobilenet_v2" */
    if (now == TOKEN && self->said_in == self->segment)
        now = EMBEDDING; /* cls_token, query_tokens: learned themselves */
    if (now == NUMBERED_FC && number < 0) now = UNKNOWN;
    if (now == ROUTER && self->said == ELSEWHERE)
        now = UNKNOWN; /* altup_router routes no tokens to experts */
    if (now == NORM) hear_norm(self, number);
    if (now == BIAS) self->bias = true;
    if (now == CONV && self->words == 0 && self->layer < 0)
        self->conv_stem = number == 1
                       || (!is_first && (number == 2 || number == 3));
    if (now != LINEAR || number >= 0) weigh(self, now);
    if (now == PRE || now == STEM || now == INPUT
        || self->kind == TS_KIND_EMBEDDING)
        self->embedded = true;
    self->last = now;
    self->numbered = number >= 0;
    self->words++;
}

/* A list inside an mlp or a head, or right under an embedding, is no stack of
 * layers. */
static bool is_part(const reader *self, uint32_t list)
{
    if (self->strength < STRONG || self->said_in >= list) return false;
    switch (self->kind) {
    case TS_KIND_MLP:
    case TS_KIND_OUTPUT: return true;
    case TS_KIND_EMBEDDING: return self->said_in + 1 == list;
    default: return false;
    }
}

static bool names_stack(const reader *self)
{
    switch (self->last) {
    case STACK:
    case GGUF_STACK:
    case ATTENTIONS:
    case MLPS: return true;
    case LONE_STACK:
    case UP:
    case DOWN: return self->words == 1;
    default: return false;
    }
}

/* Inside a block only what its own list says still counts. */
static void start_afresh(reader *self, uint32_t list)
{
    if (self->said_in < list || self->strength < STRONG) {
        self->strength = NOTHING;
        self->kind = TS_KIND_OTHER;
        self->said = UNKNOWN;
    }
    if (self->norm_in < list) self->norm_in = 0;
    self->conv_stem = false;
}

/* GGUF's blk.0.ffn_gate.3: experts before they were stacked. */
static bool is_split_expert(const reader *self, uint32_t list)
{
    return self->is_gguf && self->kind == TS_KIND_MLP && self->said_in == list
        && (self->last == GATE || self->last == UP || self->last == DOWN);
}

/* A number that stands for itself; `begin` is its first byte. */
static void hear_number(reader *self, int32_t number, size_t begin)
{
    uint32_t list = self->segment - 1; /* the segment before the number */

    if (number < 0 || begin < 2 || begin - 1 > UINT32_MAX) return;
    if (self->last == EXPERT && self->expert < 0) {
        self->expert = number;
        return;
    }
    if (is_split_expert(self, list)) {
        self->marks |= TS_MARK_EXPERT;
        self->expert = number;
        return;
    }
    if (is_part(self, list)) return;
    if (names_stack(self)) {
        start_afresh(self, list);
        self->is_gguf |= self->last == GGUF_STACK;
        if (self->layer >= 0) return;
        self->layer = number;
        self->stack = (uint32_t)begin - 1;
    } else if (self->maybe_layer < 0 && self->norm_in != list
               && (self->said_in != list || self->kind == TS_KIND_OTHER)) {
        self->maybe_layer = number;
        self->maybe_stack = (uint32_t)begin - 1;
        self->maybe_segment = self->segment;
    }
}

/* A module whose whole name is the last word, and there is more below it. */
static void hear_module(reader *self)
{
    bool in_mlp = self->strength == STRONG && self->kind == TS_KIND_MLP;
    bool in_expert = self->marks & (TS_MARK_EXPERT | TS_MARK_SHARED_EXPERT);

    if (self->last == GATE && !in_expert && (in_mlp || self->said == MIXER))
        weigh(self, ROUTER);
    if (self->last == SHARED && self->layer < 0) /* T5's embedding */
        weigh(self, EMBEDDING);
    if ((self->last == FC || self->last == DENSE || self->last == LINEAR)
        && self->segment == 2 && !self->numbered)
        weigh(self, HEAD); /* a layer of the whole model, as ResNet's fc */
    self->decodes = self->last == DECODER && self->segment == 2;
}

/* A segment of words begins: the one before it is complete. */
static void enter_segment(reader *self)
{
    if (self->words == 1) hear_module(self);
    self->words = 0;
    self->last = UNKNOWN;
    self->bias = false;
}

/* Digits from *at on; -1 where they are too many to mean a layer. */
static int32_t read_number(ts_name name, size_t *at)
{
    size_t begin = *at;
    int32_t number = 0;

    for (; *at < name.size && class_of(name.bytes[*at]) == DIGIT; ++*at)
        if (*at - begin < 9) number = number * 10 + (name.bytes[*at] - '0');
    return *at - begin <= 9 ? number : -1;
}

/* Letters from *at on up to where a new word begins, in small letters. */
static sense read_word(ts_name name, size_t *at)
{
    char text[LONGEST] = {0};
    size_t begin = *at, i = begin;
    int before = CAPITAL;

    for (; i < name.size; i++) {
        int class = class_of(name.bytes[i]);
        if (class < SMALL || (class == CAPITAL && before == SMALL)) break;
        if (class == SMALL && before == CAPITAL && i - begin >= 2) {
            i--; /* the N of RMSNorm begins the next word */
            break;
        }
        if (i - begin < LONGEST) text[i - begin] = (char)(name.bytes[i] | 32);
        before = class;
    }
    *at = i;
    if (i - begin > LONGEST) return UNKNOWN;
    if (i - begin < LONGEST) text[i - begin] = '\0';
    return look_up(text);
}

static void read_segment(reader *self, ts_name name, size_t *at)
{
    size_t begin = *at, i = begin;
    int32_t number = read_number(name, &i);

    self->segment++;
    if (i > begin && (i == name.size || ends_segment(name.bytes[i]))) {
        hear_number(self, number, begin);
        *at = i;
        return;
    }
    enter_segment(self);
    for (i = begin; i < name.size && !ends_segment(name.bytes[i]);) {
        int class = class_of(name.bytes[i]);
        size_t start = i;
        if (class == OTHER) {
            i++;
        } else if (class == DIGIT) {
            number = read_number(name, &i);
            if (self->last == EXPERT && self->expert < 0)
                self->expert = number; /* expert_5 of Switch */
            bool ends = i < name.size && name.bytes[i] == '/'; /* layer_7/ */
            if ((self->is_kohya || ends) && names_stack(self)
                && name.bytes[start - 1] == '_') {
                self->segment++;
                hear_number(self, number, start);
                enter_segment(self);
            }
        } else {
            sense now = read_word(name, &i);
            size_t digits = i;
            number = read_number(name, &i);
            hear(self, now, i > digits ? number : -1, start == 0);
        }
    }
    *at = i;
}

static ts_kind kind_of(const reader *self)
{
    if (self->norm_in != 0) return TS_KIND_NORMALIZATION;
    if (self->strength == NOTHING && self->conv_stem)
        return TS_KIND_EMBEDDING;
    if (self->strength == NOTHING && self->decodes && self->segment == 2)
        return TS_KIND_OUTPUT;
    bool in_layer = self->layer >= 0;
    switch (self->said) {
    case DENSE:
    case LINEAR: return in_layer ? TS_KIND_MLP : TS_KIND_OTHER;
    case OUTPUT: return in_layer ? TS_KIND_MLP : TS_KIND_OUTPUT;
    case OUT: return in_layer ? TS_KIND_OTHER : TS_KIND_OUTPUT;
    default: return (ts_kind)self->kind;
    }
}

static ts_phase phase_of(const reader *self, ts_kind kind)
{
    if (self->layer >= 0) return TS_PHASE_LAYERS;
    switch (kind) {
    case TS_KIND_EMBEDDING: return TS_PHASE_BEFORE;
    case TS_KIND_OUTPUT: return TS_PHASE_AFTER;
    case TS_KIND_NORMALIZATION:
        return self->embedded ? TS_PHASE_BEFORE : TS_PHASE_AFTER;
    default: return TS_PHASE_LAYERS;
    }
}

void ts_role_of(ts_name name, ts_role *out)
{
    reader self = {
        .kind = TS_KIND_OTHER,
        .layer = -1,
        .expert = -1,
        .maybe_layer = -1,
        .is_kohya = name.size > 5 && memcmp(name.bytes, "lora_", 5) == 0,
    };

    for (size_t at = 0; at < name.size; at++) read_segment(&self, name, &at);
    if (self.layer < 0 && self.maybe_layer >= 0
        && self.segment >= self.maybe_segment + 2) {
        self.layer = self.maybe_layer;
        self.stack = self.maybe_stack;
    }
    if (self.bias) self.marks |= TS_MARK_BIAS;
    if (self.is_gguf && self.last == SCALE && self.words == 1)
        self.marks |= TS_MARK_SCALE;
    ts_kind kind = kind_of(&self);
    *out = (ts_role){
        .kind = (uint8_t)kind,
        .marks = self.marks,
        .phase = (uint8_t)phase_of(&self, kind),
        .layer = self.layer,
        .expert = self.expert,
        .stack = self.stack,
    };
}

static const char *const kind_names[TS_KIND_COUNT] = {
    [TS_KIND_EMBEDDING] = "embedding",
    [TS_KIND_ATTENTION] = "attention",
    [TS_KIND_MLP] = "mlp",
    [TS_KIND_NORMALIZATION] = "normalization",
    [TS_KIND_OUTPUT] = "output",
    [TS_KIND_OTHER] = "other",
};

const char *ts_kind_name(ts_kind kind) { return kind_names[kind]; }

bool ts_kind_find(const char *name, size_t name_size, ts_kind *out)
{
    for (int i = 0; i < TS_KIND_COUNT; i++)
        if (strlen(kind_names[i]) == name_size
            && memcmp(kind_names[i], name, name_size) == 0) {
            *out = (ts_kind)i;
            return true;
        }
    return false;
}

const char *ts_mark_name(unsigned mark)
{
    switch (mark) {
    case TS_MARK_EXPERT: return "expert";
    case TS_MARK_SHARED_EXPERT: return "shared_expert";
    case TS_MARK_LORA: return "lora";
    case TS_MARK_ROUTER: return "router";
    case TS_MARK_BIAS: return "bias";
    case TS_MARK_SCALE: return "scale";
    default: return "unknown";
    }
}
