#include "check.h"

#include "codec/codec.h"
#include "codec/frame.h"
#include "core/cpu.h"

enum { LARGEST = 3 << 20 };
static uint8_t plain[LARGEST], other[LARGEST], made[LARGEST + 64];

static void fill(void)
{
    uint64_t x = 1;
    for (size_t i = 0; i < LARGEST; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        plain[i] = (uint8_t)(x >> 56);
        other[i] = plain[i] ^ (uint8_t)(i % 97 == 0);
    }
}

/* A frame of elements of one dtype, chunks of `chunk`. */
static ts_buffer *frame_of(ts_dtype dtype, uint64_t elements, uint32_t chunk,
                           ts_pack_mode mode, int threads)
{
    ts_frame_spec spec = {.dtype = dtype,
                          .mode = mode,
                          .ndim = 1,
                          .shape = &elements,
                          .chunk_elements = chunk};
    ts_buffer *made_of = NULL;
    CHECK_OK(ts_compress(&spec, plain, NULL, threads, &made_of, error));
    return made_of;
}

static void check_round(ts_buffer *packed, const uint8_t *want, size_t size,
                        int threads)
{
    ts_frame *frame;
    CHECK_OK(ts_frame_open_bytes(ts_buffer_data(packed),
                                 ts_buffer_size(packed), true, &frame, error));
    CHECK(ts_frame_facts(frame)->bytes == size);
    memset(made, 0xA5, size + 64);
    CHECK_OK(ts_decompress(frame, ts_buffer_data(packed), NULL, threads, 0,
                           made, error));
    CHECK(memcmp(made, want, size) == 0);
    for (size_t i = 0; i < 64; i++)
        CHECK(made[size + i] == 0xA5, "byte %zu behind the output", i);
    ts_frame_free(frame);
}

static uint64_t drawn = 1;
static uint64_t all_frames; /* a hash of every frame that was packed below */

static unsigned draw(void)
{
    drawn = drawn * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(drawn >> 33);
}

/* Contents that call for different forms and coders. */
typedef enum {
    SKEWED,
    SPARSE,
    FEW,
    EQUAL,
    COUNTING,
    REPEATED,
    CONTENTS
} content;

static uint8_t byte_of(content what, size_t element, size_t byte, size_t size)
{
    static uint8_t picked[16];
    unsigned x = draw();
    switch (what) {
    case SPARSE:
        if (byte == 0) picked[0] = x % 5 == 0;
        return picked[0] ? (uint8_t)(x >> 3) : 0;
    case FEW: return (uint8_t)(element * element % 7 * 31 + byte);
    case EQUAL: return (uint8_t)(byte * 3 + 1);
    case COUNTING: return byte < 4 ? (uint8_t)(element >> 8 * byte) : 0;
    case REPEATED: return (uint8_t)((element % 500) * (byte + 1) / 4);
    default: /* the top byte like an exponent, the others like a mantissa */
        return byte + 1 == size
                   ? (uint8_t)(61 - __builtin_ctz(x >> 3 | 1u << 20))
                   : (uint8_t)(x >> 5);
    }
}

static void fill_with(content what, size_t size, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < size; k++)
            plain[i * size + k] = byte_of(what, i, k, size);
}

/* Every dtype, in every mode, of every content: forms and coders. */
static void every_content_in_every_mode(void)
{
    static const size_t blocks[] = {3, 700, 5000, 20001};
    for (int what = 0; what < CONTENTS; what++)
        for (int dtype = 0; dtype < TS_DTYPE_COUNT; dtype++) {
            uint32_t size = ts_dtype_block_size((ts_dtype)dtype);
            uint32_t count = ts_dtype_block_count((ts_dtype)dtype);
            fill_with((content)what, size, 20001 / count + 1);
            for (int mode = 0; mode < TS_PACK_MODES; mode++)
                for (size_t i = 0; i < TS_COUNT_OF(blocks); i++) {
                    uint64_t some = blocks[i] / count + 1;
                    ts_buffer *packed =
                        frame_of((ts_dtype)dtype, some * count, 12800 * count,
                                 (ts_pack_mode)mode, 1);
                    check_round(packed, plain, some * size, 1);
                    all_frames = all_frames * 31
                               + ts_xxh3_of(ts_buffer_data(packed),
                                            ts_buffer_size(packed));
                    ts_buffer_release(packed);
                }
        }
    fill();
}

