#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base.h"
#include "io/fault.h"
#include "io/io.h"
#include "io/temp.h"

/* Every call of output.c goes through ts_sys; each slot first asks `fault`
 * whether this is the call that goes wrong. */

static char folder[800], path[900];

typedef enum { NONE, OPENAT, STAT, RANDOM, CHMOD, PWRITE, PREAD, FALLOCATE,
               TRUNCATE, COPY, FSYNC, RENAME, UNLINK, CLOSE, OTHER } call;

static struct {
    int seen, fail_at, os_errno;
    bool for_ever;  /* all later calls fail as well */
    call struck;    /* which call was the first to fail */
    size_t most;    /* a read or write moves at most this much; 0: no limit */
    int interrupt;  /* the first two of three are interrupted */
    bool no_insert, no_copy; /* what some file systems cannot */
    int counts[OTHER + 1];
} fault;

static bool strikes(call kind)
{
    fault.counts[kind]++;
    if (fault.interrupt && kind != OTHER && ++fault.interrupt % 3 != 1) {
        errno = EINTR;
        return kind == PWRITE || kind == PREAD || kind == COPY
            || kind == OPENAT;
    }
    fault.seen++;
    bool now = fault.fail_at > 0
            && (fault.seen == fault.fail_at
                || (fault.for_ever && fault.seen > fault.fail_at));
    if (!now) return false;
    if (fault.struck == NONE) fault.struck = kind;
    errno = fault.os_errno;
    return true;
}

static size_t cut(size_t size)
{
    return fault.most > 0 && size > fault.most ? fault.most : size;
}

static int fake_openat(int at, const char *name, int flags, mode_t mode)
{
    bool sweeps = strcmp(name, ".") == 0 && at != AT_FDCWD; /* of no weight */
    return strikes(sweeps ? OTHER : OPENAT)
             ? -1
             : ts_real.openat(at, name, flags, mode);
}

static int fake_fstatfs(int fd, struct statfs *out)
{
    return strikes(OTHER) ? -1 : ts_real.fstatfs(fd, out);
}

static int fake_flock(int fd, int operation)
{
    return strikes(OTHER) ? -1 : ts_real.flock(fd, operation);
}

static ssize_t fake_getdents(int fd, void *into, size_t size)
{
    return strikes(OTHER) ? -1 : ts_real.getdents(fd, into, size);
}

static int fake_fstatat(int at, const char *name, struct stat *out, int flags)
{
    return strikes(STAT) ? -1 : ts_real.fstatat(at, name, out, flags);
}

static int fake_fstatvfs(int fd, struct statvfs *out)
{
    return strikes(OTHER) ? -1 : ts_real.fstatvfs(fd, out);
}

static ssize_t fake_getrandom(void *into, size_t size, unsigned flags)
{
    return strikes(RANDOM) ? -1 : ts_real.getrandom(into, size, flags);
}

static int fake_fchmod(int fd, mode_t mode)
{
    return strikes(CHMOD) ? -1 : ts_real.fchmod(fd, mode);
}

static ssize_t fake_pwrite(int fd, const void *from, size_t size, off_t offset)
{
    return strikes(PWRITE) ? -1 : ts_real.pwrite(fd, from, cut(size), offset);
}

static ssize_t fake_pread(int fd, void *into, size_t size, off_t offset)
{
    return strikes(PREAD) ? -1 : ts_real.pread(fd, into, cut(size), offset);
}

static int fake_fallocate(int fd, int mode, off_t offset, off_t size)
{
    if (fault.no_insert && mode != 0) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return strikes(FALLOCATE) ? -1 : ts_real.fallocate(fd, mode, offset, size);
}

static int fake_ftruncate(int fd, off_t size)
{
    return strikes(TRUNCATE) ? -1 : ts_real.ftruncate(fd, size);
}

static ssize_t fake_copy_range(int fd, off_t from, off_t to, size_t size)
{
    if (fault.no_copy) {
        errno = EXDEV;
        return -1;
    }
    return strikes(COPY) ? -1 : ts_real.copy_range(fd, from, to, cut(size));
}

