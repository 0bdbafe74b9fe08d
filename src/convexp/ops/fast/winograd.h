/* The transforms of convolutions that get by with fewer products, with lanes over channels or
 * filters.
 *
 * In one dimension y = output(filter(g) * input(d)), product by product; a product may share its
 * factors with others. Transposed, the taps of a weight gradient come of dy and the same d:
 * dw = taps(gradient(dy) * input(d)). In two dimensions each is applied to the columns and then to
 * the rows.
 *
 * With stride 1, F(2x2, 3x3) of Lavin and Gray 2015, arXiv 1509.09308: two outputs of three taps
 * take four products instead of six, 2x2 outputs 16 instead of 36. */

static ALWAYS_INLINE TARGET void KERNEL(input, real, LEVEL)(const vec *d, int s, vec *to, int t)
{
    const vec d0 = d[0], d1 = d[s], d2 = d[2 * s], d3 = d[3 * s];
    to[0] = d0 - d2;
    to[t] = d1 + d2;
    to[2 * t] = d2 - d1;
    to[3 * t] = d1 - d3;
}

static ALWAYS_INLINE TARGET void KERNEL(filter, real, LEVEL)(const vec *g, int s, vec *to, int t)
{
    const vec g0 = g[0], g1 = g[s], g2 = g[2 * s], even = g0 + g2;
    to[0] = g0;
    to[t] = (even + g1) * (real)0.5;
    to[2 * t] = (even - g1) * (real)0.5;
    to[3 * t] = g2;
}

static ALWAYS_INLINE TARGET void KERNEL(output, real, LEVEL)(const vec *m, int s, vec *to, int t)
{
    const vec m0 = m[0], m1 = m[s], m2 = m[2 * s], m3 = m[3 * s];
    to[0] = m0 + m1 + m2;
    to[t] = m1 - m2 - m3;
}

static ALWAYS_INLINE TARGET void KERNEL(gradient, real, LEVEL)(const vec *dy, int s, vec *to, int t)
{
    const vec dy0 = dy[0], dy1 = dy[s];
    to[0] = dy0;
    to[t] = (dy0 + dy1) * (real)0.5;
    to[2 * t] = (dy0 - dy1) * (real)0.5;
    to[3 * t] = dy1;
}

static ALWAYS_INLINE TARGET void KERNEL(taps, real, LEVEL)(const vec *m, int s, vec *to, int t)
{
    const vec m0 = m[0], m1 = m[s], m2 = m[2 * s], m3 = m[3 * s], sum = m1 + m2;
    to[0] = m0 + sum;
    to[t] = m1 - m2;
    to[2 * t] = sum - m3;
}

/* Also with stride 1, F(4x4, 3x3): four outputs of three taps take six products, 4x4 outputs 36
 * instead of 144. The transforms are those of Toom and Cook for the points 0, A, -A, B, -B and
 * infinity. Of all such pairs this one has about the smallest rounding errors, less than twice those
 * of the direct sum in float32 and half of those of the usual 1 and 2; and A * B = 1 spares some
 * products. */

#define A ((real)2 / 3)
#define B ((real)3 / 2)
#define A_SCALE ((real)-81 / 130) /* 1 / product of (A - each other point) */
#define B_SCALE ((real)8 / 65)

static ALWAYS_INLINE TARGET void KERNEL(wide_input, real, LEVEL)(
    const vec *d, int s, vec *to, int t)
{
    const vec d1 = d[s], d2 = d[2 * s], d3 = d[3 * s], d4 = d[4 * s];
    const vec a_even = d4 - B * B * d2, a_odd = A * (d3 - B * B * d1);
    const vec b_even = d4 - A * A * d2, b_odd = B * (d3 - A * A * d1);
    to[0] = d[0] - (A * A + B * B) * d2 + d4;
    to[t] = a_even + a_odd;
    to[2 * t] = a_even - a_odd;
    to[3 * t] = b_even + b_odd;
    to[4 * t] = b_even - b_odd;
    to[5 * t] = d1 - (A * A + B * B) * d3 + d[5 * s];
}

static ALWAYS_INLINE TARGET void KERNEL(wide_filter, real, LEVEL)(
    const vec *g, int s, vec *to, int t)
{
    const vec g0 = g[0], g1 = g[s], g2 = g[2 * s];
    const vec a_even = A_SCALE * (g0 + A * A * g2), a_odd = A_SCALE * A * g1;
    const vec b_even = B_SCALE * (g0 + B * B * g2), b_odd = B_SCALE * B * g1;
    to[0] = g0;
    to[t] = a_even + a_odd;
    to[2 * t] = a_even - a_odd;
    to[3 * t] = b_even + b_odd;
    to[4 * t] = b_even - b_odd;
    to[5 * t] = g2;
}

