/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What the steering program and user space agree on. build.rs turns the numbers below into Rust constants, src/abi.rs holds
 * the same structs and asserts their sizes; nothing about the maps is written down anywhere else.
 *
 * Raise STEER_ABI_VERSION when the meaning of an existing byte changes; add a STEER_FEATURE_ bit when something is added.
 */
#ifndef RINGWIRE_STEER_ABI_H
#define RINGWIRE_STEER_ABI_H

#include <linux/types.h>

#define STEER_MAGIC 0x52574952 /* "RIWR" in memory, RWIR as a number */
#define STEER_ABI_VERSION 1

/* Bits of steer_config.features: what the program that uses these maps can do. */
#define STEER_FEATURE_IPV4 0x1
#define STEER_FEATURE_VLAN 0x2
#define STEER_FEATURE_ICMP_QUOTE 0x4
#define STEER_FEATURE_FRAGS 0x8

/* Engines that can share one set of maps. A port entry is one byte, so 255 would be the most. */
#define STEER_ENGINE_SLOTS 16

/* Planes of the port map. */
#define STEER_PROTO_TCP 0
#define STEER_PROTO_UDP 1
#define STEER_PROTOS 2
#define STEER_PORTS 65536

/* Array elements are padded to 8 bytes, so one element holds the entries of 8 neighbouring ports. */
#define STEER_PORTS_PER_ELEMENT 8

#define STEER_CONFIG_BYTES 56
#define STEER_ADDRESS_ENTRY_BYTES 8

/* Map steer_config, one element. */
struct steer_config {
	__u32 magic;
	__u32 abi_version;
	__u64 features;
	__u64 generation; /* raised with every change to the config or to the address map */
	__u32 ifindex;
	__u32 max_queues;
	__u32 max_addresses;
	__u32 engine_slots;
	__u8 mac[6]; /* only frames to this address can be ours */
	__u8 reserved[10];
};

/* Key of map steer_addresses: 16 bytes in network order, IPv4 mapped (::ffff:a.b.c.d). */
struct steer_address {
	__u64 words[2];
};

/* Value of map steer_addresses. */
struct steer_address_entry {
	__u32 index; /* the address's plane in the port map */
	__u8 owner;  /* 0: shared with the kernel; else engine slot + 1 of the engine that owns all of it */
	__u8 reserved[3];
};

/*
 * Map steer_ports, memory-mapped by user space: one byte for each [address index][protocol][port],
 * 0 = not ours, else engine slot + 1.
 */
struct steer_port_element {
	__u8 owner[STEER_PORTS_PER_ELEMENT];
};

/* Every packet raises exactly one of these. Append only. */
enum steer_verdict {
	STEER_PASS_MALFORMED,	 /* Ethernet, ARP or IPv4 header truncated or contradictory */
	STEER_PASS_ETHERTYPE,	 /* neither IPv4 nor ARP under at most two VLAN tags */
	STEER_PASS_MAC,		 /* not sent to this interface */
	STEER_PASS_ADDRESS,	 /* the IP address is not ours */
	STEER_PASS_ARP,		 /* ARP for a shared address: the kernel answers */
	STEER_PASS_FRAGMENT,	 /* fragment of a shared address: the kernel reassembles */
	STEER_PASS_OPTIONS,	 /* source-routed, or options that cannot be read */
	STEER_PASS_PROTOCOL,	 /* shared address; neither TCP, UDP nor an ICMP error about one of them */
	STEER_PASS_PORT,	 /* shared address; the port is not ours */
	STEER_REDIRECT_TCP,	 /* to a port of ours */
	STEER_REDIRECT_UDP,	 /* to a port of ours */
	STEER_REDIRECT_ICMP_ERROR, /* quotes a packet from a port of ours */
	STEER_REDIRECT_DEDICATED,  /* any IPv4 packet to a dedicated address */
	STEER_REDIRECT_ARP,	   /* ARP for a dedicated address */
	STEER_DROP_NO_SOCKET,	   /* ours, but no socket is bound to this queue */
	STEER_PASS_VLAN,	   /* tagged for a VLAN: not to this interface but to one on top of it */
	STEER_VERDICTS
};

/*
 * Map steer_counters holds packets (__u64) by verdict, per CPU. One element each, because without CAP_PERFMON the verifier
 * lets no program index into a struct by a number that differs from path to path.
 */

/* Map steer_sockets is an XSKMAP; its index is engine slot * max_queues + queue. */

_Static_assert(sizeof(struct steer_config) == STEER_CONFIG_BYTES, "steer_config");
_Static_assert(sizeof(struct steer_address_entry) == STEER_ADDRESS_ENTRY_BYTES, "steer_address_entry");
_Static_assert(sizeof(struct steer_port_element) == STEER_PORTS_PER_ELEMENT, "steer_port_element");

#endif