/* The widest path runs first and leaves what it made for the others. */
static void every_path_packs_the_same(const char *folder)
{
    char path[4096];
    uint64_t before = 0;

    snprintf(path, sizeof path, "%s/all_frames", folder);
    FILE *file = fopen(path, ts_cpu_simd() == TS_SIMD_AVX512 ? "wb" : "rb");
    if (file == NULL) return; /* a machine with one path */
    if (ts_cpu_simd() == TS_SIMD_AVX512)
        CHECK(fwrite(&all_frames, sizeof all_frames, 1, file) == 1);
    else
        CHECK(fread(&before, sizeof before, 1, file) == 1
              && before == all_frames);
    fclose(file);
}

/* What can be packed gets smaller: an upper bound for each, in percent. */
static void contents_get_smaller(void)
{
    static const struct {
        content what;
        ts_dtype dtype;
        ts_pack_mode mode;
        unsigned percent;
    } cases[] = {
        {SKEWED, TS_BF16, TS_PACK_FAST, 65},
        {SKEWED, TS_F32, TS_PACK_FAST, 83},
        {SKEWED, TS_BF16, TS_PACK_PORTABLE, 66},
        {SKEWED, TS_BF16, TS_PACK_SMALL, 65},
        {SPARSE, TS_F32, TS_PACK_FAST, 26},
        {SPARSE, TS_F32, TS_PACK_PORTABLE, 40},
        {FEW, TS_F64, TS_PACK_FAST, 6},
        {FEW, TS_BOOL, TS_PACK_FAST, 40},
        {EQUAL, TS_F32, TS_PACK_FAST, 1},
        {COUNTING, TS_I64, TS_PACK_FAST, 28},
        {COUNTING, TS_I64, TS_PACK_SMALL, 14},
        {REPEATED, TS_U32, TS_PACK_PORTABLE, 10},
    };
    for (size_t i = 0; i < TS_COUNT_OF(cases); i++) {
        uint32_t size = ts_dtype_block_size(cases[i].dtype);
        fill_with(cases[i].what, size, 131072);
        ts_buffer *packed =
            frame_of(cases[i].dtype, 131072, 0, cases[i].mode, 1);
        unsigned percent =
            (unsigned)(100 * ts_buffer_size(packed) / (131072 * size));
        CHECK(percent < cases[i].percent, "case %zu: %u %%", i, percent);
        check_round(packed, plain, (size_t)131072 * size, 1);
        ts_buffer_release(packed);
    }
    fill();
}

/* What cannot be packed costs a line a chunk and no more. */
static void noise_is_stored(void)
{
    for (int mode = 0; mode < TS_PACK_MODES; mode++) {
        ts_buffer *packed =
            frame_of(TS_F32, 262144, 0, (ts_pack_mode)mode, 1);
        CHECK(ts_buffer_size(packed) == (1 << 20) + 64 + 64 + 64 + 2 * 64);
        ts_buffer_release(packed);
    }
}

/* Every dtype, in every mode, with odd tails. */
static void what_goes_in_comes_out(void)
{
    static const uint64_t blocks[] = {0, 1, 2, 3, 63, 64, 65, 200, 257, 1000};
    for (int dtype = 0; dtype < TS_DTYPE_COUNT; dtype++)
        for (int mode = 0; mode < TS_PACK_MODES; mode++)
            for (size_t i = 0; i < TS_COUNT_OF(blocks); i++) {
                uint32_t count = ts_dtype_block_count((ts_dtype)dtype);
                size_t size =
                    blocks[i] * ts_dtype_block_size((ts_dtype)dtype);
                ts_buffer *packed =
                    frame_of((ts_dtype)dtype, blocks[i] * count, 64 * count,
                             (ts_pack_mode)mode, 1);
                check_round(packed, plain, size, 1);
                ts_buffer_release(packed);
            }
}

