/* The micro-kernels with lanes over pixels: of a convolution with few filters, or few taps. */

/* Write the lanes of a place to their pixels; lanes between the rows are nobody's. */
static NOINLINE TARGET void KERNEL(scatter, real, LEVEL)(
    const real *lane, const Place *place, const Plan *plan, real *out)
{
    Py_ssize_t row = place->row, column = place->column, l = 0;
    while (l < LANES && row < plan->rows) {
        real *pixels = out + row * plan->row_step;
        for (Py_ssize_t j = column; j < plan->columns && l + j - column < LANES; j++)
            pixels[j * plan->column_step] = lane[l + j - column];
        l += plan->pitch - column;
        column = 0;
        row++;
    }
}

/* out[f,pixel] = bias[f] + sum over taps of weights[tap,f] * source[offsets[tap] + pixel]
 * for nf filters and the places first <= place < last. nf and nv are constants where this is
 * inlined: then acc and s are registers. */
static ALWAYS_INLINE TARGET void KERNEL(tile, real, LEVEL)(
    const int nf, const int nv, const Plan *plan, const real *source, const real *weights,
    const real *bias, Py_ssize_t first, Py_ssize_t last, real *out, Py_ssize_t out_plane)
{
    for (; first < last; first += nv) {
        const real *at[6];
        vec acc[8][6];
        UNROLL for (int v = 0; v < nv; v++) {  /* the last tile repeats its last place */
            Py_ssize_t place = first + v < last ? first + v : last - 1;
            at[v] = source + plan->places[place].source;
        }
        UNROLL for (int f = 0; f < nf; f++)
            UNROLL for (int v = 0; v < nv; v++) acc[f][v] = (vec){0} + bias[f];

        const real *w = weights;
        for (Py_ssize_t tap = 0; tap < plan->taps; tap++, w += nf) {
            const Py_ssize_t offset = plan->offsets[tap];
            vec s[6];
            UNROLL for (int v = 0; v < nv; v++) s[v] = *(const loose *)(at[v] + offset);
            UNROLL for (int f = 0; f < nf; f++)
                UNROLL for (int v = 0; v < nv; v++) acc[f][v] += w[f] * s[v];
        }

        UNROLL for (int v = 0; v < nv; v++) {
            if (first + v >= last) break;
            const Place *place = &plan->places[first + v];
            const int whole = plan->column_step == 1 && place->column + LANES <= plan->columns;
            real *pixels = out + place->row * plan->row_step + place->column;
            UNROLL for (int f = 0; f < nf; f++) {
                if (whole) {
                    *(loose *)(pixels + f * out_plane) = acc[f][v];
                } else {
                    vec lanes = acc[f][v];
                    KERNEL(scatter, real, LEVEL)(
                        (const real *)&lanes, place, plan, out + f * out_plane);
                }
            }
        }
    }
}

static TARGET void KERNEL(sum_over_taps, real, LEVEL)(
    const Plan *plan, const void *source, const void *weights, const void *bias, int nf,
    Py_ssize_t first, Py_ssize_t last, void *out, Py_ssize_t out_plane)
{
#define TILE(n)                                                                                 \
    case n:                                                                                     \
        KERNEL(tile, real, LEVEL)(n, VECTORS(n), plan, (const real *)source,                    \
            (const real *)weights, (const real *)bias, first, last, (real *)out, out_plane);    \
        break;
    switch (nf) {
        TILE(1) TILE(2) TILE(3) TILE(4)
#if FILTERS > 4
        TILE(5) TILE(6) TILE(7) TILE(8)
#endif
    }
#undef TILE
}

/* dw[f,tap] += sum over images and pixels of dy[f,pixel] * source[offsets[tap] + pixel]
 * for nf filters and nt taps. A smaller block repeats its last filter and tap, and drops them. */
static TARGET void KERNEL(sum_over_pixels, real, LEVEL)(
    const Plan *plan, const void *source, Py_ssize_t source_image, const void *dy,
    Py_ssize_t dy_plane, Py_ssize_t dy_image, Py_ssize_t images, Py_ssize_t first_tap, int nf,
    int nt, void *dw)
{
    vec acc[DY_FILTERS][DY_TAPS];
    Py_ssize_t offset[DY_TAPS];
    UNROLL for (int f = 0; f < DY_FILTERS; f++)
        UNROLL for (int t = 0; t < DY_TAPS; t++) acc[f][t] = (vec){0};
    UNROLL for (int t = 0; t < DY_TAPS; t++)
        offset[t] = plan->offsets[first_tap + (t < nt ? t : nt - 1)];

    for (Py_ssize_t n = 0; n < images; n++) {
        const real *image = (const real *)source + n * source_image;
        const real *gradient[DY_FILTERS];
        UNROLL for (int f = 0; f < DY_FILTERS; f++)
            gradient[f] = (const real *)dy + n * dy_image + (f < nf ? f : nf - 1) * dy_plane;
        for (Py_ssize_t place = 0; place < plan->count; place++) {
            const real *at = image + plan->places[place].source;
            vec s[DY_TAPS];
            UNROLL for (int t = 0; t < DY_TAPS; t++) s[t] = *(const loose *)(at + offset[t]);
            UNROLL for (int f = 0; f < DY_FILTERS; f++) {
                const vec g = *(const loose *)(gradient[f] + place * LANES);
                UNROLL for (int t = 0; t < DY_TAPS; t++) acc[f][t] += g * s[t];
            }
        }
    }

    UNROLL for (int f = 0; f < DY_FILTERS; f++)
        UNROLL for (int t = 0; t < DY_TAPS; t++) {
            vec lanes = acc[f][t];
            real *lane = (real *)&lanes;
            for (int half = LANES / 2; half > 0; half /= 2)
                for (int l = 0; l < half; l++) lane[l] += lane[l + half];
            if (f < nf && t < nt) ((real *)dw)[f * plan->taps + first_tap + t] += lane[0];
        }
}
