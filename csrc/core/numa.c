#include "numa.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

enum { MOST_NODES = 64 };

typedef struct {
    int nodes; /* as everybody is told */
    int real;  /* as libnuma knows them; 1 without it */
    void (*tonode_memory)(void *, size_t, int);
    int (*run_on_node)(int);
} library;

static library found = {.nodes = 1, .real = 1};
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* dlsym gives an object pointer; POSIX lets it be stored as a function's. */
static void *symbol(void *handle, const char *name)
{
    return dlsym(handle, name);
}

/* Filled once, read-only afterwards: a table of the machine, as cpu.c's. */
static void open_library(void)
{
    void *handle = dlopen("libnuma.so.1", RTLD_NOW | RTLD_LOCAL);
    int (*available)(void), (*configured)(void);
    if (handle == NULL) return;
    *(void **)&available = symbol(handle, "numa_available");
    *(void **)&configured = symbol(handle, "numa_num_configured_nodes");
    *(void **)&found.tonode_memory = symbol(handle, "numa_tonode_memory");
    *(void **)&found.run_on_node = symbol(handle, "numa_run_on_node");
    if (available == NULL || configured == NULL || found.tonode_memory == NULL
        || found.run_on_node == NULL || available() < 0)
        return;
    int nodes = configured();
    found.real = nodes > 1 ? nodes : 1;
}

static void look(void)
{
    const char *asked = getenv("TENSORSTREAM_NUMA_NODES");
    long nodes = asked != NULL ? strtol(asked, NULL, 10) : 0;
    open_library();
    found.nodes = nodes >= 1 && nodes <= MOST_NODES ? (int)nodes : found.real;
}

static const library *numa(void)
{
    pthread_once(&once, look);
    return &found;
}

int ts_numa_nodes(void) { return numa()->nodes; }

void ts_numa_bind(void *at, size_t size, int node)
{
    if (node >= 0 && node < numa()->real && numa()->real > 1) numa()->tonode_memory(at, size, node);
}

void ts_numa_run_on(int node)
{
    if (node >= 0 && node < numa()->real && numa()->real > 1) numa()->run_on_node(node);
}
