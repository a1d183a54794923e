/* rans.c -- models and streams; the loops are in the kernels. */
#include "rans.h"

#include "core/cpu.h"

#if defined(__x86_64__)
static const ts_rans *const kernels[TS_SIMD_LEVELS] = {
    &ts_rans_scalar, &ts_rans_avx2, &ts_rans_avx512};
#else
static const ts_rans *const kernels[] = {&ts_rans_scalar};
#endif

static const ts_rans *kernel(void) { return kernels[ts_cpu_simd()]; }

/* log2(1 + i / 256) in 1/65536, rounded. */
static const uint16_t fractions[256] = {
        0,   369,   736,  1102,  1466,  1829,  2190,  2551,
     2909,  3267,  3623,  3978,  4331,  4683,  5034,  5384,
     5732,  6079,  6425,  6769,  7112,  7454,  7795,  8134,
     8473,  8810,  9146,  9480,  9814, 10146, 10477, 10807,
    11136, 11464, 11791, 12116, 12440, 12764, 13086, 13407,
    13727, 14046, 14363, 14680, 14996, 15310, 15624, 15937,
    16248, 16559, 16868, 17177, 17484, 17791, 18096, 18401,
    18704, 19007, 19308, 19609, 19909, 20207, 20505, 20802,
    21098, 21393, 21687, 21980, 22272, 22564, 22854, 23144,
    23433, 23720, 24007, 24293, 24579, 24863, 25146, 25429,
    25711, 25992, 26272, 26551, 26830, 27108, 27384, 27660,
    27936, 28210, 28484, 28757, 29029, 29300, 29571, 29840,
    30109, 30378, 30645, 30912, 31178, 31443, 31707, 31971,
    32234, 32496, 32758, 33019, 33279, 33538, 33797, 34055,
    34312, 34569, 34825, 35080, 35334, 35588, 35841, 36094,
    36346, 36597, 36847, 37097, 37346, 37595, 37842, 38090,
    38336, 38582, 38827, 39072, 39316, 39559, 39802, 40044,
    40286, 40527, 40767, 41006, 41246, 41484, 41722, 41959,
    42196, 42432, 42667, 42902, 43137, 43370, 43603, 43836,
    44068, 44300, 44530, 44761, 44990, 45220, 45448, 45676,
    45904, 46131, 46357, 46583, 46809, 47034, 47258, 47482,
    47705, 47928, 48150, 48372, 48593, 48813, 49034, 49253,
    49472, 49691, 49909, 50127, 50344, 50560, 50776, 50992,
    51207, 51422, 51636, 51850, 52063, 52276, 52488, 52700,
    52911, 53122, 53332, 53542, 53751, 53960, 54169, 54377,
    54584, 54791, 54998, 55204, 55410, 55615, 55820, 56025,
    56229, 56432, 56635, 56838, 57040, 57242, 57443, 57644,
    57845, 58045, 58245, 58444, 58643, 58841, 59039, 59237,
    59434, 59631, 59827, 60023, 60219, 60414, 60609, 60803,
    60997, 61190, 61384, 61576, 61769, 61961, 62152, 62343,
    62534, 62725, 62915, 63104, 63294, 63483, 63671, 63859,
    64047, 64234, 64421, 64608, 64794, 64980, 65166, 65351,
};

uint32_t ts_log2(uint32_t x)
{
    unsigned zeros = (unsigned)__builtin_clz(x);
    return (31 - zeros) << 16 | fractions[x << zeros >> 23 & 255];
}

/* ---- the model -------------------------------------------------------- */

static bool is_before(const ts_sample *sample, unsigned a, unsigned b)
{
    if (sample->seen[a] != sample->seen[b])
        return sample->seen[a] > sample->seen[b];
    return a < b;
}

/* Worth a slot of its own: 3/8 of a slot's share or more.  A slot less for the
 * others costs 1.44 bits / M, an escape some 3 bits more than a slot; 0.35 to
 * 0.45 gave the least on generated weights in bf16 and fp16. */
