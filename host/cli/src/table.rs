//! Tables and numbers for people. Cells may come from other machines, so control characters are shown, never obeyed.

use bps_types::Nanos;
use comfy_table::{CellAlignment, ContentArrangement, presets};
use std::fmt;

/// Which side a column is flush with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under headings.
pub(crate) struct Table {
    inner: comfy_table::Table,
}

impl Table {
    /// Headings; one that starts with `>` is a column of numbers, flush right.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        inner.set_header(headings.iter().map(|h| h.trim_start_matches('>')));
        for (column, heading) in inner.column_iter_mut().zip(headings) {
            column.set_padding((0, 2));
            if side(heading) == Side::Right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { inner }
    }

    /// One more row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) -> &mut Self {
        self.inner.add_row(cells.into_iter().map(|c| clean(&c)));
        self
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.inner.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn side(heading: &str) -> Side {
    if heading.starts_with('>') { Side::Right } else { Side::Left }
}

/// `text` with control characters spelled out, on one line, at most 200 characters.
pub(crate) fn clean(text: &str) -> String {
    clean_to(text, 200)
}

/// The same with at most so many characters.
pub(crate) fn clean_to(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(256));
    for (count, c) in text.chars().enumerate() {
        if count == most {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Bytes in the largest binary unit that keeps a digit before the point.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = units[0];
    for next in &units[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// Operations in the largest decimal unit.
pub(crate) fn operations(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}

/// A span with its unit.
pub(crate) fn nanos(n: u64) -> String {
    Nanos(n).to_string()
}

/// `0.9731` as `97.3 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The first twelve characters of a digest: enough to tell policies apart, short enough to read aloud.
pub(crate) fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_trailing_blanks() {
        let mut table = Table::new(&["policy", ">requests", "note"]);
        table.row(["batching".into(), "1,234".into(), String::new()]);
        table.row(["local-only".into(), "7".into(), "slow".into()]);
        let text = table.to_string();
        assert_eq!(text, "policy      requests  note\nbatching       1,234\nlocal-only         7  slow\n");
    }

    #[test]
    fn hostile_cells_are_shown_not_obeyed() {
        let mut table = Table::new(&["name"]);
        table.row(["\u{1b}[2Jgone\n\r".into()]);
        assert_eq!(table.to_string(), "name\n\\u{1b}[2Jgone\\n\\r\n");
        assert_eq!(clean(&"x".repeat(500)).chars().count(), 201);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1024, 1536, 5 << 30].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]);
        assert_eq!([12, 1_500, 2_000_000, 3_630_000_000].map(operations), ["12", "1.5 k", "2.0 M", "3.63 G"]);
        assert_eq!(percent(0.97314), "97.3 %");
        assert_eq!(short("0123456789abcdef"), "0123456789ab");
    }
}
