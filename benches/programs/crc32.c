/* CRC-32 (the reflected polynomial of IEEE 802.3) of the first half of the block, by a table of 256
 * words that is made in the second half. */
#include "program.h"

#define POLYNOMIAL 0xedb88320

INLINE u64 run(void *mem, u64 len)
{
	const u8 *bytes = mem;
	u32 *table = (u32 *)((u8 *)mem + BLOCK / 2);
	u32 crc = 0xffffffff;

	if (len != BLOCK)
		return 0;
	for (u32 i = 0; i < 256; i++) {
		u32 entry = i;

		for (u32 bit = 0; bit < 8; bit++)
			entry = entry >> 1 ^ (POLYNOMIAL & -(entry & 1));
		table[i] = entry;
	}
	for (u32 i = 0; i < BLOCK / 2; i++)
		crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 255];
	return ~crc;
}

ENTRY(run)