static void choose_owners(const ts_sample *sample, ts_rans_model *model)
{
    unsigned n = 0;

    for (unsigned symbol = 0; symbol < 256; symbol++) {
        uint64_t share = (uint64_t)sample->seen[symbol] << (model->bits + 3);
        if (sample->seen[symbol] == 0 || share < 3 * (uint64_t)sample->total)
            continue;
        unsigned at = n < TS_RANS_SYMBOLS - 1 ? n++ : n;
        for (; at > 0 && is_before(sample, symbol, model->symbol[at - 1]);
             at--)
            if (at < TS_RANS_SYMBOLS - 1)
                model->symbol[at] = model->symbol[at - 1];
        if (at < TS_RANS_SYMBOLS - 1) model->symbol[at] = (uint8_t)symbol;
    }
    model->owners = n;
}

/* What it costs to move one slot to or from an owner. */
static int64_t cost_of(uint32_t weight, int32_t freq, int32_t step)
{
    if (freq + step < 1) return INT64_MAX;
    return (int64_t)weight
         * ((int64_t)ts_log2((uint32_t)freq)
            - (int64_t)ts_log2((uint32_t)(freq + step)));
}

/* One slot more or less where it costs least, until there are `slots`. */
static void balance(const uint32_t *weight, unsigned count, int32_t slots,
                    int32_t *freq)
{
    int64_t cost[TS_RANS_SYMBOLS];
    int32_t missing = slots;

    for (unsigned i = 0; i < count; i++) missing -= freq[i];
    if (missing == 0) return;
    int32_t step = missing > 0 ? 1 : -1;
    for (unsigned i = 0; i < count; i++)
        cost[i] = cost_of(weight[i], freq[i], step);
    for (; missing != 0; missing -= step) {
        unsigned at = 0;
        for (unsigned i = 1; i < count; i++)
            if (cost[i] < cost[at]) at = i;
        freq[at] += step;
        cost[at] = cost_of(weight[at], freq[at], step);
    }
}

/* Slots for each owner, and for ESC when rare symbols (of the sample's total)
 * are to be expected. */
static void share_slots(const ts_sample *sample, uint32_t rare,
                        ts_rans_model *model)
{
    uint32_t weight[TS_RANS_SYMBOLS] = {0};
    int32_t freq[TS_RANS_SYMBOLS] = {0}, slots = 1 << model->bits;
    unsigned count = model->owners + (rare > 0);

    for (unsigned i = 0; i < count; i++) {
        weight[i] = i < model->owners ? sample->seen[model->symbol[i]] : rare;
        freq[i] = (int32_t)((2 * (uint64_t)weight[i] * (unsigned)slots
                             + sample->total)
                            / (2 * (uint64_t)sample->total));
        if (freq[i] < 1) freq[i] = 1;
        if (freq[i] > slots - 1) freq[i] = slots - 1;
    }
    balance(weight, count, slots, freq);
    for (unsigned i = 0; i < count; i++) model->freq[i] = (uint8_t)freq[i];
    if (rare == 0) model->freq[count] = 0;
}

static uint32_t rare_of(const ts_sample *sample, const ts_rans_model *model)
{
    uint32_t rare = sample->total;

    for (unsigned i = 0; i < model->owners; i++)
        rare -= sample->seen[model->symbol[i]];
    return rare;
}

/* Symbols that were seen and own nothing. */
static unsigned kinds_of_rare(const ts_sample *sample,
                              const ts_rans_model *model)
{
    unsigned kinds = 0;

    for (unsigned i = 0; i < 256; i++) kinds += sample->seen[i] > 0;
    return kinds - model->owners;
}

/* Rare symbols to be expected: what the sample left out may hold some, and one
 * owner alone would need all slots, which a freq cannot say. */
static uint32_t expected_rare(const ts_sample *sample,
                              const ts_rans_model *model)
{
    uint32_t rare = rare_of(sample, model);

    if (rare == 0 && (!sample->whole || model->owners < 2)) rare = 1;
    return rare;
}

uint32_t ts_rans_fit(const ts_sample *sample, unsigned bits,
                     ts_rans_model *out)
{
    uint64_t cost = 0;

    out->bits = bits;
    choose_owners(sample, out);
    if (out->owners == 0) return UINT32_MAX;
    uint32_t rare = expected_rare(sample, out);
    unsigned listed = kinds_of_rare(sample, out) <= 16 ? 4 : 8;
    share_slots(sample, rare, out);
    for (unsigned i = 0; i < out->owners; i++)
        cost += (uint64_t)sample->seen[out->symbol[i]]
              * ((bits << 16) - ts_log2(out->freq[i]));
    if (rare > 0)
        cost += (uint64_t)rare
              * (((bits + listed) << 16) - ts_log2(out->freq[out->owners]));
    return (uint32_t)ts_min(cost / sample->total, UINT32_MAX - 1);
}