static void threads_make_the_same_frame(void)
{
    ts_buffer *one = frame_of(TS_F32, 700001, 4096, TS_PACK_FAST, 1);
    ts_buffer *four = frame_of(TS_F32, 700001, 4096, TS_PACK_FAST, 4);
    CHECK(ts_buffer_size(one) == ts_buffer_size(four));
    CHECK(memcmp(ts_buffer_data(one), ts_buffer_data(four),
                 ts_buffer_size(one))
          == 0);
    check_round(four, plain, 700001 * 4, 3);
    ts_buffer_release(one);
    ts_buffer_release(four);
}

/* ---- piece by piece --------------------------------------------------- */

typedef struct {
    uint8_t *bytes;
    size_t size;
} file;

/* Chunks of a growing frame, written where the writer says. */
static file written(const ts_frame_spec *spec, const uint8_t *base,
                    uint64_t elements)
{
    ts_frame_writer *writer;
    ts_packer *packer;
    ts_frame_ends ends;
    file out = {calloc(1, 2 * LARGEST), 0};

    CHECK_OK(ts_frame_writer_new(spec, &writer, error));
    CHECK_OK(ts_packer_new(&packer, error));
    uint32_t chunk = ts_frame_writer_chunk(writer);
    uint32_t size = ts_dtype_block_size(spec->dtype);
    for (uint64_t at = 0; at < elements; at += chunk) {
        uint8_t *room = malloc(ts_frame_writer_bound(writer));
        uint32_t some = (uint32_t)ts_min(chunk, elements - at);
        ts_frame_row row;
        uint64_t offset;
        CHECK_OK(ts_frame_pack(writer, plain + at * size,
                               base != NULL ? base + at * size : NULL, some,
                               room, ts_frame_writer_bound(writer), &row,
                               packer, error));
        CHECK_OK(ts_frame_add(writer, &row, &offset, error));
        memcpy(out.bytes + offset, room, row.size);
        free(room);
    }
    CHECK_OK(ts_frame_finish(writer, &ends, error));
    memcpy(out.bytes, ends.front, ends.front_size);
    memcpy(out.bytes + ends.table_offset, ends.table, ends.table_size);
    out.size = (size_t)ends.size;
    CHECK(ts_frame_writer_size(writer) == ends.size);
    ts_packer_free(packer);
    ts_frame_writer_free(writer);
    return out;
}

static void rows_as_they_come(void)
{
    uint64_t shape[3] = {TS_FRAME_UNKNOWN, 7, 3};
    ts_frame_spec spec = {.dtype = TS_I16,
                          .mode = TS_PACK_FAST,
                          .ndim = 3,
                          .shape = shape,
                          .chunk_elements = 100};
    for (uint64_t rows = 0; rows < 700; rows += 233) {
        file it = written(&spec, NULL, rows * 21);
        ts_frame *frame;
        CHECK_OK(ts_frame_open_bytes(it.bytes, it.size, true, &frame, error));
        const ts_frame_info *info = ts_frame_facts(frame);
        CHECK(info->ndim == 3 && info->shape[0] == rows
              && info->shape[1] == 7 && info->shape[2] == 3);
        CHECK(info->table_offset + info->table_size == it.size);
        CHECK_OK(ts_decompress(frame, it.bytes, NULL, 2, 0, made, error));
        CHECK(memcmp(made, plain, rows * 42) == 0);
        ts_frame_free(frame);
        free(it.bytes);
    }
}

