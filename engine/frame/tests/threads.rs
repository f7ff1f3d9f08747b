//! Pools and handles across threads: frames dropped elsewhere, pools that go first, threads that end.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use ringwire_frame::{Class, Floors, Frame, FrameState, Geometry, Pool, Region, SendFrame};

/// Tells when the memory of a region goes.
struct Witness {
    memory: Region,
    gone: Arc<AtomicBool>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        assert!(!self.memory.is_empty());
        assert!(!self.gone.swap(true, Ordering::SeqCst), "freed twice");
    }
}

fn watched_pool(frame_count: u32) -> (Pool, Arc<AtomicBool>) {
    let geometry = Geometry { frame_bytes: 2048, frame_count };
    let memory = Region::anonymous(geometry.region_bytes());
    let (base, len): (NonNull<u8>, usize) = (memory.base(), memory.len());
    let gone = Arc::new(AtomicBool::new(false));
    let witness = Witness { memory, gone: Arc::clone(&gone) };
    // SAFETY: the witness keeps the memory, which nothing else uses.
    let region = unsafe { Region::from_raw(base, len, Box::new(witness)) };
    let floors = Floors { receive_frames: 0, control_frames: 0 };
    (Pool::new(region, geometry, floors), gone)
}

fn adopted(frame_count: u32) -> (Pool, Arc<AtomicBool>) {
    let (mut pool, gone) = watched_pool(frame_count);
    pool.adopt();
    (pool, gone)
}

fn is_gone(gone: &AtomicBool) -> bool {
    gone.load(Ordering::SeqCst)
}

fn elsewhere<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(run).join().expect("no panic"))
}

#[test]
fn a_frame_dropped_elsewhere_comes_home_with_reclaim() {
    let (mut pool, _) = adopted(4);
    let frame = pool.alloc(Class::Receive).expect("fresh pool").lend(3, 50);
    elsewhere(move || drop(frame));
    assert_eq!((pool.free(), pool.poll_released()), (3, None), "not looked yet");
    pool.reclaim();
    assert_eq!((pool.free(), pool.poll_released()), (4, Some((3, 50))));
    assert!(pool.counts().check());
}

#[test]
fn an_exhausted_pool_looks_into_the_return_ring() {
    let (mut pool, _) = adopted(2);
    for _ in 0..10 {
        let frames =
            [pool.alloc(Class::Send).expect("reclaimed"), pool.alloc(Class::Send).expect("reclaimed")];
        assert!(pool.alloc(Class::Control).is_none());
        elsewhere(move || drop(frames));
    }
}

#[test]
fn a_submitted_frame_dropped_elsewhere_becomes_an_orphan() {
    let (mut pool, _) = adopted(2);
    let device = pool.attach();
    let frame = pool.alloc(Class::Send).expect("fresh pool").into_send();
    let (addr, _) = pool.submit_addr(device, &frame).expect("submittable");
    elsewhere(move || {
        assert!(frame.in_ring());
        drop(frame);
    });
    pool.reclaim();
    assert_eq!(pool.counts().of(FrameState::Orphan), 1);
    // SAFETY: there is no device.
    assert!(unsafe { pool.complete(device, addr) });
    assert_eq!(pool.free(), 2);
}

#[test]
fn elsewhere_a_send_frame_counts_as_in_the_ring() {
    let (mut pool, _) = adopted(2);
    let mut frame = pool.alloc(Class::Send).expect("fresh pool").into_send();
    assert!(!frame.in_ring());
    let mut frame: SendFrame = elsewhere(move || {
        assert!(frame.in_ring() && frame.bytes_mut().is_none());
        frame.into_frame().expect_err("nobody can know here")
    });
    assert!(frame.bytes_mut().is_some());
}

#[test]
fn a_frame_written_elsewhere_can_be_sent_here() {
    let (mut pool, _) = adopted(2);
    let device = pool.attach();
    let mut frame = pool.alloc(Class::Receive).expect("fresh pool").lend(1, 2);
    let frame = elsewhere(move || {
        frame.append(5).copy_from_slice(b"reply");
        frame.into_send()
    });
    assert_eq!(pool.poll_released(), None, "the other thread keeps no books");
    let (_, len) = pool.submit_addr(device, &frame).expect("submittable");
    assert_eq!((frame.bytes(), len), (&b"reply"[..], 5));
    assert_eq!(pool.poll_released(), Some((1, 2)));
    assert_eq!(pool.counts().of(FrameState::SendInRing), 1);
}

