//! All tests, in the order in which they run.

mod bulk;
mod choice;
mod churn;
mod echo;
mod late;
mod lifecycle;

use std::time::Duration;

use ringwire::DropReason;

use crate::{Cable, Case};

/// Repeats that come when even TIME-WAIT, 100 ms here, is over: a machine with other work stops the guest for seconds.
const AFTER_A_STALL: [DropReason; 2] = [DropReason::TcpNoSocket, DropReason::TcpOutOfWindow];

/// Limits are several times what a test needs: the machine may have other work, and the guest is emulated.
const fn case(name: &'static str, limit_s: u64, test: fn()) -> Case {
    Case { name, limit: Duration::from_secs(limit_s), cable: Cable::Unwatched, test }
}

const fn watched(name: &'static str, limit_s: u64, test: fn()) -> Case {
    Case { cable: Cable::Recorded, ..case(name, limit_s, test) }
}

pub(crate) const ALL: &[Case] = &[
    case("udp_echo", 60, echo::udp),
    case("idle", 60, echo::idle),
    case("tcp_echo", 60, echo::tcp),
    case("need_wakeup_off", 120, echo::without_need_wakeup),
    case("busy_polling", 120, echo::busy_polling),
    case("copy_where_asked", 60, echo::copied_where_asked),
    case("bulk_to_kernel", 180, bulk::to_the_kernel),
    case("bulk_between_engines", 180, bulk::between_engines),
    case("bulk_through_loss", 120, bulk::through_loss),
    case("churn_of_kernel_clients", 90, churn::kernel_clients),
    case("churn_of_engine_clients", 90, churn::engine_clients),
    watched("late_completions_of_a_few_segments", 120, late::a_few_segments),
    watched("late_completions_of_a_short_stop", 120, late::a_short_stop),
    watched("late_completions_of_a_full_window", 180, late::a_full_window),
    case("zero_copy_refused_by_veth", 60, choice::refused),
    case("auto_says_what_it_chose", 60, choice::automatic),
    case("attached_again_under_traffic", 180, lifecycle::attached_again),
    case("link_down_and_up", 90, lifecycle::link_down_and_up),
    case("driver_unbound_and_bound", 90, lifecycle::driver_unbound_and_bound),
    case("killed_and_started_again", 120, lifecycle::killed_and_started_again),
];
