//! The socket filter of dedicated addresses: what is the kernel's alone never wakes the worker.

use std::net::Ipv4Addr;

use ringwire_wire::eth::EtherType;

/// More addresses than this are not filtered: the engine looks at each packet itself.
const MAX_ADDRESSES: usize = 256;
/// A classic filter's answer is the number of bytes to take.
const WHOLE_PACKET: u32 = u32::MAX;

/// Classic BPF (linux/bpf_common.h): ARP, and IPv4 to one of `addresses`.
pub(crate) fn dedicated(addresses: &[Ipv4Addr]) -> Option<Vec<libc::sock_filter>> {
    if addresses.len() > MAX_ADDRESSES {
        return None;
    }
    let mut program = vec![
        load(libc::BPF_H, 12),
        equals(u32::from(EtherType::ARP.0), 0, 1),
        answer(WHOLE_PACKET),
        equals(u32::from(EtherType::IPV4.0), 1, 0),
        answer(0),
        load(libc::BPF_W, 30),
    ];
    for address in addresses {
        program.extend([equals(address.to_bits(), 0, 1), answer(WHOLE_PACKET)]);
    }
    program.push(answer(0));
    Some(program)
}

fn load(width: u32, offset: u32) -> libc::sock_filter {
    insn(libc::BPF_LD | width | libc::BPF_ABS, 0, 0, offset)
}

fn equals(value: u32, then: u8, otherwise: u8) -> libc::sock_filter {
    insn(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, then, otherwise, value)
}

fn answer(len: u32) -> libc::sock_filter {
    insn(libc::BPF_RET | libc::BPF_K, 0, 0, len)
}

fn insn(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    // Codes are below 256.
    libc::sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As much of the classic machine as the filter uses.
    fn run(program: &[libc::sock_filter], packet: &[u8]) -> u32 {
        let (mut a, mut at) = (0, 0);
        loop {
            let insn = &program[at];
            at += 1;
            match u32::from(insn.code) {
                0x28 => {
                    let Some(bytes) = packet.get(insn.k as usize..insn.k as usize + 2) else { return 0 };
                    a = u32::from(u16::from_be_bytes([bytes[0], bytes[1]]));
                }
                0x20 => {
                    let Some(bytes) = packet.get(insn.k as usize..insn.k as usize + 4) else { return 0 };
                    a = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
                0x15 => at += usize::from(if a == insn.k { insn.jt } else { insn.jf }),
                0x06 => return insn.k,
                other => panic!("no instruction {other:#x} here"),
            }
        }
    }

    fn packet(ethertype: u16, dst: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0; 60];
        packet[12..14].copy_from_slice(&ethertype.to_be_bytes());
        packet[30..34].copy_from_slice(&dst);
        packet
    }

    #[test]
    fn takes_arp_and_what_is_for_the_addresses() {
        let program = dedicated(&[[10, 0, 0, 1].into(), [10, 0, 0, 9].into()]).unwrap();
        assert_ne!(run(&program, &packet(0x0806, [0; 4])), 0);
        assert_ne!(run(&program, &packet(0x0800, [10, 0, 0, 1])), 0);
        assert_ne!(run(&program, &packet(0x0800, [10, 0, 0, 9])), 0);
        assert_eq!(run(&program, &packet(0x0800, [10, 0, 0, 2])), 0);
        assert_eq!(run(&program, &packet(0x86dd, [10, 0, 0, 1])), 0);
        assert_eq!(run(&program, &packet(0x0800, [10, 0, 0, 1])[..20]), 0, "truncated");
    }

    #[test]
    fn too_many_addresses_are_left_to_the_engine() {
        assert!(dedicated(&[Ipv4Addr::LOCALHOST; MAX_ADDRESSES + 1]).is_none());
    }
}
