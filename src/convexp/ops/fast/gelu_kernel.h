/* The Gaussian error linear unit and its gradient, of a row of values.
 *
 * With a = |x|, the tail of the normal distribution and its density are
 *
 *   Phi(-a) = exp(-a^2 / 2) * N(a) / D(a)      phi(a) = exp(-a^2 / 2) / sqrt(2 * pi)
 *
 * N and D are polynomials of positive coefficients, so nothing cancels. They interpolate
 * exp(a^2 / 2) * Phi(-a) rationally, in Chebyshev nodes of 1 / (a + 3) (float) or 1 / (a + 4)
 * (double) for 0 <= a <= LARGEST, with a relative error of 6.2e-9 or 8.3e-17. For x > 0 the tail
 * is what is missing to x, or to a slope of 1.
 *
 * exp(-q / 2) = exp(-r / 2) / 2^n with r = q - n * 2 * log(2), after W. J. Cody and W. Waite,
 * Software Manual for the Elementary Functions (1980); a is split so that the square of its upper
 * half is exact. */

#ifndef LEVEL /* the first time: what does not depend on type and instruction set */

#include <stddef.h>

typedef struct {
    void (*values)(const void *x, ptrdiff_t length, void *y);
    void (*gradient)(const void *dy, const void *x, ptrdiff_t length, void *dx);
} Kernels;

#define OF_TYPE(name, type) name##_##type
#define OF(name, type) OF_TYPE(name, type)

/* Here n is 127 (float) or 1023 (double), and 1 / 2^n exactly 0, as its exponent has no bit. */
static const float LARGEST_float = 13.25f;
static const double LARGEST_double = 37.655;

static const float N_float[] = {
    0.500000002f, 0.434631138f, 0.18048387f, 0.0396949386f, 0.00397396361f};
static const float D_float[] = {
    1, 1.6671471f, 1.19115538f, 0.462198099f, 0.0995080178f, 0.00996110262f};
static const double N_double[] = {
    0.5, 0.7748569037005064, 0.59399252970640417, 0.28927480798127208, 0.097664247162678314,
    0.023608619525940097, 0.004085632271816501, 0.00048975641440179579, 3.7179590982638964e-5,
    1.3814907166096772e-6};
static const double D_double[] = {
    1, 2.3475983682038721, 2.561097552368889, 1.7141721478705441, 0.78186204049013306,
    0.25486272242755514, 0.060398745151996587, 0.010334356775424757, 0.0012311001599053518,
    9.319541399424241e-5, 3.462883691403978e-6};

/* exp(-r / 2) for |r| <= log(2), in Chebyshev nodes; relative error 5.2e-9 and 8.8e-18. */
static const float EXP_float[] = {
    1, -0.500000005f, 0.125f, -0.0208331291f, 0.00260415391f, -0.000261542628f, 2.17717349e-5f};
static const double EXP_double[] = {
    1, -0.5, 0.12500000000000014, -0.020833333333333339, 0.0026041666666606796,
    -0.00026041666666643645, 2.1701388958249617e-5, -1.5500992090163195e-6,
    9.6880872446422333e-8, -5.3822763000395188e-9, 2.6979270090851549e-10,
    -1.2258557500557127e-11};

/* 2 * log(2) in two parts, of which n times the first is exact. */
static const float PERIOD_float = 1.38671875f, PERIOD_LOW_float = -4.24388880e-4f;
static const double PERIOD_double = 1.3862943611202354077;
static const double PERIOD_LOW_double = -3.447888905122967e-13;

/* Added to a number it leaves the nearest integer in the last bits; those of its own are zeros. */
static const float ROUND_float = 12582912;           /* 1.5 * 2^23 */
static const double ROUND_double = 6755399441055744; /* 1.5 * 2^52 */

/* All bits but the sign, those of the upper half; where the exponent begins, and that of 1. */
static const int32_t SIZE_float = INT32_MAX, UPPER_float = ~(int32_t)0xfff;
static const int64_t SIZE_double = INT64_MAX, UPPER_double = ~(int64_t)0x7ffffff;
enum { DIGITS_float = 23, ONE_float = 127, DIGITS_double = 52, ONE_double = 1023 };

#define KERNELS "gelu_kernel.h"
#include "simd.h"

#else

#define LANES ((ptrdiff_t)(BYTES / sizeof(real)))
#define vec KERNEL(vec, real, LEVEL)
#define loose KERNEL(loose, real, LEVEL)
#define lanes KERNEL(lanes, real, LEVEL)

/* A vector in registers, one at any address of memory, one of integers. */
#if HAVE_VECTORS
typedef real vec __attribute__((vector_size(BYTES)));
typedef real loose __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
typedef integer lanes __attribute__((vector_size(BYTES)));
#else
typedef real vec;
typedef real loose;
typedef integer lanes;
#endif

