#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base.h"
#include "io/io.h"

static char folder[512];

static const char *in_folder(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Byte i of every test file. */
static uint8_t byte_at(uint64_t i)
{
    return (uint8_t)(i * 2654435761u >> 13 ^ i);
}

static void make_file(const char *name, size_t size)
{
    FILE *to = fopen(in_folder(name), "wb");
    for (size_t i = 0; i < size; i++) fputc(byte_at(i), to);
    fclose(to);
}

static bool holds(const uint8_t *bytes, uint64_t offset, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != byte_at(offset + i)) return false;
    return true;
}

static int open_descriptors(void)
{
    DIR *all = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(all) != NULL) count++;
    closedir(all);
    return count;
}

/* ---- files ---------------------------------------------------------- */

static void a_file_knows_who_it_is(void)
{
    ts_file *file;
    ts_file_identity identity;
    struct stat info;

    make_file("plain", 10000);
    CHECK_OK(ts_file_open(in_folder("plain"), &file, error));
    stat(in_folder("plain"), &info);
    ts_file_identity_of(file, &identity);
    CHECK(ts_file_size(file) == 10000 && identity.size == 10000);
    CHECK(identity.inode == info.st_ino && identity.device == info.st_dev);
    CHECK(identity.mtime_ns
          == (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec);
    CHECK(strcmp(ts_file_path(file), in_folder("plain")) == 0);
    CHECK(ts_file_memory(file) == NULL);
    CHECK_OK(ts_file_check(file, error));
    CHECK(ts_file_retain(file) == file);
    ts_file_release(file);
    CHECK(ts_file_size(file) == 10000);
    ts_file_release(file);
    ts_file_release(NULL);
}

static void only_regular_files_open(void)
{
    ts_file *file;
    /* A short path: there are 108 bytes for it. */
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};
    char before[1024];

    CHECK_FAILS(ts_file_open(in_folder("absent"), &file, error), TS_IO,
                "No such file");
    CHECK(file == NULL);
    CHECK_FAILS(ts_file_open(folder, &file, error), TS_IO, "Is a directory");
    CHECK_FAILS(ts_file_open("/dev/null", &file, error), TS_ARGUMENT,
                "a device");
    mkfifo(in_folder("fifo"), 0600); /* must not wait for a writer */
    CHECK_FAILS(ts_file_open(in_folder("fifo"), &file, error), TS_ARGUMENT,
                "a FIFO");
    CHECK(getcwd(before, sizeof before) != NULL && chdir(folder) == 0);
    unlink("socket");
    int listening = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(listening, (void *)&name, sizeof name) == 0);
    CHECK_FAILS(ts_file_open("socket", &file, error), TS_ARGUMENT,
                "a socket");
    CHECK(chdir(before) == 0);
    close(listening);

    ts_error error;
    ts_file_open(in_folder("absent"), &file, &error);
    CHECK(error.os_errno == ENOENT);
    CHECK(strcmp(error.file, in_folder("absent")) == 0);
}

static void names_beside_stay_in_the_folder(void)
{
    const char *bad[] = {"", ".", "..", "a/b", "../plain", "/etc/passwd",
                         "a\nb", "a\x7f"};
    char longer[300];
    ts_file *file, *beside, *memory;
    ts_buffer *buffer;

    make_file("plain", 100);
    make_file("second", 200);
    CHECK_OK(ts_file_open(in_folder("plain"), &file, error));
    CHECK_OK(ts_file_open_beside(file, "second.junk", 6, &beside, error));
    CHECK(ts_file_size(beside) == 200);
    CHECK(strcmp(ts_file_path(beside), in_folder("second")) == 0);
    ts_file_release(beside);
    for (size_t i = 0; i < TS_COUNT_OF(bad); i++)
        CHECK_FAILS(ts_file_open_beside(file, bad[i], strlen(bad[i]), &beside,
                                        error),
                    TS_FORMAT, "no plain file name");
    CHECK_FAILS(ts_file_open_beside(file, "plain\0x", 7, &beside, error),
                TS_FORMAT, "no plain file name");
    memset(longer, 'x', sizeof longer);
    CHECK_FAILS(ts_file_open_beside(file, longer, 256, &beside, error),
                TS_FORMAT, "256 bytes");
    CHECK_FAILS(ts_file_open_beside(file, "absent", 6, &beside, error), TS_IO,
                "No such file");

    CHECK_OK(ts_buffer_new(10, 8, &buffer, error));
    CHECK_OK(ts_file_wrap(buffer, "memory", &memory, error));
    CHECK_FAILS(ts_file_open_beside(memory, "plain", 5, &beside, error),
                TS_ARGUMENT, "lies in memory");
    ts_file_release(memory);
    ts_buffer_release(buffer);
    ts_file_release(file);
}