static int fake_start_writing(int fd, off_t offset, off_t size)
{
    return strikes(OTHER) ? -1 : ts_real.start_writing(fd, offset, size);
}

static int fake_fsync(int fd) { return strikes(FSYNC) ? -1 : fsync(fd); }

static int fake_renameat(int from, const char *name, int to, const char *other)
{
    return strikes(RENAME) ? -1 : ts_real.renameat(from, name, to, other);
}

static int fake_unlinkat(int at, const char *name, int flags)
{
    return strikes(UNLINK) ? -1 : ts_real.unlinkat(at, name, flags);
}

/* What cannot fail halfway is done all the same, or the test would leak. */
static int fake_close(int fd)
{
    int result = ts_real.close(fd);
    return strikes(CLOSE) ? -1 : result;
}

static void install(void)
{
    memset(&fault, 0, sizeof fault);
    fault.os_errno = EIO;
    ts_sys = ts_real;
    ts_sys.openat = fake_openat;
    ts_sys.fstatat = fake_fstatat;
    ts_sys.fstatvfs = fake_fstatvfs;
    ts_sys.getrandom = fake_getrandom;
    ts_sys.fchmod = fake_fchmod;
    ts_sys.pwrite = fake_pwrite;
    ts_sys.pread = fake_pread;
    ts_sys.fallocate = fake_fallocate;
    ts_sys.ftruncate = fake_ftruncate;
    ts_sys.copy_range = fake_copy_range;
    ts_sys.start_writing = fake_start_writing;
    ts_sys.fsync = fake_fsync;
    ts_sys.renameat = fake_renameat;
    ts_sys.unlinkat = fake_unlinkat;
    ts_sys.close = fake_close;
    ts_sys.fstatfs = fake_fstatfs;
    ts_sys.flock = fake_flock;
    ts_sys.getdents = fake_getdents;
}

/* ---- the folder ------------------------------------------------------- */

static int entries(bool remove_temps)
{
    DIR *open = opendir(folder);
    int count = 0;
    char other[1200];
    for (struct dirent *e; (e = readdir(open)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        count++;
        snprintf(other, sizeof other, "%s/%s", folder, e->d_name);
        if (remove_temps && e->d_name[0] == '.') unlink(other);
    }
    closedir(open);
    return count;
}

static void empty_folder(void)
{
    entries(true);
    unlink(path);
}

static int open_descriptors(void)
{
    DIR *open = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(open) != NULL) count++;
    closedir(open);
    return count;
}

static size_t read_file(uint8_t *into, size_t room)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) return SIZE_MAX;
    size_t size = fread(into, 1, room, file);
    fclose(file);
    return size;
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "wb");
    fputs(text, file);
    fclose(file);
}

static bool holds(const void *bytes, size_t size)
{
    static uint8_t found[8 << 20];
    return read_file(found, sizeof found) == size
        && memcmp(found, bytes, size) == 0;
}

/* ---- one file --------------------------------------------------------- */

enum { BODY = (1 << 20) + 12345, GRAIN = TS_OUTPUT_GRAIN };

static uint8_t body[BODY], whole[BODY + 2 * GRAIN];

/* A header of one grain, then the body in pieces of many sizes, then room for
 * a header of two, which is patched in. */
static ts_status write_all(ts_output *output, ts_error *error)
{
    static const size_t sizes[] = {1, 3000, 300000, 7, 262144, 100000};

    TS_TRY(ts_output_reserve(output, sizeof whole + 5000, error));
    TS_TRY(ts_output_zeros(output, GRAIN, error));
    for (size_t at = 0, i = 0; at < BODY; i++) {
        size_t size = ts_min(sizes[i % TS_COUNT_OF(sizes)], BODY - at);
        TS_TRY(ts_output_append(output, body + at, size, error));
        at += size;
    }
    CHECK(ts_output_size(output) == GRAIN + BODY);
    TS_TRY(ts_output_rest(output, error)); /* and still all of these */
    TS_TRY(ts_output_shift(output, GRAIN, GRAIN, error));
    CHECK(ts_output_size(output) == sizeof whole);
    return ts_output_patch(output, 0, whole, 2 * GRAIN, error);
}

