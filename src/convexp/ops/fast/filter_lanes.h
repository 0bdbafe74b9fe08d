/* The micro-kernels with lanes over filters: a matrix product whose left matrix is never made. */

/* max(v, 0), lane by lane; NaN stays NaN. */
static ALWAYS_INLINE TARGET vec KERNEL(rectified, real, LEVEL)(vec v)
{
    return SELECT(vec, (v > 0) | (v != v), v, (vec){0});
}

/* c[r,l] = start[l] + sum over k of rows[r][columns[k]] * b[k,l]
 * for nr rows and nv vectors of lanes, with a row of c at every c_pitch; without a start the sum is
 * added to c. An element of the left matrix lies at its row's place plus its column's: so the
 * pixels and the taps of an image are such a matrix, and need not be copied into one. nr and nv
 * are constants where this is inlined: then acc is registers. */
static ALWAYS_INLINE TARGET void KERNEL(multiply_tile, real, LEVEL)(
    const int nr, const int nv, const real *const *rows, const Py_ssize_t *columns,
    Py_ssize_t depth, const real *b, Py_ssize_t b_pitch, const real *start, int rectify, real *c,
    Py_ssize_t c_pitch)
{
    const real *a[ROWS];
    vec acc[ROWS][PANEL];
    UNROLL for (int r = 0; r < nr; r++) {
        a[r] = rows[r];
        UNROLL for (int v = 0; v < nv; v++)
            acc[r][v] = start ? (vec) * (const loose *)(start + v * LANES) : (vec){0};
    }
    for (Py_ssize_t k = 0; k < depth; k++, b += b_pitch) {
        const Py_ssize_t column = columns[k];
        vec right[PANEL];
        UNROLL for (int v = 0; v < nv; v++) right[v] = *(const loose *)(b + v * LANES);
        UNROLL for (int r = 0; r < nr; r++)
            UNROLL for (int v = 0; v < nv; v++) acc[r][v] += a[r][column] * right[v];
    }
    UNROLL for (int r = 0; r < nr; r++)
        UNROLL for (int v = 0; v < nv; v++) {
            loose *to = (loose *)(c + r * c_pitch + v * LANES);
            if (!start) acc[r][v] += *to;
            *to = rectify ? KERNEL(rectified, real, LEVEL)(acc[r][v]) : acc[r][v];
        }
}

static TARGET void KERNEL(multiply, real, LEVEL)(
    int nr, int nv, const void *const *rows, const Py_ssize_t *columns, Py_ssize_t depth,
    const void *b, Py_ssize_t b_pitch, const void *start, int rectify, void *c, Py_ssize_t c_pitch)
{
#define TILE(r, v)                                                                               \
    KERNEL(multiply_tile, real, LEVEL)(r, v, (const real *const *)rows, columns, depth,          \
        (const real *)b, b_pitch, (const real *)start, rectify, (real *)c, c_pitch)
#define TILES(r)                                                                                 \
    case r:                                                                                      \
        if (nv == 1)                                                                             \
            TILE(r, 1);                                                                          \
        else                                                                                     \
            TILE(r, PANEL);                                                                      \
        break;
    switch (nr) {
        TILES(1) TILES(2) TILES(3) TILES(4)
#if ROWS > 4
        TILES(5) TILES(6)
#endif
#if ROWS > 6
        TILES(7) TILES(8)
#endif
    }
#undef TILES
#undef TILE
}

/* out[j * out_pitch + i] = in[i * in_pitch + j]: between lanes over pixels and lanes over filters.
 * Squares of a vector's length are turned in registers: in step s the rows i and i + s exchange
 * their blocks of s lanes. */
