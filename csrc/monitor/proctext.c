#include "proctext.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"

int ts_proctext_open(const char *root, const char *path)
{
    char full[PATH_MAX];
    int size = snprintf(full, sizeof full, "%s%s", root, path);
    if (size < 0 || (size_t)size >= sizeof full) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open(full, O_RDONLY | O_CLOEXEC);
}

void ts_proctext_close(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

bool ts_proctext_read(int fd, char *out, size_t room)
{
    ssize_t size;
    do
        size = pread(fd, out, room - 1, 0); /* EBADF when fd is -1 */
    while (size < 0 && errno == EINTR);
    out[size < 0 ? 0 : size] = '\0';
    return size > 0;
}

/* Read to the end of the file.  False when that is beyond room. */
static bool fill(int fd, char *out, size_t room, size_t *size)
{
    while (*size < room) {
        ssize_t got = read(fd, out + *size, room - *size);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return got == 0;
        *size += (size_t)got;
    }
    return false;
}

char *ts_proctext_load(const char *root, const char *path, size_t limit)
{
    size_t size = 0;
    char *text = NULL;
    bool done = false;
    int fd = ts_proctext_open(root, path);
    if (fd < 0) return NULL;

    for (size_t room = 8192; !done && room / 2 < limit; room *= 2) {
        char *longer = realloc(text, room + 1);
        if (longer == NULL) break;
        text = longer;
        done = fill(fd, text, room, &size);
        if (!done && size < room) break; /* an error, not a lack of room */
    }
    ts_proctext_close(&fd);
    if (!done || size > limit) {
        free(text);
        return NULL;
    }
    text[size] = '\0';
    return text;
}

static const char *skip_blanks(const char *at)
{
    while (*at == ' ' || *at == '\t') at++;
    return at;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Leaves *at behind the number; UINT64_MAX as the header says. */
static uint64_t take_number(const char **at)
{
    uint64_t value = 0;
    const char *start = skip_blanks(*at), *end = start;
    bool fits = is_digit(*start);

    for (; is_digit(*end); end++)
        fits = fits && ts_mul(value, 10, &value)
            && ts_add(value, (uint64_t)(*end - '0'), &value);
    *at = end;
    if (*end != '\0' && strchr(" \t\n", *end) == NULL) fits = false;
    return fits ? value : UINT64_MAX;
}

uint64_t ts_proctext_number(const char *text) { return take_number(&text); }

static const char *find_line(const char *text, const char *key)
{
    size_t size = strlen(key);
    while (text != NULL && strncmp(text, key, size) != 0) {
        text = strchr(text, '\n');
        if (text != NULL) text++;
    }
    return text;
}

uint64_t ts_proctext_field(const char *text, const char *key)
{
    const char *at = find_line(text, key);
    if (at == NULL) return UINT64_MAX;
    at += strlen(key);
    uint64_t value = take_number(&at);
    if (value == UINT64_MAX || strncmp(skip_blanks(at), "kB", 2) != 0)
        return value;
    return ts_mul(value, 1024, &value) ? value : UINT64_MAX;
}
