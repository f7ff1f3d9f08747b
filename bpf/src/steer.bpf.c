/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Which packets are Ringwire's. Everything that is not provably ours is XDP_PASS, so the kernel sees it as if we were not
 * here; what is ours goes to the AF_XDP socket of the queue it came in on, or is dropped and counted when there is none:
 * passed on, the kernel would answer it with RST.
 *
 * packet -> extract_key (steer_key.h) -> judge: address map, then port map -> deliver: XSKMAP
 */
#include "bpf_min.h"
#include "steer_abi.h"
#include "steer_key.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_config);
} steer_config SEC(".maps");

/* The loader sets max_entries of the next three. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct steer_address);
	__type(value, struct steer_address_entry);
} steer_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_port_element);
} steer_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} steer_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEER_VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} steer_counters SEC(".maps");

/* `owner` is engine slot + 1 when the verdict is to redirect, else 0. */
struct decision {
	enum steer_verdict verdict;
	__u8 owner;
};

static __always_inline void count(__u32 verdict)
{
	__u64 *packets = bpf_map_lookup_elem(&steer_counters, &verdict);

	if (packets)
		(*packets)++;
}

/* Engine slot + 1, or 0 when the port is not ours. */
static __always_inline __u8 port_owner(__u32 address_index, const struct steer_key *key)
{
	__u32 plane = key->protocol == IPPROTO_TCP ? STEER_PROTO_TCP : STEER_PROTO_UDP;
	__u32 entry = (address_index * STEER_PROTOS + plane) * STEER_PORTS + key->port;
	__u32 element = entry / STEER_PORTS_PER_ELEMENT;
	struct steer_port_element *ports = bpf_map_lookup_elem(&steer_ports, &element);

	return ports ? ports->owner[entry % STEER_PORTS_PER_ELEMENT] : 0;
}

static __always_inline enum steer_verdict redirect_verdict(const struct steer_key *key)
{
	if (key->kind == KEY_ICMP_ERROR)
		return STEER_REDIRECT_ICMP_ERROR;
	return key->protocol == IPPROTO_TCP ? STEER_REDIRECT_TCP : STEER_REDIRECT_UDP;
}

/* Everything to a dedicated address is ours. */
static __always_inline struct decision judge_dedicated(const struct steer_key *key, __u8 owner)
{
	enum steer_verdict verdict = key->kind == KEY_ARP ? STEER_REDIRECT_ARP : STEER_REDIRECT_DEDICATED;

	return (struct decision){.verdict = verdict, .owner = owner};
}

/* Of a shared address only the steered ports are ours. */
static __always_inline struct decision judge_shared(const struct steer_key *key, __u32 address_index)
{
	__u8 owner;

	switch (key->kind) {
	case KEY_ARP:
		return (struct decision){.verdict = STEER_PASS_ARP};
	case KEY_FRAGMENT:
		return (struct decision){.verdict = STEER_PASS_FRAGMENT};
	case KEY_OPTIONS:
		return (struct decision){.verdict = STEER_PASS_OPTIONS};
	case KEY_PROTOCOL:
		return (struct decision){.verdict = STEER_PASS_PROTOCOL};
	}
	owner = port_owner(address_index, key);
	if (!owner)
		return (struct decision){.verdict = STEER_PASS_PORT};
	return (struct decision){.verdict = redirect_verdict(key), .owner = owner};
}

static __always_inline struct decision judge(const struct steer_key *key)
{
	/* A copy, so that the rest of the key stays in registers. */
	struct steer_address local = key->local;
	struct steer_address_entry *address;

	switch (key->kind) {
	case KEY_MALFORMED:
		return (struct decision){.verdict = STEER_PASS_MALFORMED};
	case KEY_ETHERTYPE:
		return (struct decision){.verdict = STEER_PASS_ETHERTYPE};
	case KEY_MAC:
		return (struct decision){.verdict = STEER_PASS_MAC};
	case KEY_VLAN:
		return (struct decision){.verdict = STEER_PASS_VLAN};
	}
	address = bpf_map_lookup_elem(&steer_addresses, &local);
	if (!address)
		return (struct decision){.verdict = STEER_PASS_ADDRESS};
	if (address->owner)
		return judge_dedicated(key, address->owner);
	return judge_shared(key, address->index);
}

/* The kernel delivers only to a socket of the same queue, so there is nothing to choose here. */
static __always_inline int deliver(struct xdp_md *ctx, const struct steer_config *config, struct decision decision)
{
	__u32 slot = decision.owner - 1;
	__u32 queue = ctx->rx_queue_index;
	int action = XDP_DROP;

	if (queue < config->max_queues)
		action = bpf_redirect_map(&steer_sockets, slot * config->max_queues + queue, XDP_DROP);
	count(action == XDP_REDIRECT ? decision.verdict : STEER_DROP_NO_SOCKET);
	return action;
}

static __always_inline int steer_packet(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct steer_config *config = bpf_map_lookup_elem(&steer_config, &zero);
	struct steer_key key;
	struct decision decision;

	if (!config)
		return XDP_PASS;
	extract_key(ctx, config->mac, &key);
	decision = judge(&key);
	if (decision.owner)
		return deliver(ctx, config, decision);
	count(decision.verdict);
	return XDP_PASS;
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	return steer_packet(ctx);
}

/* For packets that span several buffers: an MTU above one page. */
SEC("xdp.frags")
int steer_frags(struct xdp_md *ctx)
{
	return steer_packet(ctx);
}

/*
 * The filter of the raw sockets that the control thread reads: of what the kernel has received for a shared address (local
 * clients, packets that came in fragments) it keeps what is to a port of ours, and errors about what we sent. A raw socket's
 * packet begins with its IPv4 header and has been reassembled and checked by the kernel.
 */
static __always_inline bool kernel_key(const struct __sk_buff *skb, struct steer_key *key)
{
	struct iphdr ip, quoted;
	struct transport transport;
	__u32 offset;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) < 0)
		return false;
	offset = ip.ihl * 4;
	if (bpf_skb_load_bytes(skb, offset, &transport, sizeof(transport)) < 0)
		return false;
	key->local = map_ipv4(ip.daddr);
	key->protocol = ip.protocol;
	key->port = bpf_ntohs(transport.dest);
	if (ip.protocol != IPPROTO_ICMP)
		return has_ports(ip.protocol);
	if (!is_icmp_error(transport.icmp_type))
		return false;
	offset += sizeof(transport);
	if (bpf_skb_load_bytes(skb, offset, &quoted, sizeof(quoted)) < 0 || !quotes_us(&quoted, key))
		return false;
	offset += quoted.ihl * 4;
	if (bpf_skb_load_bytes(skb, offset, &transport, sizeof(transport)) < 0)
		return false;
	key->protocol = quoted.protocol;
	key->port = bpf_ntohs(transport.source);
	return true;
}

SEC("socket")
int steer_kernel(struct __sk_buff *skb)
{
	struct steer_key key = {};
	struct steer_address local;
	struct steer_address_entry *address;

	if (!kernel_key(skb, &key))
		return 0;
	local = key.local;
	address = bpf_map_lookup_elem(&steer_addresses, &local);
	if (!address || address->owner)
		return 0;
	return port_owner(address->index, &key) ? 0x7fffffff : 0;
}

char steer_license[] SEC("license") = "MIT";
