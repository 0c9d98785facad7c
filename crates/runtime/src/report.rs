//! How the child tells its parent what failed: one JSON object through a pipe that exec closes.
//!
//! End of file with nothing read means that the command runs.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// No report is longer: argument texts are cut to fit a pipe's atomic write.
const LIMIT_BYTES: u64 = 65_536;

/// A failure in the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// A step failed.
    Step { step: String, call: String, args: String, errno: i32 },
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

    /// Sends it; there is nobody left to tell where that fails.
    pub(crate) fn send(&self, pipe: OwnedFd) {
        if let Ok(bytes) = serde_json::to_vec(self) {
            let _ = std::fs::File::from(pipe).write_all(&bytes);
        }
    }

    /// Waits until the child has executed its command or told what failed.
    pub(crate) fn receive(pipe: OwnedFd) -> Result<Option<Self>> {
        let mut bytes = Vec::new();
        let read = std::fs::File::from(pipe).take(LIMIT_BYTES).read_to_end(&mut bytes);
        read.map_err(|e| Error::Lost(format!("its report cannot be read: {e}")))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let report = serde_json::from_slice(&bytes);
        report.map(Some).map_err(|e| Error::Lost(format!("its report makes no sense: {e}")))
    }

    /// The error that the caller sees.
    pub(crate) fn into_error(self, command: &str) -> Error {
        let command = command.to_string();
        match self {
            Self::Step { step, call, args, errno } => {
                let source = sys::Error::new(call_name(&call), args, Errno::from_raw_os_error(errno));
                Error::Step { step, source }
            }
            Self::NotFound { searched } => Error::CommandNotFound { command, searched },
            Self::NotExecutable { why } => Error::NotExecutable { command, why },
        }
    }
}

/// Call names are static texts on this side too: a report is made once in a process's life.
fn call_name(name: &str) -> &'static str {
    Box::leak(name.to_string().into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_arrives_with_call_arguments_and_errno() {
        let (read, write) = rustix::pipe::pipe().expect("pipe");
        let sent = sys::Error::new("move_mount", "\"/proc\"", Errno::LOOP);
        Report::step("mount /proc", &sent).send(write);
        let error = Report::receive(read).expect("readable").expect("a report").into_error("sh");
        assert!(matches!(&error, Error::Step { step, source } if step == "mount /proc" && *source == sent));
    }

    #[test]
    fn a_closed_pipe_means_that_the_command_runs() {
        let (read, write) = rustix::pipe::pipe().expect("pipe");
        drop(write);
        assert!(Report::receive(read).expect("readable").is_none());
    }
}
