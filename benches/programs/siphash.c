/* SipHash-2-4 of the whole block, with the key of the reference's test vectors. */
#include "program.h"

#define ROUND                          \
	do {                           \
		v0 += v1;              \
		v1 = rotl64(v1, 13);   \
		v1 ^= v0;              \
		v0 = rotl64(v0, 32);   \
		v2 += v3;              \
		v3 = rotl64(v3, 16);   \
		v3 ^= v2;              \
		v0 += v3;              \
		v3 = rotl64(v3, 21);   \
		v3 ^= v0;              \
		v2 += v1;              \
		v1 = rotl64(v1, 17);   \
		v1 ^= v2;              \
		v2 = rotl64(v2, 32);   \
	} while (0)

INLINE u64 run(void *mem, u64 len)
{
	const u64 *words = mem;
	const u64 k0 = 0x0706050403020100ULL, k1 = 0x0f0e0d0c0b0a0908ULL;
	u64 v0 = k0 ^ 0x736f6d6570736575ULL, v1 = k1 ^ 0x646f72616e646f6dULL;
	u64 v2 = k0 ^ 0x6c7967656e657261ULL, v3 = k1 ^ 0x7465646279746573ULL;

	if (len != BLOCK)
		return 0;
	for (u32 i = 0; i < BLOCK / 8; i++) {
		v3 ^= words[i];
		ROUND;
		ROUND;
		v0 ^= words[i];
	}
	v3 ^= len << 56;
	ROUND;
	ROUND;
	v0 ^= len << 56;
	v2 ^= 0xff;
	ROUND;
	ROUND;
	ROUND;
	ROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

ENTRY(run)
