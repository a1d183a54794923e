#include "numa.h"

#include <dlfcn.h>
#include <pthread.h>

typedef struct {
    int nodes;
    void (*tonode_memory)(void *, size_t, int);
    int (*run_on_node)(int);
} library;

static library found = {.nodes = 1};
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
    found.nodes = nodes > 1 ? nodes : 1;
}

static const library *numa(void)
{
    pthread_once(&once, open_library);
    return &found;
}

int ts_numa_nodes(void) { return numa()->nodes; }

void ts_numa_bind(void *at, size_t size, int node)
{
    if (node >= 0 && numa()->nodes > 1) numa()->tonode_memory(at, size, node);
}

void ts_numa_run_on(int node)
{
    if (node >= 0 && numa()->nodes > 1) numa()->run_on_node(node);
}
