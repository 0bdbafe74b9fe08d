/* What built this file: the compiler's own words, the flags that setup.py says, OpenMP. */

#ifndef CONVEXP_BUILD_H
#define CONVEXP_BUILD_H

#define IN_QUOTES(word) #word
#define AS_TEXT(macro) IN_QUOTES(macro)

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#elif defined(_MSC_FULL_VER)
#define COMPILER "msvc " AS_TEXT(_MSC_FULL_VER)
#else
#define COMPILER "unknown"
#endif

#ifndef CONVEXP_FLAGS
#define CONVEXP_FLAGS "unknown"
#endif

/* The date of the standard, such as 201511 for 4.5. */
#ifdef _OPENMP
#define OPENMP AS_TEXT(_OPENMP)
#else
#define OPENMP "no"
#endif

#endif
