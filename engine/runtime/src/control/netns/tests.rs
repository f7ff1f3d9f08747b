use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::run_in;
use super::testbed::Testbed;

#[test]
fn sockets_stay_where_they_were_made_and_the_caller_does_not_move() {
    let bed = Testbed::new();
    let listener = bed.here(|| TcpListener::bind((Testbed::HERE, 0))).expect("the address is there");
    assert!(TcpListener::bind((Testbed::HERE, 0)).is_err(), "the address must not exist here");
    let addr = listener.local_addr().unwrap();
    let client = bed.peer(|| TcpStream::connect(addr)).expect("the veth carries it");
    let (accepted, from) = listener.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    drop(accepted);
}

#[test]
fn a_result_borrows_from_the_caller_and_a_panic_comes_through() {
    let bed = Testbed::new();
    let mut moved = 1;
    assert_eq!(bed.here(|| std::mem::replace(&mut moved, 2)), 1);
    assert_eq!(moved, 2);
    let panic = catch_unwind(AssertUnwindSafe(|| bed.here(|| panic!("seen")))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"seen"));
}

#[test]
fn something_that_is_no_namespace_is_refused_before_anything_runs() {
    let file = File::open("/dev/null").unwrap();
    let mut has_run = false;
    let error = run_in(file.as_fd(), || has_run = true).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::INVAL.raw_os_error()));
    assert!(!has_run);
}
