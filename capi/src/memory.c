/* Memory and errors of one call. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { LINE = 64, BLOCK = 1 << 16 };

struct block {
    block *older;
};

static _Thread_local char message[512];

const char *numbapool_error_message(void) { return message; }

void fail(context *c, int status, const char *format, ...)
{
    int begun = snprintf(message, sizeof message, "%s: ", c->where);
    va_list arguments;
    va_start(arguments, format);
    if (begun > 0 && (size_t)begun < sizeof message)
        vsnprintf(message + begun, sizeof message - (size_t)begun, format, arguments);
    va_end(arguments);
    c->status = status;
    longjmp(c->out, 1);
}

static char *aligned(char *p)
{
    return p + (-(uintptr_t)p & (LINE - 1));
}

void begin(context *c, const char *where, void *workspace, size_t size, bool fixed)
{
    c->where = where;
    c->blocks = NULL;
    c->used = c->peak = 0;
    c->fixed = fixed;
    c->status = NUMBAPOOL_OK;
    c->device = -1;
    c->first = "x";
    c->host = NULL;
    c->program = NULL;
    c->device_bytes = 0;
    c->next = workspace;
    c->end = c->next ? c->next + size : NULL;
    if (c->next && size >= LINE)
        c->next = aligned(c->next);
    else
        c->next = c->end = NULL;
}

mark marked(const context *c) { return (mark){c->next, c->end, c->blocks, c->used}; }

void give_back(context *c, const mark *m)
{
    while (c->blocks != m->blocks) {
        block *older = c->blocks->older;
        free(c->blocks);
        c->blocks = older;
    }
    c->next = m->next;
    c->end = m->end;
    c->used = m->used;
}

void end(context *c)
{
    give_back(c, &(mark){NULL, NULL, NULL, 0});
}

void *take(context *c, size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        fail(c, NUMBAPOOL_MEMORY_ERROR, "the call needs more memory than there are addresses");
    size_t whole = (bytes + LINE - 1) / LINE * LINE;
    if ((size_t)(c->end - c->next) < whole || !c->next) {
        if (c->fixed)
            fail(c, NUMBAPOOL_BUFFER_ERROR, "workspace_size is too small: %zu bytes are not enough (ask by workspace_needed)", c->used + whole);
        size_t room = whole + sizeof(block) + LINE > BLOCK ? whole + sizeof(block) + LINE : BLOCK;
        block *fresh = malloc(room);
        if (!fresh)
            fail(c, NUMBAPOOL_MEMORY_ERROR, "malloc of %zu bytes failed", room);
        fresh->older = c->blocks;
        c->blocks = fresh;
        c->next = aligned((char *)(fresh + 1));
        c->end = (char *)fresh + room;
    }
    void *memory = c->next;
    c->next += whole;
    c->used += whole;
    if (c->used > c->peak)
        c->peak = c->used;
    return memory;
}

int64_t *take_words(context *c, int64_t words)
{
    if (words < 0 || (uint64_t)words > SIZE_MAX / 16)
        fail(c, NUMBAPOOL_MEMORY_ERROR, "the call needs more memory than there are addresses");
    return take(c, (size_t)words * sizeof(int64_t));
}

int64_t *take_zeros(context *c, int64_t words)
{
    int64_t *memory = take_words(c, words);
    memset(memory, 0, (size_t)words * sizeof(int64_t));
    return memory;
}
