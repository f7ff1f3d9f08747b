//! What is known to differ, and the judgement.

use crate::ask::{Answers, Asker};
use crate::odd::Odd;
use crate::play::NOT_THERE;

/// Each packet is sent so often, and most of the answers count: a core may be taken away for longer than anybody waits.
const ROUNDS: usize = 3;

/// A row of a table: `states: packets | Linux | Ringwire | why`. There may be several states, with a space between them, and several
/// packets, with a semicolon.
#[derive(Debug)]
struct Difference<'a> {
    states: &'a str,
    names: &'a str,
    answers: Answers,
}

impl Difference<'_> {
    fn titles(&self) -> impl Iterator<Item = String> {
        let names = self.names.split(';').map(str::trim);
        names.flat_map(|name| self.states.split(' ').map(move |state| format!("{state}: {name}")))
    }
}

fn parse(table: &str) -> Vec<Difference<'_>> {
    let rows = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|line| {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        match columns[..] {
            [title, linux, ringwire, why] if !why.is_empty() && linux != ringwire => {
                let (states, names) = title.split_once(": ").expect("states, a colon and names");
                let answers = Answers { linux: linux.to_owned(), ringwire: ringwire.to_owned() };
                Difference { states, names, answers }
            }
            _ => panic!("not a row of four columns that says a difference: {columns:?}"),
        }
    })
    .collect()
}

/// Asks both and compares; `table` says what may differ, and must be right about it.
///
/// # Panics
/// With everything that differs otherwise, as rows without a reason, and with what rows say that is not so.
pub(crate) fn judge(asker: &mut Asker, odds: &[Odd], table: &str) {
    let titles: Vec<String> = odds.iter().map(Odd::title).collect();
    let rounds: Vec<Vec<Answers>> = (0..ROUNDS).map(|_| asker.ask(odds)).collect();
    for (title, answers) in titles.iter().zip(&rounds[0]) {
        println!("{title}: {}", answers.linux);
    }
    let is_answered =
        |said: &&Answers| said.linux.split(", ").any(|word| !matches!(word, "silence" | "then"));
    let answered = rounds.iter().flatten().filter(is_answered).count();
    assert!(2 * answered >= ROUNDS * odds.len(), "{answered} answers: the packets do not arrive");
    let faults = faults(&titles, &rounds, table);
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
}

/// What is not as the table says in most rounds.
fn faults(titles: &[String], rounds: &[Vec<Answers>], table: &str) -> Vec<String> {
    let known = parse(table);
    let mut faults = Vec::new();
    for (at, title) in titles.iter().enumerate() {
        let row = known.iter().find(|row| row.titles().any(|known| known == *title));
        let is_right = |answers: &&Answers| match row {
            Some(row) => **answers == row.answers,
            // Who has not come to the odd packet has not answered it.
            None => answers.linux == answers.ringwire && !answers.linux.starts_with(NOT_THERE),
        };
        let mut seen: Vec<&Answers> = rounds.iter().map(|round| &round[at]).collect();
        let right = seen.iter().filter(|answers| is_right(answers)).count();
        if 2 * right <= rounds.len() {
            seen.dedup();
            faults.extend(seen.iter().map(|said| format!("{title} | {} | {} | ", said.linux, said.ringwire)));
        }
    }
    let said_of =
        |title: &String| known.iter().flat_map(Difference::titles).filter(|known| known == title).count();
    let twice =
        |title: &&String| said_of(title) > 1 || titles.iter().filter(|other| other == title).count() > 1;
    faults.extend(titles.iter().filter(twice).map(|title| format!("said twice: {title}")));
    let stale = known.iter().flat_map(Difference::titles).filter(|title| !titles.contains(title));
    faults.extend(stale.map(|title| format!("a row for no packet: {title}")));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# a comment\nNothing Listener: SYN; ACK | R | silence | RFC\n";

    fn said(linux: &str, ringwire: &str) -> Answers {
        Answers { linux: linux.to_owned(), ringwire: ringwire.to_owned() }
    }

    /// The faults of one packet beside those that are as the table has them.
    fn faults_of(title: &str, answers: [Answers; 3]) -> Vec<String> {
        let known = ["Nothing: SYN", "Nothing: ACK", "Listener: SYN", "Listener: ACK"].map(str::to_owned);
        let titles: Vec<String> =
            known.iter().filter(|known| *known != title).cloned().chain([title.to_owned()]).collect();
        let round = |answers: Answers| {
            let others = titles[1..].iter().map(|_| said("R", "silence"));
            others.chain([answers]).collect()
        };
        faults(&titles, &answers.map(round), TABLE)
    }

    #[test]
    fn what_most_rounds_say_counts() {
        let (same, other) = (said("A", "A"), said("A", "R"));
        assert!(faults_of("Nothing: FIN", [same.clone(), other.clone(), same.clone()]).is_empty());
        let faults = faults_of("Nothing: FIN", [other.clone(), same, other]);
        assert_eq!(faults, ["Nothing: FIN | A | R | ", "Nothing: FIN | A | A | ", "Nothing: FIN | A | R | "]);
    }

    #[test]
    fn who_did_not_get_there_has_not_answered() {
        let lost = said(NOT_THERE, NOT_THERE);
        assert_eq!(faults_of("Nothing: FIN", [lost.clone(), said("A", "A"), lost]).len(), 3);
    }

    #[test]
    fn a_row_must_be_so_and_about_something() {
        let as_known = said("R", "silence");
        assert!(faults_of("Listener: ACK", [0, 1, 2].map(|_| as_known.clone())).is_empty());
        // Neither the same answer of both nor another difference will do.
        for wrong in [said("R", "R"), said("A", "silence"), said("R", "A")] {
            let answers = [wrong.clone(), as_known.clone(), wrong];
            assert_eq!(faults_of("Listener: ACK", answers).len(), 3);
        }
        assert_eq!(faults(&[], &[], TABLE).len(), 4, "rows for no packet");
    }

    #[test]
    fn one_name_is_one_packet_and_one_row() {
        let titles = ["Nothing: SYN", "Nothing: SYN"].map(str::to_owned);
        assert_eq!(faults(&titles, &[], "")[..], ["said twice: Nothing: SYN", "said twice: Nothing: SYN"]);
        let twice = "Nothing: SYN | R | A | RFC\nNothing: SYN | R | A | RFC\n";
        assert_eq!(faults(&titles[..1], &[vec![said("R", "A")]], twice)[..], ["said twice: Nothing: SYN"]);
    }

    #[test]
    #[should_panic(expected = "not a row")]
    fn a_row_without_a_reason_is_none() {
        parse("Nothing: SYN | R | A | ");
    }
}
