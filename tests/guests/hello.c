/* The first guest: prints and exits. */
#include "guest.h"

void guest_main(void)
{
	print("hello from the guest\n");
	check_equal("multiboot magic", multiboot_magic, 0x2BADB002);
	check_equal("multiboot info has a memory size", *(u32 *)multiboot_info & 1, 1);
	check("multiboot upper memory at least 4 MiB", ((u32 *)multiboot_info)[2] >= 4096);
}
