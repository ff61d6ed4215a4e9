/* SHA-256 (FIPS 180-4) of the first BYTES bytes of the block, written out: constants are immediates,
 * and the message schedule is a ring of sixteen words. */
#include "program.h"

#define BYTES 1024

#define CH(x, y, z) (((x) & (y)) ^ (~(x) & (z)))
#define MAJ(x, y, z) (((x) & (y)) ^ ((x) & (z)) ^ ((y) & (z)))
#define BIG0(x) (rotr32(x, 2) ^ rotr32(x, 13) ^ rotr32(x, 22))
#define BIG1(x) (rotr32(x, 6) ^ rotr32(x, 11) ^ rotr32(x, 25))
#define SMALL0(x) (rotr32(x, 7) ^ rotr32(x, 18) ^ (x) >> 3)
#define SMALL1(x) (rotr32(x, 17) ^ rotr32(x, 19) ^ (x) >> 10)

/* A round; the caller renames the eight variables instead of moving them. */
#define ROUND(a, b, c, d, e, f, g, h, word, k)                    \
	do {                                                      \
		u32 t = h + BIG1(e) + CH(e, f, g) + k + (word);   \
		d += t;                                           \
		h = t + BIG0(a) + MAJ(a, b, c);                   \
	} while (0)

/* The word of a round: of the message first, then of the schedule. */
#define FIRST(i) (w[i] = __builtin_bswap32(words[i]))
#define LATER(i)                                                                  \
	(w[i] += SMALL1(w[(i + 14) & 15]) + w[(i + 9) & 15] + SMALL0(w[(i + 1) & 15]))

#define EIGHT(word, i, k0, k1, k2, k3, k4, k5, k6, k7)             \
	do {                                                       \
		ROUND(a, b, c, d, e, f, g, h, word(i), k0);        \
		ROUND(h, a, b, c, d, e, f, g, word(i + 1), k1);    \
		ROUND(g, h, a, b, c, d, e, f, word(i + 2), k2);    \
		ROUND(f, g, h, a, b, c, d, e, word(i + 3), k3);    \
		ROUND(e, f, g, h, a, b, c, d, word(i + 4), k4);    \
		ROUND(d, e, f, g, h, a, b, c, word(i + 5), k5);    \
		ROUND(c, d, e, f, g, h, a, b, word(i + 6), k6);    \
		ROUND(b, c, d, e, f, g, h, a, word(i + 7), k7);    \
		KEEP(w);                                           \
	} while (0)

INLINE void compress(u32 *state, const u32 *words)
{
	u32 w[16];
	u32 a = state[0], b = state[1], c = state[2], d = state[3];
	u32 e = state[4], f = state[5], g = state[6], h = state[7];

	EIGHT(FIRST, 0, 0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5,
	      0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5);
	EIGHT(FIRST, 8, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
	      0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174);
	EIGHT(LATER, 0, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
	      0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da);
	EIGHT(LATER, 8, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	      0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967);
	EIGHT(LATER, 0, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
	      0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85);
	EIGHT(LATER, 8, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
	      0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070);
	EIGHT(LATER, 0, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5,
	      0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3);
	EIGHT(LATER, 8, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
	      0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2);
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
	/* The padding, behind the message. */
	for (u32 i = BYTES / 4; i < BYTES / 4 + 15; i++)
		words[i] = i == BYTES / 4 ? 0x80 : 0;
	words[BYTES / 4 + 15] = __builtin_bswap32(BYTES * 8);
	for (u32 i = 0; i <= BYTES / 4; i += 16)
		compress(state, words + i);
	return (u64)(state[0] ^ state[2] ^ state[4] ^ state[6]) << 32 |
	       (state[1] ^ state[3] ^ state[5] ^ state[7]);
}

ENTRY(run)