#[test]
fn memory_outlives_the_pool_until_the_last_handle() {
    let (mut pool, gone) = adopted(3);
    let mut here = pool.alloc(Class::Receive).expect("fresh pool");
    let there = pool.alloc(Class::Receive).expect("fresh pool").lend(1, 1);
    let sending = pool.alloc(Class::Receive).expect("fresh pool").into_send();
    drop(pool);
    here.append(4).copy_from_slice(b"late");
    assert_eq!(here.bytes(), b"late");
    drop(here);
    assert!(!is_gone(&gone));
    elsewhere(move || drop(there));
    assert!(!is_gone(&gone), "one handle left");
    assert!(sending.in_ring(), "without a pool nobody knows");
    drop(sending);
    assert!(is_gone(&gone));
}

#[test]
fn without_handles_the_memory_goes_with_the_pool() {
    let (pool, gone) = adopted(2);
    drop(pool);
    assert!(is_gone(&gone));
    let (pool, gone) = watched_pool(2);
    drop(pool);
    assert!(is_gone(&gone), "never adopted");
    let (mut pool, gone) = adopted(2);
    let frame = pool.alloc(Class::Send).expect("fresh pool");
    elsewhere(move || drop(frame));
    drop(pool);
    assert!(is_gone(&gone), "what waits in the return ring is no handle");
}

#[test]
fn a_pool_can_move_before_it_is_adopted() {
    let (mut pool, gone) = watched_pool(2);
    elsewhere(move || {
        pool.adopt();
        pool.adopt();
        assert!(pool.alloc(Class::Send).is_some());
    });
    assert!(is_gone(&gone));
}

#[test]
fn a_pool_whose_thread_ended_can_be_dropped_or_adopted() {
    let (mut pool, gone) = watched_pool(2);
    let (mut pool, frame) = thread::spawn(move || {
        pool.adopt();
        let frame = pool.alloc(Class::Send);
        (pool, frame)
    })
    .join()
    .expect("no panic");
    pool.adopt();
    let again = pool.alloc(Class::Send).expect("one left");
    drop((frame, again));
    assert_eq!(pool.free(), 2, "frames of the first owner come home to the second");
    drop(pool);
    assert!(is_gone(&gone));

    let (mut pool, gone) = watched_pool(2);
    let pool = thread::spawn(move || {
        pool.adopt();
        pool
    });
    drop(pool.join().expect("no panic"));
    assert!(is_gone(&gone));
}

/// Drops a pool elsewhere while its owner thread runs, with or without a frame in its hands.
fn drop_pool_under_its_owner(keep: fn(Option<Frame>) -> Option<Frame>) {
    let (mut pool, gone) = watched_pool(2);
    let (send_pool, receive_pool) = mpsc::channel();
    let (send_done, receive_done) = mpsc::channel();
    let owner = thread::spawn(move || {
        pool.adopt();
        let kept = keep(pool.alloc(Class::Send));
        send_pool.send(pool).expect("the test waits");
        receive_done.recv().expect("the test tells");
        drop(kept);
    });
    drop(receive_pool.recv().expect("the owner sends"));
    assert!(!is_gone(&gone), "the owner may still drop frames without synchronisation");
    send_done.send(()).expect("the owner waits");
    owner.join().expect("no panic");
    assert!(is_gone(&gone));
}

#[test]
fn a_pool_dropped_elsewhere_waits_for_its_thread() {
    drop_pool_under_its_owner(|frame| frame);
    drop_pool_under_its_owner(|_| None);
}

/// Ends a thread that owns a pool and leaves one of its two frames in a thread-local; returns how many frames were
/// free once it had ended, and after looking into the return ring.
fn end_with_a_frame_in_a_thread_local(touch_first: impl FnOnce() + Send + 'static) -> (u32, u32) {
    let (mut pool, gone) = watched_pool(2);
    let owner = thread::spawn(move || {
        touch_first();
        pool.adopt();
        LATE.with_borrow_mut(|late| late.extend(pool.alloc(Class::Send)));
        pool
    });
    let mut pool = owner.join().expect("no panic");
    let at_once = pool.free();
    pool.adopt();
    pool.reclaim();
    let reclaimed = pool.free();
    drop(pool);
    assert!(is_gone(&gone));
    (at_once, reclaimed)
}

