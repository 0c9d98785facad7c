//! When a failed request is sent again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// The longest wait that a `Retry-After` is granted, in seconds.
const RETRY_AFTER_LIMIT: u64 = 60;
/// The wait before the first retry; it doubles with each.
const BACKOFF: Duration = Duration::from_millis(200);

/// How patient a session is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// No byte for this long: stalled.
    pub(crate) stall: Duration,
    /// How often a request that may succeed later is sent again.
    pub(crate) retries: u32,
}

impl Patience {
    /// Does it, again after failures that may pass.
    ///
    /// # Errors
    /// The last attempt's, or the first that cannot pass.
    pub(crate) fn again<T>(&self, mut act: impl FnMut() -> Result<T>) -> Result<T> {
        let mut failed = 0;
        loop {
            match act() {
                Err(error) => self.pause(&mut failed, error)?,
                done => return done,
            }
        }
    }

    /// Waits before the next attempt, or gives the failure back where there is to be none.
    ///
    /// # Errors
    /// The failure given.
    pub(crate) fn pause(&self, failed: &mut u32, error: Error) -> Result<()> {
        if !error.is_transient() || *failed >= self.retries {
            return Err(error);
        }
        let told = match error {
            Error::Status { retry_after, .. } => {
                retry_after.map(|s| Duration::from_secs(s.min(RETRY_AFTER_LIMIT)))
            }
            _ => None,
        };
        std::thread::sleep(told.unwrap_or_else(|| backoff(*failed)));
        *failed += 1;
        Ok(())
    }
}

/// 0.2 s, 0.4 s, 0.8 s ..., each lengthened by up to a half so that many processes do not come back at once.
fn backoff(failed: u32) -> Duration {
    let base = BACKOFF * 2u32.saturating_pow(failed.min(6));
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    base + base.mul_f64(f64::from(clock % 1000) / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_stay_within_half_of_their_base() {
        for failed in 0..8 {
            let base = BACKOFF * 2u32.pow(failed.min(6));
            let wait = backoff(failed);
            assert!(wait >= base && wait <= base + base / 2, "after {failed}: {wait:?}");
        }
    }

    #[test]
    fn only_failures_that_may_pass_are_tried_again() {
        let patience = Patience { stall: Duration::from_secs(1), retries: 2 };
        let status = |status| Error::Status {
            url: String::new(),
            status,
            message: String::new(),
            retry_after: Some(0),
        };
        for (code, attempts) in [(503, 3), (429, 3), (404, 1), (401, 1), (400, 1)] {
            let mut count = 0;
            let outcome: Result<()> = patience.again(|| {
                count += 1;
                Err(status(code))
            });
            assert!(outcome.is_err());
            assert_eq!(count, attempts, "{code}");
        }
    }
}
