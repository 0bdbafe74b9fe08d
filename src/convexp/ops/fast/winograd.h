/* The transforms of Winograd's convolution F(2x2, 3x3), with lanes over channels or filters.
 *
 * Lavin and Gray 2015, arXiv 1509.09308. In one dimension two outputs of a filter with three taps
 * take four products instead of six: y = output(filter(g) * input(d)). Transposed, three taps of a
 * weight gradient come of two dy and the same four d: dw = taps(gradient(dy) * input(d)). In two
 * dimensions each is applied to the columns and then to the rows: 16 products instead of 36. */

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
#undef SQUARE

/* The 2x2 outputs of a tile, with their bias and, if asked for, rectified, to rows x columns pixels
 * of c, as many as the image has. Returns whether they are finite. */
static TARGET int KERNEL(output_tile, real, LEVEL)(
    const void *const *from, int nv, const void *bias, int rectify, int rows, int columns, void *c,
    Py_ssize_t pitch)
{
    vec zero = {0};
    for (int v = 0; v < nv; v++) {
        const vec b = *(const loose *)((const real *)bias + v * LANES);
        vec m[16], half[8], all[4];
        UNROLL for (int i = 0; i < 16; i++)
            m[i] = *(const loose *)((const real *)from[i] + v * LANES);
        UNROLL for (int j = 0; j < 4; j++) KERNEL(output, real, LEVEL)(m + j, 4, half + j, 4);
        UNROLL for (int i = 0; i < 2; i++)
            KERNEL(output, real, LEVEL)(half + 4 * i, 1, all + 2 * i, 1);
        UNROLL for (int i = 0; i < 4; i++) {
            if (i / 2 >= rows || i % 2 >= columns) continue;
            vec y = all[i] + b;
            zero += y - y;
            if (rectify) y = KERNEL(rectified, real, LEVEL)(y);
            *(loose *)((real *)c + i / 2 * pitch + (i % 2 * nv + v) * LANES) = y;
        }
    }
    for (int l = 0; l < LANES; l++)
        if (LANE(zero, l) != 0) return 0;  /* infinity - infinity, or NaN */
    return 1;
}
