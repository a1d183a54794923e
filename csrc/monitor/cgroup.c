#include "cgroup.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "proctext.h"

enum {
    MAX_LEVELS = 32,           /* systems nest 3 to 8; beyond, the outermost
                                  are not looked at */
    TEXT_ROOM = 8192,          /* memory.stat is below 2 KiB today */
    MEMBERSHIP_ROOM = 4096,    /* /proc/self/cgroup */
    MAX_MOUNTINFO = 16 << 20,  /* thousands of mounts are below 1 MiB */
};

/* Version 1 writes its "unlimited" as LONG_MAX rounded down to a page, which
 * depends on the page size; older kernels as ULLONG_MAX.  No machine has
 * 4 EiB. */
#define UNLIMITED ((uint64_t)1 << 62)

/* The two versions differ in words only. */
struct dialect {
    const char *type; /* of the file system */
    const char *limit, *high, *used, *stat;
    const char *file[2];    /* cache, in memory.stat */
    const char *kept[3];    /* the part of it that cannot just be dropped */
};

static const struct dialect v1 = {
    "cgroup",
    "/memory.limit_in_bytes", NULL, "/memory.usage_in_bytes", "/memory.stat",
    {"total_inactive_file ", "total_active_file "},
    {"total_mapped_file ", "total_dirty ", "total_writeback "},
};

/* Beyond memory.high the kernel throttles and reclaims: a limit in effect. */
static const struct dialect v2 = {
    "cgroup2",
    "/memory.max", "/memory.high", "/memory.current", "/memory.stat",
    {"inactive_file ", "active_file "},
    {"file_mapped ", "file_dirty ", "file_writeback "},
};

struct level {
    size_t path_size; /* the group is the first so many bytes of path */
    int limit, high, used, stat; /* files, -1 when absent; the last two are
                                    opened when first needed */
};

struct ts_cgroup {
    const char *root; /* borrowed */
    const struct dialect *dialect;
    int membership_file;
    unsigned level_count;
    struct level levels[MAX_LEVELS];  /* our own group first, then upwards */
    char path[PATH_MAX];              /* of our own group, below root */
    char membership[MEMBERSHIP_ROOM]; /* what the levels were found from */
    char text[TEXT_ROOM];
};

/* ---- where the groups are ---------------------------------------------- */

/* Is word one of the comma-separated words that end before `end`? */
static bool has_word(const char *list, const char *end, const char *word)
{
    size_t size = strlen(word);
    while (list < end) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        const char *stop = comma == NULL ? end : comma;
        if ((size_t)(stop - list) == size && memcmp(list, word, size) == 0)
            return true;
        list = stop + 1;
    }
    return false;
}

/* The path in a line "4:memory:/a/b" (version 1) or "0::/a/b", or NULL. */
static const char *path_of_line(const struct dialect *dialect,
                                const char *line)
{
    const char *words = strchr(line, ':');
    if (words == NULL) return NULL;
    const char *end = strchr(++words, ':');
    if (end == NULL) return NULL;
    bool ours = dialect == &v1 ? has_word(words, end, "memory")
                               : words == end && line[0] == '0';
    return ours ? end + 1 : NULL;
}

/* Copies the path of our group to out[PATH_MAX]. */
static bool find_path(const struct dialect *dialect, const char *membership,
                      char *out)
{
    for (const char *line = membership; *line != '\0';) {
        size_t size = strcspn(line, "\n");
        char copy[PATH_MAX];
        if (size < sizeof copy) {
            memcpy(copy, line, size);
            copy[size] = '\0';
            const char *path = path_of_line(dialect, copy);
            if (path != NULL) {
                memcpy(out, path, strlen(path) + 1);
                return true;
            }
        }
        line += size + (line[size] == '\n');
    }
    return false;
}

/* mountinfo writes blanks, tabs, newlines and backslashes as \ooo. */
static void unescape(char *text)
{
    char *out = text;
    for (const char *in = text; *in != '\0'; out++) {
        bool octal = in[0] == '\\' && in[1] >= '0' && in[1] <= '3'
                  && in[2] >= '0' && in[2] <= '7' && in[3] >= '0'
                  && in[3] <= '7';
        *out = octal ? (char)((in[1] - '0') * 64 + (in[2] - '0') * 8
                              + (in[3] - '0'))
                     : *in;
        in += octal ? 4 : 1;
    }
    *out = '\0';
}

struct mount {
    char *top;   /* the group that is mounted; "/" unless a part is */
    char *point; /* where */
    char *type;
    char *options;
};

/* "id parent dev top point options [tags...] - type source options"; cuts the
 * line up.  False when it is not of this shape. */
