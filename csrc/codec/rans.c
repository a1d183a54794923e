/* rans.c -- models and streams; the loops are in the kernels. */
#include "rans.h"

#include "chunk.h"

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

/* Worth a slot of its own: 3/8 of a slot's share or more.  A slot less for the
 * others costs 1.44 bits / M, an escape some 3 bits more than a slot; 0.35 to
 * 0.45 gave the least on generated weights in bf16 and fp16.  Where more are
 * worth one than a table can hold, the bar goes up by eighths. */
static void choose_owners(const ts_sample *sample, unsigned bits,
                          ts_rans_model *model)
{
    uint64_t total = sample->total, least = 3 * total;

    do {
        model->owners = 0;
        for (unsigned i = 0; i < 256; i++) {
            uint64_t share = (uint64_t)sample->seen[i] << (bits + 3);
            if (share == 0 || share < least) continue;
            if (model->owners < TS_RANS_SYMBOLS - 1)
                model->symbol[model->owners] = (uint8_t)i;
            model->owners++;
        }
        least += total;
    } while (model->owners >= TS_RANS_SYMBOLS);
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
static void share_slots(const ts_sample *sample, uint32_t rare, unsigned bits,
                        ts_rans_model *model)
{
    uint32_t weight[TS_RANS_SYMBOLS] = {0};
    int32_t freq[TS_RANS_SYMBOLS] = {0}, slots = 1 << bits;
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

/* Bits of the name of one of so many. */
static unsigned name_bits(unsigned kinds)
{
    unsigned bits = 1;
    while (bits < 8 && kinds > 1u << bits) bits++;
    return bits;
}

uint32_t ts_rans_fit(const ts_sample *sample, unsigned bits,
                     ts_rans_model *out)
{
    uint64_t cost = 0;

    choose_owners(sample, bits, out);
    if (out->owners == 0) return UINT32_MAX;
    uint32_t rare = expected_rare(sample, out);
    unsigned name = name_bits(kinds_of_rare(sample, out));
    share_slots(sample, rare, bits, out);
    for (unsigned i = 0; i < out->owners; i++)
        cost += (uint64_t)sample->seen[out->symbol[i]]
              * ((bits << 16) - ts_log2(out->freq[i]));
    if (rare > 0)
        cost += (uint64_t)rare
              * (((bits + name) << 16) - ts_log2(out->freq[out->owners]));
    return (uint32_t)ts_min(cost / sample->total, UINT32_MAX - 1);
}

/* ---- writing ---------------------------------------------------------- */

enum {
    HEAD = 24,       /* up to the tables */
    TABLE_HEAD = 3,  /* of each */
    NUMBER_BITS = 2, /* of a table */
    STATES = 2 * TS_RANS_LANES,
};

/* As planes_kernel.h packs, and bytes as they are. */
static void put_packed(const ts_planes *with, const uint8_t *symbols,
                       size_t count, unsigned bits, uint8_t *out)
{
    if (bits < 8)
        with->pack(symbols, count, bits, out);
    else
        memcpy(out, symbols, count);
}

static size_t groups_of(size_t count)
{
    return (count + TS_RANS_LANES - 1) / TS_RANS_LANES;
}

static size_t spans_of(size_t groups)
{
    return (groups + TS_RANS_SPAN - 1) / TS_RANS_SPAN;
}

/* Bytes of the table numbers of so many groups. */
static size_t number_bytes(unsigned tables, size_t groups)
{
    if (tables < 2) return 0;
    return (spans_of(groups) * NUMBER_BITS + 7) / 8;
}

static void number_owners(const ts_rans_model *model, unsigned bits,
                          ts_rans_owners *owners)
{
    unsigned start = 0;

    memset(owners, 0, sizeof *owners);
    memset(owners->owner, (int)model->owners, 256); /* all others: ESC */
    owners->bits = bits;
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

/* What stands where the last group has no symbols: what costs the least. */
static uint8_t most_frequent(const ts_rans_model *model)
{
    unsigned most = 0;
    for (unsigned i = 1; i < model->owners; i++)
        if (model->freq[i] > model->freq[most]) most = i;
    return model->symbol[most];
}

/* The rare symbols, each replaced by its name when names are shorter. */
typedef struct {
    uint8_t *bytes;
    size_t count;
    unsigned bits;     /* of each */
    uint8_t name[128]; /* symbols by name, when they have some */
    unsigned names;    /* 0, or 1 << bits */
} rares;

static void name_rares(rares *it, unsigned width)
{
    uint8_t place[256];
    bool known[256] = {false};
    unsigned kinds = 0;

    for (size_t i = 0; i < it->count; i++) {
        uint8_t symbol = it->bytes[i];
        if (known[symbol]) continue;
        known[symbol] = true;
        place[symbol] = (uint8_t)kinds;
        if (kinds < sizeof it->name) it->name[kinds] = symbol;
        kinds++;
    }
    it->bits = name_bits(kinds);
    it->names = 0;
    if (it->bits >= width) {
        it->bits = width;
        return;
    }
    it->names = 1u << it->bits;
    memset(it->name + kinds, 0, it->names - kinds);
    for (size_t i = 0; i < it->count; i++)
        it->bytes[i] = place[it->bytes[i]];
}

/* freq of each symbol from the first owner to the last. */
static size_t put_table(const ts_rans_model *model, uint8_t *out)
{
    unsigned first = model->symbol[0];
    unsigned last = model->symbol[model->owners - 1];

    out[0] = (uint8_t)first;
    out[1] = (uint8_t)last;
    out[2] = model->freq[model->owners];
    memset(out + TABLE_HEAD, 0, last - first + 1);
    for (unsigned i = 0; i < model->owners; i++)
        out[TABLE_HEAD + model->symbol[i] - first] = model->freq[i];
    return TABLE_HEAD + last - first + 1;
}

static size_t tables_size(const ts_rans_plan *plan)
{
    size_t size = 0;

    for (unsigned i = 0; i < plan->tables; i++) {
        const ts_rans_model *model = &plan->model[i];
        size += TABLE_HEAD + 1u + model->symbol[model->owners - 1]
              - model->symbol[0];
    }
    return size;
}

/* The last group filled up, then the others, a span at a time. */
static void encode_all(const ts_rans_plan *plan, const uint8_t *symbols,
                       size_t count, ts_rans_press *press)
{
    ts_rans_owners owners[TS_RANS_TABLES];
    uint8_t last[TS_RANS_LANES];
    size_t groups = count / TS_RANS_LANES, rest = count % TS_RANS_LANES;

    for (unsigned i = 0; i < plan->tables; i++)
        number_owners(&plan->model[i], plan->bits, &owners[i]);
    if (rest > 0) {
        unsigned table = plan->number[groups / TS_RANS_SPAN];
        memset(last, most_frequent(&plan->model[table]), sizeof last);
        memcpy(last, symbols + groups * TS_RANS_LANES, rest);
        kernel()->encode(&owners[table], last, 1, press);
    }
    while (groups > 0) {
        size_t first = (groups - 1) / TS_RANS_SPAN * TS_RANS_SPAN;
        kernel()->encode(&owners[plan->number[first / TS_RANS_SPAN]],
                         symbols + first * TS_RANS_LANES, groups - first,
                         press);
        groups = first;
    }
}

/* Everything but the head's numbers, in the order of the format. */
static size_t put_lists(const ts_rans_plan *plan, const ts_planes *with,
                        const rares *rare, size_t groups, uint8_t *out)
{
    size_t at = 0;

    for (unsigned i = 0; i < plan->tables; i++)
        at += put_table(&plan->model[i], out + at);
    memcpy(out + at, rare->name, rare->names);
    at += rare->names;
    if (plan->tables > 1)
        with->pack(plan->number, spans_of(groups), NUMBER_BITS, out + at);
    return at + number_bytes(plan->tables, groups);
}

/* Three times as fast here as memcpy, which asks the processor to do it: too
 * long a start for some 10 KiB. */
static void copy_lines(uint8_t *out, const uint8_t *in, size_t size)
{
    size_t at = 0;

    for (; at + 64 <= size; at += 64) memcpy(out + at, in + at, 64);
    memcpy(out + at, in + at, size - at);
}

size_t ts_rans_write(const ts_rans_plan *plan, const ts_planes *with,
                     const uint8_t *symbols, size_t count, unsigned width,
                     ts_rans_ahead ahead, uint8_t *spare, uint8_t *out,
                     size_t room)
{
    size_t groups = groups_of(count);
    size_t one = groups * (TS_RANS_LANES / TS_RANS_STREAMS) + 64, streams = 0;
    uint8_t *ends[TS_RANS_STREAMS];
    ts_rans_press press = {.ahead = ahead};
    rares rare;

    for (unsigned i = 0; i < TS_RANS_LANES; i++)
        press.state[i] = TS_RANS_START;
    for (unsigned k = 0; k < TS_RANS_STREAMS; k++)
        press.end[k] = ends[k] = spare + (k + 1) * one;
    uint8_t *rares_end = spare + 2 * TS_RANS_STREAMS * one;
    press.rare = rares_end;
    encode_all(plan, symbols, count, &press);
    rare.bytes = press.rare;
    rare.count = (size_t)(rares_end - press.rare);
    name_rares(&rare, width);
    for (unsigned k = 0; k < TS_RANS_STREAMS; k++)
        streams += (size_t)(ends[k] - press.end[k]);
    if (HEAD + tables_size(plan) + rare.names
            + number_bytes(plan->tables, groups) + STATES + streams
            + ts_plane_bytes(rare.count, rare.bits)
        > room)
        return 0;
    out[0] = (uint8_t)plan->bits;
    out[1] = (uint8_t)plan->tables;
    out[2] = (uint8_t)rare.bits;
    out[3] = 0;
    ts_put_u32(out + 4, (uint32_t)rare.count);
    size_t at = HEAD + put_lists(plan, with, &rare, groups, out + HEAD);
    memcpy(out + at, press.state, STATES);
    at += STATES;
    for (unsigned k = 0; k < TS_RANS_STREAMS; k++) {
        size_t size = (size_t)(ends[k] - press.end[k]);
        ts_put_u32(out + 8 + 4 * k, (uint32_t)size);
        copy_lines(out + at, press.end[k], size);
        at += size;
    }
    put_packed(with, rare.bytes, rare.count, rare.bits, out + at);
    return at + (size_t)ts_plane_bytes(rare.count, rare.bits);
}

/* ---- reading ---------------------------------------------------------- */

/* What is left of the stream's bytes while its head is read. */
typedef struct {
    const uint8_t *at, *end;
} bytes_left;

static const uint8_t *take(bytes_left *from, uint64_t size)
{
    const uint8_t *at = from->at;
    if (size > (uint64_t)(from->end - at)) return NULL;
    from->at += size;
    return at;
}

/* The slots of one owner; false when there are too many. */
static bool fill_slots(ts_rans_slots *slots, unsigned all, unsigned *at,
                       uint8_t symbol, unsigned freq)
{
    if (freq >= all || freq > all - *at || slots->owners == TS_RANS_SYMBOLS)
        return false;
    slots->first[slots->owners] = (uint8_t)*at;
    slots->owner[slots->owners++] = symbol;
    memset(slots->symbol + *at, symbol, freq);
    memset(slots->freq + *at, (int)freq, freq);
    for (unsigned i = 0; i < freq; i++) slots->bias[(*at)++] = (uint8_t)i;
    return true;
}

/* A symbol that owns nothing. */
static uint8_t free_symbol(const uint8_t *freq, unsigned first, unsigned last)
{
    unsigned symbol = 255;

    while (symbol >= first && symbol <= last && freq[symbol - first] > 0)
        symbol--; /* at most 63 do */
    return (uint8_t)symbol;
}

static bool read_table(ts_rans_slots *slots, unsigned bits, bytes_left *from)
{
    const uint8_t *head = take(from, TABLE_HEAD);
    unsigned at = 0, all = 1u << bits, owners = 0;

    if (head == NULL || head[1] < head[0]) return false;
    unsigned kinds = head[1] - head[0] + 1u;
    const uint8_t *freq = take(from, kinds);
    if (freq == NULL) return false;
    for (unsigned i = 0; i < kinds; i++) owners += freq[i] > 0;
    if (owners >= TS_RANS_SYMBOLS) return false;
    slots->owners = 0;
    slots->escape = free_symbol(freq, head[0], head[1]);
    for (unsigned i = 0; i < kinds; i++)
        if (freq[i] > 0
            && !fill_slots(slots, all, &at, (uint8_t)(head[0] + i), freq[i]))
            return false;
    if (head[2] > 0 && !fill_slots(slots, all, &at, slots->escape, head[2]))
        return false;
    return at == all;
}

static uint64_t rare_of_head(const uint8_t *bytes)
{
    return ts_load_u32(bytes + 4);
}

size_t ts_rans_lists(const uint8_t *bytes, size_t size, size_t count)
{
    uint64_t rare = size >= HEAD ? rare_of_head(bytes) : 0;
    size_t spans = spans_of(groups_of(count));
    return spans + (size_t)(rare <= count ? rare : 0) + TS_RANS_BEYOND;
}

static ts_status read_numbers(ts_rans_reader *reader, const ts_planes *with,
                              unsigned tables, size_t groups,
                              const uint8_t *packed, uint8_t *number,
                              ts_error *error)
{
    size_t spans = spans_of(groups);
    uint8_t most = 0;

    memset(number, 0, spans);
    if (tables > 1) with->unpack(packed, spans, NUMBER_BITS, number);
    for (size_t i = 0; i < spans; i++)
        most = number[i] > most ? number[i] : most;
    reader->tables.number = number;
    if (most < tables) return TS_OK;
    return ts_fail(error, TS_FORMAT, "a rANS stream names table %u of %u",
                   most, tables);
}

static void read_rares(ts_rans_reader *reader, const ts_planes *with,
                       const uint8_t *names, const uint8_t *packed,
                       size_t count, unsigned bits, uint8_t *out)
{
    if (bits < 8)
        with->unpack(packed, count, bits, out);
    else
        memcpy(out, packed, count);
    if (names != NULL)
        for (size_t i = 0; i < count; i++) out[i] = names[out[i]];
    memset(out + count, 0, TS_RANS_BEYOND);
    reader->cursor.rare = out;
    reader->cursor.rares = out + count;
}

/* The end of the chunk is too near to read whole vectors: go on in a copy. */
static void enter_tail(ts_rans_reader *reader, unsigned k)
{
    ts_rans_cursor *cursor = &reader->cursor;
    size_t rest = (size_t)(reader->end - cursor->at[k]);

    memset(reader->tail[k], 0, sizeof reader->tail[k]);
    memcpy(reader->tail[k], cursor->at[k], rest);
    reader->before[k] = (size_t)(cursor->at[k] - reader->begin[k]);
    reader->in_tail[k] = true;
    cursor->at[k] = reader->tail[k];
    cursor->safe[k] = reader->tail[k] + rest;
}

static void begin_stream(ts_rans_reader *reader, unsigned k,
                         const uint8_t *bytes, size_t size)
{
    reader->begin[k] = reader->cursor.at[k] = bytes;
    reader->size[k] = size;
    reader->before[k] = 0;
    reader->in_tail[k] = false;
    if (reader->end - bytes < TS_RANS_REACH)
        enter_tail(reader, k);
    else
        reader->cursor.safe[k] = reader->end - TS_RANS_REACH;
}

/* Are these bits, tables and rare symbols such as can be? */
static bool head_is_sound(const uint8_t *head, size_t count, unsigned width)
{
    return head[0] >= 7 && head[0] <= 8 && head[1] >= 1
        && head[1] <= TS_RANS_TABLES && head[2] >= 1 && head[2] <= width
        && head[3] == 0 && rare_of_head(head) <= count;
}

static ts_status wrong_size(size_t size, size_t count, ts_error *error)
{
    return ts_fail(error, TS_FORMAT,
                   "a rANS stream of %zu bytes for %zu symbols has another "
                   "head than any would",
                   size, count);
}

ts_status ts_rans_open(ts_rans_reader *reader, const ts_planes *with,
                       const uint8_t *bytes, size_t size, const uint8_t *end,
                       size_t count, unsigned width, uint8_t *lists,
                       ts_error *error)
{
    bytes_left left = {bytes, bytes + size};
    const uint8_t *head = take(&left, HEAD), *names = NULL;
    size_t groups = groups_of(count);

    if (head == NULL || !head_is_sound(head, count, width))
        return wrong_size(size, count, error);
    unsigned tables = head[1], rare_bits = head[2];
    size_t rare = (size_t)rare_of_head(head);
    reader->end = end;
    reader->lists = lists;
    reader->cursor.group = 0;
    reader->tables.bits = head[0];
    for (unsigned i = 0; i < tables; i++)
        if (!read_table(&reader->tables.table[i], head[0], &left))
            return ts_fail(error, TS_FORMAT,
                           "table %u of a rANS stream does not fill %u slots",
                           i, 1u << head[0]);
    if (rare_bits < width) {
        names = take(&left, (uint64_t)1 << rare_bits);
        if (names == NULL) return wrong_size(size, count, error);
    }
    const uint8_t *numbers = take(&left, number_bytes(tables, groups));
    const uint8_t *states =
        numbers != NULL ? take(&left, STATES) : NULL;
    if (states == NULL) return wrong_size(size, count, error);
    memcpy(reader->cursor.state, states, STATES);
    for (unsigned k = 0; k < TS_RANS_STREAMS; k++) {
        uint32_t some = ts_load_u32(head + 8 + 4 * k);
        const uint8_t *stream = take(&left, some);
        if (stream == NULL) return wrong_size(size, count, error);
        begin_stream(reader, k, stream, some);
    }
    if ((uint64_t)(left.end - left.at) != ts_plane_bytes(rare, rare_bits))
        return wrong_size(size, count, error);
    TS_TRY(read_numbers(reader, with, tables, groups, numbers, lists, error));
    read_rares(reader, with, names, left.at, rare, rare_bits,
               lists + spans_of(groups));
    return TS_OK;
}

/* Streams that stopped only because the end of the chunk is near. */
static bool goes_on(ts_rans_reader *reader, size_t left)
{
    bool moved = false;

    for (unsigned k = 0; left > 0 && k < TS_RANS_STREAMS; k++) {
        if (reader->in_tail[k]
            || reader->cursor.at[k] <= reader->cursor.safe[k])
            continue;
        enter_tail(reader, k);
        moved = true;
    }
    return moved;
}

static ts_status all_read(size_t left, ts_error *error)
{
    if (left == 0) return TS_OK;
    return ts_fail(error, TS_FORMAT,
                   "a rANS stream ends %zu groups before its symbols do",
                   left);
}

ts_status ts_rans_read(ts_rans_reader *reader, size_t groups, uint8_t *out,
                       ts_error *error)
{
    size_t done = 0;

    do {
        done += kernel()->decode(&reader->tables, &reader->cursor,
                                 groups - done, out + done * TS_RANS_LANES);
    } while (goes_on(reader, groups - done));
    return all_read(groups - done, error);
}

bool ts_rans_can_sink(unsigned low)
{
    return kernel()->decode_into != NULL && low <= TS_RANS_MOST_LOW;
}

/* Rare symbols where the sink wants them, and back those that it left. */
static void place_rares(ts_rans_reader *reader, const ts_rans_sink *sink)
{
    bool turned = sink->rotated && sink->width == 1;
    uint8_t *rare = reader->lists + (reader->cursor.rare - reader->lists);

    for (; rare < reader->cursor.rares; rare++) {
        uint8_t moved = (uint8_t)(*rare << sink->low);
        *rare = turned ? (uint8_t)(moved >> 1 | moved << 7) : moved;
    }
}

static void take_rares_back(ts_rans_reader *reader, const ts_rans_sink *sink)
{
    bool turned = sink->rotated && sink->width == 1;
    uint8_t *rare = reader->lists + (reader->cursor.rare - reader->lists);

    for (; rare < reader->cursor.rares; rare++) {
        uint8_t moved = turned ? (uint8_t)(*rare << 1 | *rare >> 7) : *rare;
        *rare = (uint8_t)(moved >> sink->low);
    }
}

ts_status ts_rans_read_into(ts_rans_reader *reader, size_t groups,
                            ts_rans_sink *sink, ts_error *error)
{
    size_t done = 0;

    place_rares(reader, sink);
    do {
        done += kernel()->decode_into(&reader->tables, &reader->cursor,
                                      groups - done, sink);
    } while (goes_on(reader, groups - done));
    take_rares_back(reader, sink);
    return all_read(groups - done, error);
}

static size_t used_of(const ts_rans_reader *reader, unsigned k)
{
    const uint8_t *from =
        reader->in_tail[k] ? reader->tail[k] : reader->begin[k];
    return reader->before[k] + (size_t)(reader->cursor.at[k] - from);
}

/* All bytes used, all states where every stream ends: little can be wrong. */
ts_status ts_rans_close(const ts_rans_reader *reader, ts_error *error)
{
    const ts_rans_cursor *cursor = &reader->cursor;
    unsigned moved = 0;

    for (unsigned i = 0; i < TS_RANS_LANES; i++)
        moved |= cursor->state[i] ^ TS_RANS_START;
    for (unsigned k = 0; k < TS_RANS_STREAMS; k++)
        if (used_of(reader, k) != reader->size[k])
            return ts_fail(error, TS_FORMAT,
                           "rANS stream %u of %zu bytes was decoded from %zu",
                           k, reader->size[k], used_of(reader, k));
    if (moved == 0 && cursor->rare == cursor->rares) return TS_OK;
    return ts_fail(error, TS_FORMAT,
                   "a rANS stream ends in another state than any would, with "
                   "%td rare symbols left",
                   cursor->rares - cursor->rare);
}
