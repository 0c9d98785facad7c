//! The error of a system call: which call, with what, and what the kernel said.

use rustix::io::Errno;

/// The result of a system call made here.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed system call with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}({args}): {}", describe(*errno))]
pub struct Error {
    /// The call's name in the manual, section 2.
    pub call: &'static str,
    /// The arguments that matter, quoted where they are names.
    pub args: String,
    /// What the kernel answered.
    pub errno: Errno,
}

impl Error {
    /// An error of `call` with its arguments.
    pub fn new(call: &'static str, args: impl Into<String>, errno: Errno) -> Self {
        Self { call, args: args.into(), errno }
    }

    /// True where the kernel said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.errno == Errno::NOENT
    }
}

/// The text of `strerror(3)`, without the number that `std` appends.
fn describe(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}

/// Names a call and its arguments when it fails.
pub trait Call<T> {
    /// Turns an errno into an [`Error`]; the arguments are only formatted on failure.
    ///
    /// # Errors
    /// The errno of the call, with its name and arguments.
    fn call(self, call: &'static str, args: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Call<T> for std::result::Result<T, Errno> {
    fn call(self, call: &'static str, args: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error { call, args: args(), errno })
    }
}

impl<T> Call<T> for std::io::Result<T> {
    fn call(self, call: &'static str, args: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error { call, args: args(), errno: Errno::from_io_error(&e).unwrap_or(Errno::IO) })
    }
}
