/* The sieve of Eratosthenes with a byte a number; gives how many primes there are below the length
 * of the block, and their sum. */
#include "program.h"

INLINE u64 run(void *mem, u64 len)
{
	u8 *composite = mem;
	u64 count = 1, sum = 2;

	if (len != BLOCK)
		return 0;
	/* Even numbers are marked from the start. */
	for (u32 i = 0; i < BLOCK / 8; i++)
		((u64 *)mem)[i] = 0x0001000100010001;
	for (u32 i = 3; i * i < BLOCK; i += 2) {
		if (composite[i])
			continue;
		for (u32 j = i * i; j < BLOCK; j += 2 * i)
			composite[j] = 1;
	}
	for (u32 i = 3; i < BLOCK; i++) {
		if (!composite[i]) {
			count++;
			sum += i;
		}
	}
	return count << 32 | sum;
}

ENTRY(run)