static ts_status save(ts_error *error)
{
    ts_output *output;
    TS_TRY(ts_output_new(path, &output, error));
    ts_status status = write_all(output, error);
    if (status == TS_OK) status = ts_output_publish(output, NULL, error);
    ts_output_free(output);
    return status;
}

static void fill(void)
{
    for (size_t i = 0; i < BODY; i++)
        body[i] = (uint8_t)(i * 2654435761u >> 7);
    for (size_t i = 0; i < 2 * GRAIN; i++) whole[i] = (uint8_t)(i >> 4 | 1);
    memcpy(whole + 2 * GRAIN, body, BODY);
}

static void a_file_appears_whole(void)
{
    const size_t limits[] = {0, 1, 4095, 70000};
    for (size_t i = 0; i < TS_COUNT_OF(limits); i++)
        for (int able = 0; able < 4; able++) {
            if (limits[i] == 1 && able < 2) continue; /* a call a byte */
            install();
            fault.no_insert = able < 3;
            fault.no_copy = able < 1;
            fault.most = limits[i] == 1 ? 4096 : limits[i];
            fault.interrupt = able % 2;
            empty_folder();
            CHECK_OK(save(error));
            CHECK(holds(whole, sizeof whole), "way %d, limit %zu", able,
                  limits[i]);
            CHECK(entries(false) == 1);
        }
    install();
}

static void nothing_is_there_before_publish(void)
{
    ts_output *output;
    empty_folder();
    write_file("old");
    CHECK_OK(ts_output_new(path, &output, error));
    CHECK_OK(ts_output_append(output, "new", 3, error));
    CHECK_OK(ts_output_seal(output, error));
    CHECK(holds("old", 3) && entries(false) == 2);
    CHECK_FAILS(ts_output_append(output, "x", 1, error), TS_CLOSED,
                "already complete");
    ts_output_free(output);
    CHECK(holds("old", 3) && entries(false) == 1);
}

static void another_name_in_the_same_folder(void)
{
    ts_output *output;
    char other[1000];
    empty_folder();
    CHECK_OK(ts_output_new(path, &output, error));
    CHECK_OK(ts_output_append(output, "new", 3, error));
    CHECK_FAILS(ts_output_publish(output, "../elsewhere", error), TS_ARGUMENT,
                "no path of a file");
    ts_output_free(output);
    CHECK(entries(false) == 0);
    CHECK_OK(ts_output_new(path, &output, error));
    CHECK_OK(ts_output_publish(output, "other", error));
    ts_output_free(output);
    snprintf(other, sizeof other, "%s/other", folder);
    CHECK(access(other, F_OK) == 0 && access(path, F_OK) != 0);
    unlink(other);
}

static mode_t mode_of(void)
{
    struct stat info;
    CHECK(stat(path, &info) == 0);
    return info.st_mode & 07777;
}

static void modes_and_links(void)
{
    char link_path[1000], target[1000];
    ts_error error = {0};
    mode_t before = umask(027);
    empty_folder();
    CHECK(save(&error) == TS_OK && mode_of() == 0640);
    CHECK(chmod(path, 0604) == 0);
    CHECK(save(&error) == TS_OK && mode_of() == 0604, "kept");
    umask(before);
    /* A link is replaced; what it leads to stays. */
    snprintf(target, sizeof target, "%s/.target", folder);
    snprintf(link_path, sizeof link_path, "%s", path);
    empty_folder();
    FILE *file = fopen(target, "w");
    fputs("precious", file);
    fclose(file);
    CHECK(symlink(".target", link_path) == 0);
    CHECK(save(&error) == TS_OK && holds(whole, sizeof whole));
    struct stat info;
    CHECK(lstat(path, &info) == 0 && S_ISREG(info.st_mode));
    CHECK(stat(target, &info) == 0 && info.st_size == 8);
    empty_folder();
}

