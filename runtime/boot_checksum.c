/* A bzImage's own CRC-32, so that a damaged download is found here and not by a guest that stops without a word.
 *
 * Linux 2.6.26 to 6.14 append it so that the remainder over the whole image is zero. Signing for Secure Boot changes two fields of the PE
 * header, the checksum and the place of the signature, both zero before: with these zeroed again, signed kernels check too. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/boot_parts.h"

#define POLYNOMIAL 0xEDB88320u /* of IEEE 802.3, reflected */
#define CHUNK 65536u
#define PE_OFFSET_AT 0x3Cu
#define PE_CHECKSUM 88u /* from the PE signature on */
#define PE_SECURITY_32 152u /* directory entry of the signature, in PE32 */
#define PE_SECURITY_64 168u /* in PE32+ */

/* Slices of eight bytes: table[n][x] is x's remainder after n more bytes. */
static void make_table(uint32_t table[8][256])
{
	for (uint32_t x = 0; x < 256; x++) {
		uint32_t crc = x;
		for (unsigned bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
		table[0][x] = crc;
	}
	for (unsigned n = 1; n < 8; n++) {
		for (unsigned x = 0; x < 256; x++) table[n][x] = table[n - 1][x] >> 8 ^ table[0][table[n - 1][x] & 255];
	}
}

static uint32_t add_bytes(uint32_t table[8][256], uint32_t crc, const uint8_t *p, size_t size)
{
	for (; size >= 8; p += 8, size -= 8) {
		uint32_t a, b;
		memcpy(&a, p, 4);
		memcpy(&b, p + 4, 4);
		a ^= crc;
		crc = table[7][a & 255] ^ table[6][a >> 8 & 255] ^ table[5][a >> 16 & 255] ^ table[4][a >> 24] ^ table[3][b & 255] ^
			table[2][b >> 8 & 255] ^ table[1][b >> 16 & 255] ^ table[0][b >> 24];
	}
	for (; size; p++, size--) crc = crc >> 8 ^ table[0][(crc ^ *p) & 255];
	return crc;
}

static void zero_signing_fields(uint8_t *head, size_t size)
{
	uint32_t pe;
	uint16_t kind;
	memcpy(&pe, head + PE_OFFSET_AT, sizeof(pe));
	if (pe > size || size - pe < PE_SECURITY_64 + 8 || memcmp(head, "MZ", 2) || memcmp(head + pe, "PE\0", 4)) return;
	memcpy(&kind, head + pe + 24, sizeof(kind));
	memset(head + pe + PE_CHECKSUM, 0, 4);
	memset(head + pe + (kind == 0x10B ? PE_SECURITY_32 : PE_SECURITY_64), 0, 8);
}

static bool appends_checksum(const char *version)
{
	unsigned major, minor;
	if (sscanf(version, "%2u.%3u.", &major, &minor) != 2 || major < 2) return false;
	return major < 6 || (major == 6 && minor < 15);
}

static int compute(struct boot_load *b, uint64_t size, uint32_t *crc)
{
	struct work {
		uint32_t table[8][256];
		uint8_t chunk[CHUNK];
	} *w = malloc(sizeof(*w));
	if (!w) return boot_fail(b, ENOMEM, "no memory left on the host to read the kernel");
	make_table(w->table);
	*crc = UINT32_MAX;
	int error = 0;
	for (uint64_t at = 0; at < size && !error;) {
		uint64_t n = size - at < CHUNK ? size - at : CHUNK;
		error = boot_read(b, b->files[0], at, w->chunk, n);
		if (error) break;
		if (!at) zero_signing_fields(w->chunk, n);
		*crc = add_bytes(w->table, *crc, w->chunk, n);
		at += n;
	}
	free(w);
	return error;
}

int boot_check_crc(struct boot_load *b, uint64_t version_offset, uint64_t size)
{
	char version[16] = "";
	if (version_offset > size || size - version_offset < sizeof(version)) return 0;
	int error = boot_read(b, b->files[0], version_offset, version, sizeof(version) - 1);
	if (error || !appends_checksum(version)) return error;
	uint32_t crc = 0;
	error = compute(b, size, &crc);
	if (error || !crc) return error;
	return boot_fail_kernel(b, ENOEXEC, "is corrupt: its checksum is wrong; fetch it again");
}
