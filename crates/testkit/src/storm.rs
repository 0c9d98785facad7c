//! Names that change places all the time.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Ends the storm, also when what goes on beside it panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does something while each pair of names changes places all the time.
///
/// # Panics
/// Where a pair is not there to be exchanged when it begins.
pub fn exchanging<T>(pairs: &[(&Path, &Path)], act: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    let turn = || pairs.iter().try_for_each(|(a, b)| renameat_with(CWD, *a, CWD, *b, RenameFlags::EXCHANGE));
    turn().and_then(|()| turn()).expect("names that can be exchanged");
    std::thread::scope(|scope| {
        let _ends = Ends(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = turn();
            }
        });
        act()
    })
}