static bool parse_mount(char *line, struct mount *out)
{
    char *words[5], *save = NULL;
    char *rest = strstr(line, " - ");
    if (rest == NULL) return false;
    *rest = '\0';
    for (int i = 0; i < 5; i++) {
        words[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
        if (words[i] == NULL) return false;
    }
    out->top = words[3];
    out->point = words[4];
    out->type = strtok_r(rest + 3, " ", &save);
    if (strtok_r(NULL, " ", &save) == NULL) return false;
    out->options = strtok_r(NULL, " ", &save);
    if (out->options == NULL) return false;
    unescape(out->top);
    unescape(out->point);
    return true;
}

static bool holds_memory(const struct dialect *dialect,
                         const struct mount *mount)
{
    const char *options = mount->options;
    if (strcmp(mount->type, dialect->type) != 0) return false;
    return dialect == &v2
        || has_word(options, options + strlen(options), "memory");
}

/* The part of path below the mounted group; NULL when path is not below it.
 * A path with ".." lies outside of our control group namespace. */
static const char *below(const char *top, const char *path)
{
    size_t size = strlen(top);
    if (strstr(path, "/..") != NULL) return NULL;
    if (strcmp(top, "/") == 0) return path;
    if (strncmp(path, top, size) != 0) return NULL;
    return path[size] == '/' || path[size] == '\0' ? path + size : NULL;
}

/* Sets cgroup->path to the directory of the group `path`, and *base to the
 * length of its mount point.  Of several mounts the one that shows our group
 * most closely is taken; one that does not show it still shows a group around
 * us, as where a container sees the paths of its host. */
static bool find_directory(ts_cgroup *cgroup, char *mounts, const char *path,
                           size_t *base)
{
    size_t best = 0;
    char *save = NULL;

    for (char *line = strtok_r(mounts, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        struct mount mount;
        if (!parse_mount(line, &mount)) continue;
        if (!holds_memory(cgroup->dialect, &mount)) continue;
        const char *rest = below(mount.top, path);
        size_t score = rest == NULL ? 1 : 1 + strlen(mount.top);
        if (score <= best) continue;
        int size = snprintf(cgroup->path, sizeof cgroup->path, "%s%s",
                            mount.point, rest == NULL ? "" : rest);
        if (size < 0 || (size_t)size >= sizeof cgroup->path) continue;
        best = score;
        *base = strlen(mount.point);
    }
    return best > 0;
}

/* ---- the levels, from ours up to the mount point ----------------------- */

static int open_file(ts_cgroup *cgroup, size_t path_size, const char *name)
{
    char path[PATH_MAX];
    if (name == NULL || path_size + strlen(name) >= sizeof path) return -1;
    memcpy(path, cgroup->path, path_size);
    memcpy(path + path_size, name, strlen(name) + 1);
    return ts_proctext_open(cgroup->root, path);
}

static void add_level(ts_cgroup *cgroup, size_t path_size)
{
    const struct dialect *dialect = cgroup->dialect;
    cgroup->levels[cgroup->level_count++] = (struct level){
        .path_size = path_size,
        .limit = open_file(cgroup, path_size, dialect->limit),
        .high = open_file(cgroup, path_size, dialect->high),
        .used = -1,
        .stat = -1,
    };
}

static void add_levels(ts_cgroup *cgroup, size_t base)
{
    size_t size = strlen(cgroup->path);
    for (;;) {
        while (size > base && cgroup->path[size - 1] == '/') size--;
        if (cgroup->level_count == MAX_LEVELS) return;
        add_level(cgroup, size);
        if (size <= base) return;
        while (size > base && cgroup->path[size - 1] != '/') size--;
    }
}

static void forget_levels(ts_cgroup *cgroup)
{
    for (unsigned i = 0; i < cgroup->level_count; i++) {
        struct level *level = &cgroup->levels[i];
        ts_proctext_close(&level->limit);
        ts_proctext_close(&level->high);
        ts_proctext_close(&level->used);
        ts_proctext_close(&level->stat);
    }
    cgroup->level_count = 0;
}

static bool find_levels(ts_cgroup *cgroup, const struct dialect *dialect)
{
    size_t base;
    char path[PATH_MAX];
    if (!find_path(dialect, cgroup->membership, path)) return false;
    char *mounts = ts_proctext_load(cgroup->root, "/proc/self/mountinfo",
                                    MAX_MOUNTINFO);
    if (mounts == NULL) return false;
    cgroup->dialect = dialect;
    bool found = find_directory(cgroup, mounts, path, &base);
    if (found) add_levels(cgroup, base);
    free(mounts);
    return found;
}

/* Where both versions are mounted, memory belongs to one of them: to version
 * 1 if that lists it. */
static void follow(ts_cgroup *cgroup)
{
    char now[MEMBERSHIP_ROOM];
    ts_proctext_read(cgroup->membership_file, now, sizeof now);
    if (strcmp(now, cgroup->membership) == 0) return;
    memcpy(cgroup->membership, now, sizeof now);
    forget_levels(cgroup);
    if (!find_levels(cgroup, &v1)) find_levels(cgroup, &v2);
}

/* ---- numbers ----------------------------------------------------------- */

static uint64_t number_in(ts_cgroup *cgroup, int file)
{
    if (!ts_proctext_read(file, cgroup->text, sizeof cgroup->text))
        return TS_MEMORY_UNKNOWN;
    return ts_proctext_number(cgroup->text);
}

static uint64_t limit_of(ts_cgroup *cgroup, const struct level *level)
{
    uint64_t limit = number_in(cgroup, level->limit);
    if (level->high >= 0)
        limit = ts_min(limit, number_in(cgroup, level->high));
    return limit < UNLIMITED ? limit : TS_MEMORY_UNKNOWN;
}

static uint64_t used_by(ts_cgroup *cgroup, struct level *level)
{
    if (level->used < 0)
        level->used =
            open_file(cgroup, level->path_size, cgroup->dialect->used);
    return number_in(cgroup, level->used);
}

static uint64_t stat_field(const ts_cgroup *cgroup, const char *key)
{
    uint64_t value = ts_proctext_field(cgroup->text, key);
    return value == TS_MEMORY_UNKNOWN ? 0 : value;
}

/* File cache that the kernel drops before it kills anybody: neither mapped,
 * nor dirty, nor being written.  A process that streams files fills its group
 * with such pages; counting them as used would leave it no room at all. */
static uint64_t droppable(ts_cgroup *cgroup, struct level *level)
{
    const struct dialect *dialect = cgroup->dialect;
    uint64_t file = 0, kept = 0;

    if (level->stat < 0)
        level->stat = open_file(cgroup, level->path_size, dialect->stat);
    if (!ts_proctext_read(level->stat, cgroup->text, sizeof cgroup->text))
        return 0;
    for (size_t i = 0; i < TS_COUNT_OF(dialect->file); i++)
        if (!ts_add(file, stat_field(cgroup, dialect->file[i]), &file))
            return 0;
    for (size_t i = 0; i < TS_COUNT_OF(dialect->kept); i++)
        if (!ts_add(kept, stat_field(cgroup, dialect->kept[i]), &kept))
            return 0;
    return file - ts_min(file, kept);
}

static void sample_level(ts_cgroup *cgroup, struct level *level,
                         ts_memory *out)
{
    uint64_t limit = limit_of(cgroup, level);
    if (limit == TS_MEMORY_UNKNOWN) return;
    uint64_t used = used_by(cgroup, level);
    if (limit < out->cgroup_limit) {
        out->cgroup_limit = limit;
        out->cgroup_used = used;
    }
    if (used == TS_MEMORY_UNKNOWN) return;
    used -= ts_min(used, droppable(cgroup, level));
    out->cgroup_room = ts_min(out->cgroup_room, limit - ts_min(limit, used));
}

void ts_cgroup_sample(ts_cgroup *cgroup, ts_memory *out)
{
    out->cgroup_limit = TS_MEMORY_UNKNOWN;
    out->cgroup_used = TS_MEMORY_UNKNOWN;
    out->cgroup_room = TS_MEMORY_UNKNOWN;
    follow(cgroup);
    for (unsigned i = 0; i < cgroup->level_count; i++)
        sample_level(cgroup, &cgroup->levels[i], out);
    if (out->cgroup_limit == TS_MEMORY_UNKNOWN && cgroup->level_count > 0)
        out->cgroup_used = used_by(cgroup, &cgroup->levels[0]);
}

/* ---- lifetime ---------------------------------------------------------- */

ts_status ts_cgroup_new(const char *root, ts_cgroup **out, ts_error *error)
{
    ts_cgroup *cgroup = calloc(1, sizeof *cgroup);
    if (cgroup == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %zu bytes",
                       sizeof *cgroup);
    cgroup->root = root;
    cgroup->membership_file = ts_proctext_open(root, "/proc/self/cgroup");
    *out = cgroup;
    return TS_OK;
}

void ts_cgroup_free(ts_cgroup *cgroup)
{
    if (cgroup == NULL) return;
    forget_levels(cgroup);
    ts_proctext_close(&cgroup->membership_file);
    free(cgroup);
}
