//! Every interleaving of the lock-free parts, small enough for loom to enumerate. The sources are compiled here once
//! more, over loom's atomics.

mod sync {
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering, fence,
    };
}
#[path = "../src/lane.rs"]
mod lane;
#[path = "../src/liveness.rs"]
mod liveness;
#[path = "../src/padded.rs"]
mod padded;
#[path = "../src/return_ring.rs"]
mod return_ring;

use lane::{Descriptor, lane};
use liveness::{Custody, Handles};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering, fence};
use loom::thread;
use return_ring::ReturnRing;

/// Memory without synchronisation of its own, like a frame's bytes: loom fails the test when two accesses, one of them
/// a write, are not ordered by something else.
struct Plain<T>(loom::cell::UnsafeCell<T>);

impl<T: Copy> Plain<T> {
    fn new(value: T) -> Plain<T> {
        Plain(loom::cell::UnsafeCell::new(value))
    }

    fn get(&self) -> T {
        // SAFETY: loom runs one thread at a time and reports unordered accesses.
        self.0.with(|value| unsafe { *value })
    }

    fn set(&self, new: T) {
        // SAFETY: as in `get`.
        self.0.with_mut(|value| unsafe { *value = new });
    }
}

/// A pool reduced to what its threads share.
struct Model {
    ring: ReturnRing,
    handles: Handles,
    custody: Custody,
    frames: [Plain<u32>; 2],
    books: Plain<u32>,
    memory_freed: Plain<bool>,
}

impl Model {
    fn new() -> Arc<Model> {
        Arc::new(Model {
            ring: ReturnRing::new(2),
            handles: Handles::new(),
            custody: Custody::new(),
            frames: [Plain::new(0), Plain::new(0)],
            books: Plain::new(0),
            memory_freed: Plain::new(false),
        })
    }

    fn write_frame(&self, index: u32) {
        self.assert_alive();
        let bytes = &self.frames[index as usize];
        bytes.set(bytes.get() + 1);
    }

    fn keep_books(&self) {
        self.assert_alive();
        self.books.set(self.books.get() + 1);
    }

    fn assert_alive(&self) {
        assert!(!self.memory_freed.get(), "used after it was freed");
    }

    fn free(&self) {
        assert!(!self.memory_freed.get(), "freed twice");
        self.memory_freed.set(true);
    }

    /// `Core::release` on a thread that is not the owner.
    fn drop_elsewhere(&self, index: u32) {
        self.write_frame(index);
        self.ring.push(index);
        if self.handles.release() {
            self.free();
        }
    }

    /// `Core::close`.
    fn close(&self, granted: i64) {
        self.keep_books();
        if self.handles.close(granted) {
            self.free();
        }
    }

    fn is_freed(&self) -> bool {
        self.memory_freed.get()
    }
}

fn spawn(model: &Arc<Model>, run: impl FnOnce(&Model) + 'static) -> thread::JoinHandle<()> {
    let model = Arc::clone(model);
    thread::spawn(move || run(&model))
}

fn pop_blocking(ring: &ReturnRing, head: &mut u64) -> u32 {
    loop {
        if let Some(index) = ring.pop(*head) {
            *head += 1;
            return index;
        }
        thread::yield_now();
    }
}

