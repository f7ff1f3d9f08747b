//! One key of the file with its value: reading it as a type, and saying where it is wrong.

use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::Known;
use super::units::{NumberList, parse_duration, parse_size};
use crate::error::{SetupError, SetupErrorKind};

/// A suggestion is at least this much like what was written; 1 is the same.
const LIKENESS: f64 = 0.75;

#[derive(Clone, Copy)]
pub(super) struct File<'t> {
    pub(super) name: &'t str,
    pub(super) text: &'t str,
}

impl<'t> File<'t> {
    /// What is wrong at a byte of the text.
    pub(super) fn fault(self, at: usize, what: &str, hint: &str) -> SetupError {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        SetupError::new(SetupErrorKind::Config, format!("{}:{line}: {what}", self.name), hint)
    }

    /// The entries of a table in the order of the text, so that the first error is the first in it.
    pub(super) fn entries<'e>(self, within: &'e str, table: &'e DeTable<'t>) -> Vec<Entry<'e>>
    where
        't: 'e,
    {
        let mut entries: Vec<Entry<'e>> = table
            .iter()
            .map(|(key, value)| Entry {
                file: self,
                within,
                key: key.get_ref(),
                span: key.span(),
                value: value.get_ref(),
            })
            .collect();
        entries.sort_by_key(|entry| entry.span.start);
        entries
    }
}

/// A key and its value.
pub(super) struct Entry<'e> {
    file: File<'e>,
    /// The table's name with its brackets; empty at the top.
    within: &'e str,
    pub(super) key: &'e str,
    span: Range<usize>,
    pub(super) value: &'e DeValue<'e>,
}

impl<'e> Entry<'e> {
    /// An element of this entry's array.
    pub(super) fn item(&self, value: &'e Spanned<DeValue<'e>>) -> Entry<'e> {
        Entry { span: value.span(), value: value.get_ref(), ..*self }
    }

    pub(super) fn fault(&self, what: &str, hint: &str) -> SetupError {
        self.file.fault(self.span.start, what, hint)
    }

    /// The value must be something else; `must` continues "must".
    pub(super) fn wrong(&self, must: &str) -> SetupError {
        self.fault(&format!("{} must {must}", self.name()), "")
    }

    /// The value asks for something that does not exist.
    pub(super) fn absent(&self, why: &str) -> SetupError {
        self.fault(&format!("{}: {why}", self.name()), "leave it out")
    }

    /// A key that is none of those that are known here.
    pub(super) fn unknown(&self, known: Known) -> SetupError {
        if let Some((_, why)) = known.absent.iter().find(|(name, _)| *name == self.key) {
            return self.absent(why);
        }
        let like = |name: &&str| strsim::jaro_winkler(self.key, name);
        let best = known.present.iter().copied().max_by(|a, b| like(a).total_cmp(&like(b)));
        let hint = match best.filter(|name| like(name) >= LIKENESS) {
            Some(name) => format!("did you mean '{name}'?"),
            None => format!("known are {}", known.present.join(", ")),
        };
        self.fault(&format!("unknown key {}", self.name()), &hint)
    }

    fn name(&self) -> String {
        match self.within {
            "" => format!("'{}'", self.key),
            within => format!("'{}' in {within}", self.key),
        }
    }

    pub(super) fn table(&self, name: &'e str) -> Result<Vec<Entry<'e>>, SetupError> {
        match self.value {
            DeValue::Table(table) => Ok(self.file.entries(name, table)),
            _ => Err(self.wrong("be a table")),
        }
    }

    pub(super) fn text(&self) -> Result<&'e str, SetupError> {
        match self.value {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong("be a text in quotes")),
        }
    }

    pub(super) fn flag(&self) -> Result<bool, SetupError> {
        match self.value {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.wrong("be true or false")),
        }
    }

    pub(super) fn count<T: TryFrom<u64>>(&self) -> Result<T, SetupError> {
        let DeValue::Integer(digits) = self.value else { return Err(self.wrong("be a whole number")) };
        let count = u64::from_str_radix(digits.as_str(), digits.radix()).ok();
        // Counts are unsigned: all bits of the type.
        let most = u64::MAX >> (u64::BITS as usize - 8 * size_of::<T>());
        count
            .and_then(|count| count.try_into().ok())
            .ok_or_else(|| self.wrong(&format!("be a count from 0 to {most}")))
    }

    /// `None` for `"auto"`.
    pub(super) fn count_or_auto<T: TryFrom<u64>>(&self) -> Result<Option<T>, SetupError> {
        match self.value {
            DeValue::String(auto) if auto == "auto" => Ok(None),
            _ => self.count().map(Some),
        }
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, Choice<T>)]) -> Result<T, SetupError> {
        let names = || words.iter().filter(|(_, choice)| matches!(choice, Choice::Is(_)));
        let text = self.text()?;
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, Choice::Is(value))) => Ok(*value),
            Some((_, Choice::Absent(why))) => {
                Err(self.fault(&format!("{}: \"{text}\": {why}", self.name()), ""))
            }
            None => {
                let words: Vec<String> = names().map(|(word, _)| format!("\"{word}\"")).collect();
                Err(self.wrong(&format!("be {}, not \"{text}\"", words.join(" or "))))
            }
        }
    }

    /// A text that says a `T`.
    pub(super) fn parsed<T: FromStr>(&self, must: &str) -> Result<T, SetupError> {
        self.text()?.parse().map_err(|_| self.wrong(&format!("be {must}")))
    }

    pub(super) fn numbers(&self) -> Result<Vec<u32>, SetupError> {
        let list: NumberList = self.parsed("a list such as \"0-7\" or \"0,2,4-6\"")?;
        Ok(list.0)
    }

    pub(super) fn duration(&self) -> Result<Duration, SetupError> {
        parse_duration(self.text()?).map_err(|why| self.fault(&format!("{}: {why}", self.name()), ""))
    }

    /// A number of bytes, or a text such as `"6MiB"`.
    pub(super) fn bytes<T: TryFrom<u64>>(&self) -> Result<T, SetupError> {
        let DeValue::String(text) = self.value else { return self.count() };
        let bytes = parse_size(text).map_err(|why| self.fault(&format!("{}: {why}", self.name()), ""))?;
        T::try_from(bytes as u64).map_err(|_| self.wrong("be less than 4 GiB"))
    }
}

/// What a word stands for.
#[derive(Clone, Copy)]
pub(super) enum Choice<T> {
    Is(T),
    /// Nothing yet; why.
    Absent(&'static str),
}