static void a_name_alone_means_this_folder(void)
{
    ts_file *file, *beside;
    char before[1024];

    CHECK(getcwd(before, sizeof before) != NULL);
    make_file("plain", 100);
    CHECK(chdir(folder) == 0);
    CHECK_OK(ts_file_open("plain", &file, error));
    CHECK_OK(ts_file_open_beside(file, "plain", 5, &beside, error));
    CHECK(strcmp(ts_file_path(beside), "plain") == 0);
    ts_file_release(beside);
    ts_file_release(file);
    CHECK(chdir(before) == 0);
}

static void memory_plays_a_file(void)
{
    ts_buffer *buffer;
    ts_file *file;
    ts_reader *reader;
    uint8_t bytes[100];
    uint64_t cached;
    char reason[128];

    CHECK_OK(ts_buffer_new(1000, 64, &buffer, error));
    for (int i = 0; i < 1000; i++)
        ts_buffer_data(buffer)[i] = byte_at((uint64_t)i);
    CHECK_OK(ts_file_wrap(buffer, "a dict", &file, error));
    ts_buffer_release(buffer);
    CHECK(ts_file_memory(file) == buffer && ts_file_size(file) == 1000);
    CHECK(strcmp(ts_file_path(file), "a dict") == 0);
    CHECK_OK(ts_file_read(file, 33, bytes, 100, error));
    CHECK(holds(bytes, 33, 100));
    CHECK_FAILS(ts_file_read(file, 901, bytes, 100, error), TS_FORMAT,
                "of a file of 1000");
    CHECK_OK(ts_file_check(file, error));
    CHECK(ts_file_cached(file, 10, 20, &cached) && cached == 20);
    ts_file_will_need(file, 0, 1000);
    ts_file_drop_cache(file);

    for (int i = 0; i < TS_ENGINE_COUNT; i++) {
        memset(bytes, 0, sizeof bytes);
        CHECK_OK(ts_reader_new((ts_engine)i, &reader, error));
        CHECK_OK(ts_reader_read(reader, file, 900, bytes, 100, error));
        CHECK(holds(bytes, 900, 100));
        CHECK(ts_reader_stats_of(reader)->bytes[TS_ENGINE_MEMORY] == 100);
        ts_reader_free(reader);
        CHECK(ts_engine_probe((ts_engine)i, file, reason)
              == (i == TS_ENGINE_AUTO || i == TS_ENGINE_MEMORY));
    }
    ts_file_release(file);
}

static void ranges_are_held_against_the_size(void)
{
    ts_file *file;
    uint8_t bytes[16];
    uint64_t cached;

    make_file("plain", 1000);
    CHECK_OK(ts_file_open(in_folder("plain"), &file, error));
    CHECK_OK(ts_file_read(file, 1000, bytes, 0, error));
    CHECK_OK(ts_file_read(file, 984, bytes, 16, error));
    CHECK(holds(bytes, 984, 16));
    CHECK_FAILS(ts_file_read(file, 985, bytes, 16, error), TS_FORMAT,
                "needs 16 bytes at byte 985 of a file of 1000");
    CHECK_FAILS(ts_file_read(file, UINT64_MAX - 3, bytes, 16, error),
                TS_FORMAT, "of a file of 1000");
    CHECK_FAILS(ts_file_read(file, 0, bytes, SIZE_MAX, error), TS_FORMAT,
                "of a file of 1000");
    CHECK(!ts_file_cached(file, 990, 11, &cached));
    ts_file_will_need(file, UINT64_MAX, UINT64_MAX);
    ts_file_will_need(file, 0, 0);

    ts_error error;
    ts_file_read(file, 1001, bytes, 1, &error);
    CHECK(error.offset == 1001);
    CHECK(strcmp(error.file, in_folder("plain")) == 0);
    ts_file_release(file);
}

