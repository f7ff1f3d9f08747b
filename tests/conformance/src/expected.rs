//! Running a script, comparing segments, and the list of scripts that are known to fail.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ringwire_wire::tcp::Flags;
use serde::Deserialize;

use crate::host::Sent;
use crate::script::Script;
use crate::segment::Segment;

/// The list beside the manifest: scripts written to the RFC's text that the engine does not satisfy yet.
#[derive(Debug, Deserialize)]
pub(crate) struct KnownFailures {
    /// Name of the script, and what happens instead.
    pub(crate) failing: BTreeMap<String, String>,
}

impl KnownFailures {
    pub(crate) fn load() -> KnownFailures {
        toml::from_str(include_str!("../expected_failures.toml"))
            .expect("expected_failures.toml is well-formed")
    }
}

/// Runs a script that is a test function's only statement, under that function's name.
pub fn script<F: FnOnce(&mut Script)>(play: F) {
    let path = std::any::type_name::<F>();
    let name = path.trim_end_matches("::{{closure}}").rsplit("::").next().unwrap_or(path);
    run(name, play);
}

/// Runs a script under a name. One on the list of known failures must fail, so that the list cannot go stale.
pub fn run(name: &str, play: impl FnOnce(&mut Script)) {
    let known = KnownFailures::load().failing;
    let Some(reason) = known.get(name) else { return play_to_the_end(play) };
    if catch_unwind(AssertUnwindSafe(|| play_to_the_end(play))).is_ok() {
        panic!(
            "{name} passes now: take it off expected_failures.toml (\"{reason}\") and turn its exception row into done"
        );
    }
}

fn play_to_the_end(play: impl FnOnce(&mut Script)) {
    let mut script = Script::new();
    play(&mut script);
    // What a script does not look at is not tested.
    script.expect_nothing();
}

/// Whether `sent` is what was expected; else the field that differs.
pub(crate) fn compare(expected: &Segment, sent: &Sent, port: u16) -> Result<(), String> {
    let same = |name: &str, wanted: Option<u32>, got: u32| match wanted {
        Some(wanted) if wanted != got => Err(format!("{name} is {got}, not {wanted}")),
        _ => Ok(()),
    };
    let header = &sent.header;
    let unnamed = (Flags::PSH | Flags::ECE | Flags::CWR).without(expected.flags);
    if header.flags.without(unnamed) != expected.flags || header.flags.intersects(expected.without) {
        return Err(format!("flags are {}", header.flags));
    }
    same("the peer's port", Some(port.into()), header.dst_port.into())?;
    same("seq", expected.seq, sent.seq)?;
    same("ack", expected.ack, sent.ack)?;
    same("window", expected.window.map(u32::from), header.window.into())?;
    same("urgent pointer", expected.urgent.map(u32::from), header.urgent.into())?;
    same("length", expected.len.map(|len| len as u32), sent.len() as u32)?;
    same("tos", expected.tos.map(u32::from), sent.tos.into())?;
    if let Some(text) = &expected.text
        && *text != sent.text
    {
        return Err("the text differs".to_owned());
    }
    compare_options(expected, sent)
}

fn compare_options(expected: &Segment, sent: &Sent) -> Result<(), String> {
    let (wanted, got) = (&expected.options, &sent.options);
    let stamps = got.timestamps;
    let checks = [
        (wanted.mss.is_some() && wanted.mss != got.mss, "MSS"),
        (expected.has_no_mss && got.mss.is_some(), "no MSS"),
        (wanted.window_scale.is_some() && wanted.window_scale != got.window_scale, "window scale"),
        (expected.has_no_window_scale && got.window_scale.is_some(), "no window scale"),
        (expected.has_sack_permitted && !got.sack_permitted, "SACK-permitted"),
        (expected.has_no_sack_permitted && got.sack_permitted, "no SACK-permitted"),
        (wanted.timestamps.is_some() && wanted.timestamps != stamps, "timestamps"),
        (expected.has_timestamps && stamps.is_none(), "timestamps at all"),
        (expected.has_no_timestamps && stamps.is_some(), "no timestamps"),
        (expected.echo.is_some() && expected.echo != stamps.map(|stamps| stamps.echo), "TSecr"),
        (!wanted.sack.is_empty() && wanted.sack != got.sack, "SACK blocks"),
        (expected.has_no_sack && !got.sack.is_empty(), "no SACK blocks"),
    ];
    match checks.iter().find(|(is_wrong, _)| *is_wrong) {
        Some((_, what)) => Err(format!("expected {what}")),
        None => Ok(()),
    }
}
