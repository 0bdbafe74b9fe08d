/* Batch normalization of a row, which are values of one feature: a plane of a channel; and of
 * columns, which are features.
 *
 * Sums are in double, in an order that only the length sets. What becomes of each value is
 * computed in its own type, with the mean in two parts: where the values are large and their
 * spread is small, x - mean is exact, but the mean as one float is too coarse. */

#ifndef LEVEL /* the first time: what does not depend on type and instruction set */

#include <stddef.h>

typedef struct {
    double mean, inv_std, gamma, beta;
    double mean_dy, mean_dy_x_hat;  /* for the gradient alone */
    int relu;                       /* y = max(y, 0), and dy counts where y > 0 */
} Feature;

typedef struct {
    void (*sums)(const void *x, ptrdiff_t length, double *sum, double *squares);
    void (*normalize)(const void *x, ptrdiff_t length, const Feature *feature, void *y);
    void (*products)(
        const void *dy, const void *x, ptrdiff_t length, const Feature *feature, double *sum,
        double *product);
    void (*gradient)(
        const void *dy, const void *x, ptrdiff_t length, const Feature *feature, void *dx);
    /* of up to COLUMNS columns, whose rows are a distance of D apart */
    void (*column_statistics)(
        const void *x, ptrdiff_t N, ptrdiff_t D, ptrdiff_t columns, double *mean, double *var);
    void (*normalize_columns)(
        const void *x, ptrdiff_t N, ptrdiff_t D, ptrdiff_t columns, const Feature *features,
        void *y);
    void (*column_products)(
        const void *dy, const void *x, ptrdiff_t N, ptrdiff_t D, ptrdiff_t columns,
        const double *mean, double *sum, double *product);
    void (*column_gradient)(
        const void *dy, const void *x, ptrdiff_t N, ptrdiff_t D, ptrdiff_t columns,
        const Feature *features, void *dx);
} Kernels;

enum { BLOCK = 512, COLUMNS = 64 };

#define KERNELS "norm_kernel.h"
#include "simd.h"

#else

#define WIDE (HAVE_VECTORS ? (ptrdiff_t)(BYTES / sizeof(double)) : 1)
#define wide KERNEL(wide, real, LEVEL)
#define narrow KERNEL(narrow, real, LEVEL)
#define Numbers KERNEL(Numbers, real, LEVEL)

/* A vector of double, and as many values of the type at any address of memory. */
#if HAVE_VECTORS
typedef double wide __attribute__((vector_size(BYTES)));
typedef real narrow __attribute__((
    vector_size(BYTES / sizeof(double) * sizeof(real)), aligned(sizeof(real)), may_alias));
#else
typedef double wide;
typedef real narrow;
#endif
#define DOUBLE(at) CONVERT(wide, *(const narrow *)(at))

/* The sum of four vectors, which are independent so that the processor overlaps them. */
static ALWAYS_INLINE TARGET double KERNEL(total, real, LEVEL)(const wide *s)
{
    const wide sum = (s[0] + s[1]) + (s[2] + s[3]);
    const double *lane = (const double *)&sum;
    double total = 0;
    for (ptrdiff_t l = 0; l < WIDE; l++) total += lane[l];
    return total;
}

/* Sum of x[i]. */
static ALWAYS_INLINE TARGET double KERNEL(sum, real, LEVEL)(const real *x, ptrdiff_t length)
{
    wide s[4] = {{0}};
    double rest = 0;
    ptrdiff_t i = 0;
    for (; i + 4 * WIDE <= length; i += 4 * WIDE)
        for (int k = 0; k < 4; k++) s[k] += DOUBLE(x + i + k * WIDE);
    for (; i + WIDE <= length; i += WIDE) s[0] += DOUBLE(x + i);
    for (; i < length; i++) rest += x[i];
    return KERNEL(total, real, LEVEL)(s) + rest;
}

/* Sum of (a[i] - mean_a) * (b[i] - mean_b). */
static ALWAYS_INLINE TARGET double KERNEL(product, real, LEVEL)(
    const real *a, double mean_a, const real *b, double mean_b, ptrdiff_t length)
{
    wide s[4] = {{0}};
    double rest = 0;
    ptrdiff_t i = 0;
    for (; i + 4 * WIDE <= length; i += 4 * WIDE)
        for (int k = 0; k < 4; k++)
            s[k] += (DOUBLE(a + i + k * WIDE) - mean_a) * (DOUBLE(b + i + k * WIDE) - mean_b);
    for (; i + WIDE <= length; i += WIDE)
        s[0] += (DOUBLE(a + i) - mean_a) * (DOUBLE(b + i) - mean_b);
    for (; i < length; i++) rest += (a[i] - mean_a) * (b[i] - mean_b);
    return KERNEL(total, real, LEVEL)(s) + rest;
}

