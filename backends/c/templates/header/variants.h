
/* There is code for several kinds of machine, each with the same results:
@LIST@
 * The last that the machine can run is taken. @NAME@_variant says which; @NAME@_use_variant takes
 * another one for all later calls, or with -1 again the last. It gives 0; 1 when there is no such
 * variant; 2 when the machine cannot run it. */
#define @UPPER@_VARIANTS @COUNT@
int @NAME@_variant(void);
int @NAME@_use_variant(int number);
