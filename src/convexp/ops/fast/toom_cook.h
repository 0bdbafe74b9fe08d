/* The micro-kernels of convolutions whose filters' columns are transformed (transforms.py). */

/* out[t,l] = sum over i of matrix[t,i] * rows[i][l], for n rows and so many lanes. */
static TARGET void KERNEL(mix_rows, real, LEVEL)(
    const void *const *rows, int n, const void *matrix_, Py_ssize_t count, void *out_,
    Py_ssize_t out_step)
{
    const real *matrix = (const real *)matrix_;
    real *out = (real *)out_;
    for (int t = 0; t < n; t++, matrix += n, out += out_step) {
        Py_ssize_t l = 0;
        for (; l + LANES <= count; l += LANES) {
            vec sum = {0};
            for (int i = 0; i < n; i++)
                sum += matrix[i] * *(const loose *)((const real *)rows[i] + l);
            *(loose *)(out + l) = sum;
        }
        for (; l < count; l++) {
            real sum = 0;
            for (int i = 0; i < n; i++) sum += matrix[i] * ((const real *)rows[i])[l];
            out[l] = sum;
        }
    }
}

/* out[t,l] = mix[0,t] * upper[l] + mix[1,t] * lower[l]; without a lower row it is zero. Of lanes
 * there are whole vectors. */
static TARGET void KERNEL(spread_pair, real, LEVEL)(
    const void *upper_, const void *lower_, int n, const void *mix_, Py_ssize_t count, void *out_,
    Py_ssize_t out_step)
{
    const real *upper = (const real *)upper_, *lower = (const real *)lower_;
    const real *mix = (const real *)mix_;
    for (Py_ssize_t l = 0; l < count; l += LANES) {
        const vec a = *(const loose *)(upper + l);
        const vec b = lower ? (vec) * (const loose *)(lower + l) : (vec){0};
        real *out = (real *)out_ + l;
        for (int t = 0; t < n; t++, out += out_step) *(loose *)out = mix[t] * a + mix[n + t] * b;
    }
}

/* Two rows of outputs: to[i][p,l] = bias[l]
 *     + sum over t of mix[i,t] * sum over k of v[t * v_step + p * step + columns[k]] * u[t,k,l]
 * for so many pixels p and nv vectors of lanes, rectified if asked for. Returns whether they are
 * finite. A tile of pixels x lanes stays in registers three times: the sums of a t, and both rows.
 * nv is a constant where this is inlined. */
static ALWAYS_INLINE TARGET int KERNEL(pair_tiles, real, LEVEL)(
    const int nv, const real *v, Py_ssize_t v_step, Py_ssize_t step, Py_ssize_t pixels,
    const Py_ssize_t *columns, Py_ssize_t depth, const real *u, int n, const real *mix,
    const real *bias, int rectify, real *const *to)
{
    vec zero = {0};
    for (Py_ssize_t first = 0; first < pixels; first += PAIR_PIXELS) {
        const real *a[PAIR_PIXELS], *b = u;
        vec y[2][PAIR_PIXELS][PANEL];
        UNROLL for (int p = 0; p < PAIR_PIXELS; p++) { /* the last tile repeats the last pixel */
            a[p] = v + (first + p < pixels ? first + p : pixels - 1) * step;
            UNROLL for (int l = 0; l < nv; l++)
                y[0][p][l] = y[1][p][l] = *(const loose *)(bias + l * LANES);
        }
        for (int t = 0; t < n; t++) {
            const real upper = mix[t], lower = mix[n + t];
            vec acc[PAIR_PIXELS][PANEL];
            UNROLL for (int p = 0; p < PAIR_PIXELS; p++)
                UNROLL for (int l = 0; l < nv; l++) acc[p][l] = (vec){0};
            for (Py_ssize_t k = 0; k < depth; k++, b += nv * LANES) {
                const Py_ssize_t column = columns[k];
                vec right[PANEL];
                UNROLL for (int l = 0; l < nv; l++) right[l] = *(const loose *)(b + l * LANES);
                UNROLL for (int p = 0; p < PAIR_PIXELS; p++)
                    UNROLL for (int l = 0; l < nv; l++) acc[p][l] += a[p][column] * right[l];
            }
            UNROLL for (int p = 0; p < PAIR_PIXELS; p++) {
                a[p] += v_step;
                UNROLL for (int l = 0; l < nv; l++) {
                    y[0][p][l] += upper * acc[p][l];
                    y[1][p][l] += lower * acc[p][l];
                }
            }
        }
        UNROLL for (int i = 0; i < 2; i++)
            UNROLL for (int p = 0; p < PAIR_PIXELS; p++) {
                if (!to[i] || first + p >= pixels) continue;
                UNROLL for (int l = 0; l < nv; l++) {
                    const vec out = y[i][p][l];
                    zero += out - out; /* infinity - infinity is NaN */
                    *(loose *)(to[i] + ((first + p) * nv + l) * LANES) =
                        rectify ? KERNEL(rectified, real, LEVEL)(out) : out;
                }
            }
    }
    for (int l = 0; l < LANES; l++)
        if (LANE(zero, l) != 0) return 0;
    return 1;
}

static TARGET int KERNEL(pair_of_rows, real, LEVEL)(
    int nv, const void *v, Py_ssize_t v_step, Py_ssize_t step, Py_ssize_t pixels,
    const Py_ssize_t *columns, Py_ssize_t depth, const void *u, int n, const void *mix,
    const void *bias, int rectify, void *upper, void *lower)
{
    real *const to[2] = {(real *)upper, (real *)lower};
#define PAIR_OF_ROWS(nv)                                                                         \
    KERNEL(pair_tiles, real, LEVEL)(nv, (const real *)v, v_step, step, pixels, columns, depth,   \
        (const real *)u, n, (const real *)mix, (const real *)bias, rectify, to)
    return nv == 1 ? PAIR_OF_ROWS(1) : PAIR_OF_ROWS(PANEL);
#undef PAIR_OF_ROWS
}