static void places_that_no_file_can_have(void)
{
    ts_output *output;
    char other[1000];
    empty_folder();
    CHECK_FAILS(ts_output_new("/no/such/folder/x", &output, error), TS_IO,
                "No such file");
    CHECK_FAILS(ts_output_new("/dev/null", &output, error), TS_ARGUMENT,
                "is a device");
    CHECK_FAILS(ts_output_new(folder, &output, error), TS_IO,
                "Is a directory");
    snprintf(other, sizeof other, "%s/", folder);
    CHECK_FAILS(ts_output_new(other, &output, error), TS_ARGUMENT, "0 bytes");
    snprintf(other, sizeof other, "%s/..", folder);
    CHECK_FAILS(ts_output_new(other, &output, error), TS_ARGUMENT, "no path");
    CHECK(entries(false) == 0);
    /* The longest name there is still leaves room for the temporary one. */
    char longest[1100];
    snprintf(longest, sizeof longest, "%s/%0255d", folder, 7);
    CHECK_OK(ts_output_new(longest, &output, error));
    CHECK_OK(ts_output_publish(output, NULL, error));
    ts_output_free(output);
    CHECK(unlink(longest) == 0);
}

static void wrong_calls(void)
{
    ts_output *output;
    empty_folder();
    CHECK_OK(ts_output_new(path, &output, error));
    CHECK_OK(ts_output_append(output, "abc", 3, error));
    CHECK_FAILS(ts_output_patch(output, 2, "xy", 2, error), TS_ARGUMENT,
                "not within");
    CHECK_FAILS(ts_output_shift(output, 0, 100, error), TS_ARGUMENT, "shift");
    CHECK_FAILS(ts_output_shift(output, 4, GRAIN, error), TS_ARGUMENT,
                "shift");
    CHECK_FAILS(ts_output_append(output, body, UINT64_MAX, error), TS_IO,
                "too large");
    CHECK_FAILS(ts_output_append(output, "d", 1, error), TS_CLOSED,
                "earlier failure");
    ts_output_free(output);
    CHECK(entries(false) == 0);
}

static void a_full_disk_says_so_first(void)
{
    ts_output *output;
    empty_folder();
    install();
    CHECK_OK(ts_output_new(path, &output, error));
    fault.fail_at = fault.seen + 2; /* statvfs, fallocate */
    fault.os_errno = ENOSPC;
    ts_error error = {0};
    CHECK(ts_output_reserve(output, 1 << 20, &error) == TS_IO);
    CHECK(fault.struck == FALLOCATE && error.os_errno == ENOSPC);
    CHECK(strstr(error.message, "reserve 1048576 bytes at byte 0") != NULL
              && strstr(error.message, "bytes are free there") != NULL,
          "%s", error.message);
    CHECK(strcmp(error.file, path) == 0);
    ts_output_free(output);
    CHECK(entries(false) == 0);
    install();
}

/* fallocate would take all there is before it found out. */
static void more_than_there_is_is_not_even_tried(void)
{
    ts_output *output;
    empty_folder();
    install();
    CHECK_OK(ts_output_new(path, &output, error));
    CHECK_FAILS(ts_output_reserve(output, INT64_MAX, error), TS_IO,
                "reserve 9223372036854775807 bytes");
    CHECK(fault.counts[FALLOCATE] == 0);
    ts_output_free(output);
    CHECK(entries(false) == 0);
}

/* ---- every call in turn ------------------------------------------------ */

/* After any failure the path holds the old file or the new one, whole, nothing
 * else is in the folder, and no descriptor is left. */
