/* x87 and SSE state as a whole. The guest's x87 registers and MXCSR are the host's own while this runs, its XMM registers are in the
 * vCPU; images go through a buffer, so that the host's pointers and XMM8-15 never reach the guest. Nothing here may execute a waiting
 * x87 instruction while an unmasked exception is pending: that one is the guest's, at its next such instruction. */
#include <string.h>

#include "runtime/cpu_private.h"

/* FXSAVE's image (vol. 1, 10.5.1). */
#define FX_BYTES 512u
#define FX_LEGACY_BYTES 288u /* what a processor without XMM8-15 stores; the rest stays as it is */
#define FX_CONTROL 0
#define FX_STATUS 2
#define FX_OPCODE 6
#define FX_IP 8
#define FX_DP 16
#define FX_MXCSR 24
#define FX_MXCSR_MASK 28
#define FX_XMM 160
#define MXCSR_MASK 0xFFFFu

/* The 32-bit environment in words: control, status, tag, FIP, FCS and opcode, FDP, FDS (vol. 1, 8.1.10), then the registers. */
#define ENV_WORDS 7
#define ENV_BYTES 28u
#define ENV16_BYTES 14u
#define STACK_BYTES 80u
#define FSW_FLAGS 0x3Fu
#define FSW_ES 0x80u
#define FSW_BUSY 0x8000u /* a copy of ES */

struct x87_image {
	uint32_t env[ENV_WORDS];
	uint8_t stack[STACK_BYTES];
} __attribute__((aligned(16)));

/* --- what the last instruction was ---
 *
 * The host's own pointers tell, so that x87 instructions store nothing: FIP is the host PC, which the cache knows an EIP for as long as the
 * translation lives (else what was noted last stays), or what the guest has loaded, which v->x87 holds then, or zero after FNINIT.
 * CPUID shows that FCS and FDS are not kept, and FDP and the opcode only of an instruction that met an unmasked exception: those are
 * looked for then alone. */

static bool is_prefix(uint8_t byte)
{
	return byte == 0x26 || byte == 0x2E || byte == 0x36 || byte == 0x3E || (byte >= 0x64 && byte <= 0x67) || byte == 0xF0 || byte >= 0xF2;
}

/* Is SS the segment of this ModRM's address, where no prefix says so? */
static bool addresses_stack(uint8_t modrm, uint8_t sib, bool a16)
{
	unsigned mod = modrm >> 6, rm = modrm & 7;
	if (a16) return rm == 2 || rm == 3 || (rm == 6 && mod != 0);
	unsigned base = rm == 4 ? sib & 7u : rm;
	return base == 4 || (base == 5 && mod != 0);
}

#define X87_INSN_BYTES 15u

/* The instruction at the noted address: its opcode, and the base of its operand's segment. */
static void decode_noted(struct vcpu *v)
{
	uint8_t bytes[X87_INSN_BYTES + 2] = { 0 };
	bool a16 = !(v->seg[SEG_CS].ar & AR_DB);
	int seg = -1;
	unsigned i = 0;
	struct guest_fault kept = v->fault;
	for (unsigned n = 0; n < X87_INSN_BYTES; n++)
		if (!memory_read8(v, v->x87.ip_base + v->x87.ip + n, &bytes[n], ACCESS_READ | memory_user(v))) break;
	v->fault = kept;
	for (; i < X87_INSN_BYTES && is_prefix(bytes[i]); i++) {
		static const uint8_t overrides[] = { 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65 };
		const uint8_t *at = memchr(overrides, bytes[i], sizeof(overrides));
		if (at) seg = (int)(at - overrides);
		a16 ^= bytes[i] == 0x67;
	}
	if (i >= X87_INSN_BYTES || (bytes[i] & 0xF8) != 0xD8) return;
	v->x87.opcode = (uint16_t)((bytes[i] & 7) << 8 | bytes[i + 1]);
	if (seg < 0) seg = addresses_stack(bytes[i + 1], bytes[i + 2], a16) ? SEG_SS : SEG_DS;
	v->x87.dp_base = v->seg[seg].base;
}

/* AMD's processors save pointers with FXSAVE only while an exception is pending; with FNSTENV always, but the lower half. */
static uint64_t host_ip(const uint8_t *fx)
{
	uint64_t ip;
	uint32_t env[ENV_WORDS];
	memcpy(&ip, fx + FX_IP, sizeof ip);
	if (ip) return ip;
	__asm__ volatile("fnstenv %0; fldenv %0" : "+m"(env));
	return env[3];
}

