/* hostile_mix.c under PAE. */
#define PAE
#include "hostile_mix.c"
