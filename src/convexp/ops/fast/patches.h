/* The weight gradient of a convolution whose output gradient is zero but for a few pixels. */

/* sums[i,l] += sum over k of dy[k] * x[offsets[k] + i * pitch + l]
 * for nr rows and nv short vectors of lanes: a patch of an image whose channels are side by side,
 * so that a row of the patch is a run of neighbours. Short vectors, because a long one at any
 * address nearly always lies across two cache lines. */
static ALWAYS_INLINE TARGET void KERNEL(add_rows, real, LEVEL)(
    const int nr, const int nv, const real *x, Py_ssize_t pitch, const Py_ssize_t *offsets,
    const real *dy, Py_ssize_t count, real *sums)
{
    enum { SHORT = (int)(sizeof(brief) / sizeof(real)) };
    brief acc[8][6];
    UNROLL for (int i = 0; i < nr; i++)
        UNROLL for (int v = 0; v < nv; v++) acc[i][v] = (brief){0};
    for (Py_ssize_t k = 0; k < count; k++) {
        const real *patch = x + offsets[k];
        UNROLL for (int i = 0; i < nr; i++)
            UNROLL for (int v = 0; v < nv; v++)
                acc[i][v] += dy[k] * *(const loose_brief *)(patch + i * pitch + v * SHORT);
    }
    UNROLL for (int i = 0; i < nr; i++)
        UNROLL for (int v = 0; v < nv; v++)
            *(loose_brief *)(sums + (i * nv + v) * SHORT) += acc[i][v];
}

static TARGET void KERNEL(add_patches, real, LEVEL)(
    const void *x_, Py_ssize_t pitch, const Py_ssize_t *offsets, const void *dy, Py_ssize_t count,
    int height, int nv, void *sums_)
{
    const int lanes_of_row = nv * (int)(sizeof(brief) / sizeof(real));
    /* Rows at a time: their sums stay in the registers. */
    const int most = REGISTERS == 32 && nv <= 3 ? 8 : nv <= 3 ? 4 : nv == 4 ? 3 : 2;
    for (int row = 0; row < height; row += most) {
        const real *x = (const real *)x_ + row * pitch;
        real *sums = (real *)sums_ + row * lanes_of_row;
        switch (nv * 10 + (height - row < most ? height - row : most)) {
#define ROWS_OF(nr, nv)                                                                          \
    case (nv) * 10 + (nr):                                                                        \
        KERNEL(add_rows, real, LEVEL)(                                                           \
            nr, nv, x, pitch, offsets, (const real *)dy, count, sums);                           \
        break;
            ROWS_OF(1, 1) ROWS_OF(2, 1) ROWS_OF(3, 1) ROWS_OF(4, 1)
            ROWS_OF(1, 2) ROWS_OF(2, 2) ROWS_OF(3, 2) ROWS_OF(4, 2)
            ROWS_OF(1, 3) ROWS_OF(2, 3) ROWS_OF(3, 3) ROWS_OF(4, 3)
#if REGISTERS == 32
            ROWS_OF(5, 1) ROWS_OF(6, 1) ROWS_OF(7, 1) ROWS_OF(8, 1)
            ROWS_OF(5, 2) ROWS_OF(6, 2) ROWS_OF(7, 2) ROWS_OF(8, 2)
            ROWS_OF(5, 3) ROWS_OF(6, 3) ROWS_OF(7, 3) ROWS_OF(8, 3)
#endif
            ROWS_OF(1, 4) ROWS_OF(2, 4) ROWS_OF(3, 4)
            ROWS_OF(1, 5) ROWS_OF(2, 5)
            ROWS_OF(1, 6) ROWS_OF(2, 6)
#undef ROWS_OF
        }
    }
}
