//! The loop around one worker, the same for every service.

use std::time::Duration;

use ringwire::{BindError, Event, Events, Turn, Worker};

use crate::refusal::{Exit, Refusal};

const EVENTS_PER_TURN: usize = 1024;
/// How often an idle service is asked what has become too old.
const TICK: Duration = Duration::from_secs(1);

/// What answers requests.
pub(super) trait Service {
    /// Binds the service's sockets.
    fn bind(&mut self, worker: &mut Worker) -> Result<(), BindError>;
    /// Takes one event.
    fn on_event(&mut self, worker: &mut Worker, event: Event);
    /// After the events of a turn: what could not be done before.
    fn end_turn(&mut self, worker: &mut Worker) -> Pending;
    /// Ends what is open, in order; nothing new is accepted any more.
    fn drain(&mut self, worker: &mut Worker);
}

/// Whether a service has work that no event will announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    Nothing,
    Work,
}

/// Serves until the engine stops; `on_ready` is called when the sockets are bound.
pub(super) fn serve(
    mut worker: Worker,
    mut service: impl Service,
    on_ready: impl FnOnce(),
) -> Result<(), Refusal> {
    service.bind(&mut worker).map_err(|error| {
        let hint = bind_hint(&error);
        Refusal::new(Exit::Refused, error, hint)
    })?;
    on_ready();
    let mut events = Events::with_capacity(EVENTS_PER_TURN);
    let mut timeout = TICK;
    let mut draining = false;
    loop {
        let turn = worker.poll(&mut events, Some(timeout)).map_err(|error| {
            Refusal::new(Exit::Failed, error, "see: ip link; start again when it is there")
        })?;
        match turn {
            Turn::Stop => return Ok(()),
            Turn::Drain if !draining => {
                draining = true;
                service.drain(&mut worker);
            }
            Turn::Drain | Turn::Run => {}
        }
        for event in events.drain() {
            service.on_event(&mut worker, event);
        }
        timeout = match service.end_turn(&mut worker) {
            Pending::Work => Duration::ZERO,
            Pending::Nothing => TICK,
        };
    }
}

fn bind_hint(error: &BindError) -> &'static str {
    const EPERM: i32 = rustix::io::Errno::PERM.raw_os_error();
    const EACCES: i32 = rustix::io::Errno::ACCESS.raw_os_error();
    match error {
        BindError::AddressInUse(_) => "another --port, or end what holds this one: ss -ltnup",
        BindError::System { errno: EACCES, .. } => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or use a higher --port"
        }
        BindError::System { errno: EPERM, .. } => "run ringwire doctor; it checks the capabilities",
        _ => "run ringwire doctor; it checks the interface and its addresses",
    }
}

/// Per-connection state, indexed by the connections' own dense numbers.
pub(super) struct Sessions<T> {
    places: Vec<Option<(ringwire::Conn, T)>>,
}

impl<T> Sessions<T> {
    pub(super) fn new() -> Sessions<T> {
        Sessions { places: Vec::new() }
    }

    pub(super) fn insert(&mut self, conn: ringwire::Conn, session: T) {
        if self.places.len() <= conn.slot() {
            self.places.resize_with(conn.slot() + 1, || None);
        }
        self.places[conn.slot()] = Some((conn, session));
    }

    /// `None` for a connection that is not here any more.
    pub(super) fn get_mut(&mut self, conn: ringwire::Conn) -> Option<&mut T> {
        match self.places.get_mut(conn.slot()) {
            Some(Some((known, session))) if *known == conn => Some(session),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, conn: ringwire::Conn) {
        if let Some(place) = self.places.get_mut(conn.slot())
            && place.as_ref().is_some_and(|(known, _)| *known == conn)
        {
            *place = None;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ringwire::Conn, &T)> {
        self.places.iter().flatten().map(|(conn, session)| (*conn, session))
    }
}