void cpu_note_x87(struct vcpu *v)
{
	_Alignas(16) uint8_t image[FX_BYTES];
	uint64_t dp;
	uint16_t status;
	gva_t gva;
	__asm__ volatile("fxsave64 %0" : "=m"(image));
	uint64_t ip = host_ip(image);
	memcpy(&dp, image + FX_DP, sizeof dp);
	memcpy(&status, image + FX_STATUS, sizeof status);
	if (ip == v->x87.ip) return;
	if (!ip) v->x87 = (struct x87_pointers){ 0 };
	else if (runtime_guest_code(v, ip, &v->x87.ip, &v->x87.ip_base) && (status & FSW_ES)) {
		decode_noted(v);
		if (runtime_guest_data(v, dp, &gva)) v->x87.dp = gva - v->x87.dp_base;
	}
}

/* Into an image that the host is to load. */
static void put_pointers(struct x87_image *image, const struct x87_pointers *p)
{
	image->env[3] = p->ip;
	image->env[4] = (uint32_t)p->opcode << 16;
	image->env[5] = p->dp;
	image->env[6] = 0;
}

static enum callout_result check_usable(struct vcpu *v)
{
	return v->cr0 & (CR0_EM | CR0_TS) ? cpu_raise(v, VEC_NM) : CALLOUT_NEXT;
}

bool cpu_x87_pending(void)
{
	uint16_t status;
	__asm__ volatile("fnstsw %0" : "=a"(status));
	return status & FSW_ES;
}

/* Exchange the exception flags that are unmasked and set for these; ES follows. The pointers stay: the image has them whole. */
static uint8_t exchange_unmasked(uint8_t flags)
{
	_Alignas(16) uint8_t image[FX_BYTES];
	uint16_t control, status;
	__asm__ volatile("fxsave64 %0" : "=m"(image));
	memcpy(&control, image + FX_CONTROL, sizeof control);
	memcpy(&status, image + FX_STATUS, sizeof status);
	uint8_t was = (uint8_t)(status & ~control & FSW_FLAGS);
	status = (uint16_t)((status & ~(was | FSW_ES | FSW_BUSY)) | flags);
	if (status & ~control & FSW_FLAGS) status |= FSW_ES | FSW_BUSY;
	memcpy(image + FX_STATUS, &status, sizeof status);
	__asm__ volatile("fxrstor64 %0"
	                 :
	                 : "m"(image)
	                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
	                   "xmm13", "xmm14", "xmm15");
	return was;
}

void cpu_hide_x87(struct vcpu *v) { v->x87_hidden = exchange_unmasked(0); }

/* Beside those that the instruction raised itself. */
void cpu_show_x87(struct vcpu *v)
{
	uint8_t raised = exchange_unmasked(0);
	exchange_unmasked(raised | v->x87_hidden);
	v->x87_hidden = 0;
}

/* FRSTOR and FLDENV are waiting instructions. */
static enum callout_result check_pending(struct vcpu *v)
{
	enum callout_result result = check_usable(v);
	if (result != CALLOUT_NEXT || !cpu_x87_pending()) return result;
	if (v->cr0 & CR0_NE) return cpu_raise(v, VEC_MF);
	return runtime_x87_error(v) ? CALLOUT_AGAIN : CALLOUT_NEXT;
}

/* The operand of FXSAVE and FXRSTOR: 16-byte aligned. */
static bool fx_operand(struct vcpu *v, uint32_t arg, uint32_t ea, bool write, gva_t *gva)
{
	if (!cpu_linear(v, (enum seg)CALLOUT_SEG(arg), ea, FX_BYTES, write, gva)) return false;
	if (*gva & 15) return cpu_fail(v, VEC_GP, 0);
	cpu_watch(v, *gva, FX_BYTES, write);
	return true;
}

