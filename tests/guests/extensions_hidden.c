/* The same, on a processor that --cpu has stripped of them (the manifest says how). */
#include "extensions.c"
