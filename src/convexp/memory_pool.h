/* Blocks of memory that are kept for the next array when one is freed.

   A fresh block costs a page fault for each of its pages, and one that is given back is fresh again
   the next time. So what is freed stays in a list of its size class, up to a limit; beyond it the
   block that was freed the longest ago goes back first.

   Small arrays are left to NumPy's own allocator. Which of the two a pointer came from is read off
   the pointer and the header before it, never off the size, which need not be the one that was
   asked for. */

#ifndef CONVEXP_MEMORY_POOL_H
#define CONVEXP_MEMORY_POOL_H

#include <Python.h>
#include <numpy/arrayobject.h>
#include <pythread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#include <malloc.h>
#elif defined(__linux__)
#include <sys/mman.h>
#endif

#define SMALLEST ((size_t)1 << 16)       /* bytes from which on a block is kept */
#define WITH_HUGE_PAGES ((size_t)1 << 22) /* and from which on it lies on huge pages */
#define HUGE_PAGE ((size_t)1 << 21)
#define PAGE ((size_t)1 << 12) /* a header lies at a multiple of it, */
#define DATA ((size_t)64)      /* and the array this far behind, on a cache line of its own */
#define MAGIC ((size_t)0x5bd1e995a9e3779bULL)
#define CLASSES 192
#define UNCLASSED (-1)

typedef struct Block {
    size_t magic; /* MAGIC ^ its own address, as long as it is a block */
    size_t capacity;
    size_t freed; /* when, in blocks freed */
    struct Block *newer, *older;
    int size_class;
} Block;

typedef char header_fits[sizeof(Block) <= DATA ? 1 : -1];

static struct {
    PyThread_type_lock lock; /* guards what follows: arrays are freed by any thread */
    Block *newest[CLASSES], *oldest[CLASSES];
    size_t cached, limit, frees;
    int users;
} pool;

static PyDataMemAllocator small; /* NumPy's own */

/* Four classes a power of two, which waste less than a quarter. */
static int class_of(size_t size, size_t *capacity) {
    size_t quarter = SMALLEST / 4, quarters;
    int octave = 0;
    for (; size / 8 >= quarter; quarter *= 2)
        octave++;
    quarters = (size - 1) / quarter + 1; /* 4..8 */
    *capacity = quarters * quarter;
    return 4 * octave + (int)(quarters - 4);
}

/* The header before an array's memory, or NULL where that is no block. A header that starts a page
   can be looked for there, whatever memory it is: the pointer lies on the same page. */
static Block *block_of(void *data) {
    Block *block = (Block *)((char *)data - DATA);
    if ((uintptr_t)data % PAGE != DATA || block->magic != (MAGIC ^ (size_t)block))
        return NULL;
    return block;
}

static size_t whole_pages(size_t capacity) { return (capacity + DATA + PAGE - 1) / PAGE * PAGE; }

