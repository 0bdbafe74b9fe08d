/* The forward pass of max-pooling over a few planes: their maxima and where these lie.
 *
 * Where the windows are next to each other or every other column, a vector of them is read from
 * the image as it is. Otherwise the planes are copied into a work buffer, split by stride phase.
 * There a tap of neighbouring windows is a run of neighbours too. */

#ifndef LEVEL /* the first time: what does not depend on type and instruction set */

#include <math.h>
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
#define bytes KERNEL(bytes, real, LEVEL)

/* A vector in registers, one at any address of memory, one of integers, a byte for each lane. */
#if HAVE_VECTORS
typedef real vec __attribute__((vector_size(BYTES)));
typedef real loose __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
typedef integer lanes __attribute__((vector_size(BYTES)));
typedef uint8_t bytes __attribute__((vector_size(BYTES / sizeof(real))));
#else
typedef real vec;
typedef real loose;
typedef integer lanes;
typedef uint8_t bytes;
#endif

/* The windows of a vector are next to each other, or every other column. */
static int KERNEL(close, real, LEVEL)(const Pool *pool)
{
    return !pool->wide && (pool->stride_w == 1 || (pool->stride_w == 2 && HAVE_SHUFFLE));
}

/* A NaN counts as the maximum, and the first of them stays. */
static ALWAYS_INLINE TARGET void KERNEL(compare, real, LEVEL)(
    vec v, integer tap, vec *most, lanes *first)
{
    const lanes larger = ~(v <= *most) & (*most == *most);
    *most = SELECT(vec, larger, v, *most);
    *first = SELECT(lanes, larger, (lanes){0} + tap, *first);
}

/* The maxima of LANES windows, the first of which begins at x. */
static ALWAYS_INLINE TARGET void KERNEL(windows, real, LEVEL)(
    const real *x, ptrdiff_t W, ptrdiff_t HH, ptrdiff_t WW, ptrdiff_t stride, real *y,
    uint8_t *where)
{
    vec most = (vec){0} - (real)INFINITY;
    lanes first = {0};
    for (ptrdiff_t ii = 0; ii < HH; ii++)
        for (ptrdiff_t jj = 0; jj < WW; jj += stride) {
            const real *from = x + ii * W + jj;
            const integer tap = (integer)(ii * WW + jj);
            vec v = *(const loose *)from;
#if HAVE_SHUFFLE
            if (stride == 2) {
                const vec next = *(const loose *)(from + LANES);
                lanes even;
                UNROLL for (int l = 0; l < LANES; l++) even[l] = 2 * l;
                const vec odd = __builtin_shuffle(v, next, even + 1);
                v = __builtin_shuffle(v, next, even);
                KERNEL(compare, real, LEVEL)(v, tap, &most, &first);
                if (jj + 1 < WW) KERNEL(compare, real, LEVEL)(odd, tap + 1, &most, &first);
                continue;
            }
#endif
            KERNEL(compare, real, LEVEL)(v, tap, &most, &first);
        }
    const bytes narrow = CONVERT(bytes, first);
    *(loose *)y = most;
    memcpy(where, &narrow, sizeof narrow);
}

/* The maximum of one window. */
static void KERNEL(window, real, LEVEL)(
    const real *x, const Pool *pool, real *y, uint8_t *where)
{
    *y = *x, *where = 0;
    for (ptrdiff_t ii = 0; ii < pool->HH; ii++)
        for (ptrdiff_t jj = 0; jj < pool->WW; jj++) {
            const real v = x[ii * pool->W + jj];
            if (v <= *y || *y != *y) continue;
            *y = v, *where = (uint8_t)(ii * pool->WW + jj);
        }
}

/* maxima for windows that are close. Vectors go beyond a row of windows where x has room for what
 * is read and the next rows replace what is written. */
static ALWAYS_INLINE TARGET void KERNEL(close_maxima, real, LEVEL)(
    const Pool *pool, ptrdiff_t HH, ptrdiff_t WW, ptrdiff_t stride, const real *x, ptrdiff_t room,
    ptrdiff_t planes, real *y, uint8_t *where)
{
    const ptrdiff_t W_out = pool->W_out, size = planes * pool->H_out * W_out;
    const ptrdiff_t reach = (HH - 1) * pool->W + (WW - 1) / stride * stride + stride * LANES;
    for (ptrdiff_t row = 0; row < planes * pool->H_out; row++) {
        const ptrdiff_t n = row / pool->H_out, i = row % pool->H_out, out = row * W_out;
        const ptrdiff_t in = (n * pool->H + i * pool->stride_h) * pool->W;
        ptrdiff_t j = 0;
        for (; j < W_out && out + j + LANES <= size && in + j * stride + reach <= room; j += LANES)
            KERNEL(windows, real, LEVEL)(
                x + in + j * stride, pool->W, HH, WW, stride, y + out + j, where + out + j);
        for (; j < W_out; j++)
            KERNEL(window, real, LEVEL)(x + in + j * stride, pool, y + out + j, where + out + j);
    }
}

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

