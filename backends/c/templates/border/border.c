/* @NAME@: the border between reals and stored integers. Needs IEEE floats, and no -ffast-math. */
#include "@NAME@.h"

/* Added and taken away again, these round to an integer, ties to even: |v| < 2**22 and 2**51. */
#define ROUND 12582912.0f
#define ROUND_WIDE 6755399441055744.0

/* Stays a call: hundreds of loops merged into one function take compilers minutes. */
#ifdef __GNUC__
#define APART __attribute__((noinline))
#else
#define APART
#endif

@ENTRIES@