//! One pool on one thread: floors, states, loans, device addresses, and what a device must not be able to break.

use ringwire_frame::{Class, Device, Floors, Frame, FrameState, Geometry, Pool, Region};

const GEOMETRY: Geometry = Geometry { frame_bytes: 2048, frame_count: 64 };

fn pool_with(geometry: Geometry, floors: Floors) -> Pool {
    let mut pool = Pool::new(Region::anonymous(geometry.region_bytes()), geometry, floors);
    pool.adopt();
    pool
}

fn pool() -> Pool {
    pool_with(GEOMETRY, Floors::for_frames(GEOMETRY.frame_count))
}

fn take_all(pool: &mut Pool, class: Class) -> Vec<Frame> {
    std::iter::from_fn(|| pool.alloc(class)).collect()
}

#[track_caller]
fn assert_counts(pool: &Pool, expected: &[(FrameState, u32)]) {
    let counts = pool.counts();
    assert!(counts.check(), "{counts:?}");
    for state in FrameState::ALL {
        let want = expected.iter().find(|(of, _)| *of == state).map_or(0, |&(_, count)| count);
        assert_eq!(counts.of(state), want, "{} in {counts:?}", state.name());
    }
}

/// The device side of a test: promises to have returned every address it names.
fn complete(pool: &mut Pool, device: Device, addr: u64) -> bool {
    // SAFETY: there is no device; nobody accesses the frame.
    unsafe { pool.complete(device, addr) }
}

fn received(pool: &mut Pool, device: Device, addr: u64, len: u32) -> Option<Frame> {
    // SAFETY: there is no device; nobody accesses the frame.
    unsafe { pool.received(device, addr, len) }
}

#[test]
fn floors_of_the_smallest_pool_hold() {
    let mut pool = pool();
    let sends = take_all(&mut pool, Class::Send);
    assert_eq!(sends.len(), 64 - 32 - 8, "sending leaves both floors alone");
    let receives = take_all(&mut pool, Class::Receive);
    assert_eq!(receives.len(), 32, "receiving leaves the control floor alone");
    let controls = take_all(&mut pool, Class::Control);
    assert_eq!(controls.len(), 8, "control segments take the last frame");
    assert_counts(&pool, &[(FrameState::Rx, 32), (FrameState::Send, 32)]);
}

#[test]
fn frames_filling_count_towards_the_receive_floor() {
    let mut pool = pool();
    let device = pool.attach();
    let filled = std::iter::from_fn(|| pool.fill_addr(device)).count();
    assert_eq!(filled, 32, "an idle fill ring stops at the receive floor");
    assert_eq!(take_all(&mut pool, Class::Send).len(), 24);
}

#[test]
fn held_packets_do_not_stop_the_refill() {
    let mut pool = pool();
    let device = pool.attach();
    let mut held = Vec::new();
    while let Some(addr) = pool.fill_addr(device) {
        held.push(received(&mut pool, device, addr, 60).expect("the device holds the frame"));
    }
    assert_eq!(held.len(), 64 - 8, "receiving reaches down to the control floor");
}

#[test]
fn default_floors() {
    assert_eq!(Floors::for_frames(4096), Floors { receive_frames: 2048, control_frames: 8 });
    assert_eq!(Floors::for_frames(16), Floors { receive_frames: 16, control_frames: 8 });
}

#[test]
fn a_pool_smaller_than_its_floors_serves_receive_and_control() {
    let geometry = Geometry { frame_bytes: 2048, frame_count: 10 };
    let mut pool = pool_with(geometry, Floors::for_frames(10));
    assert!(pool.alloc(Class::Send).is_none());
    assert_eq!(take_all(&mut pool, Class::Receive).len(), 2);
    let mut pool = pool_with(geometry, Floors { receive_frames: u32::MAX, control_frames: u32::MAX });
    assert!(pool.alloc(Class::Receive).is_none());
    assert_eq!(take_all(&mut pool, Class::Control).len(), 10);
}