static void changes_are_noticed(void)
{
    char other[1024];
    ts_file *file;
    uint8_t bytes[4096];

    /* Cut short: known by the read, and by the check. */
    make_file("victim", 4096);
    CHECK_OK(ts_file_open(in_folder("victim"), &file, error));
    CHECK(truncate(in_folder("victim"), 1000) == 0);
    CHECK_OK(ts_file_read(file, 0, bytes, 1000, error));
    CHECK_FAILS(ts_file_read(file, 0, bytes, 4096, error), TS_CHANGED,
                "had 4096 bytes when opened and has 1000 now");
    CHECK_FAILS(ts_file_check(file, error), TS_CHANGED,
                "had 4096 bytes when opened and has 1000 now");
    ts_file_release(file);

    /* Written over, the size kept. */
    make_file("victim", 4096);
    CHECK_OK(ts_file_open(in_folder("victim"), &file, error));
    struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    CHECK(utimensat(AT_FDCWD, in_folder("victim"), times, 0) == 0);
    CHECK_FAILS(ts_file_check(file, error), TS_CHANGED, "written to");
    ts_file_release(file);

    /* Replaced: the open file is still whole, its path leads elsewhere. */
    make_file("victim", 4096);
    CHECK_OK(ts_file_open(in_folder("victim"), &file, error));
    make_file("other", 4096);
    strcpy(other, in_folder("other"));
    CHECK(rename(other, in_folder("victim")) == 0);
    CHECK_FAILS(ts_file_check(file, error), TS_CHANGED, "taken its place");
    CHECK_OK(ts_file_read(file, 0, bytes, 4096, error));
    ts_file_release(file);

    /* Gone. */
    CHECK_OK(ts_file_open(in_folder("victim"), &file, error));
    CHECK(unlink(in_folder("victim")) == 0);
    CHECK_FAILS(ts_file_check(file, error), TS_CHANGED, "No such file");
    ts_file_release(file);
}

/* ---- engines -------------------------------------------------------- */

enum { BIG = (5 << 20) + 777 };

static const size_t offsets[] = {0, 1, 511, 512, 4096, 4097, 100001,
                                 1 << 20, BIG - 700};
static const size_t sizes[] = {0,    1,      100,    512,     4095,
                               4096, 131072, 140001, 1 << 20, 3333333};

/* Every offset and length, with memory that fits O_DIRECT and that does not.
 * One byte more on each side shows whoever writes too far. */
static void read_everywhere(ts_engine engine, const ts_file *file)
{
    uint8_t *room = aligned_alloc(4096, (4 << 20) + 3 * 4096);
    ts_reader *reader;

    CHECK_OK(ts_reader_new(engine, &reader, error));
    for (size_t i = 0; i < TS_COUNT_OF(offsets); i++)
        for (size_t k = 0; k < TS_COUNT_OF(sizes); k++)
            for (size_t fits = 0; fits < 2; fits++) {
                size_t shift = fits ? offsets[i] % 4096 : 100;
                uint8_t *into = room + 4096 + shift;
                size_t left = BIG - offsets[i];
                size_t size = sizes[k] < left ? sizes[k] : left;
                into[-1] = into[size] = 0xa5;
                CHECK_OK(ts_reader_read(reader, file, offsets[i], into, size,
                                        error));
                CHECK(holds(into, offsets[i], size),
                      "%s, %zu bytes at %zu, fits %zu", ts_engine_name(engine),
                      size, offsets[i], fits);
                CHECK(into[-1] == 0xa5 && into[size] == 0xa5);
            }
    CHECK_FAILS(ts_reader_read(reader, file, BIG, room, 1, error), TS_FORMAT,
                "needs 1 bytes");
    ts_reader_free(reader);
    free(room);
}

