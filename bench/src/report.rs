//! What was measured: medians, the table of ratios, and the rows for machines.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::engine::PORTOLAN;

/// One figure from one run of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measure {
    pub(crate) metric: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
}

impl Measure {
    pub(crate) fn new(metric: &str, value: f64, unit: &str) -> Self {
        Self {
            metric: metric.to_owned(),
            value,
            unit: unit.to_owned(),
        }
    }
}

/// Everything measured so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    series: Vec<Series>,
}

#[derive(Debug)]
struct Series {
    task: String,
    engine: String,
    metric: String,
    unit: String,
    values: Vec<f64>,
}

#[derive(Serialize)]
struct Row<'a> {
    task: &'a str,
    engine: &'a str,
    metric: &'a str,
    value: f64,
    unit: &'a str,
}

impl Report {
    pub(crate) fn add(&mut self, task: &str, engine: &str, measures: Vec<Measure>) {
        for measure in measures {
            let known = self.series.iter_mut().find(|series| {
                series.task == task && series.engine == engine && series.metric == measure.metric
            });
            match known {
                Some(series) => series.values.push(measure.value),
                None => self.series.push(Series {
                    task: task.to_owned(),
                    engine: engine.to_owned(),
                    metric: measure.metric,
                    unit: measure.unit,
                    values: vec![measure.value],
                }),
            }
        }
    }

    pub(crate) fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let rows: Vec<Row<'_>> = self
            .series
            .iter()
            .map(|series| Row {
                task: &series.task,
                engine: &series.engine,
                metric: &series.metric,
                value: median(&series.values),
                unit: &series.unit,
            })
            .collect();
        let mut text = serde_json::to_string_pretty(&rows)?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn median(&self, task: &str, engine: &str, metric: &str) -> Option<f64> {
        self.series
            .iter()
            .find(|s| s.task == task && s.engine == engine && s.metric == metric)
            .map(|s| median(&s.values))
    }
}

/// The medians of what was measured several times, each time the same metrics in the same order.
pub(crate) fn medians(rounds: &[Vec<Measure>]) -> Vec<Measure> {
    let mut measures = rounds.first().cloned().unwrap_or_default();
    for (at, measure) in measures.iter_mut().enumerate() {
        let values = rounds.iter().map(|round| round[at].value);
        measure.value = median(&values.collect::<Vec<_>>());
    }
    measures
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// A table in Markdown: a line for each figure, a column for each engine. In brackets stands
/// how many times Portolan's figure that is; the last column is the smallest of these.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engines = distinct(self.series.iter().map(|s| s.engine.as_str()));
        let tasks = distinct(self.series.iter().map(|s| s.task.as_str()));
        let lines = tasks.into_iter().flat_map(|task| {
            let series = self.series.iter().filter(move |s| s.task == task);
            let metrics = distinct(series.map(|s| s.metric.as_str()));
            metrics.into_iter().map(move |metric| (task, metric))
        });
        let mut table = vec![header(&engines)];
        for (task, metric) in lines {
            let ours = self.median(task, PORTOLAN, metric);
            let mut line = vec![task.to_owned(), metric.to_owned()];
            let mut best: Option<f64> = None;
            for engine in &engines {
                let Some(value) = self.median(task, engine, metric) else {
                    line.push(String::new());
                    continue;
                };
                // Nothing is no multiple of nothing.
                let ratio = ours
                    .filter(|_| *engine != PORTOLAN && is_ratio_told(metric))
                    .map(|ours| value / ours)
                    .filter(|ratio| !ratio.is_nan());
                line.push(match ratio {
                    Some(ratio) => format!("{} ({}×)", number(value), number(ratio)),
                    None => number(value),
                });
                // Portolan otherwise set up is no rival.
                let rival = ratio.filter(|_| !engine.starts_with(PORTOLAN));
                best = [best, rival].into_iter().flatten().reduce(f64::min);
            }
            line.push(best.map_or_else(String::new, |best| format!("{}×", number(best))));
            table.push(line);
        }
        write_table(f, &table)
    }
}

/// Exponents and growths are ratios already.
fn is_ratio_told(metric: &str) -> bool {
    metric != "exponent" && !metric.ends_with("_growth")
}

fn header(engines: &[&str]) -> Vec<String> {
    ["task", "metric"]
        .iter()
        .chain(engines)
        .chain(&["best rival"])
        .map(ToString::to_string)
        .collect()
}

fn write_table(f: &mut fmt::Formatter<'_>, table: &[Vec<String>]) -> fmt::Result {
    let Some(columns) = table.first().map(Vec::len) else {
        return Ok(());
    };
    let width = |column: usize| {
        let cells = table.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for (i, line) in table.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            if column < 2 {
                write!(f, "| {cell:<width$} ")?;
            } else {
                write!(f, "| {cell:>width$} ")?;
            }
        }
        writeln!(f, "|")?;
        if i == 0 {
            for (column, width) in widths.iter().enumerate() {
                let end = if column < 2 { '-' } else { ':' };
                write!(f, "|{}{end}", "-".repeat(width + 1))?;
            }
            writeln!(f, "|")?;
        }
    }
    Ok(())
}

/// Three significant digits, thousands set apart.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => thousands(value.round() as i64),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: i64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        for value in [3.0, 1.0, 2.0] {
            report.add(
                "map/get",
                PORTOLAN,
                vec![Measure::new("time_ms", value, "ms")],
            );
        }
        for value in [8.0, 10.0] {
            report.add(
                "map/get",
                "other",
                vec![Measure::new("time_ms", value, "ms")],
            );
        }
        report
    }

    #[test]
    fn table_shows_medians_and_ratios() {
        let table = report().to_string();
        assert!(
            table.contains("| map/get | time_ms |     2.00 | 9.00 (4.50×) |      4.50× |"),
            "{table}"
        );
    }

    #[test]
    fn two_figures_that_are_zero_have_no_ratio() {
        let mut report = Report::default();
        for engine in [PORTOLAN, "other"] {
            report.add("bus", engine, vec![Measure::new("missing", 0.0, "")]);
        }
        let table = report.to_string();
        assert!(
            table.contains("| bus  | missing |     0.00 |  0.00 |            |"),
            "{table}"
        );
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(number(1_234_567.2), "1,234,567");
        assert_eq!(number(123.4), "123");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(1.234), "1.23");
    }
}
