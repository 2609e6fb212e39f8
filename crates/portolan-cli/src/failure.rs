//! How a command ends that was not done.

use std::process::ExitCode;

/// Why a command was not done; its text is one line that says what to do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// The command line, or a file that it names, is wrong.
    #[error("{0}")]
    Usage(String),
    /// No answer from the server.
    #[error("{0}")]
    Unreachable(String),
    /// The server, or the machine, said no.
    #[error("{0}")]
    Refused(String),
    /// The server cannot do it now.
    #[error("{0}")]
    Unavailable(String),
    /// Whoever read our output has gone; nothing is wrong.
    #[error("the reader of the output has gone")]
    OutputClosed,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::OutputClosed => 0,
            Failure::NotFound(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
            Failure::Refused(_) | Failure::Unavailable(_) => 4,
        })
    }

    /// What became of writing the output.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Refused(format!("cannot write the output: {error}")),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Refused(format!("{error:#}"))
    }
}
