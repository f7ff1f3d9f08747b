//! Programs for the kernel, assembled here instead of compiled: no clang at build time.
//!
//! Both classifiers that lose packets draw a number for each packet from its number and the seed (SplitMix64's finaliser,
//! which needs no state besides a counter) and compare it with a threshold:
//!
//! ```text
//! number = packets++;  if draw(seed, number) < threshold { dropped++; lose } else { passed++; go on }
//! ```

use std::os::fd::RawFd;

use crate::sys::Insn;

/// The 64-bit words of the map value that programs and this process share.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    Packets,
    Passed,
    Dropped,
    Seed,
    Threshold,
}

impl Word {
    pub(crate) const COUNT: usize = 5;

    const fn offset_bytes(self) -> i16 {
        self as i16 * 8
    }
}

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX_1: u64 = 0xbf58_476d_1ce4_e5b9;
const MIX_2: u64 = 0x94d0_49bb_1331_11eb;

/// The 32 bits drawn for a packet: the same arithmetic as the programs'.
pub(crate) fn draw(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(GOLDEN_GAMMA));
    z = (z ^ (z >> 30)).wrapping_mul(MIX_1);
    z = (z ^ (z >> 27)).wrapping_mul(MIX_2);
    (z ^ (z >> 31)) >> 32
}

/// Judges all that leaves, and marks what goes on as judged.
pub(crate) fn egress(map_fd: RawFd) -> Vec<Insn> {
    let mut code = vec![mov(CONTEXT, R1)];
    judge(&mut code, map_fd, &[mov_imm(R1, JUDGED), store_u32(CONTEXT, TC_INDEX, R1)]);
    code
}

/// Judges what arrives without the mark of [`egress`].
pub(crate) fn ingress(map_fd: RawFd) -> Vec<Insn> {
    let mut code = vec![mov(CONTEXT, R1), load_u32(R1, CONTEXT, TC_INDEX)];
    let unmark = [mov_imm(R1, 0), store_u32(CONTEXT, TC_INDEX, R1), mov_imm(R0, TC_ACT_UNSPEC), exit()];
    code.push(jump_unless_equal(R1, JUDGED, unmark.len() as i16));
    code.extend(unmark);
    judge(&mut code, map_fd, &[]);
    code
}

/// Appends the judgement; `before_going_on` runs for packets that are not lost.
fn judge(code: &mut Vec<Insn>, map_fd: RawFd, before_going_on: &[Insn]) {
    code.extend(load_map_value(CELL, map_fd));
    code.extend([mov_imm(R1, 1), atomic_fetch_add(CELL, Word::Packets, R1), add_imm(R1, 1)]);
    code.extend(load_imm(R3, GOLDEN_GAMMA));
    code.extend([mul(R1, R3), load_word(R2, CELL, Word::Seed), add(R1, R2)]);
    for (shift, factor) in [(30, MIX_1), (27, MIX_2)] {
        code.extend([mov(R2, R1), shift_right(R2, shift), xor(R1, R2)]);
        code.extend(load_imm(R3, factor));
        code.push(mul(R1, R3));
    }
    code.extend([mov(R2, R1), shift_right(R2, 31), xor(R1, R2), shift_right(R1, 32)]);
    code.push(load_word(R2, CELL, Word::Threshold));

    let mut go_on = vec![mov_imm(R1, 1), atomic_add(CELL, Word::Passed, R1)];
    go_on.extend(before_going_on);
    go_on.extend([mov_imm(R0, TC_ACT_UNSPEC), exit()]);
    code.push(jump_if_less(R1, R2, go_on.len() as i16));
    code.extend(go_on);
    // STOLEN, not SHOT: a sender that were told of the loss (NET_XMIT_DROP) would react at once, as
    // no sender can whose packet is lost on the wire.
    code.extend([mov_imm(R1, 1), atomic_add(CELL, Word::Dropped, R1), mov_imm(R0, TC_ACT_STOLEN), exit()]);
}