#[test]
fn low_when_held_frames_eat_into_the_receive_floor() {
    let mut pool = pool();
    let sends = take_all(&mut pool, Class::Send);
    assert!(!pool.is_low(), "the send side alone cannot starve the devices");
    let mut held = Vec::new();
    while !pool.is_low() {
        held.push(pool.alloc(Class::Receive).expect("low comes before exhausted"));
    }
    assert_eq!(held.len(), 40 - 23);
    held.pop();
    assert!(!pool.is_low());
    drop(sends);
}

/// Device rings refill before anybody sends, so frames that are held without end must stop before the send side has none.
#[test]
fn crowded_when_held_packets_have_half_of_what_the_floors_leave() {
    let mut pool = pool();
    let spare = GEOMETRY.frame_count - 8 - 32;
    let device = pool.attach();
    let mut held = Vec::new();
    while !pool.is_crowded() {
        let addr = pool.fill_addr(device).expect("crowded comes before exhausted");
        held.push(received(&mut pool, device, addr, 60).expect("the device holds the frame"));
    }
    assert_eq!(held.len() as u32, spare / 2 + 1);
    while pool.fill_addr(device).is_some() {}
    let sends = take_all(&mut pool, Class::Send).len() as u32;
    assert_eq!(sends, spare / 2 - 1, "the device has its floor and the send side half of the rest");
    drop(held);
    assert!(!pool.is_crowded());
}

#[test]
fn window_moves_within_the_frame() {
    let mut frame = pool().alloc(Class::Send).expect("fresh pool");
    frame.reset(100);
    assert_eq!((frame.headroom(), frame.len(), frame.tailroom()), (100, 0, 1948));
    frame.append(4).copy_from_slice(b"body");
    frame.prepend(5).copy_from_slice(b"head ");
    frame.append(5).copy_from_slice(b" tail");
    assert_eq!(frame.bytes(), b"head body tail");
    frame.advance(5);
    frame.truncate(4);
    assert_eq!(frame.bytes(), b"body");
    frame.truncate(100);
    assert_eq!(frame.len(), 4, "truncate never grows");
    frame.advance(100);
    assert_eq!((frame.headroom(), frame.len()), (104, 0), "advance stops at the end");
    frame.reset(5000);
    assert_eq!((frame.headroom(), frame.tailroom()), (2048, 0), "headroom stops at the frame");
}

#[test]
#[should_panic(expected = "no headroom")]
fn prepend_beyond_the_frame_panics() {
    pool().alloc(Class::Send).expect("fresh pool").prepend(1);
}

#[test]
#[should_panic(expected = "no tailroom")]
fn append_beyond_the_frame_panics() {
    pool().alloc(Class::Send).expect("fresh pool").append(2049);
}

#[test]
fn frames_do_not_overlap() {
    let mut pool = pool();
    let mut frames = take_all(&mut pool, Class::Control);
    assert_eq!(frames.len(), 64);
    for (value, frame) in (0u8..).zip(&mut frames) {
        frame.append(2048).fill(value);
    }
    for (value, frame) in (0u8..).zip(&frames) {
        assert!(frame.bytes().iter().all(|&byte| byte == value));
    }
}

#[test]
fn loans_are_reported_when_they_end() {
    let mut pool = pool();
    let dropped = pool.alloc(Class::Receive).expect("fresh pool").lend(7, 100);
    let echoed = pool.alloc(Class::Receive).expect("fresh pool").lend(8, 200);
    let kept = pool.alloc(Class::Receive).expect("fresh pool").lend(9, 0);
    assert_counts(&pool, &[(FrameState::Free, 61), (FrameState::App, 3)]);
    assert_eq!(pool.poll_released(), None);
    drop(dropped);
    let echo = echoed.into_send();
    assert_eq!(pool.poll_released(), Some((7, 100)));
    assert_eq!(pool.poll_released(), Some((8, 200)), "sending the frame out again ends the loan");
    drop(echo);
    assert_eq!(pool.poll_released(), None, "and it ends once");
    drop(kept.hand_off());
    assert_eq!(pool.poll_released(), Some((9, 0)));
    assert_counts(&pool, &[(FrameState::Free, 64)]);
}