/* Sum of x, and of the squares around its own mean, for which the row is in the cache. */
static TARGET void KERNEL(sums, real, LEVEL)(
    const void *row, ptrdiff_t length, double *sum, double *squares)
{
    const real *x = (const real *)row;
    *sum = KERNEL(sum, real, LEVEL)(x, length);
    const double mean = *sum / length;
    *squares = KERNEL(product, real, LEVEL)(x, mean, x, mean, length);
}

/* A feature in the type of its values; the mean is mean + low. */
typedef struct {
    real mean, low, inv_std, gamma, beta;
} Numbers;

static ALWAYS_INLINE TARGET Numbers KERNEL(numbers, real, LEVEL)(const Feature *feature)
{
    const real mean = (real)feature->mean;
    const Numbers of = {
        mean, (real)(feature->mean - mean), (real)feature->inv_std, (real)feature->gamma,
        (real)feature->beta};
    return of;
}

static ALWAYS_INLINE TARGET real KERNEL(x_hat, real, LEVEL)(real x, Numbers of)
{
    return ((x - of.mean) - of.low) * of.inv_std;
}

static ALWAYS_INLINE TARGET real KERNEL(value, real, LEVEL)(real x, Numbers of)
{
    return of.gamma * KERNEL(x_hat, real, LEVEL)(x, of) + of.beta;
}

/* y = gamma * (x - mean) / sqrt(var + eps) + beta */
static TARGET void KERNEL(normalize, real, LEVEL)(
    const void *row, ptrdiff_t length, const Feature *feature, void *out)
{
    const Numbers of = KERNEL(numbers, real, LEVEL)(feature);
    const real *__restrict x = (const real *)row;
    real *__restrict y = (real *)out;
    if (feature->relu) {
        for (ptrdiff_t i = 0; i < length; i++) {
            const real v = KERNEL(value, real, LEVEL)(x[i], of);
            y[i] = v < 0 ? 0 : v; /* NaN stays */
        }
    } else {
        for (ptrdiff_t i = 0; i < length; i++) y[i] = KERNEL(value, real, LEVEL)(x[i], of);
    }
}

/* dy where y > 0, else 0. */
static ALWAYS_INLINE TARGET real KERNEL(flow, real, LEVEL)(real dy, real x, Numbers of)
{
    return KERNEL(value, real, LEVEL)(x, of) > 0 ? dy : 0;
}

/* Sums of dy and of dy * (x - mean). */
static TARGET void KERNEL(products, real, LEVEL)(
    const void *row_dy, const void *row, ptrdiff_t length, const Feature *feature, double *sum,
    double *product)
{
    const Numbers of = KERNEL(numbers, real, LEVEL)(feature);
    *sum = *product = 0;
    for (ptrdiff_t first = 0; first < length; first += BLOCK) {
        const ptrdiff_t count = length - first < BLOCK ? length - first : BLOCK;
        const real *x = (const real *)row + first, *dy = (const real *)row_dy + first;
        real flow[BLOCK];
        if (feature->relu) {
            for (ptrdiff_t i = 0; i < count; i++)
                flow[i] = KERNEL(flow, real, LEVEL)(dy[i], x[i], of);
            dy = flow;
        }
        *sum += KERNEL(sum, real, LEVEL)(dy, count);
        *product += KERNEL(product, real, LEVEL)(dy, 0, x, feature->mean, count);
    }
}

/* dx = gamma / sqrt(var + eps) * (dy - mean of dy - x_hat * mean of dy * x_hat) */
static TARGET void KERNEL(gradient, real, LEVEL)(
    const void *row_dy, const void *row, ptrdiff_t length, const Feature *feature, void *out)
{
    const Numbers of = KERNEL(numbers, real, LEVEL)(feature);
    const real scale = (real)(feature->gamma * feature->inv_std);
    const real mean_dy = (real)feature->mean_dy, mean_dy_x_hat = (real)feature->mean_dy_x_hat;
    const real *__restrict x = (const real *)row, *__restrict dy = (const real *)row_dy;
    real *__restrict dx = (real *)out;
    if (feature->relu) {
        for (ptrdiff_t i = 0; i < length; i++)
            dx[i] = scale * (KERNEL(flow, real, LEVEL)(dy[i], x[i], of) - mean_dy
                             - KERNEL(x_hat, real, LEVEL)(x[i], of) * mean_dy_x_hat);
    } else {
        for (ptrdiff_t i = 0; i < length; i++)
            dx[i] = scale * (dy[i] - mean_dy
                             - KERNEL(x_hat, real, LEVEL)(x[i], of) * mean_dy_x_hat);
    }
}

