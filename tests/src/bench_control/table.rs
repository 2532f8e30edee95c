//! The table that is printed and kept.

use std::fmt;

/// Rows of what was measured, its figure, and what was aimed at.
#[derive(Debug, Default)]
pub struct Table(Vec<[String; 3]>);

impl Table {
    /// Adds a row.
    pub fn row(&mut self, what: impl fmt::Display, figure: impl fmt::Display, goal: impl fmt::Display) {
        self.0.push([what.to_string(), figure.to_string(), goal.to_string()]);
    }

    /// The newest row, for who looks on.
    #[must_use]
    pub fn newest(&self) -> Option<String> {
        self.0.last().map(|row| row.join(" | "))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | measured | goal |\n|---|---|---|")?;
        self.0.iter().try_for_each(|[what, figure, goal]| writeln!(f, "| {what} | {figure} | {goal} |"))
    }
}

/// The value below which so many hundredths of the values lie; zero without values.
pub(super) fn percentile(values: &mut [f64], hundredths: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() * hundredths / 100).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert!((percentile(&mut values, 50) - 51.0).abs() < f64::EPSILON);
        assert!((percentile(&mut values, 99) - 100.0).abs() < f64::EPSILON);
        assert!(percentile(&mut [], 99).abs() < f64::EPSILON);
    }
}
