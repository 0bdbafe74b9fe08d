/* The forward pass of max-pooling over a few planes: their maxima and where these lie.
 *
 * The planes are copied into a work buffer, split by stride phase. There a tap of neighbouring
 * windows is a run of neighbours, at the same distance from the windows' places in the output. */

#ifndef LEVEL /* the first time: what does not depend on type and instruction set */

#include <stddef.h>

typedef struct {
    ptrdiff_t H, W, HH, WW, stride_h, stride_w, H_out, W_out;
    ptrdiff_t rows, pitch;        /* of one phase of a plane */
    ptrdiff_t phases_h, phases_w; /* those that windows reach */
    ptrdiff_t planes;             /* so many of them fit into the work buffer */
    int wide;                     /* the number of a tap takes four bytes, not one */
} Pool;

/* Numbers of a phase of all planes; the last vector of a row may go beyond it. */
static ptrdiff_t phase_size(const Pool *pool)
{
    return pool->planes * pool->rows * pool->pitch + 64;
}

/* y and where of some planes; x has room for so many numbers, the work buffer for as many phases
 * as the windows reach and two more. */
typedef struct {
    void (*maxima)(
        const Pool *pool, const void *x, ptrdiff_t room, ptrdiff_t planes, const ptrdiff_t *taps,
        void *work, void *y, void *where);
} Kernels;

#define KERNELS "pool_kernel.h"
#include "simd.h"

#else

#define LANES ((ptrdiff_t)(BYTES / sizeof(real)))
#define vec KERNEL(vec, real, LEVEL)
#define loose KERNEL(loose, real, LEVEL)
#define lanes KERNEL(lanes, real, LEVEL)

/* A vector in registers, one at any address of memory, and one of integers. */
#if HAVE_VECTORS
typedef real vec __attribute__((vector_size(BYTES)));
typedef real loose __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
typedef integer lanes __attribute__((vector_size(BYTES)));
#else
typedef real vec;
typedef real loose;
typedef integer lanes;
#endif

/* out[p, t] = x[t*stride + p]. A vector may go beyond the row, if x has room for it: what it
 * writes there, the next row replaces. */
static ALWAYS_INLINE TARGET void KERNEL(split_row, real, LEVEL)(
    const real *__restrict x, ptrdiff_t W, ptrdiff_t room, ptrdiff_t stride, ptrdiff_t phases,
    real *__restrict out, ptrdiff_t phase)
{
    ptrdiff_t t = 0;
    if (stride == 1)
        for (; t < W && t + LANES <= room; t += LANES)
            *(loose *)(out + t) = *(const loose *)(x + t);
    if (stride == 2 && phases == 2)
        for (; 2 * t < W && 2 * (t + LANES) <= room; t += LANES) {
            for (ptrdiff_t l = 0; l < LANES; l++) out[t + l] = x[2 * (t + l)];
            for (ptrdiff_t l = 0; l < LANES; l++) out[phase + t + l] = x[2 * (t + l) + 1];
        }
    if (phases * stride < W) { /* the longer loop inside */
        for (ptrdiff_t p = 0; p < phases; p++)
            for (ptrdiff_t u = t; u * stride + p < W; u++) out[p * phase + u] = x[u * stride + p];
    } else {
        for (; t * stride < W; t++)
            for (ptrdiff_t p = 0; p < phases && t * stride + p < W; p++)
                out[p * phase + t] = x[t * stride + p];
    }
}

/* out[r, p, n, q, t] = x[n, q*stride_h + r, t*stride_w + p] */
static ALWAYS_INLINE TARGET void KERNEL(split, real, LEVEL)(
    const Pool *pool, const real *x, ptrdiff_t room, ptrdiff_t planes, real *out)
{
    const ptrdiff_t H = pool->H, W = pool->W, phase = phase_size(pool);
    for (ptrdiff_t n = 0; n < planes; n++)
        for (ptrdiff_t q = 0; q < pool->rows; q++)
            for (ptrdiff_t r = 0; r < pool->phases_h && q * pool->stride_h + r < H; r++) {
                const ptrdiff_t at = (n * H + q * pool->stride_h + r) * W;
                KERNEL(split_row, real, LEVEL)(
                    x + at, W, room - at, pool->stride_w, pool->phases_w,
                    out + r * pool->phases_w * phase + (n * pool->rows + q) * pool->pitch, phase);
            }
}

