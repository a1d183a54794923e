/* replay.c -- run a fuzz target over the files of a folder, without a fuzzer.
 *
 * What a fuzzer found once is checked on every `make test`.  Each file also
 * runs cut short at a few places, which costs nothing and finds a lot. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A heap block of exactly this size, so that ASan sees one byte too far. */
static void run_exactly(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) abort();
    if (size > 0) memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    uint8_t *bytes = malloc((size_t)size + 1);
    if (bytes == NULL || fread(bytes, 1, (size_t)size, file) != (size_t)size) {
        perror(path);
        exit(1);
    }
    fclose(file);
    run_exactly(bytes, (size_t)size);
    for (long cut = 1; cut < size; cut = cut * 2 + 1)
        run_exactly(bytes, (size_t)(size - cut));
    free(bytes);
}

int main(int count, char **arguments)
{
    int files = 0;
    for (int i = 1; i < count; i++) {
        DIR *folder = opendir(arguments[i]);
        if (folder == NULL) {
            perror(arguments[i]);
            return 1;
        }
        for (struct dirent *at; (at = readdir(folder)) != NULL;) {
            char path[4096];
            if (at->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "%s/%s", arguments[i], at->d_name);
            run_file(path);
            files++;
        }
        closedir(folder);
    }
    printf("%d files replayed\n", files);
    return files > 0 ? 0 : 1;
}
