#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/process.h"
#include "fault.h"
#include "temp.h"

/* After this many new bytes the kernel is asked to begin writing: the disk
 * works while the next ones are made, and the fsync at the end finds little
 * to do. */
#define WRITE_BEHIND ((uint64_t)16 << 20)

/* Copies of one piece while a body is shifted: large enough that a call does
 * not count, small enough to be memory of ours. */
#define SHIFT_PIECE ((uint64_t)1 << 20)

#define ZEROS_PIECE 4096

enum { NAME_SIZE = TS_TEMP_NAME, WHY_SIZE = 96 };

typedef enum { OPEN, SEALED, PUBLISHED, BROKEN } output_state;

struct ts_output {
    int folder; /* owned */
    int fd;     /* owned, with the lock of temp.h; -1 once published */
    output_state state;
    bool has_temp;       /* a file of the name `temp` is ours to remove */
    uint64_t generation; /* of the process that made it */
    uint8_t *buffer;     /* owned: TS_OUTPUT_BUFFER bytes, `used` of them
                            waiting to stand at `flushed`; NULL at rest */
    size_t used;
    uint64_t flushed;  /* bytes handed to the system */
    uint64_t started;  /* of them, bytes whose writing was asked for */
    uint64_t reserved; /* bytes of disk taken beforehand */
    char temp[NAME_SIZE], name[NAME_SIZE]; /* in the folder */
    char path[];                           /* as given, for messages */
};

static const char *why(int os_errno, char room[WHY_SIZE])
{
    return strerror_r(os_errno, room, WHY_SIZE);
}

/* ---- errors --------------------------------------------------------- */

/* "; 12345 bytes are free", where that is the trouble. */
static void tell_room(const ts_output *output, int os_errno, char room[64])
{
    struct statvfs info;

    room[0] = '\0';
    if (os_errno != ENOSPC && os_errno != EDQUOT) return;
    if (ts_sys.fstatvfs(output->folder, &info) != 0) return;
    snprintf(room, 64, "; %" PRIu64 " bytes are free there",
             (uint64_t)info.f_bavail * (uint64_t)info.f_frsize);
}

/* The first failure ends it. */
static ts_status give_up(ts_output *output, ts_status status, ts_error *error)
{
    output->state = BROKEN;
    return ts_error_in_file(error, status, output->path);
}

static ts_status fail_os(ts_output *output, int os_errno, const char *what,
                         ts_error *error)
{
    char room[WHY_SIZE], left[64];

    tell_room(output, os_errno, left);
    ts_status status = ts_fail_os(error, os_errno, "cannot %s: %s%s", what,
                                  why(os_errno, room), left);
    return give_up(output, status, error);
}

static ts_status fail_bytes(ts_output *output, int os_errno, const char *what,
                            uint64_t offset, uint64_t size, ts_error *error)
{
    char text[96];
    snprintf(text, sizeof text,
             "%s %" PRIu64 " bytes at byte %" PRIu64 " of the new file", what,
             size, offset);
    return fail_os(output, os_errno, text, error);
}

static ts_status check_usable(const ts_output *output, output_state most,
                              ts_error *error)
{
    const char *text = NULL;

    if (output->generation != ts_process_generation())
        text = "is being written by the process that this one was forked from";
    else if (output->state == BROKEN)
        text = "was given up after an earlier failure";
    else if (output->state > most)
        text = "is already complete";
    if (text == NULL) return TS_OK;
    ts_status status = ts_fail(error, TS_CLOSED, "%s", text);
    return ts_error_in_file(error, status, output->path);
}

/* ---- the temporary file --------------------------------------------- */

