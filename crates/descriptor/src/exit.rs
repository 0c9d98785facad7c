//! Exit statuses: the same classes in every tool, on the command line as in error lines.

/// What a tool's exit status says about its failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Any failure that none of the others names.
    Other = 1,
    /// The command line or the kind of input is wrong.
    Usage = 2,
    /// A reference, name or layer does not exist.
    NotFound = 3,
    /// Authentication or authorisation was refused.
    Refused = 4,
    /// Unreachable, stalled or failing after the retries.
    Network = 5,
    /// A digest, diffID, archive or document is wrong or hostile.
    Content = 6,
    /// The kernel or the caller's privileges do not allow it.
    Privilege = 7,
    /// No space or quota.
    Space = 8,
    /// Name taken, wrong state, locked, another store or owner.
    Conflict = 9,
    /// The stage before ended without a line, or a blob it promised never came.
    Upstream = 10,
}

impl Exit {
    /// The number the process exits with.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// An error that knows its exit status. Each crate implements this for its error in one `match`: its table.
pub trait Classify: std::error::Error {
    /// The class of the failure.
    fn exit(&self) -> Exit;

    /// What the user can do about it, where there is something.
    fn hint(&self) -> Option<String> {
        None
    }
}
