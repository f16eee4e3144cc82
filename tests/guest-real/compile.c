/* What cc1 compiles: a few algorithms, several times over under names of their own. */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
extern void *memcpy(void *, const void *, __SIZE_TYPE__);
extern void *malloc(__SIZE_TYPE__);

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(x) JOIN(x, COPY)

#define COPY 0
#include "compile.inc"
#undef COPY
#define COPY 1
#include "compile.inc"
#undef COPY
#define COPY 2
#include "compile.inc"
#undef COPY
#define COPY 3
#include "compile.inc"
#undef COPY
#define COPY 4
#include "compile.inc"
#undef COPY
#define COPY 5
#include "compile.inc"
