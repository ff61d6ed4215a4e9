/* 128 binary searches in 1024 sorted words: for the words themselves, somewhat changed. The step is
 * computed, not branched to: the kernel's verifier would follow every way through the branches. */
#include "program.h"

#define WORDS (BLOCK / 4)

/* How many words are less than `key`, at most WORDS - 1. */
INLINE u32 search(const u32 *words, u32 key)
{
	u64 at = 0;

	for (u32 half = WORDS / 2; half; half /= 2) {
		u64 less = (u64)words[(at + half - 1) & (WORDS - 1)] - key;

		/* Or the compiler makes a branch of it. */
		OPAQUE(less);
		less >>= 63;
		OPAQUE(less);
		at += half * less;
	}
	return at;
}

INLINE u64 run(void *mem, u64 len)
{
	const u32 *words = mem;
	u64 result = len;

	if (len != BLOCK)
		return 0;
	for (u32 i = 0; i < 128; i++) {
		u32 key = words[i * 389 & (WORDS - 1)] + (i & 3) - 1;

		result = rotl64(result, 7) + search(words, key);
	}
	return result;
}

ENTRY(run)