/* best[at] = max over taps of x[taps[tap] + at], and the first tap that has it. */
static ALWAYS_INLINE TARGET void KERNEL(run, real, LEVEL)(
    const real *x, const ptrdiff_t *taps, ptrdiff_t count, ptrdiff_t length, real *best,
    integer *where)
{
    for (ptrdiff_t at = 0; at < length; at += LANES) {
        vec most = *(const loose *)(x + taps[0] + at);
        lanes first = {0};
        for (ptrdiff_t tap = 1; tap < count; tap++) {
            const vec v = *(const loose *)(x + taps[tap] + at);
            KERNEL(compare, real, LEVEL)(v, (integer)tap, &most, &first);
        }
        *(loose *)(best + at) = most;
        memcpy(where + at, &first, sizeof first);
    }
}

/* y[n, i, j] = best[n, i, j], of which only the first H_out rows and W_out columns count; where
 * likewise. */
static ALWAYS_INLINE TARGET void KERNEL(join, real, LEVEL)(
    const Pool *pool, ptrdiff_t planes, const real *best, const integer *first, real *y,
    void *where)
{
    const int whole = pool->H_out == pool->rows && pool->W_out == pool->pitch;
    const ptrdiff_t rows = whole ? 1 : planes * pool->H_out;
    const ptrdiff_t columns = whole ? planes * pool->H_out * pool->W_out : pool->W_out;
    for (ptrdiff_t row = 0; row < rows; row++) {
        const ptrdiff_t n = row / pool->H_out, i = row % pool->H_out, out = row * columns;
        const ptrdiff_t in = (n * pool->rows + i) * pool->pitch;
        for (ptrdiff_t j = 0; j < columns; j++) y[out + j] = best[in + j];
        if (pool->wide)
            for (ptrdiff_t j = 0; j < columns; j++)
                ((int32_t *)where)[out + j] = (int32_t)first[in + j];
        else
            for (ptrdiff_t j = 0; j < columns; j++)
                ((uint8_t *)where)[out + j] = (uint8_t)first[in + j];
    }
}

/* maxima for any windows. */
static ALWAYS_INLINE TARGET void KERNEL(split_maxima, real, LEVEL)(
    const Pool *pool, const real *x, ptrdiff_t room, ptrdiff_t planes, const ptrdiff_t *taps,
    real *work, real *y, void *where)
{
    const ptrdiff_t phase = phase_size(pool), size = pool->rows * pool->pitch;
    const ptrdiff_t count = pool->HH * pool->WW, vectors = (pool->W_out + LANES - 1) / LANES;
    real *best = work + pool->phases_h * pool->phases_w * phase;
    integer *first = (integer *)(best + phase);

    KERNEL(split, real, LEVEL)(pool, x, room, planes, work);
    if (size <= pool->H_out * vectors * LANES) { /* no more than row by row: all in one */
        KERNEL(run, real, LEVEL)(work, taps, count, planes * size, best, first);
    } else {
        for (ptrdiff_t n = 0; n < planes; n++)
            for (ptrdiff_t i = 0; i < pool->H_out; i++) {
                const ptrdiff_t at = n * size + i * pool->pitch;
                KERNEL(run, real, LEVEL)(
                    work + at, taps, count, pool->W_out, best + at, first + at);
            }
    }
    KERNEL(join, real, LEVEL)(pool, planes, best, first, y, where);
}

static TARGET void KERNEL(maxima, real, LEVEL)(
    const Pool *pool, const void *x, ptrdiff_t room, ptrdiff_t planes, const ptrdiff_t *taps,
    void *work, void *y, void *where)
{
    const ptrdiff_t HH = pool->HH, WW = pool->WW, stride = pool->stride_w;
#define CLOSE(HH, WW, stride) \
    KERNEL(close_maxima, real, LEVEL)( \
        pool, HH, WW, stride, (const real *)x, room, planes, (real *)y, (uint8_t *)where)
    if (!KERNEL(close, real, LEVEL)(pool) || 2 * pool->W_out <= LANES)
        KERNEL(split_maxima, real, LEVEL)(
            pool, (const real *)x, room, planes, taps, (real *)work, (real *)y, where);
    else if (stride == 2 && HH == 2 && WW == 2)
        CLOSE(2, 2, 2);
    else if (stride == 2 && HH == 3 && WW == 3)
        CLOSE(3, 3, 2);
    else if (stride == 2)
        CLOSE(HH, WW, 2);
    else
        CLOSE(HH, WW, 1);
#undef CLOSE
}

static const Kernels KERNEL(kernels, real, LEVEL) = {KERNEL(maxima, real, LEVEL)};

#undef LANES
#undef vec
#undef loose
#undef lanes
#undef bytes

#endif
