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
#define MAX_OPTIONS_BYTES 40
#define OPTIONS_LEN_MASK 0x3c
#define MIN_TRANSPORT_BYTES 8 /* a UDP header, and what every ICMP error quotes (RFC 792) */
#define ICMP_HEADER_BYTES 8
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
};

struct steer_key {
	struct steer_address local;
	__u16 port; /* ours, host order */
	__u8 protocol;
	__u8 kind; /* enum key_kind: says which of the above are set */
};

/* The unread rest of the packet: `left` bytes over all its buffers, of which those up to `end` can be read. */
struct cursor {
	void *pos;
	void *end;
	__u64 left;
	__u64 packet_len;
	struct xdp_md *ctx;
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

struct icmp_header {
	__u8 type;
	__u8 code;
	__u8 rest[6];
};

/* A copy of a header's options; one byte more, so that an option's length can always be looked at. */
struct ip_options {
	__u32 len;
	__u8 bytes[MAX_OPTIONS_BYTES + 1];
};

struct port_pair {
	__be16 source;
	__be16 dest;
};

/* The next `len` bytes, or NULL when the packet ends before. */
static __always_inline void *take(struct cursor *cursor, __u32 len)
{
	void *head = cursor->pos;

	if (head + len > cursor->end)
		return NULL;
	cursor->pos = head + len;
	cursor->left -= len;
	return head;
}

static __always_inline void map_ipv4(struct steer_address *address, __be32 ipv4)
{
	address->words[0] = 0;
	address->words[1] = 0;
	address->words[2] = bpf_htonl(0xffff);
	address->words[3] = ipv4;
}

static __always_inline bool is_vlan(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

/* Leaves the innermost EtherType in `ethertype`; false when the packet ends inside a tag. */
static __always_inline bool take_vlan_tags(struct cursor *cursor, __be16 *ethertype)
{
#pragma unroll
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		if (!is_vlan(*ethertype))
			return true;
		struct vlan_tag *tag = take(cursor, sizeof(*tag));
		if (!tag)
			return false;
		*ethertype = tag->ethertype;
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
	struct arp_packet *arp = take(cursor, sizeof(*arp));
	__be32 target;

	if (!arp)
		return KEY_MALFORMED;
	if (arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_len != ETH_ALEN ||
	    arp->protocol_len != 4)
		return KEY_MALFORMED;
	if (arp->operation != bpf_htons(1) && arp->operation != bpf_htons(2))
		return KEY_MALFORMED;
	__builtin_memcpy(&target, arp->target_ip, sizeof(target));
	map_ipv4(&key->local, target);
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
	for (__u32 i = 0; i < MAX_OPTIONS_BYTES && i < options->len; i++) {
		const __u8 *option = &options->bytes[i];

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
static __always_inline struct iphdr *take_ipv4(struct cursor *cursor)
{
	__u64 available = cursor->left;
	struct iphdr *ip = take(cursor, sizeof(*ip));

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return NULL;
	if (bpf_ntohs(ip->tot_len) < ip->ihl * 4 || bpf_ntohs(ip->tot_len) > available)
		return NULL;
	return ip;
}

/* Of a header whose ihl is known to be at least 5. */
static __always_inline __u32 options_len(const struct iphdr *ip)
{
	__u32 len = ip->ihl * 4 - sizeof(*ip);

	hide_from_compiler(len);
	return len & OPTIONS_LEN_MASK;
}

/* Moves past the options; false when the packet ends inside them. */
static __always_inline bool skip_options(struct cursor *cursor, const struct iphdr *ip)
{
	return take(cursor, options_len(ip)) != NULL;
}

/* `len` bytes of options have just been skipped. */
static __always_inline bool last_hop(const struct cursor *cursor, __u32 len)
{
	struct ip_options options = {.len = len};
	__u32 offset = cursor->packet_len - cursor->left - len;

	if (len == 0 || len > MAX_OPTIONS_BYTES || bpf_xdp_load_bytes(cursor->ctx, offset, options.bytes, len) < 0)
		return false;
	return options_end_here(&options);
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

static __always_inline struct port_pair *take_ports(struct cursor *cursor, __u32 left)
{
	if (left < MIN_TRANSPORT_BYTES)
		return NULL;
	return take(cursor, MIN_TRANSPORT_BYTES);
}

/* Unreachable, time exceeded, parameter problem. A redirect (5) belongs to the kernel, which owns the routes. */
static __always_inline bool is_icmp_error(__u8 type)
{
	return type == 3 || type == 11 || type == 12;
}

/* RFC 792: an error quotes the header and the first 8 bytes of the packet we sent, so its source is us. */
static __always_inline enum key_kind icmp_key(struct cursor *cursor, __u32 left, struct steer_key *key)
{
	struct icmp_header *icmp = take(cursor, sizeof(*icmp));
	struct iphdr *quoted;
	struct port_pair *ports;
	__u32 headers_len;

	if (!icmp || !is_icmp_error(icmp->type))
		return KEY_PROTOCOL;
	quoted = take(cursor, sizeof(*quoted));
	if (!quoted || quoted->version != 4 || quoted->ihl < 5)
		return KEY_PROTOCOL;
	if (quoted->saddr != key->local.words[3] || !has_ports(quoted->protocol))
		return KEY_PROTOCOL;
	if (quoted->frag_off & bpf_htons(FRAGMENT_OFFSET_MASK))
		return KEY_PROTOCOL;
	headers_len = ICMP_HEADER_BYTES + quoted->ihl * 4;
	if (left < headers_len || !skip_options(cursor, quoted))
		return KEY_PROTOCOL;
	ports = take_ports(cursor, left - headers_len);
	if (!ports)
		return KEY_PROTOCOL;
	key->protocol = quoted->protocol;
	key->port = bpf_ntohs(ports->source);
	return KEY_ICMP_ERROR;
}

static __always_inline enum key_kind transport_key(struct cursor *cursor, __u32 left, struct steer_key *key)
{
	struct port_pair *ports;

	if (key->protocol == IPPROTO_ICMP)
		return icmp_key(cursor, left, key);
	if (!has_ports(key->protocol))
		return KEY_PROTOCOL;
	ports = take_ports(cursor, left);
	if (!ports)
		return KEY_PROTOCOL;
	key->port = bpf_ntohs(ports->dest);
	return KEY_FLOW;
}

static __always_inline enum key_kind ipv4_key(struct cursor *cursor, struct steer_key *key)
{
	struct iphdr *ip = take_ipv4(cursor);

	if (!ip || !skip_options(cursor, ip))
		return KEY_MALFORMED;
	map_ipv4(&key->local, ip->daddr);
	key->protocol = ip->protocol;
	if (ip->frag_off & bpf_htons(FRAGMENT_MASK))
		return KEY_FRAGMENT;
	if (ip->ihl > 5 && !last_hop(cursor, options_len(ip)))
		return KEY_OPTIONS;
	return transport_key(cursor, bpf_ntohs(ip->tot_len) - ip->ihl * 4, key);
}

/* `len` is the whole packet, over all its buffers. */
static __always_inline void extract_key(struct xdp_md *ctx, __u64 len, const __u8 *mac, struct steer_key *key)
{
	struct cursor cursor = {
		.pos = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
		.left = len,
		.packet_len = len,
		.ctx = ctx,
	};
	struct ethhdr *eth = take(&cursor, sizeof(*eth));
	__be16 ethertype;

	*key = (struct steer_key){.kind = KEY_MALFORMED};
	if (!eth)
		return;
	ethertype = eth->h_proto;
	if (!take_vlan_tags(&cursor, &ethertype))
		return;
	if (ethertype == bpf_htons(ETH_P_ARP))
		key->kind = is_mac(eth->h_dest, mac) || is_broadcast(eth->h_dest) ? arp_key(&cursor, key) : KEY_MAC;
	else if (ethertype == bpf_htons(ETH_P_IP))
		key->kind = is_mac(eth->h_dest, mac) ? ipv4_key(&cursor, key) : KEY_MAC;
	else
		key->kind = KEY_ETHERTYPE;
}

#endif