static void check_outcome(ts_status status, const ts_error *error, int before)
{
    bool is_new = holds(whole, sizeof whole);
    call struck = fault.struck;

    CHECK(is_new || holds("old", 3), "call %d of kind %d", fault.fail_at,
          struck);
    if (status == TS_OK) {
        CHECK(is_new);
        CHECK(struck != PWRITE && struck != FSYNC && struck != RENAME
                  && struck != OPENAT && struck != TRUNCATE,
              "kind %d was not told", struck);
    } else {
        CHECK(status == TS_IO && error->message[0] != '\0');
        CHECK(error->os_errno == fault.os_errno, "%d: %s", error->os_errno,
              error->message);
        CHECK(strcmp(error->file, path) == 0, "'%s'", error->file);
    }
    /* Only where the file could not be taken away is it still there. */
    CHECK(entries(true) == 1 || fault.for_ever || struck == UNLINK,
          "a file is left");
    CHECK(open_descriptors() == before, "a descriptor is left");
}

static void any_call_may_fail(void)
{
    const int refusals[] = {EIO, ENOSPC, EDQUOT, EROFS};
    int before = open_descriptors(), longest = 0;

    for (int way = 0; way < 6; way++)
        for (size_t i = 0; i < TS_COUNT_OF(refusals); i++) {
            int at = 0;
            do {
                empty_folder();
                write_file("old");
                install();
                fault.no_insert = way / 2 > 0;
                fault.no_copy = way / 2 > 1;
                fault.for_ever = way % 2;
                fault.os_errno = refusals[i];
                fault.fail_at = ++at;
                ts_error error = {0};
                ts_status status = save(&error);
                check_outcome(status, &error, before);
            } while (fault.seen >= at);
            longest = at > longest ? at : longest;
        }
    CHECK(longest > 20, "%d calls", longest);
    install();
}

/* The pages that a failed fsync dropped are clean to the next one: only the
 * first answer counts. */
static void a_failed_fsync_is_final(void)
{
    ts_output *output;
    empty_folder();
    write_file("old");
    install();
    CHECK_OK(ts_output_new(path, &output, error));
    CHECK_OK(ts_output_append(output, "new", 3, error));
    fault.fail_at = fault.seen + 2; /* pwrite, fsync */
    CHECK_FAILS(ts_output_seal(output, error), TS_IO, "Input/output error");
    CHECK(fault.struck == FSYNC && fault.counts[FSYNC] == 1);
    CHECK_FAILS(ts_output_seal(output, error), TS_CLOSED, "earlier failure");
    CHECK_FAILS(ts_output_publish(output, NULL, error), TS_CLOSED, "earlier");
    CHECK(fault.counts[FSYNC] == 1 && fault.counts[RENAME] == 0);
    ts_output_free(output);
    CHECK(holds("old", 3) && entries(false) == 1);
    install();
}

static void a_forked_child_leaves_the_file_alone(void)
{
    ts_output *output;
    ts_error error = {0};
    int told;
    empty_folder();
    CHECK(ts_output_new(path, &output, &error) == TS_OK);
    CHECK(ts_output_append(output, "new", 3, &error) == TS_OK);
    pid_t child = fork();
    if (child == 0) {
        bool refused =
            ts_output_append(output, "x", 1, &error) == TS_CLOSED
            && ts_output_publish(output, NULL, &error) == TS_CLOSED;
        ts_output_free(output);
        _exit(refused ? 0 : 1);
    }
    CHECK(waitpid(child, &told, 0) == child && told == 0);
    CHECK(ts_output_publish(output, NULL, &error) == TS_OK);
    ts_output_free(output);
    CHECK(holds("new", 3));
}

/* ---- what others left -------------------------------------------------- */

/* A writer that is killed when its file is sealed, or before. */
static void die_while_writing(bool sealed)
{
    ts_error error = {0};
    ts_output *output;
    pid_t child = fork();

    if (child == 0) {
        ts_output_new(path, &output, &error);
        ts_output_append(output, body, BODY, &error);
        if (sealed) ts_output_seal(output, &error);
        raise(SIGKILL);
    }
    CHECK(child > 0 && waitpid(child, NULL, 0) == child);
}