static void rows_that_do_not_fill_the_shape(void)
{
    uint64_t shape[2] = {TS_FRAME_UNKNOWN, 5}, fixed = 12;
    ts_frame_spec spec = {.dtype = TS_U8, .ndim = 2, .shape = shape};
    ts_frame_writer *writer;
    ts_frame_row row = {.elements = 7, .size = 64};
    ts_frame_ends ends;
    uint64_t offset;

    CHECK_OK(ts_frame_writer_new(&spec, &writer, error));
    CHECK_OK(ts_frame_add(writer, &row, &offset, error));
    CHECK_FAILS(ts_frame_add(writer, &row, &offset, error), TS_ARGUMENT,
                "chunk 1 follows one that was not full");
    CHECK_FAILS(ts_frame_finish(writer, &ends, error), TS_ARGUMENT,
                "7 elements make no whole number of rows of 5");
    ts_frame_writer_free(writer);
    spec.ndim = 1;
    spec.shape = &fixed;
    CHECK_OK(ts_frame_writer_new(&spec, &writer, error));
    CHECK_OK(ts_frame_add(writer, &row, &offset, error));
    CHECK_FAILS(ts_frame_finish(writer, &ends, error), TS_ARGUMENT,
                "7 elements were added, the shape makes 12");
    ts_frame_writer_free(writer);
}

static void parts_of_a_chunk(void)
{
    ts_buffer *packed = frame_of(TS_BF16, 1000, 512, TS_PACK_FAST, 1);
    const uint8_t *bytes = ts_buffer_data(packed);
    ts_frame *frame;
    ts_packer *packer;
    CHECK_OK(ts_packer_new(&packer, error));
    CHECK_OK(ts_frame_open_bytes(bytes, ts_buffer_size(packed), true, &frame,
                                 error));
    ts_frame_chunk chunk = ts_frame_find(frame, 1);
    CHECK(chunk.first == 512 && chunk.elements == 488 && chunk.bytes == 976);
    for (uint64_t first = 512; first < 1000; first += 37)
        for (uint64_t count = 0; count <= 1000 - first; count += 61) {
            CHECK_OK(ts_frame_unpack_part(frame, 1, bytes + chunk.offset,
                                          chunk.size, NULL, first, count,
                                          made, 0, packer, error));
            CHECK(memcmp(made, plain + 2 * first, 2 * count) == 0);
        }
    CHECK_FAILS(ts_frame_unpack_part(frame, 1, bytes + chunk.offset,
                                     chunk.size, NULL, 511, 2, made, 0,
                                     packer, error),
                TS_ARGUMENT, "chunk 1: 2 elements from 511");
    CHECK_FAILS(ts_frame_unpack(frame, 2, bytes, 64, NULL, made, 0, packer,
                                error),
                TS_ARGUMENT, "chunk 2 of a frame of 2");
    CHECK_FAILS(ts_frame_unpack(frame, 1, bytes, 64, NULL, made, 0, packer,
                                error),
                TS_ARGUMENT, "chunk 1: 64 bytes given");
    ts_packer_free(packer);
    ts_frame_free(frame);
    ts_buffer_release(packed);
}

/* ---- other tensors ---------------------------------------------------- */

static void a_difference_to_a_base(void)
{
    uint64_t shape = 50000;
    ts_frame_spec spec = {.dtype = TS_BF16,
                          .kind = TS_FRAME_DELTA,
                          .mode = TS_PACK_FAST,
                          .ndim = 1,
                          .shape = &shape,
                          .chunk_elements = 4096,
                          .base_name = "model.w\xc3\xa9",
                          .base_size = 9};
    ts_frame *frame;
    size_t size;
    CHECK_OK(ts_frame_digest(other, 2 * shape, 8192, &spec.base_digest,
                             error));
    file it = written(&spec, other, shape);
    CHECK_OK(ts_frame_open_bytes(it.bytes, it.size, true, &frame, error));
    CHECK(ts_frame_facts(frame)->base_digest == spec.base_digest);
    CHECK(memcmp(ts_frame_base(frame, &size), spec.base_name, 9) == 0
          && size == 9);
    CHECK_OK(ts_decompress(frame, it.bytes, other, 2, 0, made, error));
    CHECK(memcmp(made, plain, 2 * shape) == 0);
    CHECK_FAILS(ts_decompress(frame, it.bytes, NULL, 1, 0, made, error),
                TS_ARGUMENT, "chunk 0: the base tensor is needed");
    CHECK_FAILS(ts_decompress(frame, it.bytes, plain, 1, 0, made, error),
                TS_CORRUPT, "chunk 0: the base tensor is not the one");
    ts_packer *packer;
    ts_frame_chunk chunk = ts_frame_find(frame, 3);
    CHECK_OK(ts_packer_new(&packer, error));
    CHECK_OK(ts_frame_unpack_part(frame, 3, it.bytes + chunk.offset,
                                  chunk.size, other + 2 * 12300, 12300, 77,
                                  made, 0, packer, error));
    CHECK(memcmp(made, plain + 2 * 12300, 2 * 77) == 0);
    ts_packer_free(packer);
    ts_frame_free(frame);
    free(it.bytes);
}