/// XDP: hands every packet to the AF_XDP socket of its queue, with [`STAMP_BYTES`] in front of it that say when it came:
/// `CLOCK_MONOTONIC` in nanoseconds, in this machine's byte order. A queue without a socket drops.
#[cfg(feature = "xdp")]
pub(crate) fn take_all(sockets_fd: RawFd) -> Vec<Insn> {
    use xdp::*;
    let mut take = vec![call(KTIME_GET_NS), load_u32(R2, CONTEXT, DATA), load_u32(R3, CONTEXT, DATA_END)];
    take.extend([mov(R1, R2), add_imm(R1, STAMP_BYTES as i32)]);
    let mut redirect = vec![store_u64(R2, 0, R0)];
    redirect.extend(load_map(R1, sockets_fd));
    redirect.extend([
        load_u32(R2, CONTEXT, RX_QUEUE_INDEX),
        mov_imm(R3, XDP_DROP),
        call(REDIRECT_MAP),
        exit(),
    ]);
    take.push(jump_if_greater(R1, R3, redirect.len() as i16));
    take.extend(redirect);

    let mut code = vec![mov(CONTEXT, R1), mov_imm(R2, -(STAMP_BYTES as i32)), call(XDP_ADJUST_HEAD)];
    code.push(jump_unless_equal(R0, 0, take.len() as i16));
    code.extend(take);
    code.extend([mov_imm(R0, XDP_DROP), exit()]);
    code
}

/// What [`take_all`] puts in front of a packet.
#[cfg(feature = "xdp")]
pub(crate) const STAMP_BYTES: usize = 8;

#[cfg(feature = "xdp")]
mod xdp {
    use std::os::fd::RawFd;

    use super::{Insn, LD_IMM_DW, insn};

    // linux/bpf.h: fields of `xdp_md`, helpers, an action.
    pub(super) const DATA: i16 = 0;
    pub(super) const DATA_END: i16 = 4;
    pub(super) const RX_QUEUE_INDEX: i16 = 16;
    pub(super) const KTIME_GET_NS: i32 = 5;
    pub(super) const XDP_ADJUST_HEAD: i32 = 44;
    pub(super) const REDIRECT_MAP: i32 = 51;
    pub(super) const XDP_DROP: i32 = 1;

    const STX_MEM_DW: u8 = 0x7b;
    const JMP_JGT_X: u8 = 0x2d;
    const JMP_CALL: u8 = 0x85;
    const PSEUDO_MAP_FD: u8 = 1;

    pub(super) const fn store_u64(base: u8, offset_bytes: i16, from: u8) -> Insn {
        insn(STX_MEM_DW, base, from, offset_bytes, 0)
    }

    pub(super) const fn jump_if_greater(register: u8, than: u8, skip_insns: i16) -> Insn {
        insn(JMP_JGT_X, register, than, skip_insns, 0)
    }

    pub(super) const fn call(function: i32) -> Insn {
        insn(JMP_CALL, 0, 0, 0, function)
    }

    pub(super) const fn load_map(to: u8, map_fd: RawFd) -> [Insn; 2] {
        [insn(LD_IMM_DW, to, PSEUDO_MAP_FD, 0, map_fd), insn(0, 0, 0, 0, 0)]
    }
}

const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
/// Holds the `__sk_buff`.
const CONTEXT: u8 = 6;
/// Holds the address of the map's value.
const CELL: u8 = 7;

/// Offset of `tc_index` in `__sk_buff`: it survives the way to the peer, which `mark` and `cb` do not.
const TC_INDEX: i16 = 44;
/// Any 16-bit value that nobody else has a reason to write.
const JUDGED: i32 = 0x5257;

const TC_ACT_UNSPEC: i32 = -1;
const TC_ACT_STOLEN: i32 = 4;