/* ---- writing ---------------------------------------------------------- */

static void number_owners(const ts_rans_model *model, ts_rans_owners *owners)
{
    unsigned start = 0;

    memset(owners, 0, sizeof *owners);
    memset(owners->owner, (int)model->owners, 256); /* all others: ESC */
    owners->bits = model->bits;
    owners->escape = (uint8_t)model->owners;
    for (unsigned i = 0; i <= model->owners; i++) {
        unsigned freq = model->freq[i];
        if (freq == 0) break;
        if (i < model->owners) owners->owner[model->symbol[i]] = (uint8_t)i;
        owners->freq[i] = (uint16_t)freq;
        owners->inverse[i] = freq == 1 ? 65535 : (uint16_t)(65536 / freq);
        owners->start[i] = (uint16_t)start;
        start += freq;
    }
}

/* The distinct rare symbols, at most 16 of them; 0 when there are more. */
static unsigned list_rares(const uint8_t *rares, size_t count,
                           uint8_t list[16], uint8_t place[256])
{
    bool known[256] = {false};
    unsigned listed = 0;

    for (size_t i = 0; i < count; i++) {
        if (known[rares[i]]) continue;
        if (listed == 16) return 0;
        known[rares[i]] = true;
        place[rares[i]] = (uint8_t)listed;
        list[listed++] = rares[i];
    }
    return listed;
}

static size_t put_rares(const uint8_t *rares, size_t count, unsigned listed,
                        const uint8_t place[256], uint8_t *out)
{
    if (listed == 0) {
        memcpy(out, rares, count);
        return count;
    }
    for (size_t i = 0; i < count; i += 2) {
        unsigned second = i + 1 < count ? place[rares[i + 1]] : 0u;
        out[i / 2] = (uint8_t)(place[rares[i]] | second << 4);
    }
    return (count + 1) / 2;
}

static size_t put_head(const ts_rans_model *model, size_t rares,
                       unsigned listed, const uint8_t list[16], uint8_t *out)
{
    uint8_t *at = out + 8;

    out[0] = (uint8_t)model->bits;
    out[1] = (uint8_t)model->owners;
    out[2] = model->freq[model->owners];
    out[3] = (uint8_t)listed;
    ts_put_u32(out + 4, (uint32_t)rares);
    for (unsigned i = 0; i < model->owners; i++, at += 2) {
        at[0] = model->symbol[i];
        at[1] = model->freq[i];
    }
    memcpy(at, list, listed);
    return (size_t)(at + listed - out);
}

/* The last group filled up with the most frequent symbol, then the others. */
static uint8_t *encode_all(const ts_rans_model *model,
                           const ts_rans_owners *owners,
                           const uint8_t *symbols, size_t count,
                           uint16_t *state, uint8_t *end, uint8_t **rares)
{
    uint8_t last[TS_RANS_LANES];
    size_t groups = count / TS_RANS_LANES, rest = count % TS_RANS_LANES;

    if (rest > 0) {
        memset(last, model->symbol[0], sizeof last);
        memcpy(last, symbols + groups * TS_RANS_LANES, rest);
        end = kernel()->encode(owners, last, 1, state, end, rares);
    }
    return kernel()->encode(owners, symbols, groups, state, end, rares);
}

size_t ts_rans_write(const ts_rans_model *model, const uint8_t *symbols,
                     size_t count, ts_rans_ahead ahead, uint8_t *spare,
                     uint8_t *out, size_t room)
{
    uint16_t state[TS_RANS_LANES];
    uint8_t place[256], list[16];
    size_t all = (size_t)ts_round_up(count, TS_RANS_LANES) + 64;
    uint8_t *end = spare + all, *rares_end = end + all, *rares = rares_end;
    ts_rans_owners owners;

    number_owners(model, &owners);
    owners.ahead = ahead;
    for (unsigned i = 0; i < TS_RANS_LANES; i++) state[i] = TS_RANS_START;
    const uint8_t *first =
        encode_all(model, &owners, symbols, count, state, end, &rares);
    size_t stream = (size_t)(end - first), rare = (size_t)(rares_end - rares);
    unsigned listed = list_rares(rares, rare, list, place);
    size_t most = 8 + 2 * TS_RANS_SYMBOLS + 16 + sizeof state + stream + rare;
    if (most > room) return 0;
    size_t at = put_head(model, rare, listed, list, out);
    memcpy(out + at, state, sizeof state);
    at += sizeof state;
    memcpy(out + at, first, stream);
    at += stream;
    return at + put_rares(rares, rare, listed, place, out + at);
}

