//! What init tells of a failure.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::hooks::{HookFailure, HookKind};

/// What is left of a text in a report that is too long.
const TEXT_BYTES: usize = 4096;

/// A failure in the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// A step failed.
    Step { step: String, call: String, args: String, errno: i32 },
    /// A hook failed.
    Hook(HookFailure),
    /// The command is not there.
    NotFound { searched: String },
    /// The command is there, and refused.
    NotExecutable { why: String },
}

impl Report {
    /// The report of a failed call.
    pub(crate) fn step(step: &str, error: &sys::Error) -> Self {
        Self::Step {
            step: step.into(),
            call: error.call.into(),
            args: error.args.clone(),
            errno: error.errno.raw_os_error(),
        }
    }

    /// The same with texts that fit any packet.
    pub(crate) fn shortened(&self) -> Self {
        let cut = |text: &str| {
            if text.len() <= TEXT_BYTES {
                return text.to_string();
            }
            let mut end = text.len().min(TEXT_BYTES);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            format!("{}...", &text[..end])
        };
        match self {
            Self::Step { step, call, args, errno } => {
                Self::Step { step: cut(step), call: call.clone(), args: cut(args), errno: *errno }
            }
            Self::Hook(failure) => Self::Hook(HookFailure { why: cut(&failure.why), ..failure.clone() }),
            Self::NotFound { searched } => Self::NotFound { searched: cut(searched) },
            Self::NotExecutable { why } => Self::NotExecutable { why: cut(why) },
        }
    }

    /// True where it is a hook of this kind that failed.
    pub(crate) fn is_of(&self, hooks: HookKind) -> bool {
        matches!(self, Self::Hook(failure) if failure.kind == hooks.name())
    }

    /// The error that the caller sees.
    pub(crate) fn into_error(self, command: &str) -> Error {
        let command = command.to_string();
        match self {
            Self::Step { step, call, args, errno } => {
                let source = sys::Error::new(call_name(&call), args, Errno::from_raw_os_error(errno));
                Error::Step { step, source }
            }
            Self::Hook(failure) => Error::Hook(failure),
            Self::NotFound { searched } => Error::CommandNotFound { command, searched },
            Self::NotExecutable { why } => Error::NotExecutable { command, why },
        }
    }
}

/// Call names are static texts on this side too: a report is made once in a process's life.
fn call_name(name: &str) -> &'static str {
    Box::leak(name.to_string().into_boxed_str())
}