// linux/bpf_common.h and linux/bpf.h: instruction classes, sizes, modes and operations.
const LD_IMM_DW: u8 = 0x18;
const LDX_MEM_W: u8 = 0x61;
const LDX_MEM_DW: u8 = 0x79;
const STX_MEM_W: u8 = 0x63;
const STX_ATOMIC_DW: u8 = 0xdb;
const ALU64_ADD_K: u8 = 0x07;
const ALU64_ADD_X: u8 = 0x0f;
const ALU64_MUL_X: u8 = 0x2f;
const ALU64_RSH_K: u8 = 0x77;
const ALU64_XOR_X: u8 = 0xaf;
const ALU64_MOV_K: u8 = 0xb7;
const ALU64_MOV_X: u8 = 0xbf;
const JMP_JNE_K: u8 = 0x55;
const JMP_JLT_X: u8 = 0xad;
const JMP_EXIT: u8 = 0x95;
const PSEUDO_MAP_VALUE: u8 = 2;
const ATOMIC_ADD: i32 = 0x00;
const ATOMIC_FETCH: i32 = 0x01;

const fn insn(code: u8, to: u8, from: u8, offset: i16, imm: i32) -> Insn {
    Insn { code, registers: to | from << 4, offset, imm }
}

const fn mov(to: u8, from: u8) -> Insn {
    insn(ALU64_MOV_X, to, from, 0, 0)
}

const fn mov_imm(to: u8, imm: i32) -> Insn {
    insn(ALU64_MOV_K, to, 0, 0, imm)
}

const fn add(to: u8, from: u8) -> Insn {
    insn(ALU64_ADD_X, to, from, 0, 0)
}

const fn add_imm(to: u8, imm: i32) -> Insn {
    insn(ALU64_ADD_K, to, 0, 0, imm)
}

const fn mul(to: u8, from: u8) -> Insn {
    insn(ALU64_MUL_X, to, from, 0, 0)
}

const fn xor(to: u8, from: u8) -> Insn {
    insn(ALU64_XOR_X, to, from, 0, 0)
}

const fn shift_right(to: u8, bits: i32) -> Insn {
    insn(ALU64_RSH_K, to, 0, 0, bits)
}

const fn load_u32(to: u8, base: u8, offset_bytes: i16) -> Insn {
    insn(LDX_MEM_W, to, base, offset_bytes, 0)
}

const fn store_u32(base: u8, offset_bytes: i16, from: u8) -> Insn {
    insn(STX_MEM_W, base, from, offset_bytes, 0)
}

const fn load_word(to: u8, base: u8, word: Word) -> Insn {
    insn(LDX_MEM_DW, to, base, word.offset_bytes(), 0)
}

const fn atomic_add(base: u8, word: Word, from: u8) -> Insn {
    insn(STX_ATOMIC_DW, base, from, word.offset_bytes(), ATOMIC_ADD)
}

/// Leaves the old value in `from`.
const fn atomic_fetch_add(base: u8, word: Word, from: u8) -> Insn {
    insn(STX_ATOMIC_DW, base, from, word.offset_bytes(), ATOMIC_ADD | ATOMIC_FETCH)
}

const fn load_imm(to: u8, value: u64) -> [Insn; 2] {
    let (high, low) = ((value >> 32) as i32, value as i32);
    [insn(LD_IMM_DW, to, 0, 0, low), insn(0, 0, 0, 0, high)]
}

const fn load_map_value(to: u8, map_fd: RawFd) -> [Insn; 2] {
    [insn(LD_IMM_DW, to, PSEUDO_MAP_VALUE, 0, map_fd), insn(0, 0, 0, 0, 0)]
}

const fn jump_unless_equal(register: u8, imm: i32, skip_insns: i16) -> Insn {
    insn(JMP_JNE_K, register, 0, skip_insns, imm)
}

const fn jump_if_less(register: u8, than: u8, skip_insns: i16) -> Insn {
    insn(JMP_JLT_X, register, than, skip_insns, 0)
}

const fn exit() -> Insn {
    insn(JMP_EXIT, 0, 0, 0, 0)
}
