//! Running a script, comparing segments, and the list of scripts that are known to fail.

use std::any::Any;
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
    pub(crate) failing: BTreeMap<String, KnownFailure>,
}

/// A script on the list.
#[derive(Debug, Deserialize)]
pub(crate) struct KnownFailure {
    /// What the engine does instead.
    why: String,
    /// Part of what the script says then: a failure that says something else is another one.
    got: String,
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
    run_against(&KnownFailures::load(), name, play);
}

fn run_against(known: &KnownFailures, name: &str, play: impl FnOnce(&mut Script)) {
    let Some(KnownFailure { why, got }) = known.failing.get(name) else { return play_to_the_end(play) };
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| play_to_the_end(play))) else {
        panic!(
            "{name} passes now: take it off expected_failures.toml (\"{why}\") and turn its exception row into done"
        );
    };
    let told = told(&*panic);
    assert!(told.contains(got), "{name} is known to fail because {why}, not like this: {told}");
}

/// What a panic says.
fn told(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    panic.downcast_ref::<String>().map(String::as_str).or(literal).unwrap_or_default()
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
        (wanted.fast_open.is_some() && wanted.fast_open != got.fast_open, "Fast Open"),
        (expected.has_no_fast_open && got.fast_open.is_some(), "no Fast Open"),
        (!wanted.sack.is_empty() && wanted.sack != got.sack, "SACK blocks"),
        (expected.has_no_sack && !got.sack.is_empty(), "no SACK blocks"),
    ];
    match checks.iter().find(|(is_wrong, _)| *is_wrong) {
        Some((_, what)) => Err(format!("expected {what}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ack, data, syn, syn_ack};

    fn failure(play: impl FnOnce(&mut Script)) -> String {
        let error =
            catch_unwind(AssertUnwindSafe(|| run("no known failure", play))).expect_err("it must fail");
        error.downcast_ref::<String>().cloned().unwrap_or_default()
    }

    #[test]
    fn a_mismatch_tells_what_was_expected_and_all_that_had_happened() {
        let told = failure(|s| {
            s.listen();
            s.inject(s.peer_syn());
            s.expect(syn_ack().ack(2));
        });
        for part in
            ["expected: SYN|ACK ack 2", "(ack is 1, not 2)", "> SYN <mss 1460>", "< SYN|ACK seq 0 ack 1"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn each_named_field_is_compared() {
        let wrong = [
            data("x").seq(2),
            data("x").ack(2),
            data("x").win(1),
            data("y"),
            ack().len(2),
            data("x").port(1),
            data("x").tos(1),
            data("x").mss(9),
            data("x").any_ts(),
            data("x").sack(&[(1, 2)]),
            data("x").without(Flags::PSH),
            data("x").with(Flags::ECE),
            syn().text("x"),
        ];
        for expected in wrong {
            let shown = expected.to_string();
            let told = failure(|s| {
                s.establish();
                s.send("x");
                s.expect(expected);
            });
            assert!(told.contains(&shown), "{shown}: {told}");
        }
        run("no known failure", |s| {
            s.establish();
            s.send("x");
            s.expect(data("x").psh().seq(1).ack(1).tos(0).no_ts().no_sack().no_mss());
        });
    }

    #[test]
    fn silence_too_little_and_too_much_are_failures() {
        failure(|s| {
            s.connect();
            s.expect_nothing_for(10);
        });
        failure(|s| drop(s.expect(syn())));
        failure(|s| drop(s.expect_after(0..=5, syn())));
        failure(|s| {
            s.connect();
            s.expect_after(5..=9, syn());
        });
        let told = failure(|s| s.connect());
        assert!(told.contains("expected: nothing"), "what nobody looked at: {told}");
    }

    #[test]
    fn a_known_failure_that_passes_is_a_failure() {
        let failure = KnownFailure { why: "it does not".to_owned(), got: "as expected".to_owned() };
        let known = KnownFailures { failing: BTreeMap::from([("x".to_owned(), failure)]) };
        let passes = catch_unwind(AssertUnwindSafe(|| run_against(&known, "x", |_| ())));
        assert!(told(&*passes.expect_err("it must fail")).contains("passes now"));
        run_against(&known, "x", |s| s.fail("as expected"));
        let otherwise = catch_unwind(AssertUnwindSafe(|| run_against(&known, "x", |_| panic!("a bug"))));
        assert!(told(&*otherwise.expect_err("it must fail")).contains("not like this: a bug"));
    }
}
