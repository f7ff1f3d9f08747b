//! Random histories of a pool, its handles and a device, step by step against a model that only counts.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use ringwire_frame::{Class, Device, Floors, Frame, FrameState, Geometry, Pool, Region, SendFrame};

const FRAME_COUNT: u32 = 24;
const FLOORS: Floors = Floors { receive_frames: 8, control_frames: 3 };

/// One step; `pick` chooses among the handles there are.
#[derive(Clone, Debug)]
enum Op {
    Alloc(Class),
    Drop { pick: usize },
    DropElsewhere { pick: usize },
    Lend { pick: usize, charge_bytes: u32 },
    HandOff { pick: usize },
    IntoSend { pick: usize },
    IntoFrame { pick: usize },
    DropSend { pick: usize },
    DropSendElsewhere { pick: usize },
    Submit { pick: usize },
    Complete { pick: usize },
    CompleteBogus { addr: u64 },
    Fill,
    Receive { pick: usize, offset: u32, len: u32 },
    Unfill { pick: usize },
    Reclaim,
    PollReleased,
    Detach,
}

fn op() -> impl Strategy<Value = Op> {
    use Op::*;
    let pick = || 0..64_usize;
    let class = prop_oneof![Just(Class::Receive), Just(Class::Control), Just(Class::Send)];
    prop_oneof![
        6 => class.prop_map(Alloc),
        4 => Just(Fill),
        4 => pick().prop_map(|pick| IntoSend { pick }),
        4 => pick().prop_map(|pick| Submit { pick }),
        4 => (pick(), 0..2048_u32, 0..2200_u32).prop_map(|(pick, offset, len)| Receive { pick, offset, len }),
        3 => pick().prop_map(|pick| Complete { pick }),
        3 => (pick(), any::<u32>()).prop_map(|(pick, charge_bytes)| Lend { pick, charge_bytes }),
        2 => pick().prop_map(|pick| Drop { pick }),
        2 => pick().prop_map(|pick| DropElsewhere { pick }),
        2 => pick().prop_map(|pick| DropSend { pick }),
        2 => pick().prop_map(|pick| DropSendElsewhere { pick }),
        2 => pick().prop_map(|pick| HandOff { pick }),
        2 => pick().prop_map(|pick| IntoFrame { pick }),
        2 => pick().prop_map(|pick| Unfill { pick }),
        2 => Just(Reclaim),
        2 => Just(PollReleased),
        1 => (0..70_000_u64).prop_map(|addr| CompleteBogus { addr }),
        1 => Just(Detach),
    ]
}

/// A handle and what the model believes about it.
struct Held<T> {
    handle: T,
    /// Stands in every byte, to find out whether two handles ever share a frame.
    stamp: u8,
    state: FrameState,
    loan: Option<(u64, u32)>,
}

/// What went through the return ring and has not been taken in yet.
struct Returned {
    state: FrameState,
    loan: Option<(u64, u32)>,
    /// Address, if it is in the device's ring.
    submitted: Option<u64>,
}

struct Model {
    pool: Pool,
    device: Device,
    frames: Vec<Held<Frame>>,
    /// With the address while in the ring.
    sends: Vec<(Held<SendFrame>, Option<u64>)>,
    filled: Vec<u64>,
    orphans: Vec<u64>,
    returned: Vec<Returned>,
    released: VecDeque<(u64, u32)>,
    next_tag: u64,
    protocol_errors: u64,
    elsewhere: Option<(mpsc::Sender<Parcel>, mpsc::Receiver<()>)>,
}

