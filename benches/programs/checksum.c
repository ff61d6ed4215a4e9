/* The Internet checksum (RFC 1071) of the block and of each of its quarters. */
#include "program.h"

INLINE u32 fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(u32)sum & 0xffff;
}

INLINE u64 run(void *mem, u64 len)
{
	const u16 *words = mem;
	u64 result = 0, whole = 0;

	if (len != BLOCK)
		return 0;
	for (u32 quarter = 0; quarter < 4; quarter++) {
		u64 sum = 0;

		for (u32 i = 0; i < BLOCK / 8; i++)
			sum += words[quarter * (BLOCK / 8) + i];
		whole += sum;
		result = result << 12 ^ fold(sum);
	}
	return result << 16 ^ fold(whole);
}

ENTRY(run)
