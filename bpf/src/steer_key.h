/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * From packet bytes to the key that steering is decided on. Knows no map, so that tests/key.bpf.c can run the same code and
 * compare the key with what the `wire` parser sees.
 */
#ifndef RINGWIRE_STEER_KEY_H
#define RINGWIRE_STEER_KEY_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <stdbool.h>

#include "bpf_min.h"
#include "steer_abi.h"

#define MAX_VLAN_TAGS 2
#define VLAN_ID_MASK 0x0fff
#define MAX_OPTIONS_BYTES 40
#define FRAGMENT_OFFSET_MASK 0x1fff
#define FRAGMENT_MASK 0x3fff /* more-fragments flag and offset */

enum key_kind {
	KEY_MALFORMED,
	KEY_ETHERTYPE,	/* not a protocol we look at */
	KEY_MAC,	/* not sent to this interface */
	KEY_ARP,	/* local */
	KEY_FRAGMENT,	/* local, protocol */
	KEY_OPTIONS,	/* local, protocol */
	KEY_PROTOCOL,	/* local, protocol: no port to steer by */
	KEY_FLOW,	/* local, protocol, port */
	KEY_ICMP_ERROR, /* local; protocol and port of the quoted packet */
	KEY_VLAN,	/* in a VLAN */
};

struct steer_key {
	struct steer_address local;
	__u16 port; /* ours, host order */
	__u8 protocol;
	__u8 kind; /* enum key_kind: says which of the above are set */
};

/*
 * Where we are in the packet. `advance` reads in place, from the first buffer, which ends at `end`. `load` copies; it is for
 * what is rare or behind IPv4 options, because without CAP_PERFMON the verifier lets no program add a number it does not
 * know to a packet pointer. After the first `load`, `pos` is out of use.
 */
struct cursor {
	struct xdp_md *ctx;
	void *pos;
	void *end;
	__u32 offset; /* from the start of the packet */
};

struct vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

/* RFC 826 for Ethernet and IPv4. */
struct arp_packet {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
	__u8 target_mac[6];
	__u8 target_ip[4];
};

/* A copy of a header's options, with room for what the verifier takes for the longest. */
struct ip_options {
	__u32 len;
	__u8 bytes[64];
};

/* The first 8 bytes of TCP and UDP, which every ICMP error quotes (RFC 792), and of ICMP, which is all of its header. */
struct transport {
	union {
		__be16 source;
		__u8 icmp_type;
	};
	__be16 dest;
	__u8 rest[4];
};

/*
 * Moves past the next `len` bytes, which are then readable where `pos` was; false when the packet ends before. A pointer
 * that may be NULL would be handier, but without CAP_PERFMON packet pointers can be compared with nothing but `end`.
 */
static __always_inline bool advance(struct cursor *cursor, __u32 len)
{
	void *next = cursor->pos + len;

	if (next > cursor->end)
		return false;
	cursor->pos = next;
	cursor->offset += len;
	return true;
}

/* Copies the next `len` bytes and moves past them; false when the packet ends before. */
static __always_inline bool load(struct cursor *cursor, void *to, __u32 len)
{
	if (bpf_xdp_load_bytes(cursor->ctx, cursor->offset, to, len) < 0)
		return false;
	cursor->offset += len;
	return true;
}

static __always_inline struct steer_address map_ipv4(__be32 ipv4)
{
	return (struct steer_address){{0, (__u64)ipv4 << 32 | bpf_htonl(0xffff)}};
}

static __always_inline __be32 mapped_ipv4(const struct steer_address *address)
{
	return address->words[1] >> 32;
}

static __always_inline bool is_vlan(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

/*
 * Leaves the innermost EtherType in `ethertype` and something other than zero in `vlan` if one of the tags names a VLAN; a tag
 * without one (IEEE 802.1Q: VID 0) only carries a priority. False when the packet ends inside a tag.
 */
static __always_inline bool skip_vlan_tags(struct cursor *cursor, __be16 *ethertype, __be16 *vlan)
{
#pragma unroll
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		if (!is_vlan(*ethertype))
			return true;
		struct vlan_tag *tag = cursor->pos;
		if (!advance(cursor, sizeof(*tag)))
			return false;
		*ethertype = tag->ethertype;
		*vlan |= tag->tci & bpf_htons(VLAN_ID_MASK);
	}
	return true;
}

