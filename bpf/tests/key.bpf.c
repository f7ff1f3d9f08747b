/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Writes down the key that the steering program would decide on. Test only: the real program stores no key. */
#include "bpf_min.h"
#include "steer_key.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_config);
} key_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_key);
} key_found SEC(".maps");

SEC("xdp")
int key(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct steer_config *config = bpf_map_lookup_elem(&key_config, &zero);
	struct steer_key *found = bpf_map_lookup_elem(&key_found, &zero);
	struct steer_key key;

	if (!config || !found)
		return XDP_ABORTED;
	extract_key(ctx, config->mac, &key);
	*found = key;
	return XDP_PASS;
}

char key_license[] SEC("license") = "MIT";