static int open_patiently(int folder, const char *name, int flags, mode_t mode)
{
    int fd;
    do fd = ts_sys.openat(folder, name, flags, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static ts_status open_folder(ts_output *output, const char *slash,
                             ts_error *error)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    char *folder = NULL;

    if (slash != NULL) {
        size_t size = slash == output->path ? 1
                                            : (size_t)(slash - output->path);
        folder = strndup(output->path, size);
        if (folder == NULL)
            return ts_fail(error, TS_NOMEM, "cannot allocate a path");
    }
    output->folder =
        open_patiently(AT_FDCWD, folder == NULL ? "." : folder, flags, 0);
    free(folder);
    if (output->folder >= 0) return TS_OK;
    return fail_os(output, errno, "open the folder it should be in", error);
}

static ts_status take_name(ts_output *output, const char *name,
                           ts_error *error)
{
    size_t size = strlen(name);
    if (size > 0 && size < NAME_SIZE && strcmp(name, ".") != 0
        && strcmp(name, "..") != 0 && strchr(name, '/') == NULL) {
        memcpy(output->name, name, size + 1);
        return TS_OK;
    }
    ts_status status = ts_fail(error, TS_ARGUMENT,
                               "is no path of a file: its last part has %zu "
                               "bytes, 1 to 255 are possible", size);
    return give_up(output, status, error);
}

/* What stands at the path now: it decides the mode of the new file, or that
 * there cannot be one. */
static ts_status look_at_old(ts_output *output, mode_t *mode, ts_error *error)
{
    struct stat info;

    *mode = 0;
    if (ts_sys.fstatat(output->folder, output->name, &info,
                       AT_SYMLINK_NOFOLLOW)
        != 0) {
        if (errno == ENOENT) return TS_OK;
        return fail_os(output, errno, "look at what is there", error);
    }
    if (S_ISDIR(info.st_mode))
        return fail_os(output, EISDIR, "write a file there", error);
    if (S_ISREG(info.st_mode))
        *mode = info.st_mode & (S_IRWXU | S_IRWXG | S_IRWXO);
    if (S_ISREG(info.st_mode) || S_ISLNK(info.st_mode)) return TS_OK;
    ts_status status =
        ts_fail(error, TS_ARGUMENT,
                "is a device, a FIFO or a socket, which no file can replace");
    return give_up(output, status, error);
}

static ts_status open_temp(ts_output *output, ts_error *error)
{
    mode_t mode;

    TS_TRY(look_at_old(output, &mode, error));
    ts_temp_sweep(output->folder, output->name);
    output->fd = ts_temp_open(output->folder, output->name, output->temp);
    if (output->fd < 0)
        return fail_os(output, errno, "create a file beside it", error);
    output->has_temp = true;
    if (mode != 0 && ts_sys.fchmod(output->fd, mode) != 0)
        return fail_os(output, errno, "keep the mode of the old file", error);
    return TS_OK;
}

ts_status ts_output_new(const char *path, ts_output **out, ts_error *error)
{
    size_t size = strlen(path) + 1;
    ts_output *output = calloc(1, sizeof *output + size);
    uint8_t *buffer = malloc(TS_OUTPUT_BUFFER);
    ts_status status;

    *out = NULL;
    if (output == NULL || buffer == NULL) {
        free(output);
        free(buffer);
        return ts_fail(error, TS_NOMEM,
                       "cannot allocate %zu bytes to write %s",
                       TS_OUTPUT_BUFFER, path);
    }
    output->buffer = buffer;
    output->folder = output->fd = -1;
    output->generation = ts_process_generation();
    memcpy(output->path, path, size);
    const char *slash = strrchr(output->path, '/');
    status = take_name(output, slash == NULL ? output->path : slash + 1,
                       error);
    if (status == TS_OK) status = open_folder(output, slash, error);
    if (status == TS_OK) status = open_temp(output, error);
    if (status == TS_OK)
        *out = output;
    else
        ts_output_free(output);
    return status;
}

void ts_output_free(ts_output *output)
{
    if (output == NULL) return;
    /* The file is the parent's, and so is the decision what becomes of it. */
    if (output->has_temp && output->generation == ts_process_generation())
        ts_sys.unlinkat(output->folder, output->temp, 0);
    if (output->fd >= 0) ts_sys.close(output->fd);
    if (output->folder >= 0) ts_sys.close(output->folder);
    free(output->buffer);
    free(output);
}

/* ---- writing -------------------------------------------------------- */

static ts_status write_out(ts_output *output, uint64_t offset,
                           const uint8_t *bytes, uint64_t size,
                           ts_error *error)
{
    while (size > 0) {
        ssize_t put = ts_sys.pwrite(output->fd, bytes,
                                    (size_t)ts_min(size, TS_GIB),
                                    (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        /* A regular file that takes nothing is out of room. */
        if (put <= 0)
            return fail_bytes(output, put < 0 ? errno : ENOSPC, "write",
                              offset, size, error);
        bytes += put;
        offset += (uint64_t)put;
        size -= (uint64_t)put;
    }
    return TS_OK;
}

/* Straight from `bytes` to the end of what was flushed. */
static ts_status write_end(ts_output *output, const uint8_t *bytes,
                           uint64_t size, ts_error *error)
{
    TS_TRY(write_out(output, output->flushed, bytes, size, error));
    output->flushed += size;
    uint64_t fresh = output->flushed - output->started;
    if (fresh >= WRITE_BEHIND) {
        (void)ts_sys.start_writing(output->fd, (off_t)output->started,
                                   (off_t)fresh);
        output->started = output->flushed;
    }
    return TS_OK;
}

static ts_status flush(ts_output *output, ts_error *error)
{
    size_t size = output->used;
    output->used = 0;
    return write_end(output, output->buffer, size, error);
}

ts_status ts_output_rest(ts_output *output, ts_error *error)
{
    TS_TRY(check_usable(output, OPEN, error));
    TS_TRY(flush(output, error));
    free(output->buffer);
    output->buffer = NULL;
    return TS_OK;
}

static ts_status have_buffer(ts_output *output, ts_error *error)
{
    if (output->buffer == NULL) output->buffer = malloc(TS_OUTPUT_BUFFER);
    if (output->buffer != NULL) return TS_OK;
    ts_status status = ts_fail(error, TS_NOMEM, "cannot allocate %zu bytes",
                               TS_OUTPUT_BUFFER);
    return give_up(output, status, error);
}

ts_status ts_output_reserve(ts_output *output, uint64_t size, ts_error *error)
{
    struct statvfs info;
    int failed;

    TS_TRY(check_usable(output, OPEN, error));
    if (size <= output->reserved || size > INT64_MAX) return TS_OK;
    /* Before fallocate finds out it takes all there is, from everybody. */
    if (ts_sys.fstatvfs(output->folder, &info) == 0
        && size / ts_max(info.f_frsize, 1) > info.f_bavail)
        return fail_bytes(output, ENOSPC, "reserve", 0, size, error);
    do failed = ts_sys.fallocate(output->fd, 0, 0, (off_t)size);
    while (failed && errno == EINTR);
    if (failed && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        return fail_bytes(output, errno, "reserve", 0, size, error);
    if (!failed) output->reserved = size;
    return TS_OK; /* a system that cannot reserve writes all the same */
}

ts_status ts_output_append(ts_output *output, const void *bytes, uint64_t size,
                           ts_error *error)
{
    const uint8_t *at = bytes;

    TS_TRY(check_usable(output, OPEN, error));
    if (size > INT64_MAX - ts_output_size(output))
        return fail_bytes(output, EFBIG, "write", ts_output_size(output), size,
                          error);
    if (size > TS_OUTPUT_BUFFER - output->used) {
        TS_TRY(flush(output, error));
        if (size >= TS_OUTPUT_BUFFER)
            return write_end(output, at, size, error);
    }
    TS_TRY(have_buffer(output, error));
    if (size > 0) memcpy(output->buffer + output->used, at, (size_t)size);
    output->used += (size_t)size;
    return TS_OK;
}

ts_status ts_output_zeros(ts_output *output, uint64_t size, ts_error *error)
{
    static const uint8_t zeros[ZEROS_PIECE];

    for (; size > ZEROS_PIECE; size -= ZEROS_PIECE)
        TS_TRY(ts_output_append(output, zeros, ZEROS_PIECE, error));
    return ts_output_append(output, zeros, size, error);
}

static ts_status check_within(const ts_output *output, uint64_t offset,
                              uint64_t size, uint64_t *end, ts_error *error)
{
    if (ts_add(offset, size, end) && *end <= ts_output_size(output))
        return TS_OK;
    return ts_fail(error, TS_ARGUMENT,
                   "%" PRIu64 " bytes at %" PRIu64 " are not within the "
                   "%" PRIu64 " bytes written", size, offset,
                   ts_output_size(output));
}

ts_status ts_output_patch(ts_output *output, uint64_t offset,
                          const void *bytes, uint64_t size, ts_error *error)
{
    uint64_t end;

    TS_TRY(check_usable(output, OPEN, error));
    TS_TRY(check_within(output, offset, size, &end, error));
    if (end > output->flushed) TS_TRY(flush(output, error));
    return write_out(output, offset, bytes, size, error);
}

/* What lies behind is cut off at the end, where it was not overwritten. */
ts_status ts_output_rewind(ts_output *output, uint64_t size, ts_error *error)
{
    TS_TRY(check_usable(output, OPEN, error));
    if (size > ts_output_size(output))
        return ts_fail(error, TS_ARGUMENT,
                       "cannot go back to byte %" PRIu64 " of %" PRIu64, size,
                       ts_output_size(output));
    output->reserved = ts_max(output->reserved, output->flushed);
    output->used =
        size > output->flushed ? (size_t)(size - output->flushed) : 0;
    output->flushed = ts_min(size, output->flushed);
    output->started = ts_min(size, output->started);
    return TS_OK;
}

uint64_t ts_output_size(const ts_output *output)
{
    return output->flushed + output->used;
}

const char *ts_output_path(const ts_output *output) { return output->path; }

/* ---- room at the front ---------------------------------------------- */

static ts_status read_back(ts_output *output, uint64_t offset, uint8_t *into,
                           uint64_t size, ts_error *error)
{
    while (size > 0) {
        ssize_t got =
            ts_sys.pread(output->fd, into, (size_t)size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return fail_bytes(output, got < 0 ? errno : EIO, "read back",
                              offset, size, error);
        into += got;
        offset += (uint64_t)got;
        size -= (uint64_t)got;
    }
    return TS_OK;
}

ts_status ts_output_look(ts_output *output, uint64_t offset, void *into,
                         uint64_t size, ts_error *error)
{
    uint64_t end;

    TS_TRY(check_usable(output, OPEN, error));
    TS_TRY(check_within(output, offset, size, &end, error));
    if (end > output->flushed) TS_TRY(flush(output, error));
    return read_back(output, offset, into, size, error);
}

/* In the kernel where it can do that, else through the buffer, which is empty
 * now.  `able` remembers what it cannot. */
static ts_status copy_piece(ts_output *output, uint64_t from, uint64_t to,
                            uint64_t size, bool *able, ts_error *error)
{
    while (*able && size > 0) {
        ssize_t done = ts_sys.copy_range(output->fd, (off_t)from, (off_t)to,
                                         (size_t)size);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            *able = false;
            break;
        }
        from += (uint64_t)done;
        to += (uint64_t)done;
        size -= (uint64_t)done;
    }
    /* From the end, as the whole is: what is read has not been overwritten. */
    while (size > 0) {
        uint64_t part = ts_min(size, TS_OUTPUT_BUFFER);
        size -= part;
        TS_TRY(read_back(output, from + size, output->buffer, part, error));
        TS_TRY(write_out(output, to + size, output->buffer, part, error));
    }
    return TS_OK;
}

/* The last piece first; no piece is longer than the way it goes, because
 * copy_file_range takes no ranges that overlap. */
static ts_status copy_tail(ts_output *output, uint64_t at, uint64_t by,
                           ts_error *error)
{
    const uint64_t piece = ts_min(by, SHIFT_PIECE);
    uint64_t end = output->flushed;
    bool able = true;

    while (end > at) {
        uint64_t size = ts_min(end - at, piece);
        end -= size;
        TS_TRY(copy_piece(output, end, end + by, size, &able, error));
    }
    return TS_OK;
}

ts_status ts_output_shift(ts_output *output, uint64_t at, uint64_t by,
                          ts_error *error)
{
    TS_TRY(check_usable(output, OPEN, error));
    if (by % TS_OUTPUT_GRAIN != 0 || at > ts_output_size(output)
        || by > INT64_MAX - ts_output_size(output))
        return ts_fail(error, TS_ARGUMENT,
                       "cannot shift what follows byte %" PRIu64 " by %" PRIu64
                       " bytes", at, by);
    if (by == 0) return TS_OK;
    TS_TRY(flush(output, error));
    TS_TRY(have_buffer(output, error));
    /* ext4 and XFS insert a hole without copying anything.  It needs whole
     * file system blocks, and a tail: EINVAL when either is not so. */
    if (ts_sys.fallocate(output->fd, FALLOC_FL_INSERT_RANGE, (off_t)at,
                         (off_t)by)
        != 0)
        TS_TRY(copy_tail(output, at, by, error));
    else if (output->reserved > 0)
        output->reserved += by; /* it moved as well */
    output->flushed += by;
    output->started = ts_min(output->started, at);
    return TS_OK;
}

/* ---- the end -------------------------------------------------------- */

/* What was reserved and not needed, or left behind an inserted hole. */
static ts_status cut(ts_output *output, ts_error *error)
{
    if (output->reserved <= output->flushed) return TS_OK;
    if (ts_sys.ftruncate(output->fd, (off_t)output->flushed) == 0)
        return TS_OK;
    return fail_os(output, errno, "cut the file to its size", error);
}

ts_status ts_output_seal(ts_output *output, ts_error *error)
{
    TS_TRY(check_usable(output, SEALED, error));
    if (output->state == SEALED) return TS_OK;
    TS_TRY(flush(output, error));
    TS_TRY(cut(output, error));
    if (ts_sys.fsync(output->fd) != 0)
        return fail_os(output, errno, "bring the file to the disk", error);
    free(output->buffer);
    output->buffer = NULL;
    output->state = SEALED;
    return TS_OK;
}

/* Some network file systems have no such thing for folders, and say EINVAL. */
static ts_status sync_folder(ts_output *output, ts_error *error)
{
    if (ts_sys.fsync(output->folder) == 0 || errno == EINVAL) return TS_OK;
    return fail_os(output, errno,
                   "bring its folder to the disk (the new file is in place)",
                   error);
}

ts_status ts_output_publish(ts_output *output, const char *name,
                            ts_error *error)
{
    TS_TRY(check_usable(output, SEALED, error));
    if (name != NULL) TS_TRY(take_name(output, name, error));
    TS_TRY(ts_output_seal(output, error));
    if (ts_sys.renameat(output->folder, output->temp, output->folder,
                        output->name)
        != 0)
        return fail_os(output, errno, "put the new file in its place", error);
    output->has_temp = false;
    /* The lock has done its work.  After an fsync a close has nothing left to
     * say. */
    ts_sys.close(output->fd);
    output->fd = -1;
    TS_TRY(sync_folder(output, error));
    output->state = PUBLISHED;
    return TS_OK;
}