static void fill_with_noise(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * i * 2654435761u >> 24);
}

/* Half of the tensor is the base's but for some bits, the rest has nothing to
 * do with it. */
static void chunks_that_do_not_differ_less_are_their_own(void)
{
    uint64_t shape = 8 * 4096;
    ts_frame_spec spec = {.dtype = TS_BF16, .kind = TS_FRAME_DELTA,
                          .mode = TS_PACK_FAST, .ndim = 1, .shape = &shape,
                          .chunk_elements = 4096, .base_name = "w",
                          .base_size = 1};
    uint8_t *base = malloc(2 * shape);
    ts_frame *frame;
    fill_with_noise(base, 2 * shape);
    memcpy(base, plain, shape);
    for (size_t i = 0; i < shape; i += 100) base[i] ^= 1;
    memcpy(base, plain, 8192); /* the first is quite the same */
    CHECK_OK(ts_frame_digest(base, 2 * shape, 8192, &spec.base_digest, error));
    file it = written(&spec, base, shape);
    CHECK_OK(ts_frame_open_bytes(it.bytes, it.size, true, &frame, error));
    CHECK(ts_frame_find(frame, 0).size == 64);
    for (uint64_t i = 0; i < 8; i++)
        CHECK(ts_frame_find(frame, i).differs == (i < 4));
    CHECK_OK(ts_decompress(frame, it.bytes, base, 2, 0, made, error));
    CHECK(memcmp(made, plain, 2 * shape) == 0);
    /* The others do without it. */
    ts_packer *packer;
    ts_frame_chunk chunk = ts_frame_find(frame, 6);
    CHECK_OK(ts_packer_new(&packer, error));
    CHECK_OK(ts_frame_unpack(frame, 6, it.bytes + chunk.offset, chunk.size,
                             NULL, made, 0, packer, error));
    CHECK(memcmp(made, plain + 6 * 8192, 8192) == 0);
    ts_packer_free(packer);
    ts_frame_free(frame);
    free(it.bytes);
    free(base);
}

/* What is written then is the plain frame, to the byte. */
static void a_base_of_no_use_is_forgotten(void)
{
    uint64_t shape = 3 * 4096;
    char name[200] = {[0 ... 198] = 'n'};
    ts_frame_spec spec = {.dtype = TS_BF16, .mode = TS_PACK_FAST, .ndim = 1,
                          .shape = &shape, .chunk_elements = 4096};
    file wanted = written(&spec, NULL, shape);
    ts_frame_writer *writer;
    ts_packer *packer;
    ts_frame_ends ends;
    uint8_t *room = calloc(1, LARGEST), *noise = malloc(3 * 8192);
    uint64_t by = 0, from = 0;
    fill_with_noise(noise, 3 * 8192);
    spec.kind = TS_FRAME_DELTA;
    spec.base_name = name;
    spec.base_size = 199;
    CHECK_OK(ts_packer_new(&packer, error));
    CHECK_OK(ts_frame_writer_new(&spec, &writer, error));
    for (unsigned i = 0; i < 3; i++) {
        uint8_t stored[16384];
        ts_frame_row row;
        uint64_t offset;
        CHECK_OK(ts_frame_pack(writer, plain + i * 8192, noise + i * 8192,
                               4096, stored, sizeof stored, &row, packer,
                               error));
        CHECK(!row.differs);
        CHECK_OK(ts_frame_add(writer, &row, &offset, error));
        memcpy(room + offset, stored, row.size);
        if (i == 0) from = offset;
    }
    CHECK(ts_frame_forget_base(writer, &by));
    CHECK(by == 192);
    memmove(room + from - by, room + from, LARGEST - from);
    CHECK_OK(ts_frame_finish(writer, &ends, error));
    memcpy(room, ends.front, ends.front_size);
    memcpy(room + ends.table_offset, ends.table, ends.table_size);
    CHECK(ends.size == wanted.size);
    CHECK(memcmp(room, wanted.bytes, wanted.size) == 0);
    ts_frame_writer_free(writer);
    ts_packer_free(packer);
    free(wanted.bytes);
    free(noise);
    free(room);
}