/* ---- reading ---------------------------------------------------------- */

/* The slots of owner i; false when there are too many. */
static bool fill_slots(ts_rans_slots *slots, unsigned *at, uint8_t symbol,
                       unsigned freq)
{
    unsigned all = 1u << slots->bits;

    if (freq == 0 || freq >= all || freq > all - *at) return false;
    slots->first[slots->owners] = (uint8_t)*at;
    slots->owner[slots->owners++] = symbol;
    for (unsigned i = 0; i < freq; i++, (*at)++) {
        slots->symbol[*at] = symbol;
        slots->freq[*at] = (uint8_t)freq;
        slots->bias[*at] = (uint8_t)i;
    }
    return true;
}

static uint8_t unused_symbol(const uint8_t *owners, unsigned count)
{
    bool used[256] = {false};
    unsigned free = 255;

    for (unsigned i = 0; i < count; i++) used[owners[2 * i]] = true;
    while (used[free]) free--; /* at most 63 are */
    return (uint8_t)free;
}

static ts_status read_slots(ts_rans_slots *slots, const uint8_t *head,
                            ts_error *error)
{
    unsigned owners = head[1], at = 0;
    bool good = true;

    slots->bits = head[0];
    slots->owners = 0;
    slots->escape = unused_symbol(head + 8, owners);
    for (unsigned i = 0; good && i < owners; i++)
        good = fill_slots(slots, &at, head[8 + 2 * i], head[9 + 2 * i]);
    if (good && head[2] > 0)
        good = fill_slots(slots, &at, slots->escape, head[2]);
    if (good && at == 1u << slots->bits) return TS_OK;
    return ts_fail(error, TS_FORMAT,
                   "a rANS table of %u symbols fills %u slots of %u", owners,
                   at, 1u << slots->bits);
}

/* A group may take 128 beyond the end before that is noticed, and each vector
 * of them reads 64; a list of an odd number has a half too many. */
enum { PADDING = 256 };

size_t ts_rans_rares(const uint8_t *bytes, size_t size, size_t count)
{
    size_t rare = size >= 8 ? ts_load_u32(bytes + 4) : 0;
    return (rare <= count ? rare : 0) + PADDING;
}

static unsigned largest_half(const uint8_t *bytes, size_t size)
{
    uint8_t most = 0;

    for (size_t i = 0; i < size; i++) {
        uint8_t low = bytes[i] & 15, high = (uint8_t)(bytes[i] >> 4);
        most = low > most ? low : most;
        most = high > most ? high : most;
    }
    return most;
}

static ts_status read_rares(ts_rans_reader *reader, const uint8_t *list,
                            unsigned listed, const uint8_t *bytes,
                            size_t count, uint8_t *rares, ts_error *error)
{
    uint8_t names[16] = {0};
    size_t halves = (count + 1) / 2;

    memcpy(names, list, listed);
    if (listed == 0) {
        memcpy(rares, bytes, count);
    } else if (count > 0 && largest_half(bytes, halves) >= listed) {
        return ts_fail(error, TS_FORMAT,
                       "a rare symbol has number %u in a list of %u",
                       largest_half(bytes, halves), listed);
    } else {
        for (size_t i = 0; i < halves; i++) {
            rares[2 * i] = names[bytes[i] & 15];
            rares[2 * i + 1] = names[bytes[i] >> 4];
        }
    }
    memset(rares + count, 0, PADDING);
    reader->cursor.rare = rares;
    reader->cursor.rares = rares + count;
    return TS_OK;
}

/* The end of the chunk is too near to read whole vectors: go on in a copy. */
static void enter_tail(ts_rans_reader *reader)
{
    ts_rans_cursor *cursor = &reader->cursor;
    size_t rest = (size_t)(reader->end - cursor->at);

    memset(reader->tail, 0, sizeof reader->tail);
    memcpy(reader->tail, cursor->at, rest);
    reader->before = (size_t)(cursor->at - reader->begin);
    reader->in_tail = true;
    cursor->at = reader->tail;
    cursor->safe = reader->tail + rest;
}

