/* SHA-256 (FIPS 180-4) of the first BYTES bytes of the block. Constants and message schedule lie
 * behind the message, in the block too. */
#include "program.h"

#define BYTES 1024
#define CONSTANTS 512 /* in words */
#define SCHEDULE 576

#define CH(x, y, z) (((x) & (y)) ^ (~(x) & (z)))
#define MAJ(x, y, z) (((x) & (y)) ^ ((x) & (z)) ^ ((y) & (z)))
#define BIG0(x) (rotr32(x, 2) ^ rotr32(x, 13) ^ rotr32(x, 22))
#define BIG1(x) (rotr32(x, 6) ^ rotr32(x, 11) ^ rotr32(x, 25))
#define SMALL0(x) (rotr32(x, 7) ^ rotr32(x, 18) ^ (x) >> 3)
#define SMALL1(x) (rotr32(x, 17) ^ rotr32(x, 19) ^ (x) >> 10)

/* A table in the object would need a relocation. */
INLINE void constants(u32 *k)
{
#define FOUR(at, a, b, c, d) (k[at] = a, k[at + 1] = b, k[at + 2] = c, k[at + 3] = d)
	FOUR(0, 0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5);
	FOUR(4, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5);
	FOUR(8, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3);
	FOUR(12, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174);
	FOUR(16, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc);
	FOUR(20, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da);
	FOUR(24, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7);
	FOUR(28, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967);
	FOUR(32, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13);
	FOUR(36, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85);
	FOUR(40, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3);
	FOUR(44, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070);
	FOUR(48, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5);
	FOUR(52, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3);
	FOUR(56, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208);
	FOUR(60, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2);
}

INLINE void compress(u32 *state, const u32 *words, const u32 *k, u32 *w)
{
	u32 a = state[0], b = state[1], c = state[2], d = state[3];
	u32 e = state[4], f = state[5], g = state[6], h = state[7];

	for (u32 i = 0; i < 16; i++)
		w[i] = __builtin_bswap32(words[i]);
	for (u32 i = 16; i < 64; i++)
		w[i] = w[i - 16] + SMALL0(w[i - 15]) + w[i - 7] + SMALL1(w[i - 2]);
	for (u32 i = 0; i < 64; i++) {
		u32 t1 = h + BIG1(e) + CH(e, f, g) + k[i] + w[i];
		u32 t2 = BIG0(a) + MAJ(a, b, c);

		h = g;
		g = f;
		f = e;
		e = d + t1;
		d = c;
		c = b;
		b = a;
		a = t1 + t2;
	}
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
	state[4] += e;
	state[5] += f;
	state[6] += g;
	state[7] += h;
}

INLINE u64 run(void *mem, u64 len)
{
	u32 *words = mem;
	u32 state[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	};

	if (len != BLOCK)
		return 0;
	constants(words + CONSTANTS);
	/* The padding, behind the message. */
	words[BYTES / 4] = 0x80;
	for (u32 i = BYTES / 4 + 1; i < BYTES / 4 + 15; i++)
		words[i] = 0;
	words[BYTES / 4 + 15] = __builtin_bswap32(BYTES * 8);
	for (u32 i = 0; i <= BYTES / 4; i += 16)
		compress(state, words + i, words + CONSTANTS, words + SCHEDULE);
	return (u64)(state[0] ^ state[2] ^ state[4] ^ state[6]) << 32 |
	       (state[1] ^ state[3] ^ state[5] ^ state[7]);
}

ENTRY(run)
