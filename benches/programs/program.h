/* What the benchmark programs have in common.
 *
 * A program is one function `run(mem, len)` over a block of BLOCK bytes, free of tables, globals,
 * maps and helpers, whose result depends on all that it computed. It leaves the block such that
 * the next run gives the same result. Accesses are masked or counted so that the kernel's
 * verifier can follow them. ENTRY(run) makes of it:
 *
 *   native   u64 prog(void *mem, u64 len)
 *   BPF      the same, in section `flat`; and a traffic classifier on a map's value that folds
 *            the result into the 32 bits that a test run of the kernel returns. */
#ifndef PROGRAM_H
#define PROGRAM_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define BLOCK 4096

/* The compiler forgets what it knows of a value. */
#define OPAQUE(value) asm volatile("" : "+r"(value))

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))

INLINE u32 rotl32(u32 x, int n)
{
	return x << n | x >> (32 - n);
}

INLINE u32 rotr32(u32 x, int n)
{
	return x >> n | x << (32 - n);
}

INLINE u64 rotl64(u64 x, int n)
{
	return x << n | x >> (64 - n);
}

#ifdef __bpf__
#define SECTION(name) __attribute__((section(name), used))
/* The length and the alignment of the block are hidden, so that both BPF programs are compiled from
 * the same knowledge. */
#define ENTRY(run)                                                   \
	SECTION("flat") u64 prog(void *mem, u64 len)                 \
	{                                                            \
		return run(mem, len);                                \
	}                                                            \
	u64 block[BLOCK / 8];                                        \
	SECTION("tc") int prog_kernel(void *ctx)                     \
	{                                                            \
		void *mem = block;                                   \
		u64 len = BLOCK, result;                             \
                                                                     \
		OPAQUE(mem);                                         \
		OPAQUE(len);                                         \
		result = run(mem, len);                              \
		return (int)(u32)(result ^ result >> 32);            \
	}                                                            \
	SECTION("license") char _license[] = "Dual MIT/GPL";
#else
#define ENTRY(run)                           \
	u64 prog(void *mem, u64 len)         \
	{                                    \
		return run(mem, len);        \
	}
#endif

#endif