static void the_dead_are_swept_and_the_living_are_not(void)
{
    ts_output *living, *sealed, *next;

    empty_folder();
    write_file("old");
    CHECK_OK(ts_output_new(path, &living, error));
    CHECK_OK(ts_output_append(living, "new", 3, error));
    CHECK_OK(ts_output_new(path, &sealed, error));
    CHECK_OK(ts_output_seal(sealed, error));
    CHECK(entries(false) == 3);
    die_while_writing(false);
    CHECK(entries(false) == 4);
    die_while_writing(true); /* which sweeps first, as each does */
    CHECK(entries(false) == 4 && holds("old", 3));
    CHECK_OK(ts_output_new(path, &next, error));
    CHECK(entries(false) == 4, "the living two, the new one, the old file");
    ts_output_free(next);
    ts_output_free(sealed);
    CHECK_OK(ts_output_publish(living, NULL, error));
    ts_output_free(living);
    CHECK(holds("new", 3) && entries(false) == 1);
}

/* Any call of the sweeper may fail: it leaves what it cannot be sure of. */
static void a_sweep_that_fails_is_no_failure(void)
{
    int at = 0, left = 0;

    do {
        empty_folder();
        install();
        die_while_writing(false);
        fault.seen = 0;
        fault.fail_at = ++at;
        int before = open_descriptors();
        int folder_fd = ts_real.openat(AT_FDCWD, folder, O_RDONLY, 0);
        ts_temp_sweep(folder_fd, "model");
        close(folder_fd);
        CHECK(open_descriptors() == before);
        left += entries(true);
    } while (fault.seen >= at);
    CHECK(at > 6 && left >= 6 && left < at, "%d of %d", left, at);
    install();
}

static void names_that_are_ours(void)
{
    char name[300], temp[TS_TEMP_NAME];
    int folder_fd = ts_real.openat(AT_FDCWD, folder, O_RDONLY, 0);

    CHECK(ts_temp_is(".model.0123456789abcdef.tmp", "model"));
    CHECK(!ts_temp_is(".model.0123456789abcdef.tmp", "mode"));
    CHECK(!ts_temp_is(".model.0123456789abcdef.tmp", "model.0"));
    CHECK(!ts_temp_is(".model.0123456789abcdeg.tmp", "model"));
    CHECK(!ts_temp_is(".model.0123456789abcdef.tmp~", "model"));
    CHECK(!ts_temp_is("model.0123456789abcdef.tmp", "model"));
    CHECK(!ts_temp_is(".model.0123456789abcde.tmp", "model"));
    CHECK(!ts_temp_is(".", "model") && !ts_temp_is("", ""));
    for (int size = 1; size <= 255; size += 127) {
        memset(name, 'n', (size_t)size);
        name[size] = '\0';
        int fd = ts_temp_open(folder_fd, name, temp);
        CHECK(fd >= 0 && ts_temp_is(temp, name), "%s", temp);
        close(fd);
        unlinkat(folder_fd, temp, 0);
    }
    close(folder_fd);
}

int main(int count, char **arguments)
{
    snprintf(folder, sizeof folder, "%s/scratch_output",
             count > 1 ? arguments[1] : ".");
    snprintf(path, sizeof path, "%s/model", folder);
    mkdir(folder, 0700);
    fill();
    install();
    RUN(a_file_appears_whole);
    RUN(nothing_is_there_before_publish);
    RUN(another_name_in_the_same_folder);
    RUN(modes_and_links);
    RUN(places_that_no_file_can_have);
    RUN(wrong_calls);
    RUN(a_full_disk_says_so_first);
    RUN(more_than_there_is_is_not_even_tried);
    RUN(any_call_may_fail);
    RUN(a_failed_fsync_is_final);
    RUN(a_forked_child_leaves_the_file_alone);
    RUN(the_dead_are_swept_and_the_living_are_not);
    RUN(a_sweep_that_fails_is_no_failure);
    RUN(names_that_are_ours);
    empty_folder();
    CHECK_END();
}
