/* The micro-kernels of conv_kernel.h for every type and instruction set, and the choice of one. */

#ifndef CONVEXP_CONV_SIMD_H
#define CONVEXP_CONV_SIMD_H

#include <Python.h>

/* Lanes that are neighbours in the source, and the output pixel of the first of them. */
typedef struct {
    Py_ssize_t source, row, column;
} Place;

/* A convexp.ops.fast.geometry.Correlation as the kernels see it. */
typedef struct {
    Py_ssize_t taps;
    const Py_ssize_t *offsets;
    Py_ssize_t count;
    const Place *places;
    Py_ssize_t rows, columns, pitch, row_step, column_step;
} Plan;

/* The kernels of a type and an instruction set; their arrays are of that type. */
typedef struct {
    int lanes, filters, dy_filters, dy_taps;
    void (*sum_over_taps)(
        const Plan *plan, const void *source, const void *weights, const void *bias, int nf,
        Py_ssize_t first, Py_ssize_t last, void *out, Py_ssize_t out_plane);
    void (*sum_over_pixels)(
        const Plan *plan, const void *source, Py_ssize_t source_image, const void *dy,
        Py_ssize_t dy_plane, Py_ssize_t dy_image, Py_ssize_t images, Py_ssize_t first_tap, int nf,
        int nt, void *dw);
} Kernels;

#if defined(__GNUC__) || defined(__clang__)
#define HAVE_VECTORS 1
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif
#else
#define HAVE_VECTORS 0
#define ALWAYS_INLINE inline
#define NOINLINE
#define UNROLL
#endif

#define GLUE(name, type, level) name##_##type##_##level
#define KERNEL(name, type, level) GLUE(name, type, level)

/* What any processor of the architecture has: on x86-64 16 registers of 16 bytes without FMA. */
#define LEVEL baseline
#define TARGET
#define BYTES (HAVE_VECTORS ? 16 : sizeof(real))
#if defined(__aarch64__)
#define FILTERS 8
#define VECTORS(nf) ((nf) <= 4 ? 6 : 3)
#define DY_FILTERS 4
#define DY_TAPS 6
#else
#define FILTERS 4
#define VECTORS(nf) ((nf) <= 2 ? 4 : 2)
#define DY_FILTERS 4
#define DY_TAPS 2
#endif
#define real float
#include "conv_kernel.h"
#undef real
#define real double
#include "conv_kernel.h"
#undef real
#undef LEVEL
#undef TARGET
#undef BYTES
#undef FILTERS
#undef VECTORS
#undef DY_FILTERS
#undef DY_TAPS

#if HAVE_VECTORS && defined(__x86_64__)

#define LEVEL avx2 /* 16 registers of 32 bytes */
#define TARGET __attribute__((target("avx2,fma")))
#define BYTES 32
#define FILTERS 4
#define VECTORS(nf) ((nf) <= 2 ? 4 : 3)
#define DY_FILTERS 4
#define DY_TAPS 3
#define real float
#include "conv_kernel.h"
#undef real
#define real double
#include "conv_kernel.h"
#undef real
#undef LEVEL
#undef TARGET
#undef BYTES
#undef FILTERS
#undef VECTORS
#undef DY_FILTERS
#undef DY_TAPS

#define LEVEL avx512 /* 32 registers of 64 bytes */
#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")))
#define BYTES 64
#define FILTERS 8
#define VECTORS(nf) ((nf) <= 4 ? 6 : 3)
#define DY_FILTERS 4
#define DY_TAPS 6
#define real float
#include "conv_kernel.h"
#undef real
#define real double
#include "conv_kernel.h"
#undef real
#undef LEVEL
#undef TARGET
#undef BYTES
#undef FILTERS
#undef VECTORS
#undef DY_FILTERS
#undef DY_TAPS

static const char *const level_names[] = {"baseline", "avx2", "avx512"};
static const Kernels *const kernels_float[] = {
    &kernels_float_baseline, &kernels_float_avx2, &kernels_float_avx512};
static const Kernels *const kernels_double[] = {
    &kernels_double_baseline, &kernels_double_avx2, &kernels_double_avx512};

/* How many of level_names, from the first on, this processor runs. */
static int levels(void)
{
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return 1;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
          && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")))
        return 2;
    return 3;
}

#else

static const char *const level_names[] = {"baseline"};
static const Kernels *const kernels_float[] = {&kernels_float_baseline};
static const Kernels *const kernels_double[] = {&kernels_double_baseline};

static int levels(void)
{
    return 1;
}

#endif

static const Kernels *choose_kernels(int level, size_t itemsize)
{
    return itemsize == sizeof(float) ? kernels_float[level] : kernels_double[level];
}

#endif
