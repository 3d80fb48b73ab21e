//! The Prometheus text format, version 0.0.4.
//!
//! Responsible for the form of what `/metrics` answers. It is written by hand because etcd's names
//! must come out to the letter: some of its counters end in `_total` and some do not, some of its
//! gauges do, and libraries that write the newer format put or demand that ending themselves.

use std::fmt::{Display, Write};

use super::value::{Counter, Gauge, Histogram};

/// The content type of [`Exposition::finish`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// The labels of a sample: names and values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// The answer of `/metrics` while it is written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// The samples of one metric.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Exposition {
    /// Starts a metric.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        push(&mut self.text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { text: &mut self.text, name }
    }

    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        self.family(name, Kind::Counter, help).sample(&[], counter.get());
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, gauge: &Gauge) {
        self.family(name, Kind::Gauge, help).sample(&[], gauge.get());
    }

    /// A histogram without labels.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, Kind::Histogram, help).histogram(&[], histogram);
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// The samples of a histogram.
    pub fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let mut total = 0;
        for (bound, count) in histogram.cumulative() {
            self.line("_bucket", labels, Some(&format!("{bound}")), count);
            total = count;
        }
        // Observations made meanwhile must not leave a bucket above the whole.
        let total = total.max(histogram.count());
        self.line("_bucket", labels, Some("+Inf"), total);
        self.line("_sum", labels, None, histogram.sum_seconds());
        self.line("_count", labels, None, total);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        push(self.text, format_args!("{}{suffix}", self.name));
        let bound = bound.map(|bound| ("le", bound));
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            push(self.text, format_args!("{separator}{name}=\"{}\"", Escaped(value)));
            separator = ',';
        }
        self.text.push_str(if separator == ',' { "} " } else { " " });
        push(self.text, format_args!("{value}\n"));
    }
}

/// A label's value, escaped as the format demands.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes what is written to it");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_come_out_as_they_are_given() {
        let mut exposition = Exposition::default();
        let counter = Counter::default();
        counter.add(3);
        exposition.counter("some_failures", "Failures.", &counter);
        exposition
            .family("some_total", Kind::Gauge, "A gauge.")
            .sample(&[("id", "a\"b"), ("kind", "x")], 7);
        let expected = "# HELP some_failures Failures.\n# TYPE some_failures counter\n\
                        some_failures 3\n# HELP some_total A gauge.\n# TYPE some_total gauge\n\
                        some_total{id=\"a\\\"b\",kind=\"x\"} 7\n";
        assert_eq!(exposition.finish(), expected);
    }

    #[test]
    fn a_histogram_counts_upwards() {
        let histogram = Histogram::doubling(Duration::from_millis(1), 2);
        histogram.observe(Duration::from_micros(1500));
        histogram.observe(Duration::from_secs(1));
        let mut exposition = Exposition::default();
        exposition.histogram("wait_seconds", "Waits.", &histogram);
        let expected = "# HELP wait_seconds Waits.\n# TYPE wait_seconds histogram\n\
                        wait_seconds_bucket{le=\"0.001\"} 0\nwait_seconds_bucket{le=\"0.002\"} 1\n\
                        wait_seconds_bucket{le=\"+Inf\"} 2\nwait_seconds_sum 1.0015\n\
                        wait_seconds_count 2\n";
        assert_eq!(exposition.finish(), expected);
    }
}