/* mean[d] = 1/N sum over n of x[n,d];  var[d] = 1/N sum over n of (x[n,d] - mean[d])^2 */
static TARGET void KERNEL(column_statistics, real, LEVEL)(
    const void *first, ptrdiff_t N, ptrdiff_t D, ptrdiff_t columns, double *mean, double *var)
{
    const real *x = (const real *)first;
    double s[COLUMNS] = {0}, centre[COLUMNS];
    for (ptrdiff_t n = 0; n < N; n++)
        for (ptrdiff_t d = 0; d < columns; d++) s[d] += x[n * D + d];
    for (ptrdiff_t d = 0; d < columns; d++) {
        mean[d] = centre[d] = s[d] / N;
        s[d] = 0;
    }
    for (ptrdiff_t n = 0; n < N; n++)
        for (ptrdiff_t d = 0; d < columns; d++)
            s[d] += (x[n * D + d] - centre[d]) * (x[n * D + d] - centre[d]);
    for (ptrdiff_t d = 0; d < columns; d++) var[d] = s[d] / N;
}

/* y[n,d] = gamma[d] * (x[n,d] - mean[d]) / sqrt(var[d] + eps) + beta[d] */
static TARGET void KERNEL(normalize_columns, real, LEVEL)(
    const void *first, ptrdiff_t N, ptrdiff_t D, ptrdiff_t columns, const Feature *features,
    void *out)
{
    const real *__restrict x = (const real *)first;
    real *__restrict y = (real *)out;
    real mean[COLUMNS], low[COLUMNS], inv_std[COLUMNS], gamma[COLUMNS], beta[COLUMNS];
    for (ptrdiff_t d = 0; d < columns; d++) {
        const Numbers of = KERNEL(numbers, real, LEVEL)(features + d);
        mean[d] = of.mean, low[d] = of.low, inv_std[d] = of.inv_std;
        gamma[d] = of.gamma, beta[d] = of.beta;
    }
    for (ptrdiff_t n = 0; n < N; n++)
        for (ptrdiff_t d = 0; d < columns; d++)
            y[n * D + d] = gamma[d] * (((x[n * D + d] - mean[d]) - low[d]) * inv_std[d]) + beta[d];
}

/* Sums over n of dy[n,d] and of dy[n,d] * (x[n,d] - mean[d]). */
static TARGET void KERNEL(column_products, real, LEVEL)(
    const void *first_dy, const void *first, ptrdiff_t N, ptrdiff_t D, ptrdiff_t columns,
    const double *mean, double *sum, double *product)
{
    const real *dy = (const real *)first_dy, *x = (const real *)first;
    double s[COLUMNS] = {0}, p[COLUMNS] = {0}, centre[COLUMNS];
    memcpy(centre, mean, columns * sizeof(double));
    for (ptrdiff_t n = 0; n < N; n++)
        for (ptrdiff_t d = 0; d < columns; d++) {
            s[d] += dy[n * D + d];
            p[d] += dy[n * D + d] * (x[n * D + d] - centre[d]);
        }
    memcpy(sum, s, columns * sizeof(double));
    memcpy(product, p, columns * sizeof(double));
}

/* dx[n,d] = gamma[d] / sqrt(var[d] + eps) * (dy[n,d] - mean of dy - x_hat * mean of dy * x_hat) */
static TARGET void KERNEL(column_gradient, real, LEVEL)(
    const void *first_dy, const void *first, ptrdiff_t N, ptrdiff_t D, ptrdiff_t columns,
    const Feature *features, void *out)
{
    const real *__restrict x = (const real *)first, *__restrict dy = (const real *)first_dy;
    real *__restrict dx = (real *)out;
    real mean[COLUMNS], low[COLUMNS], scale[COLUMNS], mean_dy[COLUMNS], slope[COLUMNS];
    for (ptrdiff_t d = 0; d < columns; d++) {
        const Feature *of = features + d;
        mean[d] = (real)of->mean, low[d] = (real)(of->mean - mean[d]);
        scale[d] = (real)(of->gamma * of->inv_std), mean_dy[d] = (real)of->mean_dy;
        slope[d] = (real)(of->inv_std * of->mean_dy_x_hat);
    }
    for (ptrdiff_t n = 0; n < N; n++)
        for (ptrdiff_t d = 0; d < columns; d++)
            dx[n * D + d] = scale[d] * (dy[n * D + d] - mean_dy[d]
                                        - ((x[n * D + d] - mean[d]) - low[d]) * slope[d]);
}

static const Kernels KERNEL(kernels, real, LEVEL) = {
    KERNEL(sums, real, LEVEL), KERNEL(normalize, real, LEVEL), KERNEL(products, real, LEVEL),
    KERNEL(gradient, real, LEVEL), KERNEL(column_statistics, real, LEVEL),
    KERNEL(normalize_columns, real, LEVEL), KERNEL(column_products, real, LEVEL),
    KERNEL(column_gradient, real, LEVEL)};

#undef WIDE
#undef wide
#undef narrow
#undef Numbers
#undef DOUBLE

#endif