static void the_same_as_a_base(void)
{
    uint64_t shape[2] = {30, 100};
    ts_frame_spec spec = {.dtype = TS_F32,
                          .kind = TS_FRAME_SAME,
                          .ndim = 2,
                          .shape = shape,
                          .chunk_elements = 1024,
                          .base_name = "tied",
                          .base_size = 4};
    ts_buffer *packed;
    ts_frame *frame;
    CHECK_OK(ts_frame_digest(plain, 12000, 4096, &spec.base_digest, error));
    CHECK_OK(ts_compress(&spec, NULL, NULL, 1, &packed, error));
    CHECK(ts_buffer_size(packed) == 128);
    CHECK_OK(ts_frame_open_bytes(ts_buffer_data(packed), 128, true, &frame,
                                 error));
    CHECK(ts_frame_facts(frame)->chunk_count == 0);
    CHECK(ts_frame_facts(frame)->digest == spec.base_digest);
    CHECK_OK(ts_decompress(frame, ts_buffer_data(packed), plain, 1, 0, made,
                           error));
    CHECK(memcmp(made, plain, 12000) == 0);
    CHECK_FAILS(ts_decompress(frame, ts_buffer_data(packed), other, 1, 0,
                              made, error),
                TS_CORRUPT, "the base tensor is not the one");
    ts_frame_free(frame);
    ts_buffer_release(packed);
}

/* A plain frame of the same bytes and chunks has the digest that a SAME
 * frame would name. */
static void digests_find_each_other(void)
{
    ts_buffer *packed = frame_of(TS_F32, 3000, 1024, TS_PACK_FAST, 1);
    ts_frame_info info;
    uint64_t digest;
    CHECK_OK(ts_frame_look(ts_buffer_data(packed), ts_buffer_size(packed),
                           &info, error));
    CHECK_OK(ts_frame_digest(plain, 12000, info.chunk_bytes, &digest, error));
    CHECK(info.digest == digest);
    ts_buffer_release(packed);
}

/* ---- damage ----------------------------------------------------------- */

