/* The instruction forms, as templates. Tokens: hex bytes; rN = a register in the low bits of the byte before; /r /0../7 = ModRM with any
 * operand, followed by m or r where only memory or a register will do; ib iw id iv = immediate, v by operand size; o32 = a memory offset;
 * vexM.P = the rest of a VEX prefix with map M and P for a mandatory prefix, which holds a third register.
 * Options behind '|': o = also with an operand-size prefix, l = also with LOCK, a = often with an address-size prefix, which every other
 * form has now and then; and one of the set-ups in forms.c. */
#include "forms.h"

#define ALU(base, name) \
	{name " rm8,r8", #base "0 /r", "l"}, {name " rm,r", #base "1 /r", "ol"}, {name " r8,rm8", #base "2 /r", ""}, {name " r,rm", #base "3 /r", "o"}, \
	{name " al,ib", #base "4 ib", ""}, {name " eax,iv", #base "5 iv", "o"}
#define ALU8(base, name) \
	{name " rm8,r8", #base "8 /r", "l"}, {name " rm,r", #base "9 /r", "ol"}, {name " r8,rm8", #base "A /r", ""}, {name " r,rm", #base "B /r", "o"}, \
	{name " al,ib", #base "C ib", ""}, {name " eax,iv", #base "D iv", "o"}
#define GROUP1(n, name, lock) \
	{name " rm8,ib", "80 /" #n " ib", lock}, {name " rm,iv", "81 /" #n " iv", "o" lock}, {name " rm,ib", "83 /" #n " ib", "o" lock}, \
	{name " rm8,ib (82)", "82 /" #n " ib", ""}
#define SHIFT(n, name) \
	{name " rm8,ib", "C0 /" #n " ib", ""}, {name " rm,ib", "C1 /" #n " ib", "o"}, {name " rm8,1", "D0 /" #n, ""}, {name " rm,1", "D1 /" #n, "o"}, \
	{name " rm8,cl", "D2 /" #n, ""}, {name " rm,cl", "D3 /" #n, "o"}
#define CC(n, name) \
	{"j" name " rel8", "7" #n " rel8", ""}, {"j" name " rel32", "0F 8" #n " rel32", ""}, {"set" name, "0F 9" #n " /0", ""}, \
	{"cmov" name, "0F 4" #n " /r", "o"}
#define BITS(op, n, name) \
	{name " rm,r", "0F " #op " /rr", "o"}, {name " m,r", "0F " #op " /rm", "o|bits"}, {name " rm,ib", "0F BA /" #n " ib", "o"}
#define STRING(op, name) \
	{name "b", #op "4", "|string"}, {name, #op "5", "o|string"}, {"rep " name "b", "F3 " #op "4", "|string"}, {"rep " name, "F3 " #op "5", "o|string"}
#define STRING2(op, lo, hi, name) \
	{name "b", #op #lo, "|string"}, {name, #op #hi, "o|string"}, {"rep " name "b", "F3 " #op #lo, "|string"}, \
	{"rep " name, "F3 " #op #hi, "o|string"}, {"repne " name "b", "F2 " #op #lo, "|string"}, {"repne " name, "F2 " #op #hi, "o|string"}
#define MMX(op) {"mmx " #op, "0F " #op " /r", "|fpu"}, {"sse2 int " #op, "66 0F " #op " /r", "|fpu"}
#define SSE2I(op) {"sse2 int " #op, "66 0F " #op " /r", "|fpu"}
#define SSE4X(op) \
	{"sse ps " #op, "0F " #op " /r", "|fpu"}, {"sse pd " #op, "66 0F " #op " /r", "|fpu"}, {"sse ss " #op, "F3 0F " #op " /r", "|fpu"}, \
	{"sse sd " #op, "F2 0F " #op " /r", "|fpu"}
#define SSE2X(op) {"sse ps " #op, "0F " #op " /r", "|fpu"}, {"sse pd " #op, "66 0F " #op " /r", "|fpu"}
#define SSEM(op) {"sse ps " #op " m", "0F " #op " /rm", "|fpu"}, {"sse pd " #op " m", "66 0F " #op " /rm", "|fpu"}
#define SSSE3(op) {"ssse3 " #op, "0F 38 " #op " /r", "|fpu"}, {"ssse3 xmm " #op, "66 0F 38 " #op " /r", "|fpu"}
#define SSE41(op) {"sse4.1 " #op, "66 0F 38 " #op " /r", "|fpu"}
#define SSE41I(op) {"sse4.1 ib " #op, "66 0F 3A " #op " /r ib", "|fpu"}
#define AES(op) {"aes " #op, "66 0F 38 " #op " /r", "|fpu"}
#define SHA(op) {"sha " #op, "0F 38 " #op " /r", "|fpu"}
#define PCMPSTR(op) {"pcmpstr " #op, "66 0F 3A " #op " /r ib", "|text"}
#define BMI(name, op, pp) {name, "C4 vex2." pp " " #op " /r", ""}
#define FMEM(op, n) {"x87 " #op " /" #n " m", #op " /" #n "m", "|fpu"}
#define FREG(op, n) {"x87 " #op " /" #n " st", #op " /" #n "r", "|fpu"}
#define FALL(op) \
	FMEM(op, 0), FMEM(op, 1), FMEM(op, 2), FMEM(op, 3), FMEM(op, 4), FMEM(op, 5), FMEM(op, 6), FMEM(op, 7)
#define FONE(op, byte) {"x87 " #op " " #byte, #op " " #byte, "|fpu"}
#define MMXIMM(op, n) {"mmx shift " #op " /" #n, "0F " #op " /" #n "r ib", "|fpu"}, {"sse2 shift " #op " /" #n, "66 0F " #op " /" #n "r ib", "|fpu"}

const struct form_template form_templates[] = {
	ALU(0, "add"), ALU8(0, "or"), ALU(1, "adc"), ALU8(1, "sbb"), ALU(2, "and"), ALU8(2, "sub"), ALU(3, "xor"),
	{"cmp rm8,r8", "38 /r", ""}, {"cmp rm,r", "39 /r", "o"}, {"cmp r8,rm8", "3A /r", ""}, {"cmp r,rm", "3B /r", "o"},
	{"cmp al,ib", "3C ib", ""}, {"cmp eax,iv", "3D iv", "o"},
	GROUP1(0, "add", "l"), GROUP1(1, "or", "l"), GROUP1(2, "adc", "l"), GROUP1(3, "sbb", "l"), GROUP1(4, "and", "l"), GROUP1(5, "sub", "l"),
	GROUP1(6, "xor", "l"), GROUP1(7, "cmp", ""),
	{"inc r", "40 r", "o"}, {"dec r", "48 r", "o"}, {"inc rm8", "FE /0", "l"}, {"dec rm8", "FE /1", "l"}, {"inc rm", "FF /0", "ol"},
	{"dec rm", "FF /1", "ol"},
	{"test rm8,ib", "F6 /0 ib", ""}, {"test rm8,ib (/1)", "F6 /1 ib", ""}, {"test rm,iv", "F7 /0 iv", "o"}, {"not rm8", "F6 /2", "l"},
	{"not rm", "F7 /2", "ol"}, {"neg rm8", "F6 /3", "l"}, {"neg rm", "F7 /3", "ol"}, {"mul rm8", "F6 /4", ""}, {"mul rm", "F7 /4", "o"},
	{"imul rm8", "F6 /5", ""}, {"imul rm", "F7 /5", "o"}, {"div rm8", "F6 /6", ""}, {"div rm", "F7 /6", "o"}, {"idiv rm8", "F6 /7", ""},
	{"idiv rm", "F7 /7", "o"}, {"div rm, small", "F7 /6", "o|divide"}, {"idiv rm, small", "F7 /7", "o|divide"},
	{"div rm8, small", "F6 /6", "|divide"}, {"idiv rm8, small", "F6 /7", "|divide"},
	{"imul r,rm", "0F AF /r", "o"}, {"imul r,rm,iv", "69 /r iv", "o"}, {"imul r,rm,ib", "6B /r ib", "o"},
	{"test rm8,r8", "84 /r", ""}, {"test rm,r", "85 /r", "o"}, {"test al,ib", "A8 ib", ""}, {"test eax,iv", "A9 iv", "o"},
	{"xchg rm8,r8", "86 /r", "l"}, {"xchg rm,r", "87 /r", "ol"}, {"xchg eax,r", "90 r", "o"},
	{"mov rm8,r8", "88 /r", ""}, {"mov rm,r", "89 /r", "o"}, {"mov r8,rm8", "8A /r", ""}, {"mov r,rm", "8B /r", "o"},
	{"mov al,moffs", "A0 o32", ""}, {"mov eax,moffs", "A1 o32", "o"}, {"mov moffs,al", "A2 o32", ""}, {"mov moffs,eax", "A3 o32", "o"},
	{"mov r8,ib", "B0 r ib", ""}, {"mov r,iv", "B8 r iv", "o"}, {"mov rm8,ib", "C6 /0 ib", ""}, {"mov rm,iv", "C7 /0 iv", "o"},
	{"lea", "8D /rm", "o"}, {"movzx r,rm8", "0F B6 /r", "o"}, {"movzx r,rm16", "0F B7 /r", "o"},
	{"movsx r,rm8", "0F BE /r", "o"}, {"movsx r,rm16", "0F BF /r", "o"}, {"bswap", "0F C8 r", ""}, {"bswap r16", "66 0F C8 r", ""},
	{"cmpxchg rm8", "0F B0 /r", "l|cmpxchg"}, {"cmpxchg rm", "0F B1 /r", "ol|cmpxchg"}, {"cmpxchg8b", "0F C7 /1m", "l|cmpxchg"},
	{"xadd rm8", "0F C0 /r", "l"}, {"xadd rm", "0F C1 /r", "ol"},
	SHIFT(0, "rol"), SHIFT(1, "ror"), SHIFT(2, "rcl"), SHIFT(3, "rcr"), SHIFT(4, "shl"), SHIFT(5, "shr"), SHIFT(6, "shl (/6)"), SHIFT(7, "sar"),
	{"shld ib", "0F A4 /r ib", "o"}, {"shld cl", "0F A5 /r", "o"}, {"shrd ib", "0F AC /r ib", "o"}, {"shrd cl", "0F AD /r", "o"},
	BITS(A3, 4, "bt"), BITS(AB, 5, "bts"), BITS(B3, 6, "btr"), BITS(BB, 7, "btc"), {"lock bts m,r", "F0 0F AB /rm", "|bits"}, {"lock btr m,r", "F0 0F B3 /rm", "|bits"},
	{"lock btc m,r", "F0 0F BB /rm", "|bits"}, {"lock bts m,ib", "F0 0F BA /5m ib", ""}, {"lock btr m,ib", "F0 0F BA /6m ib", ""},
	{"lock btc m,ib", "F0 0F BA /7m ib", ""},
	{"bsf", "0F BC /r", "o"}, {"bsr", "0F BD /r", "o"},
	{"cbw", "98", "o"}, {"cdq", "99", "o"}, {"sahf", "9E", ""}, {"lahf", "9F", ""}, {"cmc", "F5", ""}, {"clc", "F8", ""}, {"stc", "F9", ""},
	{"cld", "FC", ""}, {"std", "FD", ""}, {"salc", "D6", ""}, {"xlat", "D7", "|xlat"}, {"nop rm", "0F 1F /0", "o"}, {"pause", "F3 90", ""},
	{"daa", "27", "|bcd"}, {"das", "2F", "|bcd"}, {"aaa", "37", "|bcd"}, {"aas", "3F", "|bcd"}, {"aam", "D4 ib", "|bcd"}, {"aad", "D5 ib", "|bcd"},
	{"arpl", "63 /r", ""}, {"bound", "62 /rm", "o|bound"},
	CC(0, "o"), CC(1, "no"), CC(2, "b"), CC(3, "nb"), CC(4, "z"), CC(5, "nz"), CC(6, "be"), CC(7, "nbe"), CC(8, "s"), CC(9, "ns"), CC(A, "p"),
	CC(B, "np"), CC(C, "l"), CC(D, "nl"), CC(E, "le"), CC(F, "nle"),
	{"loopne", "E0 rel8", "a|count"}, {"loope", "E1 rel8", "a|count"}, {"loop", "E2 rel8", "a|count"}, {"jecxz", "E3 rel8", "a|count"},
	{"jmp rel8", "EB rel8", ""}, {"jmp rel32", "E9 rel32", ""}, {"call rel32", "E8 rel32", "|stack"}, {"jmp r", "FF /4r", "o|target"},
	{"call r", "FF /2r", "o|target"}, {"jmp m", "FF /4m", "o|target"}, {"call m", "FF /2m", "o|target"}, {"ret", "C3", "|return"},
	{"ret iw", "C2 iw", "|return"}, {"rep ret", "F3 C3", "|return"},
	{"push r", "50 r", "o|stack"}, {"pop r", "58 r", "o|stack"}, {"push iv", "68 iv", "o|stack"}, {"push ib", "6A ib", "o|stack"},
	{"push rm", "FF /6", "o|stack"}, {"pop rm", "8F /0", "o|stack"}, {"pusha", "60", "o|stack"}, {"popa", "61", "o|stack"},
	{"pushf", "9C", "o|stack"}, {"popf", "9D", "o|popf"}, {"enter 0", "C8 iw 00", "|enter"}, {"enter 1", "C8 iw 01", "|enter"},
	{"enter 3", "C8 iw 03", "|enter"}, {"leave", "C9", "o|leave"},
	STRING(A, "movs"), STRING2(A, 6, 7, "cmps"), STRING2(A, A, B, "stos"), STRING2(A, C, D, "lods"), STRING2(A, E, F, "scas"),
	{"ud2", "0F 0B", ""}, {"hlt", "F4", ""}, {"cli", "FA", ""}, {"in al,dx", "EC", ""}, {"out dx,eax", "EF", "o"}, {"mov eax,cr0", "0F 20 C0", ""},
	{"mov rm,sreg", "8C /r", "o"}, {"mov es,rm", "8E /0", "|selector"}, {"mov ss,rm", "8E /2", "|selector"}, {"mov ds,rm", "8E /3", "|selector"},
	{"mov fs,rm", "8E /4", "|selector"}, {"mov gs,rm", "8E /5", "|selector"}, {"mov cs,rm", "8E /1", "|selector"}, {"push es", "06", "o|stack"},
	{"push cs", "0E", "o|stack"}, {"push ss", "16", "o|stack"}, {"push ds", "1E", "o|stack"}, {"push fs", "0F A0", "o|stack"}, {"push gs", "0F A8", "o|stack"},
	{"pop es", "07", "o|selector"}, {"pop ss", "17", "o|selector"}, {"pop ds", "1F", "o|selector"}, {"pop fs", "0F A1", "o|selector"},
	{"pop gs", "0F A9", "o|selector"}, {"lar", "0F 02 /r", "o|selector"}, {"lsl", "0F 03 /r", "o|selector"}, {"verr", "0F 00 /4", "|selector"},
	{"verw", "0F 00 /5", "|selector"}, {"lfence", "0F AE E8", ""}, {"mfence", "0F AE F0", ""}, {"sfence", "0F AE F8", ""},
	{"les", "C4 /rm", "o|far data"}, {"lds", "C5 /rm", "o|far data"}, {"lss", "0F B2 /rm", "o|far data"}, {"lfs", "0F B4 /rm", "o|far data"},
	{"lgs", "0F B5 /rm", "o|far data"}, {"jmp far m", "FF /5m", "o|far code"}, {"call far m", "FF /3m", "o|far code"}, {"jmp ptr", "EA far", "o|far code"},
	{"call ptr", "9A far", "o|far code"}, {"ret far", "CB", "o|far return"}, {"ret far iw", "CA iw", "o|far return"}, {"iret", "CF", "o|far return"},
	{"in al,ib", "E4 ib", ""}, {"in eax,ib", "E5 ib", "o"}, {"in eax,dx", "ED", "o"}, {"out ib,al", "E6 ib", ""}, {"out ib,eax", "E7 ib", "o"},
	{"out dx,al", "EE", ""}, {"sti", "FB", ""}, {"clts", "0F 06", ""}, {"invd", "0F 08", ""}, {"wbinvd", "0F 09", ""}, {"invlpg", "0F 01 /7m", ""},
	{"lgdt", "0F 01 /2m", "o"}, {"lidt", "0F 01 /3m", "o"}, {"lmsw", "0F 01 /6", ""}, {"lldt", "0F 00 /2", ""}, {"ltr", "0F 00 /3", ""},
	{"rdmsr", "0F 32", ""}, {"wrmsr", "0F 30", ""}, {"mov cr,r", "0F 22 C0 r", ""}, {"mov dr,r", "0F 23 C0 r", ""}, {"mov r,dr", "0F 21 C0 r", ""},
	{"insb", "6C", "|string"}, {"ins", "6D", "o|string"}, {"outsb", "6E", "|string"}, {"outs", "6F", "o|string"}, {"rep insb", "F3 6C", "|string"},
	{"rep ins", "F3 6D", "o|string"}, {"rep outsb", "F3 6E", "|string"}, {"rep outs", "F3 6F", "o|string"}, {"int1", "F1", ""},
	{"prefetcht1", "0F 18 /2m", ""}, {"prefetcht2", "0F 18 /3m", ""},
	{"nop (0F 18)", "0F 18 /5", "o"}, {"nop (0F 19)", "0F 19 /r", "o"}, {"nop (0F 1D)", "0F 1D /r", "o"},
	{"into", "CE", ""}, {"prefetcht0", "0F 18 /1m", ""}, {"prefetchnta", "0F 18 /0m", ""},
	FALL(D8), FMEM(D9, 0), FMEM(D9, 2), FMEM(D9, 3), {"x87 fldcw", "D9 /5m", "|fldcw"}, FMEM(D9, 7), FALL(DA), FMEM(DB, 0), FMEM(DB, 1), FMEM(DB, 2),
	FMEM(DB, 3), FMEM(DB, 5), FMEM(DB, 7), FALL(DC), FMEM(DD, 0), FMEM(DD, 1), FMEM(DD, 2), FMEM(DD, 3), FMEM(DD, 7), FALL(DE), FALL(DF),
	FREG(D8, 0), FREG(D8, 1), FREG(D8, 2), FREG(D8, 3), FREG(D8, 4), FREG(D8, 5), FREG(D8, 6), FREG(D8, 7), FREG(D9, 0), FREG(D9, 1), FREG(D9, 3), FONE(D9, D0),
	FONE(D9, E0), FONE(D9, E1), FONE(D9, E4), FONE(D9, E5), FONE(D9, E8), FONE(D9, E9), FONE(D9, EA), FONE(D9, EB), FONE(D9, EC), FONE(D9, ED),
	FONE(D9, EE), FONE(D9, F0), FONE(D9, F1), FONE(D9, F2), FONE(D9, F3), FONE(D9, F4), FONE(D9, F5), FONE(D9, F6), FONE(D9, F7), FONE(D9, F8),
	FONE(D9, F9), FONE(D9, FA), FONE(D9, FB), FONE(D9, FC), FONE(D9, FD), FONE(D9, FE), FONE(D9, FF), FREG(DA, 0), FREG(DA, 1), FREG(DA, 2),
	FREG(DA, 3), FONE(DA, E9), FREG(DB, 0), FREG(DB, 1), FREG(DB, 2), FREG(DB, 3), FONE(DB, E0), FONE(DB, E1), FONE(DB, E2), FONE(DB, E3), FREG(DB, 5), FREG(DB, 6),
	FREG(DC, 0), FREG(DC, 1), FREG(DC, 4), FREG(DC, 5), FREG(DC, 6), FREG(DC, 7), FREG(DD, 0), FREG(DD, 2), FREG(DD, 3), FREG(DD, 4), FREG(DD, 5),
	FREG(DE, 0), FREG(DE, 1), FONE(DE, D9), FREG(DE, 4), FREG(DE, 5), FREG(DE, 6), FREG(DE, 7), FREG(DF, 0), FONE(DF, E0), FREG(DF, 5), FREG(DF, 6),
	{"fwait", "9B", "|fpu"}, {"emms", "0F 77", "|fpu"},
	MMX(60), MMX(61), MMX(62), MMX(63), MMX(64), MMX(65), MMX(66), MMX(67), MMX(68), MMX(69), MMX(6A), MMX(6B), SSE2I(6C), SSE2I(6D), MMX(6E), MMX(6F),
	{"movdqu", "F3 0F 6F /r", "|fpu"}, {"movdqu m", "F3 0F 7F /r", "|fpu"}, MMX(74), MMX(75), MMX(76), MMX(7E), MMX(7F), {"movq x,xm", "F3 0F 7E /r", "|fpu"},
	MMX(D1), MMX(D2), MMX(D3), MMX(D4), MMX(D5), SSE2I(D6), {"movq2dq", "F3 0F D6 /rr", "|fpu"}, {"movdq2q", "F2 0F D6 /rr", "|fpu"},
	{"pmovmskb", "0F D7 /rr", "|fpu"}, {"pmovmskb x", "66 0F D7 /rr", "|fpu"}, MMX(D8), MMX(D9), MMX(DA), MMX(DB), MMX(DC), MMX(DD), MMX(DE), MMX(DF),
	MMX(E0), MMX(E1), MMX(E2), MMX(E3), MMX(E4), MMX(E5), {"movntq", "0F E7 /rm", "|fpu"}, {"movntdq", "66 0F E7 /rm", "|fpu"}, MMX(E8), MMX(E9), MMX(EA),
	MMX(EB), MMX(EC), MMX(ED), MMX(EE), MMX(EF), MMX(F1), MMX(F2), MMX(F3), MMX(F4), MMX(F5), MMX(F6), {"maskmovq", "0F F7 /rr", "|maskmov"},
	{"maskmovdqu", "66 0F F7 /rr", "|maskmov"}, MMX(F8), MMX(F9), MMX(FA), MMX(FB), MMX(FC), MMX(FD), MMX(FE),
	MMXIMM(71, 2), MMXIMM(71, 4), MMXIMM(71, 6), MMXIMM(72, 2), MMXIMM(72, 4), MMXIMM(72, 6), MMXIMM(73, 2), MMXIMM(73, 6),
	{"psrldq", "66 0F 73 /3r ib", "|fpu"}, {"pslldq", "66 0F 73 /7r ib", "|fpu"}, {"pshufw", "0F 70 /r ib", "|fpu"}, {"pshufd", "66 0F 70 /r ib", "|fpu"},
	{"pshufhw", "F3 0F 70 /r ib", "|fpu"}, {"pshuflw", "F2 0F 70 /r ib", "|fpu"}, {"pinsrw", "0F C4 /r ib", "|fpu"}, {"pinsrw x", "66 0F C4 /r ib", "|fpu"},
	{"pextrw", "0F C5 /rr ib", "|fpu"}, {"pextrw x", "66 0F C5 /rr ib", "|fpu"},
	SSE4X(10), SSE4X(11), SSEM(13), SSE2X(14), SSE2X(15), SSEM(17), SSE2X(28), SSE2X(29), SSE4X(2A), SSEM(2B), SSE4X(2C), SSE4X(2D), SSE2X(2E), SSE2X(2F),
	SSEM(12), SSEM(16), {"movhlps", "0F 12 /rr", "|fpu"}, {"movlhps", "0F 16 /rr", "|fpu"}, {"movddup", "F2 0F 12 /r", "|fpu"},
	{"movsldup", "F3 0F 12 /r", "|fpu"}, {"movshdup", "F3 0F 16 /r", "|fpu"}, {"movmskps", "0F 50 /rr", "|fpu"}, {"movmskpd", "66 0F 50 /rr", "|fpu"},
	SSE4X(51), {"rsqrtps", "0F 52 /r", "|fpu"}, {"rsqrtss", "F3 0F 52 /r", "|fpu"}, {"rcpps", "0F 53 /r", "|fpu"}, {"rcpss", "F3 0F 53 /r", "|fpu"},
	SSE2X(54), SSE2X(55), SSE2X(56), SSE2X(57), SSE4X(58), SSE4X(59), SSE4X(5A), {"cvtdq2ps", "0F 5B /r", "|fpu"}, {"cvtps2dq", "66 0F 5B /r", "|fpu"},
	{"cvttps2dq", "F3 0F 5B /r", "|fpu"}, SSE4X(5C), SSE4X(5D), SSE4X(5E), SSE4X(5F), {"cvttpd2dq", "66 0F E6 /r", "|fpu"},
	{"cvtdq2pd", "F3 0F E6 /r", "|fpu"}, {"cvtpd2dq", "F2 0F E6 /r", "|fpu"}, {"cmpps", "0F C2 /r ib", "|fpu"}, {"cmppd", "66 0F C2 /r ib", "|fpu"},
	{"cmpss", "F3 0F C2 /r ib", "|fpu"}, {"cmpsd", "F2 0F C2 /r ib", "|fpu"}, {"shufps", "0F C6 /r ib", "|fpu"}, {"shufpd", "66 0F C6 /r ib", "|fpu"},
	{"movnti", "0F C3 /rm", "|fpu"}, {"stmxcsr", "0F AE /3m", "|fpu"}, {"ldmxcsr", "0F AE /2m", "|ldmxcsr"},
	{"lddqu", "F2 0F F0 /rm", "|fpu"}, {"addsubpd", "66 0F D0 /r", "|fpu"}, {"addsubps", "F2 0F D0 /r", "|fpu"}, {"haddpd", "66 0F 7C /r", "|fpu"},
	{"haddps", "F2 0F 7C /r", "|fpu"}, {"hsubpd", "66 0F 7D /r", "|fpu"}, {"hsubps", "F2 0F 7D /r", "|fpu"},
	SSSE3(00), SSSE3(01), SSSE3(02), SSSE3(03), SSSE3(04), SSSE3(05), SSSE3(06), SSSE3(07), SSSE3(08), SSSE3(09), SSSE3(0A), SSSE3(0B), SSSE3(1C), SSSE3(1D),
	SSSE3(1E), {"palignr", "0F 3A 0F /r ib", "|fpu"}, {"palignr x", "66 0F 3A 0F /r ib", "|fpu"},
	SSE41(10), SSE41(14), SSE41(15), SSE41(17), SSE41(20), SSE41(21), SSE41(22), SSE41(23), SSE41(24), SSE41(25), SSE41(28), SSE41(29),
	{"movntdqa", "66 0F 38 2A /rm", "|fpu"}, SSE41(2B), SSE41(30), SSE41(31), SSE41(32), SSE41(33), SSE41(34), SSE41(35), SSE41(37), SSE41(38), SSE41(39),
	SSE41(3A), SSE41(3B), SSE41(3C), SSE41(3D), SSE41(3E), SSE41(3F), SSE41(40), SSE41(41),
	SSE41I(08), SSE41I(09), SSE41I(0A), SSE41I(0B), SSE41I(0C), SSE41I(0D), SSE41I(0E), SSE41I(14), SSE41I(15), SSE41I(16), SSE41I(17), SSE41I(20),
	SSE41I(21), SSE41I(22), SSE41I(40), SSE41I(41), SSE41I(42), {"pclmulqdq", "66 0F 3A 44 /r ib", "|fpu"},
	PCMPSTR(60), PCMPSTR(61), PCMPSTR(62), PCMPSTR(63),
	AES(DB), AES(DC), AES(DD), AES(DE), AES(DF), {"aeskeygenassist", "66 0F 3A DF /r ib", "|fpu"},
	SHA(C8), SHA(C9), SHA(CA), SHA(CB), SHA(CC), SHA(CD), {"sha1rnds4", "0F 3A CC /r ib", "|fpu"},
	{"crc32 r,rm8", "F2 0F 38 F0 /r", "o"}, {"crc32 r,rm", "F2 0F 38 F1 /r", "o"}, {"popcnt", "F3 0F B8 /r", "o"}, {"tzcnt", "F3 0F BC /r", "o"},
	{"lzcnt", "F3 0F BD /r", "o"}, {"movbe r,m", "0F 38 F0 /rm", "o"}, {"movbe m,r", "0F 38 F1 /rm", "o"},
	{"adcx", "66 0F 38 F6 /r", ""}, {"adox", "F3 0F 38 F6 /r", ""},
	BMI("andn", F2, "np"), BMI("bextr", F7, "np"), BMI("bzhi", F5, "np"), BMI("mulx", F6, "f2"), BMI("pdep", F5, "f2"), BMI("pext", F5, "f3"),
	BMI("sarx", F7, "f3"), BMI("shlx", F7, "66"), BMI("shrx", F7, "f2"), {"blsr", "C4 vex2.np F3 /1", ""}, {"blsmsk", "C4 vex2.np F3 /2", ""},
	{"blsi", "C4 vex2.np F3 /3", ""}, {"rorx", "C4 vex3.f2 F0 /r ib", ""},
	{"clflush", "0F AE /7m", ""}, {"clflushopt", "66 0F AE /7m", ""}, {"clwb", "66 0F AE /6m", ""}, {"prefetch", "0F 0D /0m", ""}, {"prefetchw", "0F 0D /1m", ""},
	{"prefetchwt1", "0F 0D /2m", ""},
	FONE(DB, E4), {"clac", "0F 01 CA", ""}, {"stac", "0F 01 CB", ""},
};
const unsigned form_template_count = sizeof(form_templates) / sizeof(*form_templates);