static ALWAYS_INLINE TARGET void KERNEL(wide_output, real, LEVEL)(
    const vec *m, int s, vec *to, int t)
{
    const vec m1 = m[s], m2 = m[2 * s], m3 = m[3 * s], m4 = m[4 * s];
    const vec a_sum = m1 + m2, a_difference = m1 - m2, b_sum = m3 + m4, b_difference = m3 - m4;
    to[0] = m[0] + a_sum + b_sum;
    to[t] = A * a_difference + B * b_difference;
    to[2 * t] = A * A * a_sum + B * B * b_sum;
    to[3 * t] = A * A * A * a_difference + B * B * B * b_difference + m[5 * s];
}

static ALWAYS_INLINE TARGET void KERNEL(wide_gradient, real, LEVEL)(
    const vec *dy, int s, vec *to, int t)
{
    const vec dy0 = dy[0], dy1 = dy[s], dy2 = dy[2 * s], dy3 = dy[3 * s];
    const vec a_even = dy0 + A * A * dy2, a_odd = A * (dy1 + A * A * dy3);
    const vec b_even = dy0 + B * B * dy2, b_odd = B * (dy1 + B * B * dy3);
    to[0] = dy0;
    to[t] = a_even + a_odd;
    to[2 * t] = a_even - a_odd;
    to[3 * t] = b_even + b_odd;
    to[4 * t] = b_even - b_odd;
    to[5 * t] = dy3;
}

static ALWAYS_INLINE TARGET void KERNEL(wide_taps, real, LEVEL)(const vec *m, int s, vec *to, int t)
{
    const vec m1 = m[s], m2 = m[2 * s], m3 = m[3 * s], m4 = m[4 * s];
    const vec a_sum = A_SCALE * (m1 + m2), b_sum = B_SCALE * (m3 + m4);
    to[0] = m[0] + a_sum + b_sum;
    to[t] = A_SCALE * A * (m1 - m2) + B_SCALE * B * (m3 - m4);
    to[2 * t] = A * A * a_sum + B * B * b_sum + m[5 * s];
}

#undef A
#undef B
#undef A_SCALE
#undef B_SCALE

/* With stride 2 the outer taps meet the even inputs and the middle tap the odd ones, so that two
 * outputs take five products instead of six, 2x2 outputs 25 instead of 36:
 *   y0 = d0 g0 + d1 g1 + d2 g2 = (d0 - d2) g0 + d2 (g0 + g2) + d1 g1
 *   y1 = d2 g0 + d3 g1 + d4 g2 = d2 (g0 + g2) + (d4 - d2) g2 + d3 g1
 * The last two products have the same factor g1. */

static ALWAYS_INLINE TARGET void KERNEL(strided_input, real, LEVEL)(
    const vec *d, int s, vec *to, int t)
{
    const vec d2 = d[2 * s];
    to[0] = d[0] - d2;
    to[t] = d2;
    to[2 * t] = d[4 * s] - d2;
    to[3 * t] = d[s];
    to[4 * t] = d[3 * s];
}

static ALWAYS_INLINE TARGET void KERNEL(strided_filter, real, LEVEL)(
    const vec *g, int s, vec *to, int t)
{
    const vec g0 = g[0], g2 = g[2 * s];
    to[0] = g0;
    to[t] = g0 + g2;
    to[2 * t] = g2;
    to[3 * t] = g[s];
}

static ALWAYS_INLINE TARGET void KERNEL(strided_output, real, LEVEL)(
    const vec *m, int s, vec *to, int t)
{
    const vec m1 = m[s];
    to[0] = m[0] + m1 + m[3 * s];
    to[t] = m1 + m[2 * s] + m[4 * s];
}

/* For the products dy0, dy0 + dy1, dy1, dy0 and dy1 times the inputs. */
static ALWAYS_INLINE TARGET void KERNEL(strided_gradient, real, LEVEL)(
    const vec *dy, int s, vec *to, int t)
{
    const vec dy0 = dy[0], dy1 = dy[s];
    to[0] = dy0;
    to[t] = dy0 + dy1;
    to[2 * t] = dy1;
}

static ALWAYS_INLINE TARGET void KERNEL(strided_taps, real, LEVEL)(
    const vec *m, int s, vec *to, int t)
{
    const vec m1 = m[s];
    to[0] = m[0] + m1;
    to[t] = m[3 * s] + m[4 * s];
    to[2 * t] = m1 + m[2 * s];
}

/* The input gradient of stride 2 spreads dy: three of them make four of dx, again by five products,
 * with the filter turned:
 *   dx0 = d0 g0 + d1 g2 = (d0 - d1) g0 + d1 (g0 + g2)
 *   dx1 = d1 g1
 *   dx2 = d1 g0 + d2 g2 = d1 (g0 + g2) + (d2 - d1) g2
 *   dx3 = d2 g1
 * The factor d1 is in two of them. */