/* By halves: frames start at an even address, and the BPF target has no memcmp to call. */
static __always_inline bool is_mac(const __u8 *found, const __u8 *wanted)
{
	const __u16 *a = (const __u16 *)found;
	const __u16 *b = (const __u16 *)wanted;

	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
}

static __always_inline bool is_broadcast(const __u8 *mac)
{
	return (mac[0] & mac[1] & mac[2] & mac[3] & mac[4] & mac[5]) == 0xff;
}

static __always_inline enum key_kind arp_key(struct cursor *cursor, struct steer_key *key)
{
	struct arp_packet *arp = cursor->pos;
	__be32 target;

	if (!advance(cursor, sizeof(*arp)))
		return KEY_MALFORMED;
	if (arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_len != ETH_ALEN ||
	    arp->protocol_len != 4)
		return KEY_MALFORMED;
	if (arp->operation != bpf_htons(1) && arp->operation != bpf_htons(2))
		return KEY_MALFORMED;
	__builtin_memcpy(&target, arp->target_ip, sizeof(target));
	key->local = map_ipv4(target);
	return KEY_ARP;
}

/*
 * Walks the IPv4 options and says whether they prove that the destination address is the last hop: with a source route the
 * packet may be in transit, and unreadable options prove nothing. One byte per turn, doing nothing until the next option's
 * first byte. A function of its own (not static) so that the verifier checks it once and apart from its callers.
 */
__noinline int options_end_here(const struct ip_options *options)
{
	__u32 next = 0;

	if (!options)
		return 0;
#pragma unroll
	for (__u32 i = 0; i < MAX_OPTIONS_BYTES; i++) {
		const __u8 *option = &options->bytes[i];

		if (i >= options->len)
			return 1;
		if (i < next)
			continue;
		if (option[0] == IPOPT_END)
			return 1;
		next = i + 1;
		if (option[0] == IPOPT_NOOP)
			continue;
		if (option[0] == IPOPT_LSRR || option[0] == IPOPT_SSRR)
			return 0;
		if (next >= options->len || option[1] < 2 || i + option[1] > options->len)
			return 0;
		next = i + option[1];
	}
	return 1;
}

/* The fixed part, with version and lengths checked. */
static __always_inline bool skip_ipv4(struct cursor *cursor)
{
	struct iphdr *ip = cursor->pos;
	__u64 available = bpf_xdp_get_buff_len(cursor->ctx) - cursor->offset;

	if (!advance(cursor, sizeof(*ip)) || ip->version != 4 || ip->ihl < 5)
		return false;
	return bpf_ntohs(ip->tot_len) >= ip->ihl * 4 && bpf_ntohs(ip->tot_len) <= available;
}

