/* Arithmetic of both widths on registers: multiply, add, shift, xor, and a division a round. */
#include "program.h"

INLINE u64 run(void *mem, u64 len)
{
	u64 a = *(u64 *)mem, b = len, sum = 0;
	u32 c = (u32)a | 1;

	for (u32 i = 0; i < 2048; i++) {
		a = a * 6364136223846793005ULL + 1442695040888963407ULL;
		b ^= b << 13;
		b ^= b >> 7;
		b ^= b << 17;
		c = c * 1664525 + 1013904223;
		sum += (a >> 33) / ((b & 1023) + 1);
		sum ^= (c >> 16) * (u64)(u32)(a ^ b);
		sum -= (u32)(sum >> 40) % 1000;
	}
	return sum;
}

ENTRY(run)
