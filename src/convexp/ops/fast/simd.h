/* The micro-kernels for every type and instruction set, and the choice of one. */

#ifndef CONVEXP_SIMD_H
#define CONVEXP_SIMD_H

#include "kernel_types.h"

#if defined(__GNUC__) || defined(__clang__)
#define HAVE_VECTORS 1
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define HAVE_SHUFFLE 0
#else
#define UNROLL _Pragma("GCC unroll 16")
#define HAVE_SHUFFLE 1
#endif
#define PREFETCH(address) __builtin_prefetch(address)
/* lane by lane; m is the result of a comparison */
#define SELECT(m, a, b) ((vec)(((mask)(a) & (m)) | ((mask)(b) & ~(m))))
#define CHOOSE(m, i, j) (((i) & (m)) | ((j) & ~(m)))
#define LANE(v, l) ((v)[l])
#else
#define HAVE_VECTORS 0
#define HAVE_SHUFFLE 0
#define ALWAYS_INLINE inline
#define NOINLINE
#define UNROLL
#define PREFETCH(address)
#define SELECT(m, a, b) ((m) ? (a) : (b))
#define CHOOSE(m, i, j) ((m) ? (i) : (j))
#define LANE(v, l) (v)
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
#define ROWS 8
#define PANEL 2
#else
#define FILTERS 4
#define VECTORS(nf) ((nf) <= 2 ? 4 : 2)
#define DY_FILTERS 4
#define DY_TAPS 2
#define ROWS 4
#define PANEL 2
#endif
#define real float
#define integer int
#include "kernels.h"
#define real double
#define integer long long
#include "kernels.h"
#undef LEVEL
#undef TARGET
#undef BYTES
#undef FILTERS
#undef VECTORS
#undef DY_FILTERS
#undef DY_TAPS
#undef ROWS
#undef PANEL

#if HAVE_VECTORS && defined(__x86_64__)

#define LEVEL avx2 /* 16 registers of 32 bytes */
#define TARGET __attribute__((target("avx2,fma")))
#define BYTES 32
#define FILTERS 4
#define VECTORS(nf) ((nf) <= 2 ? 4 : 3)
#define DY_FILTERS 4
#define DY_TAPS 3
#define ROWS 6
#define PANEL 2
#define real float
#define integer int
#include "kernels.h"
#define real double
#define integer long long
#include "kernels.h"
#undef LEVEL
#undef TARGET
#undef BYTES
#undef FILTERS
#undef VECTORS
#undef DY_FILTERS
#undef DY_TAPS
#undef ROWS
#undef PANEL

#define LEVEL avx512 /* 32 registers of 64 bytes */
#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")))
#define BYTES 64
#define FILTERS 8
#define VECTORS(nf) ((nf) <= 4 ? 6 : 3)
#define DY_FILTERS 4
#define DY_TAPS 6
#define ROWS 8
#define PANEL 2
#define real float
#define integer int
#include "kernels.h"
#define real double
#define integer long long
#include "kernels.h"
#undef LEVEL
#undef TARGET
#undef BYTES
#undef FILTERS
#undef VECTORS
#undef DY_FILTERS
#undef DY_TAPS
#undef ROWS
#undef PANEL

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
