/* What the compiled ops know of the micro-kernels. */

#ifndef CONVEXP_KERNEL_TYPES_H
#define CONVEXP_KERNEL_TYPES_H

#include <Python.h>

/* Lanes that are neighbours in the source, and the output pixel of the first of them. */
typedef struct {
    Py_ssize_t source, row, column;
} Place;

/* A convexp.ops.fast.geometry.Correlation as the kernels see it. */
typedef struct {
    Py_ssize_t taps;
    const Py_ssize_t *offsets;
    Py_ssize_t count;
    const Place *places;
    Py_ssize_t rows, columns, pitch, row_step, column_step;
} Plan;

/* In a winner's place: the window's largest value is not above zero. */
enum { DEAD = 255 };

/* The transforms of winograd.h: from the vectors that from[0], from[1], ... point to. */
typedef void (*Transform)(const void *const *from, int nv, void *to, Py_ssize_t to_step);
typedef int (*OutputTransform)(
    const void *const *from, int nv, const void *bias, int rectify, void *const *to);

/* The kernels of a type and an instruction set; their arrays are of that type. */
typedef struct {
    int lanes;
    /* filter_lanes.h */
    int rows, panel;
    void (*multiply)(
        int nr, int nv, const void *const *rows, const Py_ssize_t *columns, Py_ssize_t depth,
        const void *b, Py_ssize_t b_pitch, const void *start, int rectify, void *c,
        Py_ssize_t c_pitch);
    void (*transpose)(
        const void *in, Py_ssize_t in_pitch, Py_ssize_t rows, Py_ssize_t columns, void *out,
        Py_ssize_t out_pitch);
    void (*add_to_rows)(
        const void *c, Py_ssize_t pitch, Py_ssize_t rows, Py_ssize_t lanes, const void *b,
        void *out, Py_ssize_t out_pitch);
    void (*pool)(
        const void *c, int nv, Py_ssize_t columns, Py_ssize_t step, Py_ssize_t row, int height,
        int width, void *y, unsigned char *winner);
    double (*sum)(const void *x, Py_ssize_t length);
    /* pixel_lanes.h */
    int filters, dy_filters, dy_taps;
    void (*sum_over_taps)(
        const Plan *plan, const void *source, const void *weights, const void *bias, int nf,
        Py_ssize_t first, Py_ssize_t last, void *out, Py_ssize_t out_plane);
    void (*sum_over_pixels)(
        const Plan *plan, const void *source, Py_ssize_t source_image, const void *dy,
        Py_ssize_t dy_plane, Py_ssize_t dy_image, Py_ssize_t images, Py_ssize_t first_tap, int nf,
        int nt, void *dw);
    /* winograd.h */
    Transform input, filter;
    OutputTransform output;
    Transform gradient, taps;
    /* patches.h */
    int brief; /* lanes of its vectors */
    void (*add_patches)(
        const void *x, Py_ssize_t pitch, const Py_ssize_t *offsets, const void *dy,
        Py_ssize_t count, int height, int nv, void *sums);
    /* toom_cook.h */
    int pair_pixels; /* of its tiles; 0 where the registers are too few to gain by it */
    void (*mix_rows)(
        const void *const *rows, int n, const void *matrix, Py_ssize_t count, void *out,
        Py_ssize_t out_step);
    void (*spread_pair)(
        const void *upper, const void *lower, int n, const void *mix, Py_ssize_t count, void *out,
        Py_ssize_t out_step);
    int (*pair_of_rows)(
        int nv, const void *v, Py_ssize_t v_step, Py_ssize_t step, Py_ssize_t pixels,
        const Py_ssize_t *columns, Py_ssize_t depth, const void *u, int n, const void *mix,
        const void *bias, int rectify, void *upper, void *lower);
    /* winograd.h, wide tiles */
    Transform wide_input, wide_filter;
    OutputTransform wide_output;
    Transform wide_gradient, wide_taps;
    /* winograd.h, stride 2 */
    Transform strided_input, strided_filter;
    OutputTransform strided_output;
    Transform strided_gradient, strided_taps;
    Transform spread_input;
    OutputTransform spread_output;
} Kernels;

#endif