/* c[0] + c[1] * v + ... + c[count - 1] * v^(count - 1) */
static ALWAYS_INLINE TARGET vec KERNEL(polynomial, real, LEVEL)(vec v, const real *c, int count)
{
    vec sum = (vec){0} + c[count - 1];
    UNROLL for (int k = count - 2; k >= 0; k--) sum = sum * v + c[k];
    return sum;
}
#define POLYNOMIAL(c, v) \
    KERNEL(polynomial, real, LEVEL)(v, OF(c, real), (int)(sizeof OF(c, real) / sizeof(real)))

/* The bits of a number that are in the mask. */
static ALWAYS_INLINE TARGET vec KERNEL(masked, real, LEVEL)(vec v, integer mask)
{
    lanes bits;
    memcpy(&bits, &v, sizeof bits);
    bits &= mask;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* |x|, but at most LARGEST; NaN stays. */
static ALWAYS_INLINE TARGET vec KERNEL(size, real, LEVEL)(vec x)
{
    const vec a = KERNEL(masked, real, LEVEL)(x, OF(SIZE, real));
    return SELECT(vec, a > OF(LARGEST, real), (vec){0} + OF(LARGEST, real), a);
}

/* exp(-a^2 / 2) for 0 <= a <= LARGEST; NaN stays. */
static ALWAYS_INLINE TARGET vec KERNEL(bell, real, LEVEL)(vec a)
{
    const vec upper = KERNEL(masked, real, LEVEL)(a, OF(UPPER, real));
    const vec square = upper * upper, rest = (a - upper) * (a + upper);
    const vec shifted = square * (real)0.72134752044448170 + OF(ROUND, real); /* 1 / PERIOD */
    const vec n = shifted - OF(ROUND, real);
    const vec r = (square - n * OF(PERIOD, real)) + (rest - n * OF(PERIOD_LOW, real));
    lanes bits;
    vec power;
    memcpy(&bits, &shifted, sizeof bits);
    bits = ((integer)OF(ONE, real) << OF(DIGITS, real)) - (bits << OF(DIGITS, real));
    memcpy(&power, &bits, sizeof power);
    return POLYNOMIAL(EXP, r) * power;
}

/* y = x * Phi(x) = max(x, 0) - a * Phi(-a) */
static ALWAYS_INLINE TARGET vec KERNEL(value, real, LEVEL)(vec x)
{
    const vec a = KERNEL(size, real, LEVEL)(x);
    const vec tail = KERNEL(bell, real, LEVEL)(a) * POLYNOMIAL(N, a) / POLYNOMIAL(D, a);
    return SELECT(vec, x < 0, (vec){0}, x) - a * tail;
}

/* dy/dx = Phi(x) + x * phi(x); below zero Phi(-a) - a * phi(a), above it 1 minus that */
static ALWAYS_INLINE TARGET vec KERNEL(slope, real, LEVEL)(vec x)
{
    const vec a = KERNEL(size, real, LEVEL)(x);
    const vec ratio = POLYNOMIAL(N, a) / POLYNOMIAL(D, a);
    const vec below = /* 1 / sqrt(2 * pi) */
        KERNEL(bell, real, LEVEL)(a) * (ratio - a * (real)0.39894228040143268);
    return SELECT(vec, x < 0, below, 1 - below);
}

static TARGET void KERNEL(values, real, LEVEL)(const void *first, ptrdiff_t length, void *out)
{
    const real *x = (const real *)first;
    real *y = (real *)out;
    ptrdiff_t i = 0;
    for (; i + LANES <= length; i += LANES)
        *(loose *)(y + i) = KERNEL(value, real, LEVEL)(*(const loose *)(x + i));
    if (i < length) {
        vec rest = {0};
        memcpy(&rest, x + i, (size_t)(length - i) * sizeof(real));
        rest = KERNEL(value, real, LEVEL)(rest);
        memcpy(y + i, &rest, (size_t)(length - i) * sizeof(real));
    }
}

/* dx = dy * dy/dx */
static TARGET void KERNEL(gradient, real, LEVEL)(
    const void *first_dy, const void *first, ptrdiff_t length, void *out)
{
    const real *dy = (const real *)first_dy, *x = (const real *)first;
    real *dx = (real *)out;
    ptrdiff_t i = 0;
    for (; i + LANES <= length; i += LANES)
        *(loose *)(dx + i) =
            *(const loose *)(dy + i) * KERNEL(slope, real, LEVEL)(*(const loose *)(x + i));
    if (i < length) {
        vec rest = {0}, flow = {0};
        memcpy(&rest, x + i, (size_t)(length - i) * sizeof(real));
        memcpy(&flow, dy + i, (size_t)(length - i) * sizeof(real));
        flow *= KERNEL(slope, real, LEVEL)(rest);
        memcpy(dx + i, &flow, (size_t)(length - i) * sizeof(real));
    }
}

static const Kernels KERNEL(kernels, real, LEVEL) = {
    KERNEL(values, real, LEVEL), KERNEL(gradient, real, LEVEL)};

#undef LANES
#undef POLYNOMIAL
#undef vec
#undef loose
#undef lanes

#endif