/* Memory for a header and the capacity behind it; *zeros says whether it is known to be zero. */
static Block *fresh(size_t capacity, int *zeros) {
    size_t length = whole_pages(capacity);
    void *memory;
    *zeros = 0;
#if defined(_WIN32)
    memory = _aligned_malloc(length, PAGE);
#elif defined(__linux__)
    if (capacity >= WITH_HUGE_PAGES) {
        /* A huge page more than needed, of which what lies around the aligned part goes back. */
        char *mapped = mmap(NULL, length + HUGE_PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        size_t before;
        if (mapped == (char *)MAP_FAILED)
            return NULL;
        before = (HUGE_PAGE - (uintptr_t)mapped % HUGE_PAGE) % HUGE_PAGE;
        if (before > 0)
            munmap(mapped, before);
        munmap(mapped + before + length, HUGE_PAGE - before);
        memory = mapped + before;
#ifdef MADV_HUGEPAGE
        madvise(memory, length, MADV_HUGEPAGE); /* where it is refused, small pages are right too */
#endif
        *zeros = 1;
        return memory;
    }
    if (posix_memalign(&memory, PAGE, length) != 0)
        return NULL;
#else
    if (posix_memalign(&memory, PAGE, length) != 0)
        return NULL;
#endif
    return memory;
}

static void give_back(Block *block) {
    size_t capacity = block->capacity;
    block->magic = 0; /* whoever gets this page next must not find a header on it */
#if defined(_WIN32)
    _aligned_free(block);
#elif defined(__linux__)
    if (capacity >= WITH_HUGE_PAGES)
        munmap(block, whole_pages(capacity));
    else
        free(block);
#else
    free(block);
#endif
    (void)capacity;
}

/* Takes a block out of its class's list; the lock is held. */
static void unlink_block(Block *block) {
    int c = block->size_class;
    *(block->newer ? &block->newer->older : &pool.newest[c]) = block->older;
    *(block->older ? &block->older->newer : &pool.oldest[c]) = block->newer;
    pool.cached -= block->capacity;
}

/* Takes blocks out, the longest unused first, until no more than the limit is left; the lock is
   held. They are chained by `older`, to be given back without it. */
static Block *surplus(size_t limit) {
    Block *chain = NULL;
    while (pool.cached > limit) {
        Block *first = NULL;
        int c;
        for (c = 0; c < CLASSES; c++)
            if (pool.oldest[c] && (first == NULL || pool.oldest[c]->freed < first->freed))
                first = pool.oldest[c];
        unlink_block(first);
        first->older = chain;
        chain = first;
    }
    return chain;
}

static void give_back_all(Block *chain) {
    while (chain) {
        Block *next = chain->older;
        give_back(chain);
        chain = next;
    }
}

static void lower_to(size_t limit) {
    Block *chain;
    PyThread_acquire_lock(pool.lock, WAIT_LOCK);
    chain = surplus(limit);
    PyThread_release_lock(pool.lock);
    give_back_all(chain);
}

static void *take(size_t size, int zeroed) {
    size_t capacity;
    int c = class_of(size, &capacity), zeros = 0;
    Block *block = NULL;

    PyThread_acquire_lock(pool.lock, WAIT_LOCK);
    if (capacity > pool.limit) { /* it would never be kept, so it need not be rounded up */
        c = UNCLASSED;
        capacity = size;
    } else if (pool.newest[c] != NULL) {
        block = pool.newest[c];
        unlink_block(block);
    }
    PyThread_release_lock(pool.lock);

    if (block == NULL) {
        block = fresh(capacity, &zeros);
        if (block == NULL) { /* perhaps there is room without what is kept */
            lower_to(0);
            block = fresh(capacity, &zeros);
        }
        if (block == NULL)
            return NULL;
        block->magic = MAGIC ^ (size_t)block;
        block->capacity = capacity;
        block->size_class = c;
    }
    if (zeroed && !zeros)
        memset((char *)block + DATA, 0, size);
    return (char *)block + DATA;
}

static void put(Block *block) {
    Block *chain;
    int c = block->size_class;
    if (c == UNCLASSED) {
        give_back(block);
        return;
    }
    PyThread_acquire_lock(pool.lock, WAIT_LOCK);
    block->freed = ++pool.frees;
    block->newer = NULL;
    block->older = pool.newest[c];
    *(block->older ? &block->older->newer : &pool.oldest[c]) = block;
    pool.newest[c] = block;
    pool.cached += block->capacity;
    chain = surplus(pool.limit);
    PyThread_release_lock(pool.lock);
    give_back_all(chain);
}

static void *pool_malloc(void *ctx, size_t size) {
    (void)ctx;
    if (size < SMALLEST)
        return small.malloc(small.ctx, size);
    return size > SIZE_MAX / 4 ? NULL : take(size, 0);
}

static void *pool_calloc(void *ctx, size_t count, size_t size) {
    (void)ctx;
    if (size > 0 && count > SIZE_MAX / 4 / size)
        return NULL;
    if (count * size < SMALLEST)
        return small.calloc(small.ctx, count, size);
    return take(count * size, 1);
}

static void pool_free(void *ctx, void *data, size_t size) {
    Block *block = data ? block_of(data) : NULL;
    (void)ctx;
    if (block)
        put(block);
    else
        small.free(small.ctx, data, size);
}

static void *pool_realloc(void *ctx, void *data, size_t size) {
    Block *block = data ? block_of(data) : NULL;
    size_t capacity;
    void *moved;
    if (block == NULL) /* what began small stays with NumPy's own, which knows its size */
        return small.realloc(small.ctx, data, size);
    if (size <= block->capacity && size >= SMALLEST && class_of(size, &capacity) == block->size_class)
        return data;
    moved = pool_malloc(ctx, size);
    if (moved) {
        memcpy(moved, data, size < block->capacity ? size : block->capacity);
        put(block);
    }
    return moved;
}

static PyDataMem_Handler reusing = {
    "convexp_reuse", 1, {NULL, pool_malloc, pool_calloc, pool_realloc, pool_free}};

/* Once, when the module is imported; -1 with a Python exception on failure. */
static int pool_set_up(void) {
    PyDataMem_Handler *numpys = PyCapsule_GetPointer(PyDataMem_DefaultHandler, "mem_handler");
    if (numpys == NULL)
        return -1;
    small = numpys->allocator;
    pool.lock = PyThread_allocate_lock();
    if (pool.lock == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* One more user, who wants up to `limit` bytes kept. */
static void pool_open(size_t limit) {
    PyThread_acquire_lock(pool.lock, WAIT_LOCK);
    pool.users++;
    if (limit > pool.limit)
        pool.limit = limit;
    PyThread_release_lock(pool.lock);
}

/* One user less; the last one leaves nothing behind, and what is freed later goes back at once. */
static void pool_close(void) {
    Block *chain;
    PyThread_acquire_lock(pool.lock, WAIT_LOCK);
    if (--pool.users == 0)
        pool.limit = 0;
    chain = surplus(pool.users ? pool.limit : 0);
    PyThread_release_lock(pool.lock);
    give_back_all(chain);
}

static size_t pool_cached(void) { return pool.cached; }

#endif
