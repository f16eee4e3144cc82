#include "runtime/inspect_payload.h"

#include <stdlib.h>
#include <string.h>
#ifdef HAVE_LZMA
#include <lzma.h>
#endif
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif

#define UNPACKED_MAX MIB(256)

/* Unpack into `size` bytes at `out`; false if it does not become exactly as many. */
typedef bool unpack_fn(const uint8_t *bytes, size_t length, uint8_t *out, size_t size);

#ifdef HAVE_LZMA
static bool unpack_xz(const uint8_t *bytes, size_t length, uint8_t *out, size_t size)
{
	uint64_t memory = MIB(256);
	size_t in_at = 0, out_at = 0;
	return lzma_stream_buffer_decode(&memory, 0, NULL, bytes, &in_at, length - 4, out, &out_at, size) == LZMA_OK && out_at == size;
}
#else
#define unpack_xz NULL
#endif

#ifdef HAVE_ZLIB
static bool unpack_gzip(const uint8_t *bytes, size_t length, uint8_t *out, size_t size)
{
	z_stream z = { .next_in = (uint8_t *)bytes, .avail_in = (uInt)length, .next_out = out, .avail_out = (uInt)size };
	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) return false;
	bool good = inflate(&z, Z_FINISH) == Z_STREAM_END && z.total_out == size;
	inflateEnd(&z);
	return good;
}
#else
#define unpack_gzip NULL
#endif

static const struct format {
	const char *magic;
	uint8_t magic_size;
	unpack_fn *unpack;
	const char *absent; /* said where it cannot be unpacked */
} formats[] = {
	{ "\xFD""7zXZ", 5, unpack_xz, "is compressed with xz, for which this build has no liblzma" },
	{ "\x1F\x8B", 2, unpack_gzip, "is compressed with gzip, for which this build has no zlib" },
	{ "\x28\xB5\x2F\xFD", 4, NULL, "is compressed with zstd: give the vmlinux that it was made from" },
	{ "BZh", 3, NULL, "is compressed with bzip2: give the vmlinux that it was made from" },
	{ "\x5D\0\0", 3, NULL, "is compressed with lzma: give the vmlinux that it was made from" },
	{ "\x89LZO", 4, NULL, "is compressed with lzo: give the vmlinux that it was made from" },
	{ "\x02\x21\x4C\x18", 4, NULL, "is compressed with lz4: give the vmlinux that it was made from" },
};

static const struct format *format_of(const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		if (size >= formats[i].magic_size && !memcmp(bytes, formats[i].magic, formats[i].magic_size)) return &formats[i];
	}
	return NULL;
}

const char *payload_unpack(const uint8_t *bytes, size_t size, uint8_t **out, size_t *out_size)
{
	const struct format *f = format_of(bytes, size);
	uint32_t unpacked;
	if (!f) return "is compressed in a way that is not known here: give the vmlinux that it was made from";
	if (!f->unpack) return f->absent;
	if (size < 16) return "is corrupt: it does not unpack";
	memcpy(&unpacked, bytes + size - sizeof(unpacked), sizeof(unpacked));
	if (!unpacked || unpacked > UNPACKED_MAX) return "is corrupt: it says that it unpacks to an impossible size";
	*out = malloc(unpacked);
	if (!*out) return "needs more memory to unpack than the host has";
	*out_size = unpacked;
	return f->unpack(bytes, size, *out, unpacked) ? NULL : "is corrupt: it does not unpack";
}
