/* The micro-kernels for one type and one instruction set.
 *
 * simd.h includes this file once for each pair of them, with these defined:
 *   real, integer         float and int, or double and long long
 *   LEVEL                 the instruction set, a part of names
 *   TARGET                the function attribute that allows its instructions
 *   BYTES                 width of a vector; sizeof(real) where the compiler has no vector types
 *   ROWS, PANEL           the tile of multiply: ROWS * PANEL + PANEL + 1 registers
 *   FILTERS               most filters of a tile of sum_over_taps
 *   VECTORS(nf)           vectors of its tile with nf filters: nf * VECTORS + VECTORS + 1 registers
 *   DY_FILTERS, DY_TAPS   the tile of sum_over_pixels: DY_FILTERS * DY_TAPS + DY_TAPS + 1 registers
 */

#define LANES ((int)(BYTES / sizeof(real)))
#define vec KERNEL(vec, real, LEVEL)
#define loose KERNEL(loose, real, LEVEL)
#define mask KERNEL(mask, real, LEVEL)

/* A vector in registers, one at any address of memory, and the result of a comparison. */
#if HAVE_VECTORS
typedef real vec __attribute__((vector_size(BYTES)));
typedef real loose __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
typedef integer mask __attribute__((vector_size(BYTES)));
#else
typedef real vec;
typedef real loose;
typedef integer mask;
#endif

#include "filter_lanes.h"
#include "pixel_lanes.h"
#include "winograd.h"

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
};

#undef LANES
#undef vec
#undef loose
#undef mask
#undef real
#undef integer
