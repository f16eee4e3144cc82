/* The compressed kernel within a bzImage. */
#ifndef RUNTIME_INSPECT_PAYLOAD_H
#define RUNTIME_INSPECT_PAYLOAD_H

#include "base/types.h"

/* Unpack a payload, whose last four bytes say how large it becomes. Returns NULL with *out malloced, or what keeps it from that, as what
 * follows "its payload ". */
const char *payload_unpack(const uint8_t *bytes, size_t size, uint8_t **out, size_t *out_size);

#endif