static TARGET void KERNEL(transpose, real, LEVEL)(
    const void *in_, Py_ssize_t in_pitch, Py_ssize_t rows, Py_ssize_t columns, void *out_,
    Py_ssize_t out_pitch)
{
    const real *in = (const real *)in_;
    real *out = (real *)out_;
    Py_ssize_t i = 0, j = 0;
#if HAVE_SHUFFLE
    lanes lane;
    UNROLL for (int l = 0; l < LANES; l++) lane[l] = l;
    for (; i + LANES <= rows; i += LANES) {
        for (j = 0; j + LANES <= columns; j += LANES) {
            vec square[LANES];
            UNROLL for (int l = 0; l < LANES; l++) {
                const real *row = in + (i + l) * in_pitch + j;
                PREFETCH(row + 4 * LANES);  /* so many streams are more than the processor follows */
                square[l] = *(const loose *)row;
            }
            UNROLL for (int s = 1; s < LANES; s *= 2) {
                const lanes odd = (lane & s) != 0;
                const lanes first = lane + (odd & (LANES - s)), second = lane + (s & ~odd)
                    + (LANES & odd);
                UNROLL for (int l = 0; l < LANES; l++) {
                    if (l & s) continue;
                    const vec a = square[l], b = square[l + s];
                    square[l] = __builtin_shuffle(a, b, first);
                    square[l + s] = __builtin_shuffle(a, b, second);
                }
            }
            UNROLL for (int l = 0; l < LANES; l++)
                *(loose *)(out + (j + l) * out_pitch + i) = square[l];
        }
        for (; j < columns; j++)
            for (Py_ssize_t l = i; l < i + LANES; l++)
                out[j * out_pitch + l] = in[l * in_pitch + j];
    }
#endif
    for (; i < rows; i++)
        for (j = 0; j < columns; j++) out[j * out_pitch + i] = in[i * in_pitch + j];
}

/* out[r * out_pitch + l] = c[r * pitch + l] + b[r], for so many rows and lanes. */
static TARGET void KERNEL(add_to_rows, real, LEVEL)(
    const void *c_, Py_ssize_t pitch, Py_ssize_t rows, Py_ssize_t count, const void *b, void *out_,
    Py_ssize_t out_pitch)
{
    for (Py_ssize_t r = 0; r < rows; r++) {
        const real *c = (const real *)c_ + r * pitch, bias = ((const real *)b)[r];
        real *out = (real *)out_ + r * out_pitch;
        Py_ssize_t l = 0;
        for (; l + LANES <= count; l += LANES)
            *(loose *)(out + l) = *(const loose *)(c + l) + bias;
        for (; l < count; l++) out[l] = c[l] + bias;
    }
}

/* y[q,l] = the largest of its window of c, rectified; winner[q,l] = where in the window it stands,
 * the first on a tie, or DEAD where it is not above zero. For one row of windows, columns of them:
 * the window of q begins at c[q * step], and its pixel (ii, jj) lies row * ii + jj pixels on. */
static TARGET void KERNEL(pool, real, LEVEL)(
    const void *c_, int nv, Py_ssize_t columns, Py_ssize_t step, Py_ssize_t row, int height,
    int width, void *y_, unsigned char *winner)
{
    const int pitch = nv * LANES;
    const real *c = (const real *)c_;
    real *y = (real *)y_;
    for (Py_ssize_t q = 0; q < columns; q++)
        for (int v = 0; v < nv; v++) {
            const real *window = c + q * step * pitch + v * LANES;
            vec best = *(const loose *)window;
            lanes where = {0};
            lanes number = {0};
            for (int ii = 0; ii < height; ii++)
                for (int jj = 0; jj < width; jj++, number += 1) {
                    const vec candidate = *(const loose *)(window + (ii * row + jj) * pitch);
                    /* larger, or the first NaN */
                    const lanes better =
                        ((candidate > best) | (candidate != candidate)) & (best == best);
                    best = SELECT(vec, better, candidate, best);
                    where = SELECT(lanes, better, number, where);
                }
            where = SELECT(lanes, best > 0, where, (lanes){0} + DEAD);
            *(loose *)(y + q * pitch + v * LANES) = KERNEL(rectified, real, LEVEL)(best);
            for (int l = 0; l < LANES; l++)
                winner[q * pitch + v * LANES + l] = (unsigned char)LANE(where, l);
        }
}

/* The sum of x, in double; vectors of partial sums are of BLOCK numbers at most. */
static TARGET double KERNEL(sum, real, LEVEL)(const void *x_, Py_ssize_t length)
{
    enum { BLOCK = 1024 };
    const real *x = (const real *)x_;
    double total = 0;
    for (Py_ssize_t begin = 0; begin < length; begin += BLOCK) {
        const Py_ssize_t count = length - begin < BLOCK ? length - begin : BLOCK;
        vec acc[4] = {{0}};
        Py_ssize_t i = 0;
        for (; i + 4 * LANES <= count; i += 4 * LANES)
            UNROLL for (int v = 0; v < 4; v++)
                acc[v] += *(const loose *)(x + begin + i + v * LANES);
        acc[0] = (acc[0] + acc[1]) + (acc[2] + acc[3]);
        for (int l = 0; l < LANES; l++) total += LANE(acc[0], l);
        for (; i < count; i++) total += x[begin + i];
    }
    return total;
}