/* Loads the options of a header that has some, and says whether they prove that this is the last hop. */
static __always_inline bool last_hop(struct cursor *cursor, const struct iphdr *ip)
{
	struct ip_options options = {};
	__u32 more_words = ip->ihl - 6;

	/* 4 to 40, but what every verifier sees is 4 to 64. */
	hide_from_compiler(more_words);
	options.len = (more_words & 0xf) * 4 + 4;
	return load(cursor, options.bytes, options.len) && options_end_here(&options);
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

/* Unreachable, time exceeded, parameter problem. A redirect (5) belongs to the kernel, which owns the routes. */
static __always_inline bool is_icmp_error(__u8 type)
{
	return type == 3 || type == 11 || type == 12;
}

/* The quoted header is one that we sent, with what an error must quote of the packet behind it. */
static __always_inline bool quotes_us(const struct iphdr *quoted, const struct steer_key *key)
{
	return quoted->version == 4 && quoted->ihl >= 5 && quoted->saddr == mapped_ipv4(&key->local) &&
	       has_ports(quoted->protocol) && !(quoted->frag_off & bpf_htons(FRAGMENT_OFFSET_MASK));
}

/*
 * RFC 792: an error quotes the header and the first 8 bytes of the packet we sent, so its source is us. `left` is what the
 * outer packet has behind the ICMP header.
 */
static __always_inline enum key_kind icmp_key(struct cursor *cursor, __u32 left, struct steer_key *key)
{
	struct iphdr quoted;
	struct transport transport;
	__u32 quoted_len;

	if (!load(cursor, &quoted, sizeof(quoted)) || !quotes_us(&quoted, key))
		return KEY_PROTOCOL;
	quoted_len = quoted.ihl * 4;
	if (left < quoted_len + sizeof(transport))
		return KEY_PROTOCOL;
	cursor->offset += quoted_len - sizeof(quoted);
	if (!load(cursor, &transport, sizeof(transport)))
		return KEY_PROTOCOL;
	key->protocol = quoted.protocol;
	key->port = bpf_ntohs(transport.source);
	return KEY_ICMP_ERROR;
}

/* `left` is what the IP packet has behind its header, of which `transport` are the first bytes. */
static __always_inline enum key_kind transport_key(struct cursor *cursor, const struct transport *transport, __u32 left,
						   struct steer_key *key)
{
	if (key->protocol == IPPROTO_ICMP) {
		if (!is_icmp_error(transport->icmp_type))
			return KEY_PROTOCOL;
		return icmp_key(cursor, left - sizeof(*transport), key);
	}
	if (!has_ports(key->protocol))
		return KEY_PROTOCOL;
	key->port = bpf_ntohs(transport->dest);
	return KEY_FLOW;
}

static __always_inline enum key_kind ipv4_key(struct cursor *cursor, struct steer_key *key)
{
	struct iphdr *ip = cursor->pos;
	struct transport *in_place, copied;
	__u32 left;

	if (!skip_ipv4(cursor))
		return KEY_MALFORMED;
	left = bpf_ntohs(ip->tot_len) - ip->ihl * 4;
	key->local = map_ipv4(ip->daddr);
	key->protocol = ip->protocol;
	if (ip->frag_off & bpf_htons(FRAGMENT_MASK))
		return KEY_FRAGMENT;
	if (ip->ihl > 5) {
		if (!last_hop(cursor, ip))
			return KEY_OPTIONS;
		if (left < sizeof(copied) || !load(cursor, &copied, sizeof(copied)))
			return KEY_PROTOCOL;
		return transport_key(cursor, &copied, left, key);
	}
	in_place = cursor->pos;
	if (left < sizeof(*in_place) || !advance(cursor, sizeof(*in_place)))
		return KEY_PROTOCOL;
	return transport_key(cursor, in_place, left, key);
}

static __always_inline void extract_key(struct xdp_md *ctx, const __u8 *mac, struct steer_key *key)
{
	struct cursor cursor = {
		.ctx = ctx,
		.pos = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
	};
	struct ethhdr *eth = cursor.pos;
	__be16 ethertype, vlan = 0;

	*key = (struct steer_key){.kind = KEY_MALFORMED};
	if (!advance(&cursor, sizeof(*eth)))
		return;
	ethertype = eth->h_proto;
	if (!skip_vlan_tags(&cursor, &ethertype, &vlan))
		return;
	if (vlan)
		key->kind = KEY_VLAN;
	else if (ethertype == bpf_htons(ETH_P_ARP))
		key->kind = is_mac(eth->h_dest, mac) || is_broadcast(eth->h_dest) ? arp_key(&cursor, key) : KEY_MAC;
	else if (ethertype == bpf_htons(ETH_P_IP))
		key->kind = is_mac(eth->h_dest, mac) ? ipv4_key(&cursor, key) : KEY_MAC;
	else
		key->kind = KEY_ETHERTYPE;
}

#endif
