/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The few lines of libbpf's bpf_helpers.h that the steering program uses. Having them here means that building needs only
 * clang and the kernel's own headers, which every C toolchain brings, and not a second libbpf beside the vendored one.
 */
#ifndef RINGWIRE_BPF_MIN_H
#define RINGWIRE_BPF_MIN_H

#include <linux/bpf.h>
#include <stddef.h>

#define SEC(name) __attribute__((section(name), used))
#undef __always_inline /* the kernel's stddef.h has a weaker one */
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))

/* Map definitions as libbpf reads them from BTF. */
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name

#define bpf_htons(x) ((__u16)__builtin_bswap16(x))
#define bpf_ntohs(x) ((__u16)__builtin_bswap16(x))
#define bpf_htonl(x) ((__u32)__builtin_bswap32(x))
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Ringwire builds for little-endian machines only"
#endif

/* Hides from the compiler what it knows about `var`, so that a bound written for the verifier's sake stays in the code. */
#define hide_from_compiler(var) asm volatile("" : "+r"(var))

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_redirect_map)(void *map, __u32 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;
static __u64 (*const bpf_xdp_get_buff_len)(struct xdp_md *ctx) = (void *)BPF_FUNC_xdp_get_buff_len;
static long (*const bpf_xdp_load_bytes)(struct xdp_md *ctx, __u32 offset, void *buf, __u32 len) =
	(void *)BPF_FUNC_xdp_load_bytes;
static long (*const bpf_skb_load_bytes)(const void *skb, __u32 offset, void *to, __u32 len) =
	(void *)BPF_FUNC_skb_load_bytes;

#endif