enum callout_result callout_fxsave(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	_Alignas(16) uint8_t image[FX_BYTES];
	gva_t gva;
	if (check_usable(v) != CALLOUT_NEXT || !fx_operand(v, arg, ea, true, &gva)) return CALLOUT_FAULT;
	cpu_note_x87(v);
	__asm__ volatile("fxsave %0" : "=m"(image));
	memset(image + FX_OPCODE, 0, FX_MXCSR - FX_OPCODE);
	memcpy(image + FX_OPCODE, &v->x87.opcode, sizeof v->x87.opcode);
	memcpy(image + FX_IP, &v->x87.ip, sizeof v->x87.ip);
	memcpy(image + FX_DP, &v->x87.dp, sizeof v->x87.dp);
	uint32_t mask = MXCSR_MASK;
	memcpy(image + FX_MXCSR_MASK, &mask, sizeof mask);
	memcpy(image + FX_XMM, v->xmm, sizeof v->xmm);
	return memory_write(v, gva, image, FX_LEGACY_BYTES, ACCESS_WRITE | memory_user(v)) ? CALLOUT_NEXT : CALLOUT_FAULT;
}

enum callout_result callout_fxrstor(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	_Alignas(16) uint8_t image[FX_BYTES] = {0};
	gva_t gva;
	if (check_usable(v) != CALLOUT_NEXT || !fx_operand(v, arg, ea, false, &gva)) return CALLOUT_FAULT;
	if (!memory_read(v, gva, image, FX_LEGACY_BYTES, ACCESS_READ | memory_user(v))) return CALLOUT_FAULT;
	uint32_t mxcsr;
	memcpy(&mxcsr, image + FX_MXCSR, sizeof mxcsr);
	if (mxcsr & ~MXCSR_MASK) return cpu_raise_error(v, VEC_GP, 0);
	memcpy(v->xmm, image + FX_XMM, sizeof v->xmm);
	v->x87 = (struct x87_pointers){ 0 };
	memcpy(&v->x87.opcode, image + FX_OPCODE, sizeof v->x87.opcode);
	memcpy(&v->x87.ip, image + FX_IP, sizeof v->x87.ip);
	memcpy(&v->x87.dp, image + FX_DP, sizeof v->x87.dp);
	memset(image + FX_IP + 4, 0, 4);
	memset(image + FX_DP + 4, 0, 4);
	__asm__ volatile("fxrstor %0"
	                 :
	                 : "m"(image)
	                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
	                   "xmm13", "xmm14", "xmm15");
	return CALLOUT_NEXT;
}

/* The environment as the guest sees it, in its operand size and mode (vol. 1, figures 8-9 to 8-12); reserved halves are all ones. Real-address
 * and virtual-8086 mode know linear addresses, in pieces. */
static uint32_t lay_out_env(const struct vcpu *v, const struct x87_image *image, unsigned size, uint8_t *out)
{
	const struct x87_pointers *p = &v->x87;
	bool real = !cpu_protected(v);
	uint32_t ip = p->ip + (real ? p->ip_base : 0), dp = p->dp + (real ? p->dp_base : 0), ones = 0xFFFF0000u;
	if (size == 1) {
		uint16_t words[ENV_WORDS] = {(uint16_t)image->env[0], (uint16_t)image->env[1], (uint16_t)image->env[2], (uint16_t)ip,
		                             (uint16_t)(real ? (ip >> 4 & 0xF000u) | p->opcode : 0), (uint16_t)dp,
		                             (uint16_t)(real ? dp >> 4 & 0xF000u : 0)};
		memcpy(out, words, sizeof words);
		return ENV16_BYTES;
	}
	uint32_t words[ENV_WORDS] = {image->env[0] | ones, image->env[1] | ones, image->env[2] | ones, real ? ip | ones : ip,
	                             real ? (ip >> 4 & 0x0FFFF000u) | p->opcode : (uint32_t)p->opcode << 16, real ? dp | ones : dp,
	                             real ? dp >> 4 & 0x0FFFF000u : ones};
	memcpy(out, words, sizeof words);
	return ENV_BYTES;
}

static uint32_t env_bytes(unsigned size) { return size == 1 ? ENV16_BYTES : ENV_BYTES; }

static void read_env(struct vcpu *v, struct x87_image *image, unsigned size, const uint8_t *in)
{
	bool real = !cpu_protected(v);
	uint32_t words[ENV_WORDS] = { 0 };
	for (unsigned i = 0; i < ENV_WORDS; i++) memcpy(&words[i], in + ((size_t)i << size), 1u << size);
	for (unsigned i = 0; i < 3; i++) image->env[i] = words[i] & 0xFFFFu;
	v->x87 = (struct x87_pointers){ .ip = words[3], .dp = words[5] };
	if (real) {
		v->x87.ip = (words[3] & 0xFFFFu) | (words[4] & ~0xFFFu) << 4;
		v->x87.dp = (words[5] & 0xFFFFu) | (words[6] & ~0xFFFu) << 4;
		v->x87.opcode = words[4] & 0x7FFu;
	} else if (size == 2) {
		v->x87.opcode = words[4] >> 16 & 0x7FFu;
	}
	put_pointers(image, &v->x87);
	v->x87_hidden = 0; /* the new status word is whole */
}

