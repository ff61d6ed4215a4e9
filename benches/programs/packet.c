/* Parses 32 frames of up to 128 bytes: Ethernet, up to two VLAN tags, IPv4 with options or IPv6,
 * TCP or UDP. Gives a hash of the flows found and how many there were. */
#include "program.h"

#define FRAME 128
#define FRAMES (BLOCK / FRAME)

struct ethernet {
	u8 destination[6], source[6];
	u16 type;
} __attribute__((packed));

struct vlan {
	u16 tag, type;
} __attribute__((packed));

struct ipv4 {
	u8 version_length, service;
	u16 length, id, fragment;
	u8 ttl, protocol;
	u16 checksum;
	u32 source, destination;
} __attribute__((packed));

struct ipv6 {
	u32 version_flow;
	u16 length;
	u8 protocol, hops;
	u64 source[2], destination[2];
} __attribute__((packed));

struct ports {
	u16 source, destination;
} __attribute__((packed));

INLINE u16 host16(u16 x)
{
	return __builtin_bswap16(x);
}

/* A hash of the frame's flow, or 0 if it has none. */
INLINE u64 flow(const u8 *frame)
{
	const struct ethernet *ethernet = (const void *)frame;
	u32 at = sizeof(*ethernet), protocol;
	u16 type = host16(ethernet->type);
	u64 hash;

	for (int i = 0; i < 2 && (type == 0x8100 || type == 0x88a8); i++) {
		const struct vlan *vlan = (const void *)(frame + at);

		type = host16(vlan->type);
		at += sizeof(*vlan);
	}
	if (type == 0x0800) {
		const struct ipv4 *ip = (const void *)(frame + at);
		u32 length = (ip->version_length & 15) * 4;

		if (ip->version_length >> 4 != 4 || length < sizeof(*ip))
			return 0;
		if (host16(ip->fragment) & 0x1fff)
			return 0;
		hash = (u64)ip->source << 32 | ip->destination;
		protocol = ip->protocol;
		at += length;
	} else if (type == 0x86dd) {
		const struct ipv6 *ip = (const void *)(frame + at);

		hash = ip->source[0] ^ rotl64(ip->source[1], 17) ^
		       rotl64(ip->destination[0], 31) ^ rotl64(ip->destination[1], 47);
		protocol = ip->protocol;
		at += sizeof(*ip);
	} else {
		return 0;
	}
	if (protocol != 6 && protocol != 17)
		return 0;
	const struct ports *ports = (const void *)(frame + at);

	hash ^= (u64)host16(ports->source) << 24 ^ (u64)host16(ports->destination) << 8 ^ protocol;
	return hash * 0x9e3779b97f4a7c15ULL;
}

INLINE u64 run(void *mem, u64 len)
{
	u64 result = 0, flows = 0;

	if (len != BLOCK)
		return 0;
	for (u32 i = 0; i < FRAMES; i++) {
		u64 hash = flow((const u8 *)mem + i * FRAME);

		result = rotl64(result, 5) ^ hash;
		flows += hash != 0;
	}
	return result ^ flows;
}

ENTRY(run)