static ALWAYS_INLINE TARGET void KERNEL(spread_input, real, LEVEL)(
    const vec *d, int s, vec *to, int t)
{
    const vec d1 = d[s], d2 = d[2 * s];
    to[0] = d[0] - d1;
    to[t] = d1;
    to[2 * t] = d2 - d1;
    to[3 * t] = d2;
}

static ALWAYS_INLINE TARGET void KERNEL(spread_output, real, LEVEL)(
    const vec *m, int s, vec *to, int t)
{
    const vec m1 = m[s];
    to[0] = m[0] + m1;
    to[t] = m[3 * s];
    to[2 * t] = m1 + m[2 * s];
    to[3 * t] = m[4 * s];
}

/* to[a * to_step + l] = transform of from[b][l], for nv vectors of lanes l; the squares from and to
 * are of size x size and to_size x to_size, in row-major order. */
#define SQUARE(name, size, to_size)                                                              \
    static TARGET void KERNEL(name##_square, real, LEVEL)(                                       \
        const void *const *from, int nv, void *to, Py_ssize_t to_step)                           \
    {                                                                                            \
        for (int v = 0; v < nv; v++) {                                                           \
            vec d[(size) * (size)], half[(size) * (to_size)], all[(to_size) * (to_size)];        \
            UNROLL for (int i = 0; i < (size) * (size); i++)                                     \
                d[i] = *(const loose *)((const real *)from[i] + v * LANES);                      \
            UNROLL for (int j = 0; j < (size); j++)                                              \
                KERNEL(name, real, LEVEL)(d + j, size, half + j, size);                          \
            UNROLL for (int i = 0; i < (to_size); i++)                                           \
                KERNEL(name, real, LEVEL)(half + i * (size), 1, all + i * (to_size), 1);         \
            UNROLL for (int i = 0; i < (to_size) * (to_size); i++)                               \
                *(loose *)((real *)to + i * to_step + v * LANES) = all[i];                       \
        }                                                                                        \
    }
SQUARE(input, 4, 4)
SQUARE(filter, 3, 4)
SQUARE(gradient, 2, 4)
SQUARE(taps, 4, 3)
SQUARE(wide_input, 6, 6)
SQUARE(wide_filter, 3, 6)
SQUARE(wide_gradient, 4, 6)
SQUARE(wide_taps, 6, 3)
SQUARE(strided_input, 5, 5)
SQUARE(strided_filter, 3, 4)
SQUARE(strided_gradient, 2, 3)
SQUARE(strided_taps, 5, 3)
SQUARE(spread_input, 3, 4)
#undef SQUARE

/* The outputs of a tile, with their bias and, if asked for, rectified, to where to[0], to[1], ...
 * point; NULL is an output that the image does not have. Returns whether they are finite. */
#define OUTPUT(name, size, to_size)                                                              \
    static TARGET int KERNEL(name##_tile, real, LEVEL)(                                          \
        const void *const *from, int nv, const void *bias, int rectify, void *const *to)         \
    {                                                                                            \
        vec zero = {0};                                                                          \
        for (int v = 0; v < nv; v++) {                                                           \
            const vec b = *(const loose *)((const real *)bias + v * LANES);                      \
            vec m[(size) * (size)], half[(size) * (to_size)], all[(to_size) * (to_size)];        \
            UNROLL for (int i = 0; i < (size) * (size); i++)                                     \
                m[i] = *(const loose *)((const real *)from[i] + v * LANES);                      \
            UNROLL for (int j = 0; j < (size); j++)                                              \
                KERNEL(name, real, LEVEL)(m + j, size, half + j, size);                          \
            UNROLL for (int i = 0; i < (to_size); i++)                                           \
                KERNEL(name, real, LEVEL)(half + i * (size), 1, all + i * (to_size), 1);         \
            UNROLL for (int i = 0; i < (to_size) * (to_size); i++) {                             \
                if (!to[i]) continue;                                                            \
                vec y = all[i] + b;                                                              \
                zero += y - y;  /* NaN of an infinity, too */                                    \
                if (rectify) y = KERNEL(rectified, real, LEVEL)(y);                              \
                *(loose *)((real *)to[i] + v * LANES) = y;                                       \
            }                                                                                    \
        }                                                                                        \
        for (int l = 0; l < LANES; l++)                                                          \
            if (LANE(zero, l) != 0) return 0;                                                    \
        return 1;                                                                                \
    }
OUTPUT(output, 4, 2)
OUTPUT(wide_output, 6, 4)
OUTPUT(strided_output, 5, 2)
OUTPUT(spread_output, 5, 4)
#undef OUTPUT
