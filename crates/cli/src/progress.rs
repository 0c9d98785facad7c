//! Progress on stderr: bars for people, a plain line now and then for logs.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often a log gets a line.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// The progress of one tool; clones show on the same screen.
#[derive(Debug, Clone)]
pub struct Progress {
    show: Show,
}

#[derive(Debug, Clone)]
enum Show {
    Bars(MultiProgress),
    Plain(Arc<Plain>),
    Nothing,
}

#[derive(Debug)]
struct Plain {
    tool: &'static str,
    state: Mutex<PlainState>,
}

#[derive(Debug)]
struct PlainState {
    printed: Instant,
    done: u64,
    total: u64,
}

/// One thing that makes progress, a blob say.
#[derive(Debug)]
pub struct Task {
    bar: Option<ProgressBar>,
    plain: Option<Arc<Plain>>,
}

impl Progress {
    pub(crate) fn new(tool: &'static str, silent: bool) -> Self {
        let show = if silent {
            Show::Nothing
        } else if std::io::stderr().is_terminal() {
            Show::Bars(MultiProgress::new())
        } else {
            let state = PlainState { printed: Instant::now(), done: 0, total: 0 };
            Show::Plain(Arc::new(Plain { tool, state: Mutex::new(state) }))
        };
        Self { show }
    }

    /// Begins to show `name`, which has `total` bytes.
    pub fn task(&self, name: &str, total: u64) -> Task {
        match &self.show {
            Show::Bars(screen) => {
                let bar = screen.add(ProgressBar::new(total));
                let form = "{prefix:20!} {bar:30} {bytes:>11} / {total_bytes:11} {msg}";
                if let Ok(style) = ProgressStyle::with_template(form) {
                    bar.set_style(style);
                }
                bar.set_prefix(crate::escaped(name));
                Task { bar: Some(bar), plain: None }
            }
            Show::Plain(plain) => {
                plain.update(0, total);
                Task { bar: None, plain: Some(Arc::clone(plain)) }
            }
            Show::Nothing => Task { bar: None, plain: None },
        }
    }
}

impl Task {
    /// `bytes` more are done.
    pub fn add(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
        if let Some(plain) = &self.plain {
            plain.update(bytes, 0);
        }
    }

    /// It is finished; `word` says how ("done", "already there").
    pub fn finish(&self, word: &'static str) {
        if let Some(bar) = &self.bar {
            bar.finish_with_message(word);
        }
    }
}

impl Plain {
    fn update(&self, done: u64, total: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done += done;
        state.total += total;
        if state.printed.elapsed() >= PLAIN_EVERY {
            state.printed = Instant::now();
            let (done, total) = (human_bytes(state.done), human_bytes(state.total));
            use std::io::Write;
            // A log that cannot be written to is no reason to stop the work.
            let _ = writeln!(std::io::stderr(), "{}: {done} of {total}", self.tool);
        }
    }
}

/// Bytes for people: decimal units, three digits.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.995 {
        format!("{value:.2} {}", UNITS[unit])
    } else if value < 99.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_with_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (9_999, "10.0 kB"),
            (99_999, "100 kB"),
            (999_999, "1.00 MB"),
            (41_234_567, "41.2 MB"),
            (612_000_000_000, "612 GB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