#[test]
fn bytes_are_fixed_while_in_the_ring() {
    let mut pool = pool();
    let device = pool.attach();
    let mut frame = pool.alloc(Class::Send).expect("fresh pool");
    frame.reset(64);
    frame.append(4).copy_from_slice(b"data");
    let mut frame = frame.into_send();
    frame.prepend(3).expect("headroom").copy_from_slice(b"hdr");
    assert!(frame.prepend(62).is_none(), "no headroom");
    assert!(frame.append(2000).is_none(), "no tailroom");

    let (addr, len) = pool.submit_addr(device, &frame).expect("submittable");
    assert_eq!((addr % 2048, len), (61, 7));
    assert!(frame.in_ring() && !pool.can_submit(&frame));
    assert!(frame.bytes_mut().is_none() && frame.prepend(1).is_none() && frame.append(1).is_none());
    frame.advance(3);
    assert_eq!(frame.bytes(), b"data", "the handle's window may still move");
    let mut frame = frame.into_frame().expect_err("in the ring");
    assert_eq!(pool.submit_addr(device, &frame), None, "never twice");
    assert_eq!(pool.protocol_errors(), 1);

    assert!(complete(&mut pool, device, addr & !2047), "any address within the frame names it");
    frame.bytes_mut().expect("completed")[0] = b'D';
    assert_eq!(frame.into_frame().expect("completed").bytes(), b"Data");
}

#[test]
fn another_header_takes_the_place_of_the_last_ones() {
    let mut pool = pool();
    let device = pool.attach();
    let mut frame = pool.alloc(Class::Send).expect("fresh pool");
    frame.reset(8);
    frame.append(4).copy_from_slice(b"data");
    let mut frame = frame.into_send();
    frame.replace_front(0, 3).expect("headroom").copy_from_slice(b"one");
    frame.replace_front(3, 8).expect("as much as there is").copy_from_slice(b"another ");
    assert_eq!(frame.bytes(), b"another data");
    assert!(frame.replace_front(8, 9).is_none(), "no headroom");
    let (addr, _) = pool.submit_addr(device, &frame).expect("submittable");
    assert!(frame.replace_front(8, 1).is_none(), "in the ring");
    assert_eq!(frame.bytes(), b"another data", "refused, it leaves everything as it was");
    assert!(complete(&mut pool, device, addr));
    frame.replace_front(8, 1).expect("headroom").copy_from_slice(b"<");
    assert_eq!(frame.bytes(), b"<data");
}

#[test]
fn a_frame_dropped_in_the_ring_waits_for_its_completion() {
    let mut pool = pool();
    let device = pool.attach();
    let frame = pool.alloc(Class::Send).expect("fresh pool").into_send();
    let (addr, _) = pool.submit_addr(device, &frame).expect("submittable");
    assert_counts(&pool, &[(FrameState::Free, 63), (FrameState::SendInRing, 1)]);
    drop(frame);
    assert_counts(&pool, &[(FrameState::Free, 63), (FrameState::Orphan, 1)]);
    assert!(complete(&mut pool, device, addr));
    assert_counts(&pool, &[(FrameState::Free, 64)]);
    assert!(!complete(&mut pool, device, addr), "completed twice");
    assert_eq!(pool.protocol_errors(), 1);
}

