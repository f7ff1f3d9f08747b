//! The table of a comparison: a row of work is a block of lines, a contender is a column.

use std::fmt;

use crate::report::{format_ns, group_digits};
use crate::stats::Spread;

use super::outcome::{Cell, Comparison, CoreCost, RowOutcome};

const LABEL_WIDTH: usize = 26;
const COLUMN_WIDTH: usize = 24;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} rounds of {} each, interleaved; {} bytes; server on cpu {}, generator on cpu {}",
            self.rounds,
            format_ns(self.duration_ns),
            self.size_bytes,
            self.server_cpu,
            self.client_cpu,
        )?;
        writeln!(f, "median [min..max] of the rounds; ratios are taken round by round: median [quartiles]")?;
        let columns = self.columns();
        write!(f, "\n{:LABEL_WIDTH$}", "")?;
        writeln!(f, "{}", columns.iter().map(|name| pad(name)).collect::<String>().trim_end())?;
        for row in &self.rows {
            row.write(f, &columns)?;
        }
        writeln!(
            f,
            "softirq: over veth the kernel's receive work for a packet runs on the core that sent it"
        )?;
        self.write_faults(f)
    }
}

impl Comparison {
    /// Every contender that appears, in the order of appearance.
    fn columns(&self) -> Vec<&str> {
        let mut columns: Vec<&str> = Vec::new();
        for cell in self.rows.iter().flat_map(|row| &row.contenders) {
            if !columns.contains(&cell.name.as_str()) {
                columns.push(&cell.name);
            }
        }
        columns
    }

    fn write_faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            for cell in &row.contenders {
                for fault in &cell.faults {
                    writeln!(f, "NOT VALID: {}, {}: {fault}", row.row, cell.name)?;
                }
            }
        }
        if self.interrupted {
            writeln!(f, "interrupted: partial")?;
        }
        Ok(())
    }
}

impl RowOutcome {
    fn write(&self, f: &mut fmt::Formatter<'_>, columns: &[&str]) -> fmt::Result {
        let mut references: Vec<&str> = Vec::new();
        for ratio in self.contenders.iter().flat_map(|cell| &cell.ratios) {
            if !references.contains(&ratio.to.as_str()) {
                references.push(&ratio.to);
            }
        }
        self.line(f, columns, &format!("{:<14}requests/s", self.row.to_string()), rate_text)?;
        self.line(f, columns, "              p50, p99", latency_text)?;
        for (index, reference) in references.into_iter().enumerate() {
            let label = format!("  x {reference}");
            self.line(f, columns, &label, |cell| Some(spread_text(cell.ratio(reference)?.rate)))?;
            if index == 0 {
                self.line(f, columns, "      p99", |cell| Some(spread_text(cell.ratio(reference)?.p99)))?;
                self.line(f, columns, "", |cell| Some(cell.ratio(reference)?.verdict.name().to_owned()))?;
            }
        }
        self.line(f, columns, "  cpu us/request server", |cell| cost_text(cell.server_cost))?;
        self.line(f, columns, "  (softirq)      client", |cell| cost_text(cell.client_cost))?;
        writeln!(f)
    }

    fn line(
        &self,
        f: &mut fmt::Formatter<'_>,
        columns: &[&str],
        label: &str,
        text: impl Fn(&Cell) -> Option<String>,
    ) -> fmt::Result {
        let mut line = format!("{label:LABEL_WIDTH$}");
        for column in columns {
            let cell = self.contenders.iter().find(|cell| cell.name == *column);
            line.push_str(&pad(&cell.and_then(&text).unwrap_or_else(|| "-".to_owned())));
        }
        writeln!(f, "{}", line.trim_end())
    }
}

fn pad(text: &str) -> String {
    // One blank at least between columns, whatever the length.
    format!("{text:<width$} ", width = COLUMN_WIDTH - 1)
}

fn rate_text(cell: &Cell) -> Option<String> {
    let Spread { min, median, max, .. } = cell.rate?;
    Some(format!("{} [{}..{}]", group_digits(median), thousands(min), thousands(max)))
}

fn latency_text(cell: &Cell) -> Option<String> {
    Some(format!("{}, {}", format_ns(cell.p50_ns?.median as u64), format_ns(cell.p99_ns?.median as u64)))
}

fn spread_text(Spread { q1, median, q3, .. }: Spread) -> String {
    // A tail that shrank a hundredfold is not 0.00.
    let digits = if median < 0.1 { 3 } else { 2 };
    format!("{median:.digits$} [{q1:.digits$}..{q3:.digits$}]")
}

fn cost_text(cost: Option<CoreCost>) -> Option<String> {
    let CoreCost { busy_us, softirq_us } = cost?;
    Some(format!("{busy_us:.2} ({softirq_us:.2})"))
}

/// `123456` as `123k`, for the ends of a spread.
fn thousands(value: f64) -> String {
    if value >= 100_000.0 {
        format!("{:.0}k", value / 1e3)
    } else if value >= 1_000.0 {
        format!("{:.1}k", value / 1e3)
    } else {
        format!("{value:.0}")
    }
}
