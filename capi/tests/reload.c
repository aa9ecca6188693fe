/* Loads the shared library named by argv[1], calls it on its own threads and unloads it, 1000 times: neither memory nor threads are left behind. */
#include <dlfcn.h>

#include "check.h"

enum { TIMES = 1000, WARM = 100, SLACK = 1024 }; /* SLACK: kilobytes that memory may grow after WARM times */

/* What stands after a name in /proc/self/status, or -1. */
static long own_status(const char *name)
{
    char line[256];
    long found = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name)))
            found = atol(line + strlen(name));
    if (file)
        fclose(file);
    return found;
}

/* An object pointer as a function pointer: POSIX' way of writing what ISO C does not say. */
#define FIND(library, variable, name) (*(void **)(&(variable)) = dlsym(library, name), (variable) != NULL)

static bool call(void *library, DLTensor *x, DLTensor *y)
{
    int (*init)(numbapool_params *, size_t);
    int (*pool)(const DLTensor *, DLTensor *, const numbapool_params *);
    numbapool_params p;
    if (!FIND(library, init, "numbapool_params_init") || !FIND(library, pool, "numbapool_avg_pool") || init(&p, sizeof p) != NUMBAPOOL_OK)
        return false;
    p.kernel_size[0] = p.kernel_size[1] = 2;
    p.num_threads = 4;
    return pool(x, y, &p) == NUMBAPOOL_OK;
}

int main(int argc, char **argv)
{
    const int64_t from[] = {2, 16, 96, 96}, to[] = {2, 16, 48, 48};
    tensor x, y;
    long before = 0;
    if (argc < 2) {
        puts("usage: reload LIBRARY");
        return 2;
    }
    shaped(&x, dl(F32), 4, from)->data = allocate(sizeof(float) * 2 * 16 * 96 * 96);
    shaped(&y, dl(F32), 4, to)->data = allocate(sizeof(float) * 2 * 16 * 48 * 48);
    for (int64_t i = 0; i < elements(&x.t); i++)
        ((float *)x.t.data)[i] = 1.5F;
    for (int i = 0; i < TIMES && failures == 0; i++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (!library) {
            printf("dlopen: %s\n", dlerror());
            return 1;
        }
        memset(y.t.data, 0, bytes_of(&y.t));
        if (!call(library, &x.t, &y.t) || ((float *)y.t.data)[i] != 1.5F || dlclose(library) != 0)
            printf("reload: turn %d failed\n", i), failures++;
        if (i == WARM)
            before = own_status("VmRSS:");
    }
    long after = own_status("VmRSS:"), threads = own_status("Threads:");
    if (dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD))
        puts("reload: the library was not unloaded"), failures++;
    if (before >= 0 && (after > before + SLACK || threads != 1))
        printf("reload: memory went from %ld to %ld KB, and %ld threads are left\n", before, after, threads), failures++;
    free(x.t.data);
    free(y.t.data);
    printf(failures ? "reload: failed\n" : "reload: ok\n");
    return failures != 0;
}
