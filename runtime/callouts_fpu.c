/* x87 and SSE state as a whole. The guest's x87 registers and MXCSR are the host's own while this runs, its XMM registers are in the
 * vCPU; images go through a buffer, so that the host's instruction pointers and XMM8-15 never reach the guest. Nothing here may
 * execute a waiting x87 instruction while an unmasked exception is pending: that one is the guest's, at its next such instruction. */
#include <string.h>

#include "runtime/cpu_private.h"

/* FXSAVE's image (vol. 1, 10.5.1). */
#define FX_BYTES 512u
#define FX_LEGACY_BYTES 288u /* what a processor without XMM8-15 stores; the rest stays as it is */
#define FX_OPCODE 6          /* FOP, FIP, FCS, FDP, FDS */
#define FX_MXCSR 24
#define FX_MXCSR_MASK 28
#define FX_XMM 160
#define MXCSR_MASK 0xFFFFu

/* The 32-bit environment in words: control, status, tag, FIP, FCS and opcode, FDP, FDS (vol. 1, 8.1.10), then the registers. */
#define ENV_WORDS 7
#define ENV_BYTES 28u
#define ENV16_BYTES 14u
#define STACK_BYTES 80u
#define FSW_ES 0x80u

struct x87_image {
	uint32_t env[ENV_WORDS];
	uint8_t stack[STACK_BYTES];
} __attribute__((aligned(16)));

static enum callout_result check_usable(struct vcpu *v)
{
	return v->cr0 & (CR0_EM | CR0_TS) ? cpu_raise(v, VEC_NM) : CALLOUT_NEXT;
}

/* FRSTOR and FLDENV are waiting instructions. */
static enum callout_result check_pending(struct vcpu *v)
{
	enum callout_result result = check_usable(v);
	if (result != CALLOUT_NEXT) return result;
	uint16_t status;
	__asm__ volatile("fnstsw %0" : "=a"(status));
	return status & FSW_ES ? cpu_raise(v, VEC_MF) : CALLOUT_NEXT;
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
	__asm__ volatile("fxsave %0" : "=m"(image));
	memset(image + FX_OPCODE, 0, FX_MXCSR - FX_OPCODE);
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
	memset(image + FX_OPCODE, 0, FX_MXCSR - FX_OPCODE);
	__asm__ volatile("fxrstor %0"
	                 :
	                 : "m"(image)
	                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
	                   "xmm13", "xmm14", "xmm15");
	return CALLOUT_NEXT;
}

/* The environment as the guest sees it, in its operand size: no pointers, reserved halves all ones. Real mode and V86 have linear pointers,
 * their upper bits where else the selectors are (vol. 1, 8.1.10). */
static uint32_t lay_out_env(const struct vcpu *v, const struct x87_image *image, unsigned size, uint8_t *out)
{
	if (size == 1) {
		uint16_t words[ENV_WORDS] = {(uint16_t)image->env[0], (uint16_t)image->env[1], (uint16_t)image->env[2]};
		memcpy(out, words, sizeof words);
		return ENV16_BYTES;
	}
	uint32_t words[ENV_WORDS] = {image->env[0] | 0xFFFF0000u, image->env[1] | 0xFFFF0000u, image->env[2] | 0xFFFF0000u};
	if (cpu_protected(v))
		words[6] = 0xFFFF0000u;
	else
		words[3] = words[5] = 0xFFFF0000u;
	memcpy(out, words, sizeof words);
	return ENV_BYTES;
}

static uint32_t env_bytes(unsigned size) { return size == 1 ? ENV16_BYTES : ENV_BYTES; }

static void read_env(struct x87_image *image, unsigned size, const uint8_t *in)
{
	memset(image->env, 0, sizeof image->env);
	for (unsigned i = 0; i < 3; i++) memcpy(&image->env[i], in + (size == 1 ? 2 : 4) * i, 2);
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
	__asm__ volatile("fnsave %0" : "=m"(image));
	uint32_t bytes = lay_out_env(v, &image, CALLOUT_SIZE(arg), out);
	memcpy(out + bytes, image.stack, STACK_BYTES);
	if (store_image(v, arg, ea, out, bytes + STACK_BYTES)) return CALLOUT_NEXT;
	__asm__ volatile("frstor %0" : : "m"(image));
	return CALLOUT_FAULT;
}

enum callout_result callout_fnstenv(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	struct x87_image image;
	uint8_t out[ENV_BYTES];
	if (check_usable(v) != CALLOUT_NEXT) return CALLOUT_FAULT;
	__asm__ volatile("fnstenv %0" : "=m"(image.env));
	uint32_t bytes = lay_out_env(v, &image, CALLOUT_SIZE(arg), out);
	if (store_image(v, arg, ea, out, bytes)) return CALLOUT_NEXT;
	__asm__ volatile("fldenv %0" : : "m"(image.env));
	return CALLOUT_FAULT;
}

enum callout_result callout_frstor(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	struct x87_image image;
	uint8_t in[ENV_BYTES + STACK_BYTES];
	if (check_pending(v) != CALLOUT_NEXT) return CALLOUT_FAULT;
	if (!load_image(v, arg, ea, in, env_bytes(CALLOUT_SIZE(arg)) + STACK_BYTES)) return CALLOUT_FAULT;
	read_env(&image, CALLOUT_SIZE(arg), in);
	memcpy(image.stack, in + env_bytes(CALLOUT_SIZE(arg)), STACK_BYTES);
	__asm__ volatile("frstor %0" : : "m"(image));
	return CALLOUT_NEXT;
}

enum callout_result callout_fldenv(struct vcpu *v, uint32_t arg, uint32_t ea, uint32_t extra)
{
	(void)extra;
	struct x87_image image;
	uint8_t in[ENV_BYTES];
	if (check_pending(v) != CALLOUT_NEXT) return CALLOUT_FAULT;
	if (!load_image(v, arg, ea, in, env_bytes(CALLOUT_SIZE(arg)))) return CALLOUT_FAULT;
	read_env(&image, CALLOUT_SIZE(arg), in);
	__asm__ volatile("fldenv %0" : : "m"(image.env));
	return CALLOUT_NEXT;
}