static void every_engine_brings_the_same_bytes(void)
{
    ts_file *file;
    char reason[128];

    make_file("big", BIG);
    CHECK_OK(ts_file_open(in_folder("big"), &file, error));
    for (int i = TS_ENGINE_AUTO; i < TS_ENGINE_MEMORY; i++) {
        bool works = ts_engine_probe((ts_engine)i, file, reason);
        printf("     %s %s\n", ts_engine_name((ts_engine)i),
               works ? "works" : reason);
        CHECK(works == (reason[0] == '\0'));
        read_everywhere((ts_engine)i, file);
        ts_file_drop_cache(file);
        read_everywhere((ts_engine)i, file);
    }
    CHECK(!ts_engine_probe(TS_ENGINE_MEMORY, file, reason));
    CHECK(!ts_engine_probe((ts_engine)77, file, reason)
          && strcmp(reason, "no such engine") == 0);
    ts_file_release(file);
}

/* The work is done by the engine that was asked for, not by its understudy. */
static void an_engine_that_works_does_the_work(void)
{
    uint8_t *into = aligned_alloc(4096, 1 << 20);
    ts_file *file;
    ts_reader *reader;
    char reason[128];

    CHECK_OK(ts_file_open(in_folder("big"), &file, error));
    for (int i = TS_ENGINE_PREAD; i < TS_ENGINE_MEMORY; i++) {
        if (!ts_engine_probe((ts_engine)i, file, reason)) continue;
        CHECK_OK(ts_reader_new((ts_engine)i, &reader, error));
        CHECK_OK(ts_reader_read(reader, file, 0, into, 1 << 20, error));
        const ts_reader_stats *stats = ts_reader_stats_of(reader);
        CHECK(stats->bytes[i] == 1 << 20, "%s", ts_engine_name((ts_engine)i));
        CHECK(stats->ns[i] > 0 && stats->calls >= 1 && stats->calls <= 16);
        ts_reader_free(reader);
    }
    ts_file_release(file);
    free(into);
}

static void an_empty_file_is_a_file(void)
{
    ts_file *file;
    ts_reader *reader;
    char reason[128];
    uint8_t byte;

    make_file("empty", 0);
    CHECK_OK(ts_file_open(in_folder("empty"), &file, error));
    for (int i = TS_ENGINE_AUTO; i < TS_ENGINE_MEMORY; i++) {
        ts_engine_probe((ts_engine)i, file, reason);
        CHECK_OK(ts_reader_new((ts_engine)i, &reader, error));
        CHECK_OK(ts_reader_read(reader, file, 0, &byte, 0, error));
        CHECK_FAILS(ts_reader_read(reader, file, 0, &byte, 1, error),
                    TS_FORMAT, "a file of 0");
        ts_reader_free(reader);
    }
    ts_file_release(file);
}

static void a_shrunk_file_is_noticed_by_every_engine(void)
{
    uint8_t *into = aligned_alloc(4096, 1 << 20);
    ts_file *file;
    ts_reader *reader;

    for (int i = TS_ENGINE_AUTO; i < TS_ENGINE_MEMORY; i++) {
        make_file("victim", 1 << 20);
        CHECK_OK(ts_file_open(in_folder("victim"), &file, error));
        CHECK_OK(ts_reader_new((ts_engine)i, &reader, error));
        CHECK(truncate(in_folder("victim"), 300001) == 0);
        CHECK_FAILS(ts_reader_read(reader, file, 0, into, 1 << 20, error),
                    TS_CHANGED,
                    "had 1048576 bytes when opened and has 300001 now");
        CHECK_OK(ts_reader_read(reader, file, 0, into, 300001, error));
        CHECK(holds(into, 0, 300001));
        ts_reader_free(reader);
        ts_file_release(file);
    }
    free(into);
}