#[test]
fn a_device_that_lies_is_counted_and_ignored() {
    let mut pool = pool();
    let (device, other) = (pool.attach(), pool.attach());
    assert_ne!(device, other);
    let filled = pool.fill_addr(device).expect("fresh pool");
    let frame = pool.alloc(Class::Send).expect("fresh pool").into_send();
    let (submitted, _) = pool.submit_addr(device, &frame).expect("submittable");
    let before = pool.counts();
    let free =
        (0..64).map(|index| index * 2048).find(|&addr| addr != filled && addr != submitted).expect("62 free");
    for (lie, addr) in [free, 64 * 2048, u64::MAX].into_iter().enumerate() {
        assert!(!complete(&mut pool, device, addr), "lie {lie}");
        assert!(received(&mut pool, device, addr, 60).is_none(), "lie {lie}");
        // SAFETY: there is no device.
        assert!(!unsafe { pool.unfill(device, addr) }, "lie {lie}");
    }
    assert!(!complete(&mut pool, device, filled), "a frame being filled is not completed");
    assert!(received(&mut pool, device, submitted, 60).is_none(), "a submitted frame is not received");
    assert!(!complete(&mut pool, other, submitted), "another device's frame");
    assert!(received(&mut pool, other, filled, 60).is_none(), "another device's frame");
    assert_eq!(pool.counts(), before);
    assert_eq!(pool.protocol_errors(), 13);
    assert!(received(&mut pool, device, filled + 256, 2048 - 255).is_none(), "the packet leaves its frame");
    assert_counts(&pool, &[(FrameState::Free, 63), (FrameState::SendInRing, 1)]);
    let whole = pool.fill_addr(device).expect("free again");
    assert_eq!(received(&mut pool, device, whole, 2048).expect("just fits").len(), 2048);
}

#[test]
fn received_packets_keep_their_place_in_the_frame() {
    let mut pool = pool();
    let device = pool.attach();
    let addr = pool.fill_addr(device).expect("fresh pool");
    let frame = received(&mut pool, device, addr + 256, 1500).expect("held by the device");
    assert_eq!((frame.headroom(), frame.len(), frame.tailroom()), (256, 1500, 292));
    assert_counts(&pool, &[(FrameState::Free, 63), (FrameState::Rx, 1)]);
}

#[test]
fn a_device_that_goes_leaves_everything_behind() {
    let mut pool = pool();
    let (device, other) = (pool.attach(), pool.attach());
    for _ in 0..5 {
        pool.fill_addr(device).expect("plenty");
    }
    pool.fill_addr(other).expect("plenty");
    let kept = pool.alloc(Class::Send).expect("plenty").into_send();
    let dropped = pool.alloc(Class::Send).expect("plenty").into_send();
    pool.submit_addr(device, &kept).expect("submittable");
    pool.submit_addr(device, &dropped).expect("submittable");
    drop(dropped);
    // SAFETY: there is no device.
    assert_eq!(unsafe { pool.detach(device) }, 7);
    assert!(!kept.in_ring());
    assert_counts(&pool, &[(FrameState::Free, 62), (FrameState::Fill, 1), (FrameState::Send, 1)]);
    // SAFETY: there is no device.
    assert_eq!(unsafe { pool.detach(device) }, 0);
}

#[test]
fn frames_of_another_pool_are_refused() {
    let (mut one, mut two) = (pool(), pool());
    let device = one.attach();
    let foreign = two.alloc(Class::Send).expect("fresh pool").into_send();
    assert_eq!(one.submit_addr(device, &foreign), None);
    assert!(!foreign.in_ring());
    drop(foreign);
    assert_eq!((one.free(), two.free()), (64, 64));
}

#[test]
#[should_panic(expected = "already belongs to a pool")]
fn one_region_makes_one_pool() {
    let region = Region::anonymous(GEOMETRY.region_bytes());
    let floors = Floors::for_frames(64);
    drop(Pool::new(region.clone(), GEOMETRY, floors));
    let _ = Pool::new(region, GEOMETRY, floors);
}

#[test]
#[should_panic(expected = "too short")]
fn the_region_must_hold_the_frames() {
    let _ = Pool::new(Region::anonymous(GEOMETRY.region_bytes() - 1), GEOMETRY, Floors::for_frames(64));
}

#[test]
#[should_panic(expected = "invalid geometry")]
fn the_frame_size_is_one_that_devices_take() {
    let geometry = Geometry { frame_bytes: 3000, frame_count: 4 };
    let _ = Pool::new(Region::anonymous(geometry.region_bytes()), geometry, Floors::for_frames(4));
}

#[test]
fn anonymous_regions_are_zeroed_and_aligned() {
    let mut pool = pool();
    assert_eq!(pool.region().base().as_ptr() as usize % 4096, 0);
    for frame in &mut take_all(&mut pool, Class::Control) {
        assert!(frame.append(2048).iter().all(|&byte| byte == 0));
    }
}
