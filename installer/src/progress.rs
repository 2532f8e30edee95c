//! What a person or a program sees while the installer works: a bar on a terminal, plain lines elsewhere, or JSON lines.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// A bar on a terminal, lines elsewhere.
    Text,
    /// One JSON object a line.
    Json,
}

/// Shows the steps of one piece of work with the seconds that each took.
#[derive(Debug)]
pub struct Progress {
    format: OutputFormat,
    bar: Option<ProgressBar>,
    total: usize,
    done: usize,
    started: Instant,
}

/// A step that has begun; give it back to [`Progress::finish`].
#[derive(Debug)]
pub struct Running {
    name: &'static str,
    started: Instant,
}

impl Progress {
    /// For so many steps.
    #[must_use]
    pub fn new(format: OutputFormat, total: usize) -> Self {
        let bar = (format == OutputFormat::Text && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(total as u64);
            if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed:>4} {prefix}  {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { format, bar, total, done: 0, started: Instant::now() }
    }

    /// A step begins.
    pub fn begin(&mut self, name: &'static str, detail: &str) -> Running {
        let step = self.done + 1;
        match (self.format, &self.bar) {
            (OutputFormat::Json, _) => print_line(
                &json!({"event": "step", "step": step, "of": self.total, "name": name, "state": "started", "detail": detail})
                    .to_string(),
            ),
            (OutputFormat::Text, Some(bar)) => {
                bar.set_prefix(name);
                bar.set_message(detail.to_owned());
            }
            (OutputFormat::Text, None) => print_line(&format!("[{step}/{}] {name}: {detail}", self.total)),
        }
        Running { name, started: Instant::now() }
    }

    /// What the running step is busy with; shown only where it can be replaced again.
    pub fn message(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.trim().to_owned());
        }
    }

    /// Something worth keeping.
    pub fn note(&self, text: &str) {
        match (self.format, &self.bar) {
            (OutputFormat::Json, _) => print_line(&json!({"event": "note", "message": text}).to_string()),
            (OutputFormat::Text, Some(bar)) => bar.println(text),
            (OutputFormat::Text, None) => print_line(text),
        }
    }

    /// The step is through.
    pub fn finish(&mut self, running: &Running) {
        self.done += 1;
        let seconds = running.started.elapsed().as_secs_f64();
        match (self.format, &self.bar) {
            (OutputFormat::Json, _) => print_line(
                &json!({"event": "step", "step": self.done, "of": self.total, "name": running.name, "state": "done",
                    "seconds": tenths(seconds)})
                .to_string(),
            ),
            (OutputFormat::Text, Some(bar)) => {
                bar.println(format!("{:>7.1} s  {}", seconds, running.name));
                bar.inc(1);
            }
            (OutputFormat::Text, None) => print_line(&format!("{seconds:>7.1} s  {}", running.name)),
        }
    }

    /// Everything is through: the result as text for people, as fields for programs.
    pub fn complete(&self, text: &str, fields: &serde_json::Value) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = tenths(self.started.elapsed().as_secs_f64());
        match self.format {
            OutputFormat::Json => {
                print_line(&json!({"event": "done", "seconds": seconds, "result": fields}).to_string())
            }
            OutputFormat::Text => print_line(&format!("{text}\n{seconds:>7.1} s  in all")),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

/// A line of the program's own output; a reader that went away is no reason to stop.
pub(crate) fn print_line(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}
