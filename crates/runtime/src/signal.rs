//! Signals by name and number.

use nix::sys::signal::Signal;

/// The first and the last real-time signal as libc counts them.
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// A signal's number from `SIGTERM`, `TERM`, `term`, `15` or `SIGRTMIN+3`.
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=SIGRTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let above: i32 = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse().ok()? };
        return (0..=SIGRTMAX - SIGRTMIN).contains(&above).then_some(SIGRTMIN + above);
    }
    format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (text, want) in [
            ("SIGQUIT", Some(3)),
            ("WINCH", Some(28)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+31", None),
            ("0", None),
            ("nonsense", None),
        ] {
            assert_eq!(signal_number(text), want, "{text}");
        }
    }
}