/* An environment or state: aligned to its words (vol. 3, table 6-7). */
static bool image_operand(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t bytes, bool write, gva_t *gva)
{
	if (!cpu_linear(v, (enum seg)CALLOUT_SEG(arg), ea, bytes, write, gva)) return false;
	if (!cpu_check_alignment(v, *gva, 1u << CALLOUT_SIZE(arg))) return false;
	cpu_watch(v, *gva, bytes, write);
	return true;
}

static bool store_image(struct vcpu *v, uint32_t arg, uint32_t ea, const void *from, uint32_t bytes)
{
	gva_t gva;
	if (!image_operand(v, arg, ea, bytes, true, &gva)) return false;
	return memory_write(v, gva, from, bytes, ACCESS_WRITE | memory_user(v));
}

static bool load_image(struct vcpu *v, uint32_t arg, uint32_t ea, void *to, uint32_t bytes)
{
	gva_t gva;
	if (!image_operand(v, arg, ea, bytes, false, &gva)) return false;
	return memory_read(v, gva, to, bytes, ACCESS_READ | memory_user(v));
}

/* After FNSAVE and FNSTENV nothing is pending, so that a store that faults can put the state back with a waiting instruction. */
enum callout_result callout_fnsave(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	struct x87_image image;
	uint8_t out[ENV_BYTES + STACK_BYTES];
	if (check_usable(v) != CALLOUT_NEXT) return CALLOUT_FAULT;
	cpu_note_x87(v);
	__asm__ volatile("fnsave %0" : "=m"(image));
	uint32_t bytes = lay_out_env(v, &image, CALLOUT_SIZE(arg), out);
	memcpy(out + bytes, image.stack, STACK_BYTES);
	if (store_image(v, arg, ea, out, bytes + STACK_BYTES)) return CALLOUT_NEXT;
	put_pointers(&image, &v->x87);
	__asm__ volatile("frstor %0" : : "m"(image));
	return CALLOUT_FAULT;
}

enum callout_result callout_fnstenv(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	struct x87_image image;
	uint8_t out[ENV_BYTES];
	if (check_usable(v) != CALLOUT_NEXT) return CALLOUT_FAULT;
	cpu_note_x87(v);
	__asm__ volatile("fnstenv %0" : "=m"(image.env));
	uint32_t bytes = lay_out_env(v, &image, CALLOUT_SIZE(arg), out);
	if (store_image(v, arg, ea, out, bytes)) return CALLOUT_NEXT;
	put_pointers(&image, &v->x87);
	__asm__ volatile("fldenv %0" : : "m"(image.env));
	return CALLOUT_FAULT;
}

enum callout_result callout_frstor(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	struct x87_image image;
	uint8_t in[ENV_BYTES + STACK_BYTES];
	enum callout_result result = check_pending(v);
	if (result != CALLOUT_NEXT) return result;
	if (!load_image(v, arg, ea, in, env_bytes(CALLOUT_SIZE(arg)) + STACK_BYTES)) return CALLOUT_FAULT;
	read_env(v, &image, CALLOUT_SIZE(arg), in);
	memcpy(image.stack, in + env_bytes(CALLOUT_SIZE(arg)), STACK_BYTES);
	__asm__ volatile("frstor %0" : : "m"(image));
	return CALLOUT_NEXT;
}

enum callout_result callout_fldenv(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	struct x87_image image;
	uint8_t in[ENV_BYTES];
	enum callout_result result = check_pending(v);
	if (result != CALLOUT_NEXT) return result;
	if (!load_image(v, arg, ea, in, env_bytes(CALLOUT_SIZE(arg)))) return CALLOUT_FAULT;
	read_env(v, &image, CALLOUT_SIZE(arg), in);
	__asm__ volatile("fldenv %0" : : "m"(image.env));
	return CALLOUT_NEXT;
}