static void residency_follows_the_cache(void)
{
    ts_file *file;
    uint64_t cached;
    uint8_t *into = malloc(BIG);

    CHECK_OK(ts_file_open(in_folder("big"), &file, error));
    CHECK_OK(ts_file_read(file, 0, into, BIG, error));
    if (ts_file_cached(file, 0, BIG, &cached)) {
        CHECK(cached == BIG, "%llu", (unsigned long long)cached);
        CHECK(ts_file_cached(file, 100, 1, &cached) && cached == 1);
        CHECK(ts_file_cached(file, 4000, 5000, &cached) && cached == 5000);
        CHECK(ts_file_cached(file, 0, 0, &cached) && cached == 0);
    }
    ts_file_will_need(file, 0, BIG);
    ts_file_release(file);
    free(into);
}

typedef struct {
    const ts_file *file;
    ts_engine engine;
    int number;
    bool right;
} job;

static void *read_a_share(void *context)
{
    job *it = context;
    uint8_t *into = aligned_alloc(4096, 65536);
    ts_reader *reader = NULL;

    it->right = ts_reader_new(it->engine, &reader, NULL) == TS_OK;
    for (uint64_t at = (uint64_t)it->number * 65536; at + 65536 <= BIG;
         at += 4 * 65536)
        it->right = it->right
                    && ts_reader_read(reader, it->file, at, into, 65536, NULL)
                           == TS_OK
                    && holds(into, at, 65536);
    ts_reader_free(reader);
    free(into);
    return NULL;
}

static void threads_share_a_file(void)
{
    for (int i = TS_ENGINE_AUTO; i < TS_ENGINE_MEMORY; i++) {
        pthread_t threads[4];
        job jobs[4];
        ts_file *file;
        CHECK_OK(ts_file_open(in_folder("big"), &file, error));
        for (int k = 0; k < 4; k++) {
            jobs[k] = (job){file, (ts_engine)i, k, false};
            pthread_create(&threads[k], NULL, read_a_share, &jobs[k]);
        }
        for (int k = 0; k < 4; k++) {
            pthread_join(threads[k], NULL);
            CHECK(jobs[k].right, "%s", ts_engine_name((ts_engine)i));
        }
        ts_file_release(file);
    }
}

static void readers_say_what_they_hold(void)
{
    ts_reader *reader;
    ts_engine engine;

    CHECK(ts_reader_overhead(TS_ENGINE_PREAD) < 16 * TS_KIB);
    CHECK(ts_reader_overhead(TS_ENGINE_AUTO) < 256 * TS_KIB);
    CHECK(ts_reader_overhead(TS_ENGINE_AUTO)
          > ts_reader_overhead(TS_ENGINE_DIRECT));
    CHECK_FAILS(ts_reader_new((ts_engine)99, &reader, error), TS_ARGUMENT,
                "99 is no engine");
    for (int i = 0; i < TS_ENGINE_COUNT; i++)
        CHECK(ts_engine_find(ts_engine_name((ts_engine)i), &engine)
              && (int)engine == i);
    CHECK(!ts_engine_find("floppy", &engine));
    CHECK(strcmp(ts_engine_name((ts_engine)99), "unknown") == 0);
    ts_reader_free(NULL);
}

/* ---- choosing ------------------------------------------------------- */

#define BIT(engine) (1u << TS_ENGINE_##engine)