thread_local! {
    static LATE: std::cell::RefCell<Vec<Frame>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[test]
fn a_handle_may_outlive_its_thread_in_a_thread_local() {
    // Which of two thread-locals goes first depends on which was used first: one way the frame is dropped while the
    // thread is still the owner, the other way it has given up its number and must use the return ring.
    let mut outcomes = [
        end_with_a_frame_in_a_thread_local(|| ()),
        end_with_a_frame_in_a_thread_local(|| LATE.with_borrow(|_| ())),
    ];
    outcomes.sort_unstable();
    assert_eq!(outcomes, [(1, 2), (2, 2)]);

    let (mut pool, gone) = watched_pool(2);
    let with_its_pool = thread::spawn(move || {
        pool.adopt();
        LATE.with_borrow_mut(|late| late.extend(pool.alloc(Class::Send)));
    });
    with_its_pool.join().expect("no panic");
    assert!(is_gone(&gone));
}

#[test]
#[should_panic(expected = "another thread owns this pool")]
fn a_pool_with_a_living_owner_cannot_be_adopted() {
    let (mut pool, _) = watched_pool(2);
    let ready = Arc::new(Barrier::new(2));
    let (send_pool, receive_pool) = mpsc::channel();
    let owner_ready = Arc::clone(&ready);
    thread::spawn(move || {
        pool.adopt();
        send_pool.send(pool).expect("the test waits");
        owner_ready.wait();
    });
    let mut pool = receive_pool.recv().expect("the owner sends");
    let _ready = WaitOnDrop(ready);
    pool.adopt();
}

struct WaitOnDrop(Arc<Barrier>);

impl Drop for WaitOnDrop {
    fn drop(&mut self) {
        self.0.wait();
    }
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "pool used before adopt()")]
fn a_pool_that_nobody_adopted_gives_nothing() {
    let (mut pool, _) = watched_pool(2);
    let _ = pool.alloc(Class::Send);
}

#[test]
fn two_pools_of_one_thread_keep_apart() {
    let (mut one, one_gone) = adopted(2);
    let (mut two, two_gone) = adopted(2);
    let frame = one.alloc(Class::Send).expect("fresh pool");
    drop(two.alloc(Class::Send));
    drop(two);
    assert!(is_gone(&two_gone) && !is_gone(&one_gone));
    drop(frame);
    assert_eq!(one.free(), 2);
}

/// Every frame carries its number of turns; whoever finds it changed meanwhile has found two holders.
#[test]
fn many_threads_drop_while_the_owner_allocates() {
    const THREADS: usize = 4;
    const FRAMES: u32 = 256;
    let (mut pool, gone) = adopted(FRAMES);
    let dropped = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    let mut inboxes = Vec::new();
    for _ in 0..THREADS {
        let (inbox, frames) = mpsc::channel::<Frame>();
        let dropped = Arc::clone(&dropped);
        inboxes.push(inbox);
        threads.push(thread::spawn(move || {
            for mut frame in frames {
                let stamp = frame.bytes().first().copied();
                assert!(frame.bytes().iter().all(|&byte| Some(byte) == stamp));
                frame.bytes_mut().fill(0xff);
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let mut sent = 0_u64;
    let deadline = Instant::now() + Duration::from_millis(500);
    while Instant::now() < deadline {
        for inbox in &inboxes {
            let Some(mut frame) = pool.alloc(Class::Send) else { continue };
            frame.reset(0);
            let stamp = u8::try_from(sent % 251).expect("below 251");
            frame.append(64).fill(stamp);
            match sent % 7 {
                0 => drop(frame),
                _ => inbox.send(frame.lend(sent, 1)).expect("the thread listens"),
            }
            sent += 1;
        }
        assert!(pool.counts().check());
        while pool.poll_released().is_some() {}
    }
    // The pool goes while frames are still in the channels and being dropped.
    drop(pool);
    drop(inboxes);
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert!(is_gone(&gone));
    assert_eq!(dropped.load(Ordering::Relaxed), sent - sent.div_ceil(7));
    assert!(sent > u64::from(FRAMES), "the ring has wrapped");
}

/// The narrow moment itself, many times: handles and pool dropped at the same instant.
#[test]
fn pool_and_handles_dropped_at_once() {
    for round in 0..2000 {
        let (mut pool, gone) = adopted(4);
        let frames = [pool.alloc(Class::Send), pool.alloc(Class::Send)];
        let start = Barrier::new(3);
        thread::scope(|scope| {
            let start = &start;
            for frame in frames {
                scope.spawn(move || {
                    start.wait();
                    drop(frame);
                });
            }
            start.wait();
            drop(pool);
        });
        assert!(is_gone(&gone), "round {round}");
    }
}
