/* Calls of small functions, up to four deep, none of them inlined. */
#include "program.h"

NOINLINE u64 mix(u64 a, u64 b)
{
	return (a ^ b >> 7) * 0x9e3779b97f4a7c15ULL;
}

NOINLINE u64 step(u64 a, u64 i)
{
	return i & 1 ? mix(a, i) + 1 : mix(i, a) ^ a;
}

NOINLINE u64 both(u64 a, u64 b, u64 i)
{
	return step(a, i) + step(b, i + 1);
}

NOINLINE u64 load(const u64 *words, u64 i)
{
	return words[i & (BLOCK / 8 - 1)];
}

INLINE u64 run(void *mem, u64 len)
{
	u64 sum = len;

	for (u64 i = 0; i < 512; i++)
		sum = both(sum, load(mem, i), i) ^ mix(sum, i);
	return sum;
}

ENTRY(run)