#[test]
fn return_ring_brings_every_frame_home_with_its_bytes() {
    loom::model(|| {
        let model = Model::new();
        let threads = [0, 1].map(|index| {
            spawn(&model, move |model| {
                model.write_frame(index);
                model.ring.push(index);
            })
        });
        let mut head = 0;
        let mut home = [pop_blocking(&model.ring, &mut head), pop_blocking(&model.ring, &mut head)];
        for index in home {
            model.write_frame(index);
        }
        home.sort_unstable();
        assert_eq!(home, [0, 1]);
        assert_eq!(model.ring.pop(head), None);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn return_ring_wraps_while_another_producer_is_under_way() {
    loom::model(|| {
        let model = Model::new();
        let slow = spawn(&model, |model| model.ring.push(1));
        model.ring.push(0);
        let mut head = 0;
        let first = pop_blocking(&model.ring, &mut head);
        // The frame goes round again on a third thread: its ticket falls on a slot used before.
        let again = spawn(&model, move |model| {
            model.write_frame(first);
            model.ring.push(first);
        });
        let mut rest = [pop_blocking(&model.ring, &mut head), pop_blocking(&model.ring, &mut head)];
        rest.sort_unstable();
        assert_eq!(rest, [0, 1]);
        assert_eq!(model.ring.pop(head), None);
        slow.join().unwrap();
        again.join().unwrap();
    });
}

#[test]
fn the_last_of_pool_and_handles_frees_once() {
    loom::model(|| {
        let model = Model::new();
        let threads = [0, 1].map(|index| spawn(&model, move |model| model.drop_elsewhere(index)));
        model.close(2);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(model.is_freed());
    });
}

#[test]
fn frames_reclaimed_before_the_close_are_not_counted_twice() {
    loom::model(|| {
        let model = Model::new();
        let mut granted = 2;
        let elsewhere = spawn(&model, |model| model.drop_elsewhere(0));
        // The owner takes frame 1 back itself, and perhaps frame 0 out of the ring, which it then grants again.
        granted -= 1;
        let again = model.ring.pop(0).map(|index| {
            granted += 1;
            spawn(&model, move |model| model.drop_elsewhere(index))
        });
        model.close(granted);
        elsewhere.join().unwrap();
        if let Some(thread) = again {
            thread.join().unwrap();
        }
        assert!(model.is_freed());
    });
}

#[test]
fn a_pool_dropped_elsewhere_is_closed_once_when_its_thread_ends() {
    loom::model(|| {
        let model = Model::new();
        let owner = spawn(&model, |model| {
            // A frame dropped on the owner thread touches the books without any synchronisation.
            model.keep_books();
            if model.custody.thread_exited() {
                model.close(1);
            }
        });
        let holder = spawn(&model, |model| model.drop_elsewhere(0));
        model.assert_alive();
        if model.custody.pool_dropped() {
            model.close(1);
        }
        owner.join().unwrap();
        holder.join().unwrap();
        assert!(model.is_freed());
    });
}

#[test]
fn a_pool_whose_thread_ended_can_be_adopted() {
    loom::model(|| {
        let model = Model::new();
        let owner = spawn(&model, |model| {
            model.keep_books();
            assert!(!model.custody.thread_exited());
        });
        if model.custody.has_exited() {
            model.keep_books();
        }
        owner.join().unwrap();
    });
}

fn descriptor(frame: u64) -> Descriptor {
    Descriptor { addr: frame, len: 1, end_of_packet: true }
}

#[test]
fn lane_hands_bytes_over_and_frames_back() {
    loom::model(|| {
        let (mut sender, mut receiver) = lane(2, [Plain::new(0), Plain::new(0)]);
        let reader = thread::spawn(move || {
            let mut expected = 1;
            while expected < 4 {
                let Some(next) = receiver.peek(0) else {
                    thread::yield_now();
                    continue;
                };
                assert_eq!(receiver.shared()[next.addr as usize].get(), expected);
                receiver.release(1);
                receiver.flush();
                expected += 1;
            }
        });
        for value in 1..4 {
            while sender.room() == 0 {
                if sender.reap().is_none() {
                    thread::yield_now();
                }
            }
            let frame = (value - 1) % 2;
            sender.shared()[frame].set(value);
            sender.push(descriptor(frame as u64));
            assert!(sender.publish());
        }
        reader.join().unwrap();
    });
}

#[test]
fn frames_come_back_when_the_receiver_goes() {
    loom::model(|| {
        let (mut sender, mut receiver) = lane(2, Plain::new(0));
        let reader = thread::spawn(move || {
            if receiver.peek(0).is_some() {
                assert_eq!(receiver.shared().get(), 1);
                receiver.release(1);
                receiver.flush();
                return true;
            }
            false
        });
        sender.shared().set(1);
        sender.push(descriptor(0));
        sender.publish();
        let reaped = loop {
            if let Some(reaped) = sender.reap() {
                break reaped;
            }
            thread::yield_now();
        };
        assert_eq!(reaped.addr, 0);
        sender.shared().set(2);
        let read = reader.join().unwrap();
        assert_eq!(reaped.lost_packet, !read, "a packet is lost exactly if nobody read it");
        assert!(!sender.is_waiting());
    });
}

#[test]
fn what_was_published_before_the_sender_went_is_seen() {
    loom::model(|| {
        let (mut sender, mut receiver) = lane(2, ());
        let writer = thread::spawn(move || {
            sender.push(descriptor(0));
            sender.publish();
        });
        if receiver.sender_is_gone() {
            assert!(receiver.peek(0).is_some());
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_receiver_going_to_sleep_sees_the_packet_or_is_woken() {
    loom::model(|| {
        let (mut sender, mut receiver) = lane(2, AtomicBool::new(false));
        let sleeper = thread::spawn(move || {
            receiver.shared().store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            receiver.peek(0).is_some()
        });
        sender.push(descriptor(0));
        sender.publish();
        let saw_sleeper = sender.shared().load(Ordering::Relaxed);
        let saw_packet = sleeper.join().unwrap();
        assert!(saw_sleeper || saw_packet, "the wake-up is lost");
    });
}
