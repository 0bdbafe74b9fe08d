/* Kernels for every type and instruction set, and the choice of one.
 *
 * A header of kernels defines a struct Kernels of function pointers and KERNELS, its own name, and
 * includes this file, which includes it again once for each pair, with these defined:
 *   real           float or double
 *   integer        a signed integer as wide as real
 *   LEVEL          the instruction set, a part of names
 *   TARGET         the function attribute that allows its instructions
 *   BYTES          width of a vector; sizeof(real) where the compiler has no vector types
 *   REGISTERS      how many vectors the processor holds
 *   MULTIPLY_ADD   whether it multiplies and adds at once
 * There it defines KERNEL(kernels, real, LEVEL). */

#ifndef CONVEXP_SIMD_H
#define CONVEXP_SIMD_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 9)
#define HAVE_VECTORS 1
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#define PREFETCH(address) __builtin_prefetch(address)
#define CONVERT(type, v) __builtin_convertvector(v, type)
/* mask ? a : b in each lane; lanes is the vector of integers that a comparison yields. */
#define SELECT(type, mask, a, b) ((type)(((lanes)(a) & (mask)) | ((lanes)(b) & ~(mask))))
#define LANE(v, l) ((v)[l])
#else
#define HAVE_VECTORS 0
#define ALWAYS_INLINE inline
#define NOINLINE
#define PREFETCH(address)
#define CONVERT(type, v) ((type)(v))
#define SELECT(type, mask, a, b) ((mask) ? (a) : (b))
#define LANE(v, l) (v)
#endif

/* Loops over registers: their counts are constants, and they must not remain loops. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define HAVE_SHUFFLE 0
#elif HAVE_VECTORS
#define UNROLL _Pragma("GCC unroll 32")
#define HAVE_SHUFFLE 1 /* __builtin_shuffle */
#else
#define UNROLL
#define HAVE_SHUFFLE 0
#endif

#define GLUE(name, type, level) name##_##type##_##level
#define KERNEL(name, type, level) GLUE(name, type, level)

/* What any processor of the architecture has. */
#define LEVEL baseline
#define TARGET
#define BYTES (HAVE_VECTORS ? 16 : sizeof(real))
#if defined(__aarch64__)
#define REGISTERS 32
#define MULTIPLY_ADD 1
#else
#define REGISTERS 16
#define MULTIPLY_ADD 0
#endif
#define real float
#define integer int32_t
#include KERNELS
#undef real
#undef integer
#define real double
#define integer int64_t
#include KERNELS
#undef real
#undef integer
#undef LEVEL
#undef TARGET
#undef BYTES
#undef REGISTERS
#undef MULTIPLY_ADD

#if HAVE_VECTORS && defined(__x86_64__)

#define LEVEL avx2
#define TARGET __attribute__((target("avx2,fma")))
#define BYTES 32
#define REGISTERS 16
#define MULTIPLY_ADD 1
#define real float
#define integer int32_t
#include KERNELS
#undef real
#undef integer
#define real double
#define integer int64_t
#include KERNELS
#undef real
#undef integer
#undef LEVEL
#undef TARGET
#undef BYTES
#undef REGISTERS
#undef MULTIPLY_ADD

#define LEVEL avx512
#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")))
#define BYTES 64
#define REGISTERS 32
#define MULTIPLY_ADD 1
#define real float
#define integer int32_t
#include KERNELS
#undef real
#undef integer
#define real double
#define integer int64_t
#include KERNELS
#undef real
#undef integer
#undef LEVEL
#undef TARGET
#undef BYTES
#undef REGISTERS
#undef MULTIPLY_ADD

static const char *const level_names[] = {"baseline", "avx2", "avx512"};
static const Kernels *const kernels_float[] = {
    &kernels_float_baseline, &kernels_float_avx2, &kernels_float_avx512};
static const Kernels *const kernels_double[] = {
    &kernels_double_baseline, &kernels_double_avx2, &kernels_double_avx512};

/* How many of level_names, from the first on, this processor runs. */
static inline int levels(void)
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

static inline int levels(void)
{
    return 1;
}

#endif

/* How many of level_names are compiled in. */
#define LEVELS ((int)(sizeof level_names / sizeof *level_names))

/* The kernels of a type for an instruction set, one of level_names. */
static const Kernels *choose_kernels(const char *isa, size_t itemsize)
{
    int level = 0;
    while (strcmp(level_names[level], isa) != 0) level++;
    return itemsize == sizeof(float) ? kernels_float[level] : kernels_double[level];
}

#endif