/// Something to be dropped by the other thread.
enum Parcel {
    Frame(#[expect(dead_code, reason = "carried to be dropped")] Frame),
    Send(#[expect(dead_code, reason = "carried to be dropped")] SendFrame),
}

impl Model {
    fn new() -> Model {
        let geometry = Geometry { frame_bytes: 2048, frame_count: FRAME_COUNT };
        let mut pool = Pool::new(Region::anonymous(geometry.region_bytes()), geometry, FLOORS);
        pool.adopt();
        let (parcels, inbox) = mpsc::channel::<Parcel>();
        let (done, dones) = mpsc::channel();
        thread::spawn(move || {
            for parcel in inbox {
                drop(parcel);
                done.send(()).expect("the model waits");
            }
        });
        Model {
            device: pool.attach(),
            pool,
            frames: Vec::new(),
            sends: Vec::new(),
            filled: Vec::new(),
            orphans: Vec::new(),
            returned: Vec::new(),
            released: VecDeque::new(),
            next_tag: 0,
            protocol_errors: 0,
            elsewhere: Some((parcels, dones)),
        }
    }

    fn drop_elsewhere(&self, parcel: Parcel) {
        let (parcels, dones) = self.elsewhere.as_ref().expect("until the model is dropped");
        parcels.send(parcel).expect("the thread listens");
        dones.recv().expect("the thread answers");
    }

    fn count(&self, state: FrameState) -> usize {
        let frames = self.frames.iter().filter(|held| held.state == state).count();
        let sends = self.sends.iter().filter(|(held, _)| held.state == state).count();
        let returned = self.returned.iter().filter(|returned| returned.state == state).count();
        let with_device = match state {
            FrameState::Fill => self.filled.len(),
            FrameState::Orphan => self.orphans.len(),
            _ => 0,
        };
        frames + sends + returned + with_device
    }

    fn free(&self) -> usize {
        FRAME_COUNT as usize - FrameState::ALL[1..].iter().map(|&state| self.count(state)).sum::<usize>()
    }

    fn permits(&self, class: Class) -> bool {
        let (receive, control) = (FLOORS.receive_frames as usize, FLOORS.control_frames as usize);
        let receiving = self.count(FrameState::Fill) + self.count(FrameState::Rx);
        match class {
            Class::Control => self.free() > 0,
            Class::Receive => self.free() > control,
            Class::Send => self.free() > control + receive.saturating_sub(receiving),
        }
    }

    fn end_loan(released: &mut VecDeque<(u64, u32)>, loan: &mut Option<(u64, u32)>) {
        released.extend(loan.take());
    }

    fn reclaim(&mut self) {
        for mut returned in self.returned.drain(..) {
            Model::end_loan(&mut self.released, &mut returned.loan);
            self.orphans.extend(returned.submitted);
        }
    }

    fn hold(&mut self, mut handle: Frame, state: FrameState) {
        let stamp = u8::try_from(self.next_tag % 251).expect("below 251");
        self.next_tag += 1;
        let (headroom, tailroom) = (handle.headroom(), handle.tailroom());
        handle.prepend(headroom);
        handle.append(tailroom);
        assert_eq!(handle.len(), 2048);
        handle.bytes_mut().fill(stamp);
        self.frames.push(Held { handle, stamp, state, loan: None });
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Alloc(class) => self.alloc(class),
            Op::Fill => self.fill(),
            Op::Drop { .. }
            | Op::DropElsewhere { .. }
            | Op::Lend { .. }
            | Op::HandOff { .. }
            | Op::IntoSend { .. } => {
                self.apply_frame(op);
            }
            Op::IntoFrame { .. } | Op::DropSend { .. } | Op::DropSendElsewhere { .. } | Op::Submit { .. } => {
                self.apply_send(op);
            }
            Op::Complete { .. }
            | Op::CompleteBogus { .. }
            | Op::Receive { .. }
            | Op::Unfill { .. }
            | Op::Detach => {
                self.apply_device(op);
            }
            Op::Reclaim => {
                self.pool.reclaim();
                self.reclaim();
            }
            Op::PollReleased => assert_eq!(self.pool.poll_released(), self.released.pop_front()),
        }
    }

    fn alloc(&mut self, class: Class) {
        if !self.permits(class) {
            self.reclaim();
        }
        let expected = self.permits(class);
        let frame = self.pool.alloc(class);
        assert_eq!(frame.is_some(), expected, "{class:?}");
        let state = if class == Class::Receive { FrameState::Rx } else { FrameState::Send };
        if let Some(frame) = frame {
            self.hold(frame, state);
        }
    }

    fn fill(&mut self) {
        let expected = self.filled.len() < FLOORS.receive_frames as usize && self.permits(Class::Receive);
        let addr = self.pool.fill_addr(self.device);
        assert_eq!(addr.is_some(), expected);
        self.filled.extend(addr);
    }

    /// Steps on a [`Frame`].
    fn apply_frame(&mut self, op: Op) {
        let (Op::Drop { pick }
        | Op::DropElsewhere { pick }
        | Op::Lend { pick, .. }
        | Op::HandOff { pick }
        | Op::IntoSend { pick }) = op
        else {
            unreachable!("not a step on a frame: {op:?}");
        };
        if self.frames.is_empty() {
            return;
        }
        let mut held = self.frames.swap_remove(pick % self.frames.len());
        assert!(held.handle.bytes().iter().all(|&byte| byte == held.stamp));
        if let Op::DropElsewhere { .. } = op {
            self.returned.push(Returned { state: held.state, loan: held.loan, submitted: None });
            return self.drop_elsewhere(Parcel::Frame(held.handle));
        }
        Model::end_loan(&mut self.released, &mut held.loan);
        match op {
            Op::Lend { charge_bytes, .. } => {
                let loan = (self.next_tag, charge_bytes);
                self.next_tag += 1;
                let handle = held.handle.lend(loan.0, loan.1);
                self.frames.push(Held { handle, loan: Some(loan), state: FrameState::App, ..held });
            }
            Op::HandOff { .. } => {
                let handle = held.handle.hand_off();
                self.frames.push(Held { handle, state: FrameState::HandOff, ..held });
            }
            Op::IntoSend { .. } => {
                let handle = held.handle.into_send();
                self.sends
                    .push((Held { handle, stamp: held.stamp, state: FrameState::Send, loan: None }, None));
            }
            _ => drop(held.handle),
        }
    }

    /// Steps on a [`SendFrame`].
    fn apply_send(&mut self, op: Op) {
        let (Op::IntoFrame { pick }
        | Op::DropSend { pick }
        | Op::DropSendElsewhere { pick }
        | Op::Submit { pick }) = op
        else {
            unreachable!("not a step on a send frame: {op:?}");
        };
        if self.sends.is_empty() {
            return;
        }
        let (mut held, mut submitted) = self.sends.swap_remove(pick % self.sends.len());
        assert_eq!(held.handle.in_ring(), submitted.is_some());
        assert_eq!(held.handle.bytes_mut().is_some(), submitted.is_none());
        assert!(held.handle.bytes().iter().all(|&byte| byte == held.stamp));
        match op {
            Op::IntoFrame { .. } => match held.handle.into_frame() {
                Ok(handle) => {
                    assert!(submitted.is_none());
                    self.frames.push(Held { handle, stamp: held.stamp, state: FrameState::Send, loan: None });
                }
                Err(handle) => self.sends.push((Held { handle, ..held }, submitted)),
            },
            Op::DropSend { .. } => {
                drop(held.handle);
                self.orphans.extend(submitted);
            }
            Op::DropSendElsewhere { .. } => {
                self.returned.push(Returned { state: held.state, loan: None, submitted });
                self.drop_elsewhere(Parcel::Send(held.handle));
            }
            _ => {
                let answer = self.pool.submit_addr(self.device, &held.handle);
                assert_eq!(answer.is_some(), submitted.is_none());
                self.protocol_errors += u64::from(answer.is_none());
                submitted = submitted.or(answer.map(|(addr, _)| addr));
                self.sends.push((Held { state: FrameState::SendInRing, ..held }, submitted));
            }
        }
    }

    /// Steps of the device.
    fn apply_device(&mut self, op: Op) {
        match op {
            Op::Complete { pick } => {
                let in_ring: Vec<u64> = self.addresses_in_ring();
                if !in_ring.is_empty() {
                    self.complete(in_ring[pick % in_ring.len()]);
                }
            }
            Op::CompleteBogus { addr } => self.complete(addr),
            Op::Receive { pick, offset, len } if !self.filled.is_empty() => {
                let addr = self.filled.swap_remove(pick % self.filled.len());
                // SAFETY: there is no device; nobody accesses the frame.
                let frame = unsafe { self.pool.received(self.device, addr + u64::from(offset), len) };
                assert_eq!(frame.is_some(), offset + len <= 2048);
                self.protocol_errors += u64::from(frame.is_none());
                if let Some(frame) = frame {
                    assert_eq!((frame.headroom(), frame.len()), (offset as usize, len as usize));
                    self.hold(frame, FrameState::Rx);
                }
            }
            Op::Unfill { pick } if !self.filled.is_empty() => {
                let addr = self.filled.swap_remove(pick % self.filled.len());
                // SAFETY: there is no device.
                assert!(unsafe { self.pool.unfill(self.device, addr) });
            }
            Op::Detach => self.detach(),
            _ => {}
        }
    }

    fn addresses_in_ring(&self) -> Vec<u64> {
        let held = self.sends.iter().filter_map(|(_, addr)| *addr);
        let returned = self.returned.iter().filter_map(|returned| returned.submitted);
        held.chain(returned).chain(self.orphans.iter().copied()).collect()
    }

    fn complete(&mut self, addr: u64) {
        let same_frame = |other: u64| other / 2048 == addr / 2048;
        // SAFETY: there is no device; nobody accesses the frame.
        let accepted = unsafe { self.pool.complete(self.device, addr) };
        assert_eq!(accepted, self.addresses_in_ring().into_iter().any(same_frame));
        self.protocol_errors += u64::from(!accepted);
        self.orphans.retain(|&orphan| !same_frame(orphan));
        for (held, submitted) in &mut self.sends {
            if submitted.take_if(|addr| same_frame(*addr)).is_some() {
                held.state = FrameState::Send;
            }
        }
        for returned in &mut self.returned {
            if returned.submitted.take_if(|addr| same_frame(*addr)).is_some() {
                returned.state = FrameState::Send;
            }
        }
    }

    fn detach(&mut self) {
        let expected = self.addresses_in_ring().len() + self.filled.len();
        // SAFETY: there is no device.
        assert_eq!(unsafe { self.pool.detach(self.device) }, expected);
        for addr in self.addresses_in_ring() {
            self.orphans.retain(|&orphan| orphan != addr);
        }
        for (held, submitted) in &mut self.sends {
            if submitted.take().is_some() {
                held.state = FrameState::Send;
            }
        }
        for returned in &mut self.returned {
            if returned.submitted.take().is_some() {
                returned.state = FrameState::Send;
            }
        }
        self.filled.clear();
    }

    fn check(&self) {
        let counts = self.pool.counts();
        assert!(counts.check(), "{counts:?}");
        assert_eq!(counts.of(FrameState::Free) as usize, self.free());
        for state in &FrameState::ALL[1..] {
            assert_eq!(counts.of(*state) as usize, self.count(*state), "{}", state.name());
        }
        assert_eq!(self.pool.protocol_errors(), self.protocol_errors);
        let available = self.free() + self.filled.len();
        assert_eq!(
            self.pool.is_low(),
            available < (FLOORS.control_frames + FLOORS.receive_frames / 2) as usize
        );
    }

    /// Everything goes home, in the end.
    fn finish(mut self) {
        self.frames.clear();
        for (held, submitted) in self.sends.drain(..) {
            drop(held);
            self.orphans.extend(submitted);
        }
        self.pool.reclaim();
        // SAFETY: there is no device.
        unsafe { self.pool.detach(self.device) };
        assert_eq!(self.pool.free(), FRAME_COUNT);
        self.elsewhere = None;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_pool_behaves_like_the_model(ops in vec(op(), 1..200)) {
        let mut model = Model::new();
        for op in ops {
            model.apply(op);
            model.check();
        }
        model.finish();
    }
}
