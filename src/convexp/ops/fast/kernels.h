/* The micro-kernels of matrix products and convolutions, for every type and instruction set. */

#ifndef LEVEL /* the first time: what does not depend on type and instruction set */

#include "kernel_types.h"

#define KERNELS "kernels.h"
#include "simd.h"

#else

#define LANES ((int)(BYTES / sizeof(real)))
#define vec KERNEL(vec, real, LEVEL)
#define loose KERNEL(loose, real, LEVEL)
#define lanes KERNEL(lanes, real, LEVEL)
#define brief KERNEL(brief, real, LEVEL)
#define loose_brief KERNEL(loose_brief, real, LEVEL)

/* A vector in registers, one at any address of memory, and the result of a comparison; the first
 * two also of at most 32 bytes. */
#if HAVE_VECTORS
typedef real vec __attribute__((vector_size(BYTES)));
typedef real loose __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
typedef integer lanes __attribute__((vector_size(BYTES)));
#define BRIEF_BYTES (BYTES < 32 ? BYTES : 32)
typedef real brief __attribute__((vector_size(BRIEF_BYTES)));
typedef real loose_brief
    __attribute__((vector_size(BRIEF_BYTES), aligned(sizeof(real)), may_alias));
#undef BRIEF_BYTES
#else
typedef real vec;
typedef real loose;
typedef integer lanes;
typedef real brief;
typedef real loose_brief;
#endif

/* The tiles that the registers hold:
 *   multiply          nr * PANEL + PANEL + 1 of them, for nr <= ROWS
 *   sum_over_taps     nf * VECTORS(nf) + VECTORS(nf) + 1, for nf <= FILTERS
 *   sum_over_pixels   DY_FILTERS * DY_TAPS + DY_TAPS + 1
 *   pair_of_rows      3 * PAIR_PIXELS * PANEL + PANEL + 1
 * Where a product and a sum are two instructions, there is one more. */
#define PANEL 2
#define DY_FILTERS 4
#if REGISTERS == 32
#define ROWS 8
#define FILTERS 8
#define VECTORS(nf) ((nf) <= 4 ? 6 : 3)
#define DY_TAPS 6
#define PAIR_PIXELS 4
#elif MULTIPLY_ADD
#define ROWS 6
#define FILTERS 4
#define VECTORS(nf) ((nf) <= 2 ? 4 : 3)
#define DY_TAPS 3
#define PAIR_PIXELS 2
#else
#define ROWS 4
#define FILTERS 4
#define VECTORS(nf) ((nf) <= 2 ? 4 : 2)
#define DY_TAPS 2
#define PAIR_PIXELS 2
#endif

#include "filter_lanes.h"
#include "pixel_lanes.h"
#include "winograd.h"
#include "patches.h"
#include "toom_cook.h"

static const Kernels KERNEL(kernels, real, LEVEL) = {
    LANES,
    ROWS, PANEL,
    KERNEL(multiply, real, LEVEL), KERNEL(transpose, real, LEVEL),
    KERNEL(add_to_rows, real, LEVEL), KERNEL(pool, real, LEVEL),
    KERNEL(sum, real, LEVEL),
    FILTERS, DY_FILTERS, DY_TAPS,
    KERNEL(sum_over_taps, real, LEVEL), KERNEL(sum_over_pixels, real, LEVEL),
    KERNEL(input_square, real, LEVEL), KERNEL(filter_square, real, LEVEL),
    KERNEL(output_tile, real, LEVEL), KERNEL(gradient_square, real, LEVEL),
    KERNEL(taps_square, real, LEVEL),
    (int)(sizeof(brief) / sizeof(real)), KERNEL(add_patches, real, LEVEL),
    REGISTERS == 32 ? PAIR_PIXELS : 0,
    KERNEL(mix_rows, real, LEVEL), KERNEL(spread_pair, real, LEVEL),
    KERNEL(pair_of_rows, real, LEVEL),
    KERNEL(wide_input_square, real, LEVEL), KERNEL(wide_filter_square, real, LEVEL),
    KERNEL(wide_output_tile, real, LEVEL), KERNEL(wide_gradient_square, real, LEVEL),
    KERNEL(wide_taps_square, real, LEVEL),
    KERNEL(strided_input_square, real, LEVEL), KERNEL(strided_filter_square, real, LEVEL),
    KERNEL(strided_output_tile, real, LEVEL), KERNEL(strided_gradient_square, real, LEVEL),
    KERNEL(strided_taps_square, real, LEVEL),
    KERNEL(spread_input_square, real, LEVEL), KERNEL(spread_output_tile, real, LEVEL),
};

#undef LANES
#undef vec
#undef loose
#undef lanes
#undef brief
#undef loose_brief
#undef PANEL
#undef DY_FILTERS
#undef ROWS
#undef FILTERS
#undef VECTORS
#undef DY_TAPS
#undef PAIR_PIXELS

#endif
