//! Values of version 1, which `linux.resources` is written in, as those of version 2.

use crate::{Error, Result};

/// `cpu.shares` (2 to 262144, 1024 by default) as `cpu.weight` (1 to 10000, 100 by default).
///
/// runc's formula since 1.3.2 and crun's since 1.23: a quadratic through the logarithms that maps least, default and most
/// to each other, where the linear one before made 1024 shares a weight of 39.
pub(crate) fn weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

/// `blkio.weight` (10 to 1000) as `io.weight` (1 to 10000), linearly, as runc and crun.
pub(crate) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

/// The limit of memory and swap together as one of swap alone; -1 is no limit, `None` nothing to write.
///
/// # Errors
/// [`Error::Value`] where there is no memory limit to take away, or a greater one.
pub(crate) fn swap_only(both: Option<i64>, memory: Option<i64>) -> Result<Option<i64>> {
    let refused = |why: String| Err(Error::Value { resource: "memory.swap".into(), why });
    match (both, memory) {
        (None, Some(-1)) => Ok(Some(-1)),
        (None, _) => Ok(None),
        (Some(-1), _) => Ok(Some(-1)),
        (Some(both), Some(-1)) => Ok(Some(both)),
        (Some(_), None) => refused("cgroup v2 needs memory.limit with it".into()),
        (Some(_), Some(memory @ ..0)) => refused(format!("memory.limit {memory} is no number of bytes")),
        (Some(both), Some(memory)) if both < memory => {
            refused(format!("{both} bytes of memory and swap is below memory.limit, {memory} bytes"))
        }
        (Some(both), Some(memory)) => Ok(Some(both - memory)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_the_weights_that_runc_makes_of_them() {
        // runc's own table
        for (shares, expected) in [
            (0, 1),
            (1, 1),
            (2, 1),
            (3, 2),
            (1024, 100),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
            (512, 59),
            (2048, 174),
            (100, 17),
        ] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn weights_keep_their_order() {
        let weights: Vec<u64> = (2..=262_144).map(weight).collect();
        assert!(weights.is_sorted());
    }

    #[test]
    fn io_weights_span_the_whole_range() {
        for (given, expected) in [(0, 1), (10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
            assert_eq!(io_weight(given), expected, "{given}");
        }
    }

    #[test]
    fn swap_is_what_memory_leaves_of_both() {
        for (both, memory, expected) in [
            (None, None, None),
            (None, Some(5), None),
            (None, Some(-1), Some(-1)),
            (Some(-1), None, Some(-1)),
            (Some(-1), Some(5), Some(-1)),
            (Some(7), Some(-1), Some(7)),
            (Some(7), Some(5), Some(2)),
            (Some(7), Some(7), Some(0)),
        ] {
            assert_eq!(swap_only(both, memory).expect("a value"), expected, "{both:?} {memory:?}");
        }
        for (both, memory) in [(Some(7), None), (Some(7), Some(8)), (Some(7), Some(-2))] {
            assert!(swap_only(both, memory).is_err(), "{both:?} {memory:?}");
        }
    }
}