/* best[at] = max over taps of x[taps[tap] + at], and the first tap that has it. A NaN counts as
 * the maximum. */
static ALWAYS_INLINE TARGET void KERNEL(run, real, LEVEL)(
    const real *x, const ptrdiff_t *taps, ptrdiff_t count, ptrdiff_t length, real *best,
    integer *where)
{
    for (ptrdiff_t at = 0; at < length; at += LANES) {
        vec most = *(const loose *)(x + taps[0] + at);
        lanes first = {0};
        for (ptrdiff_t tap = 1; tap < count; tap++) {
            const vec v = *(const loose *)(x + taps[tap] + at);
            const lanes larger = ~(v <= most) & (most == most); /* or v is the first NaN */
            most = SELECT(vec, larger, v, most);
            first = SELECT(lanes, larger, (lanes){0} + (integer)tap, first);
        }
        *(loose *)(best + at) = most;
        memcpy(where + at, &first, sizeof first);
    }
}

/* y[n, i, j] = best[n, i, j], of which only the first H_out rows and W_out columns count. A vector
 * may go beyond its row: the next one comes after. */
static ALWAYS_INLINE TARGET void KERNEL(join, real, LEVEL)(
    const Pool *pool, ptrdiff_t planes, const real *best, real *y)
{
    const ptrdiff_t H_out = pool->H_out, W_out = pool->W_out, size = planes * H_out * W_out;
    if (H_out == pool->rows && W_out == pool->pitch) {
        memcpy(y, best, size * sizeof(real));
        return;
    }
    for (ptrdiff_t n = 0; n < planes; n++)
        for (ptrdiff_t i = 0; i < H_out; i++) {
            const real *row = best + (n * pool->rows + i) * pool->pitch;
            const ptrdiff_t at = (n * H_out + i) * W_out;
            ptrdiff_t j = 0;
            for (; j < W_out && at + j + LANES <= size; j += LANES)
                *(loose *)(y + at + j) = *(const loose *)(row + j);
            for (; j < W_out; j++) y[at + j] = row[j];
        }
}

static TARGET void KERNEL(maxima, real, LEVEL)(
    const Pool *pool, const void *x, ptrdiff_t room, ptrdiff_t planes, const ptrdiff_t *taps,
    void *work, void *y, void *where)
{
    const ptrdiff_t phase = phase_size(pool), size = pool->rows * pool->pitch;
    const ptrdiff_t count = pool->HH * pool->WW, vectors = (pool->W_out + LANES - 1) / LANES;
    real *source = (real *)work, *best = source + pool->phases_h * pool->phases_w * phase;
    integer *first = (integer *)(best + phase);

    KERNEL(split, real, LEVEL)(pool, (const real *)x, room, planes, source);
    if (size <= pool->H_out * vectors * LANES) { /* no more than row by row: all in one */
        KERNEL(run, real, LEVEL)(source, taps, count, planes * size, best, first);
    } else {
        for (ptrdiff_t n = 0; n < planes; n++)
            for (ptrdiff_t i = 0; i < pool->H_out; i++) {
                const ptrdiff_t at = n * size + i * pool->pitch;
                KERNEL(run, real, LEVEL)(
                    source + at, taps, count, pool->W_out, best + at, first + at);
            }
    }
    KERNEL(join, real, LEVEL)(pool, planes, best, (real *)y);
    if (pool->wide) {
        for (ptrdiff_t at = 0; at < planes * size; at++)
            ((int32_t *)where)[at] = (int32_t)first[at];
    } else {
        for (ptrdiff_t at = 0; at < planes * size; at++)
            ((uint8_t *)where)[at] = (uint8_t)first[at];
    }
}

static const Kernels KERNEL(kernels, real, LEVEL) = {KERNEL(maxima, real, LEVEL)};

#undef LANES
#undef vec
#undef loose
#undef lanes

#endif