static ts_status check_head(const uint8_t *bytes, size_t size, size_t count,
                            size_t *head, size_t *stream, ts_error *error)
{
    *head = 8;
    if (size >= 8) *head = 8 + 2 * (size_t)bytes[1] + bytes[3];
    uint64_t rare = size >= 8 ? ts_load_u32(bytes + 4) : 0;
    uint64_t kept = size >= 8 && bytes[3] > 0 ? (rare + 1) / 2 : rare;
    uint64_t fixed = *head + 2 * TS_RANS_LANES + kept;
    if (size < 8 || bytes[0] < 7 || bytes[0] > 8
        || bytes[1] >= TS_RANS_SYMBOLS || bytes[3] > 16 || rare > count
        || fixed > size)
        return ts_fail(error, TS_FORMAT,
                       "a rANS stream of %zu bytes with %llu rare symbols of "
                       "%zu",
                       size, (unsigned long long)rare, count);
    *stream = size - (size_t)fixed;
    return TS_OK;
}

ts_status ts_rans_open(ts_rans_reader *reader, const uint8_t *bytes,
                       size_t size, const uint8_t *end, size_t count,
                       uint8_t *rares, ts_error *error)
{
    size_t head, stream;

    TS_TRY(check_head(bytes, size, count, &head, &stream, error));
    TS_TRY(read_slots(&reader->slots, bytes, error));
    const uint8_t *states = bytes + head;
    reader->begin = states + 2 * TS_RANS_LANES;
    reader->size = stream;
    reader->end = end;
    reader->in_tail = false;
    reader->before = 0;
    memcpy(reader->cursor.state, states, 2 * TS_RANS_LANES);
    reader->cursor.at = reader->begin;
    reader->cursor.safe = end - TS_RANS_REACH;
    TS_TRY(read_rares(reader, bytes + head - bytes[3], bytes[3],
                      reader->begin + stream, ts_load_u32(bytes + 4), rares,
                      error));
    if (end - reader->begin < TS_RANS_REACH) enter_tail(reader);
    return TS_OK;
}

/* Did it stop only because the end of the chunk is near? */
static bool goes_on(ts_rans_reader *reader, size_t left)
{
    if (left == 0 || reader->in_tail
        || reader->cursor.at <= reader->cursor.safe)
        return false;
    enter_tail(reader);
    return true;
}

static ts_status all_read(const ts_rans_reader *reader, size_t left,
                          ts_error *error)
{
    if (left == 0) return TS_OK;
    return ts_fail(error, TS_FORMAT,
                   "a rANS stream of %zu bytes ends before its symbols do",
                   reader->size);
}

ts_status ts_rans_read(ts_rans_reader *reader, size_t groups, uint8_t *out,
                       ts_error *error)
{
    const ts_rans_slots *slots = &reader->slots;
    size_t done = kernel()->decode(slots, &reader->cursor, groups, out);

    if (goes_on(reader, groups - done))
        done += kernel()->decode(slots, &reader->cursor, groups - done,
                                 out + done * TS_RANS_LANES);
    return all_read(reader, groups - done, error);
}

bool ts_rans_has_sink(void) { return kernel()->decode_into != NULL; }

ts_status ts_rans_read_into(ts_rans_reader *reader, size_t groups,
                            ts_rans_sink *sink, ts_error *error)
{
    const ts_rans_slots *slots = &reader->slots;
    size_t done =
        kernel()->decode_into(slots, &reader->cursor, groups, sink);

    if (goes_on(reader, groups - done))
        done += kernel()->decode_into(slots, &reader->cursor, groups - done,
                                      sink);
    return all_read(reader, groups - done, error);
}

/* All bytes used, all states where every stream ends: little can be wrong. */
ts_status ts_rans_close(const ts_rans_reader *reader, ts_error *error)
{
    const ts_rans_cursor *cursor = &reader->cursor;
    size_t used = reader->in_tail
                      ? reader->before + (size_t)(cursor->at - reader->tail)
                      : (size_t)(cursor->at - reader->begin);
    unsigned moved = 0;

    for (unsigned i = 0; i < TS_RANS_LANES; i++)
        moved |= cursor->state[i] ^ TS_RANS_START;
    if (used == reader->size && moved == 0 && cursor->rare == cursor->rares)
        return TS_OK;
    return ts_fail(error, TS_FORMAT,
                   "a rANS stream of %zu bytes was decoded from %zu, with %td "
                   "rare symbols left",
                   reader->size, used, cursor->rares - cursor->rare);
}