/* Every single bit of a frame: found, and in the right place. */
static void any_flipped_bit_is_found(void)
{
    ts_buffer *packed = frame_of(TS_BF16, 300, 128, TS_PACK_FAST, 1);
    size_t size = ts_buffer_size(packed);
    uint8_t *copy = malloc(size);
    ts_packer *packer;
    ts_frame *sound;

    memcpy(copy, ts_buffer_data(packed), size);
    CHECK_OK(ts_packer_new(&packer, error));
    CHECK_OK(ts_frame_open_bytes(copy, size, true, &sound, error));
    for (size_t bit = 0; bit < 8 * size; bit++) {
        ts_frame *frame;
        ts_error error = {0};
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ts_status status =
            ts_frame_open_bytes(copy, size, true, &frame, &error);
        bool front = bit / 8 < ts_frame_find(sound, 0).offset;
        CHECK((status != TS_OK) == front, "bit %zu: %s", bit, error.message);
        for (uint64_t i = 0; status == TS_OK && i < 3; i++) {
            ts_frame_chunk chunk = ts_frame_find(frame, i);
            bool hit = bit / 8 >= chunk.offset
                    && bit / 8 < chunk.offset + chunk.size;
            ts_status found =
                ts_frame_unpack(frame, i, copy + chunk.offset, chunk.size,
                                NULL, made, 0, packer, &error);
            CHECK(found == (hit ? TS_CORRUPT : TS_OK), "bit %zu", bit);
        }
        ts_frame_free(frame);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    ts_frame_free(sound);
    ts_packer_free(packer);
    free(copy);
    ts_buffer_release(packed);
}

/* To salvage: the hash of the front is let be, chunks still prove theirs. */
static void a_damaged_front_leaves_the_chunks(void)
{
    ts_buffer *packed = frame_of(TS_BF16, 300, 128, TS_PACK_FAST, 1);
    uint8_t *bytes = ts_buffer_data(packed);
    ts_frame *frame;

    bytes[TS_HEAD_DIGEST] ^= 4;
    CHECK_FAILS(ts_frame_open_bytes(bytes, ts_buffer_size(packed), true,
                                    &frame, error),
                TS_CORRUPT, "the head or the chunk table of the frame");
    CHECK_OK(ts_frame_open_bytes(bytes, ts_buffer_size(packed), false, &frame,
                                 error));
    CHECK_OK(ts_decompress(frame, bytes, NULL, 1, 0, made, error));
    CHECK(memcmp(made, plain, 600) == 0);
    ts_frame_free(frame);
    ts_buffer_release(packed);
}

/* ---- what is refused -------------------------------------------------- */

static void specs_are_checked(void)
{
    uint64_t odd = 33;
    ts_frame_writer *writer;
    ts_frame_spec spec = {.dtype = TS_Q8_0, .ndim = 1, .shape = &odd};
    CHECK_FAILS(ts_frame_writer_new(&spec, &writer, error), TS_ARGUMENT,
                "no whole number of Q8_0 blocks");
    spec = (ts_frame_spec){.dtype = TS_Q8_0, .chunk_elements = 100};
    odd = 32;
    spec.ndim = 1;
    spec.shape = &odd;
    CHECK_FAILS(ts_frame_writer_new(&spec, &writer, error), TS_ARGUMENT,
                "chunks of 100 elements");
    spec = (ts_frame_spec){.dtype = TS_F32, .chunk_elements = 1u << 31};
    CHECK_FAILS(ts_frame_writer_new(&spec, &writer, error), TS_ARGUMENT,
                "more than 16777216");
    spec = (ts_frame_spec){.dtype = TS_F32, .kind = TS_FRAME_DELTA};
    CHECK_FAILS(ts_frame_writer_new(&spec, &writer, error), TS_ARGUMENT,
                "a base name of 0 bytes");
    spec = (ts_frame_spec){.dtype = TS_F32, .base_name = "\xff",
                           .base_size = 1};
    CHECK_FAILS(ts_frame_writer_new(&spec, &writer, error), TS_ARGUMENT,
                "not UTF-8");
    spec = (ts_frame_spec){.dtype = TS_F32, .ndim = 33};
    CHECK_FAILS(ts_frame_writer_new(&spec, &writer, error), TS_ARGUMENT,
                "at most 32 dimensions");
}

static void modes_have_names(void)
{
    ts_pack_mode mode;
    CHECK(ts_pack_find("portable", &mode) && mode == TS_PACK_PORTABLE);
    CHECK(!ts_pack_find("", &mode) && !ts_pack_find("Fast", &mode));
    CHECK(strcmp(ts_pack_name(TS_PACK_SMALL), "small") == 0);
}

int main(int count, char **arguments)
{
    fill();
    RUN(what_goes_in_comes_out);
    RUN(every_content_in_every_mode);
    if (count > 1) every_path_packs_the_same(arguments[1]);
    RUN(contents_get_smaller);
    RUN(noise_is_stored);
    RUN(threads_make_the_same_frame);
    RUN(rows_as_they_come);
    RUN(rows_that_do_not_fill_the_shape);
    RUN(parts_of_a_chunk);
    RUN(a_difference_to_a_base);
    RUN(chunks_that_do_not_differ_less_are_their_own);
    RUN(a_base_of_no_use_is_forgotten);
    RUN(the_same_as_a_base);
    RUN(digests_find_each_other);
    RUN(any_flipped_bit_is_found);
    RUN(a_damaged_front_leaves_the_chunks);
    RUN(specs_are_checked);
    RUN(modes_have_names);
    CHECK_END();
}
