//! What is known to differ, and the judgement.

use crate::ask::{Answers, Asker};
use crate::odd::Odd;

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

fn parse<'a>(table: &'a str) -> Vec<Difference<'a>> {
    let rows = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let columns = rows.map(|line| line.split('|').map(str::trim).collect());
    let row = |columns: Vec<&'a str>| match columns[..] {
        [title, linux, ringwire, why] if !why.is_empty() && linux != ringwire => {
            let (states, names) = title.split_once(": ").expect("states, a colon and names");
            let answers = Answers { linux: linux.to_owned(), ringwire: ringwire.to_owned() };
            Difference { states, names, answers }
        }
        _ => panic!("not a row of four columns that says a difference: {columns:?}"),
    };
    columns.map(row).collect()
}

/// Asks both and compares; `table` says what may differ, and must be right about it.
///
/// # Panics
/// With everything that differs otherwise, as rows without a reason, and with what rows say that did not come.
pub(crate) fn judge(asker: &mut Asker, odds: &[Odd], table: &str) {
    let known = parse(table);
    let rounds: Vec<Vec<Answers>> = (0..ROUNDS).map(|_| asker.ask(odds)).collect();
    let mut wrong = Vec::new();
    for (at, odd) in odds.iter().enumerate() {
        let title = odd.title();
        let row = known.iter().find(|row| row.titles().any(|known| known == title));
        let is_right = |answers: &&Answers| match row {
            Some(row) => **answers == row.answers,
            None => answers.linux == answers.ringwire,
        };
        let of_it: Vec<&Answers> = rounds.iter().map(|round| &round[at]).collect();
        let right = of_it.iter().filter(|answers| is_right(answers)).count();
        println!("{title}: {}", of_it[0].linux);
        if 2 * right <= ROUNDS {
            let mut seen = of_it;
            seen.dedup();
            wrong.extend(seen.iter().map(|said| format!("{title} | {} | {} | ", said.linux, said.ringwire)));
        }
    }
    let titles: Vec<String> = odds.iter().map(Odd::title).collect();
    let stale = known.iter().flat_map(Difference::titles).filter(|title| !titles.contains(title));
    wrong.extend(stale.map(|title| format!("a row for no packet: {title}")));
    let twice = titles.iter().enumerate().filter(|(at, title)| titles[..*at].contains(title));
    wrong.extend(twice.map(|(_, title)| format!("two packets have one name: {title}")));
    let answers = rounds.concat().into_iter().filter(|said| !said.linux.starts_with("silence"));
    assert!(answers.count() * 4 >= odds.len(), "few answers: the packets do not arrive");
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
