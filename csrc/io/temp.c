#include "temp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "core/base.h"
#include "fault.h"

enum {
    DIGITS = 16,
    /* Of ".", ".", the digits and ".tmp": a long name is cut so that the whole
     * fits NAME_MAX. */
    AROUND = 2 + DIGITS + 4,
    KEEP = TS_TEMP_NAME - 1 - AROUND,
    ENTRIES = 4096, /* bytes of a folder looked at in one call */
};

static int kept(const char *name) { return (int)strnlen(name, KEEP); }

bool ts_temp_is(const char *entry, const char *name)
{
    size_t size = (size_t)kept(name);

    return strlen(entry) == size + AROUND && entry[0] == '.'
        && memcmp(entry + 1, name, size) == 0 && entry[1 + size] == '.'
        && strspn(entry + 2 + size, "0123456789abcdef") == DIGITS
        && strcmp(entry + 2 + size + DIGITS, ".tmp") == 0;
}

/* ---- a new one ---------------------------------------------------------- */

static bool make_name(const char *name, char temp[TS_TEMP_NAME])
{
    uint64_t number;

    if (ts_sys.getrandom(&number, sizeof number, 0) != sizeof number)
        return false;
    snprintf(temp, TS_TEMP_NAME, ".%.*s.%0*" PRIx64 ".tmp", kept(name), name,
             DIGITS, number);
    return true;
}

/* Between making and locking it somebody may have found it without a lock: he
 * has the lock then, or has it gone.  A file system without locks has nobody
 * who could take one, either. */
static bool is_ours(int fd)
{
    struct stat info;

    if (ts_sys.flock(fd, LOCK_EX | LOCK_NB) != 0) return errno != EWOULDBLOCK;
    return ts_sys.fstat(fd, &info) != 0 || info.st_nlink > 0;
}

int ts_temp_open(int folder, const char *name, char temp[TS_TEMP_NAME])
{
    const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;

    for (;;) {
        if (!make_name(name, temp)) return -1;
        int fd = ts_sys.openat(folder, temp, flags, 0666);
        if (fd < 0 && (errno == EINTR || errno == EEXIST)) continue;
        if (fd < 0 || is_ours(fd)) return fd;
        ts_sys.close(fd);
    }
}

/* ---- old ones ----------------------------------------------------------- */

/* What struct linux_dirent64 is in the kernel, of which the C library only
 * shows a copy. */
typedef struct {
    uint64_t inode;
    int64_t next;
    uint16_t size;
    uint8_t type;
    char name[];
} entry;

static bool is_shared(int folder)
{
    static const uint32_t shared[] = {
        NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC,
        CEPH_SUPER_MAGIC, AFS_SUPER_MAGIC, AFS_FS_MAGIC, CODA_SUPER_MAGIC,
        OCFS2_SUPER_MAGIC, V9FS_MAGIC, FUSE_SUPER_MAGIC,
        0x0bd00bd0 /* Lustre */, 0x47504653 /* GPFS */,
        0x01161970 /* GFS2 */};
    struct statfs info;

    if (ts_sys.fstatfs(folder, &info) != 0) return true;
    for (size_t i = 0; i < TS_COUNT_OF(shared); i++)
        if ((uint32_t)info.f_type == shared[i]) return true;
    return false;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Only a regular file that the name still leads to, and of whose lock we are
 * the holder until it is gone. */
static void remove_dead(int folder, const char *name)
{
    const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    struct stat file, there;
    int fd = ts_sys.openat(folder, name, flags, 0);

    if (fd < 0) return;
    if (ts_sys.fstat(fd, &file) == 0 && S_ISREG(file.st_mode)
        && ts_sys.flock(fd, LOCK_EX | LOCK_NB) == 0
        && ts_sys.fstatat(folder, name, &there, AT_SYMLINK_NOFOLLOW) == 0
        && is_same(&file, &there))
        ts_sys.unlinkat(folder, name, 0);
    ts_sys.close(fd);
}

static void look_through(int folder, int fd, const char *name)
{
    _Alignas(entry) char room[ENTRIES];
    ssize_t got;

    while ((got = ts_sys.getdents(fd, room, sizeof room)) > 0)
        for (ssize_t at = 0; at < got;) {
            const entry *one = (const entry *)(const void *)(room + at);
            if (ts_temp_is(one->name, name)) remove_dead(folder, one->name);
            at += one->size;
        }
}

void ts_temp_sweep(int folder, const char *name)
{
    if (is_shared(folder)) return;
    int fd = ts_sys.openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0) return;
    look_through(folder, fd, name);
    ts_sys.close(fd);
}