static void choice_follows_the_figures(void)
{
    enum { P = BIT(PREAD), D = BIT(DIRECT), U = BIT(URING), ALL = P | D | U };
    const uint64_t s = TS_STRETCH;
    static const struct {
        uint64_t pread, direct, uring; /* ns for a stretch; 0: not tried */
        unsigned usable;
        uint64_t round;
        ts_engine want;
    } table[] = {
        /* The first, by trust. */
        {0, 0, 0, 0, 0, TS_ENGINE_PREAD},
        {0, 0, 0, D, 0, TS_ENGINE_DIRECT},
        {0, 0, 0, ALL, 0, TS_ENGINE_DIRECT},
        {0, 0, 0, U | P, 0, TS_ENGINE_URING},
        {0, 0, 0, P, 0, TS_ENGINE_PREAD},
        /* A trial waits until it costs little: the less an engine is
         * trusted the longer. */
        {0, 9, 0, ALL, 24, TS_ENGINE_DIRECT},
        {0, 9, 0, ALL, 25, TS_ENGINE_URING},
        {0, 9, 9, ALL, 30, TS_ENGINE_DIRECT},
        {0, 9, 9, ALL, 199, TS_ENGINE_DIRECT},
        {0, 9, 9, ALL, 200, TS_ENGINE_PREAD},
        /* Where all go through the page cache, a trial costs little. */
        {0, 0, 9, U | P, 7, TS_ENGINE_URING},
        {0, 0, 9, U | P, 8, TS_ENGINE_PREAD},
        /* All known. */
        {9, 9, 0, P | D, 7, TS_ENGINE_DIRECT},
        {900, 300, 600, ALL, 7, TS_ENGINE_DIRECT},
        {900, 300, 600, P | U, 7, TS_ENGINE_URING},
        {200, 300, 600, ALL, 7, TS_ENGINE_PREAD},
    };
    const unsigned all = ALL;
    for (size_t i = 0; i < TS_COUNT_OF(table); i++) {
        ts_reader_stats cold = {0};
        cold.ns[TS_ENGINE_PREAD] = table[i].pread;
        cold.ns[TS_ENGINE_DIRECT] = table[i].direct;
        cold.ns[TS_ENGINE_URING] = table[i].uring;
        for (int k = 0; k < TS_ENGINE_COUNT; k++)
            cold.bytes[k] = cold.ns[k] != 0 ? s : 0;
        ts_engine got =
            ts_engine_choose(&cold, table[i].usable, table[i].round);
        CHECK(got == table[i].want, "row %zu: %s", i, ts_engine_name(got));
    }

    /* Over many rounds: the slow ones come again, and cost about 1 % each;
     * one that is hardly slower comes more often. */
    ts_reader_stats cold = {0};
    for (int k = 0; k < TS_ENGINE_COUNT; k++) cold.bytes[k] = s;
    cold.ns[TS_ENGINE_PREAD] = 1000;
    cold.ns[TS_ENGINE_DIRECT] = 1050;
    cold.ns[TS_ENGINE_URING] = 10000;
    uint64_t count[TS_ENGINE_COUNT] = {0}, spent = 0;
    for (uint64_t round = 0; round < 100000; round++) {
        ts_engine engine = ts_engine_choose(&cold, all, round);
        count[engine]++;
        spent += cold.ns[engine];
    }
    CHECK(count[TS_ENGINE_DIRECT] > 1000 && count[TS_ENGINE_URING] > 50);
    CHECK(spent < 100000 * 1000 * 1.03, "%llu", (unsigned long long)spent);
    CHECK(count[TS_ENGINE_MAP] == 0 && count[TS_ENGINE_MEMORY] == 0);

    /* A clock that stood still divides nothing by zero. */
    memset(cold.ns, 0, sizeof cold.ns);
    for (uint64_t round = 0; round < 100; round++)
        CHECK(ts_engine_choose(&cold, all, round) < TS_ENGINE_COUNT);
}

static void no_descriptor_is_left_open(void)
{
    static int before;
    if (before == 0) {
        before = open_descriptors();
        return;
    }
    CHECK(open_descriptors() == before, "%d, and %d before",
          open_descriptors(), before);
}

int main(int count, char **arguments)
{
    snprintf(folder, sizeof folder, "%s/scratch_io",
             count > 1 ? arguments[1] : ".");
    mkdir(folder, 0700);
    no_descriptor_is_left_open();
    RUN(a_file_knows_who_it_is);
    RUN(only_regular_files_open);
    RUN(names_beside_stay_in_the_folder);
    RUN(a_name_alone_means_this_folder);
    RUN(memory_plays_a_file);
    RUN(ranges_are_held_against_the_size);
    RUN(changes_are_noticed);
    RUN(every_engine_brings_the_same_bytes);
    RUN(an_engine_that_works_does_the_work);
    RUN(an_empty_file_is_a_file);
    RUN(a_shrunk_file_is_noticed_by_every_engine);
    RUN(residency_follows_the_cache);
    RUN(threads_share_a_file);
    RUN(readers_say_what_they_hold);
    RUN(choice_follows_the_figures);
    RUN(no_descriptor_is_left_open);
    CHECK_END();
}
