//! The `portolan` binary: a server, and commands that talk to one over HTTP.

mod arguments;
mod failure;
mod import;
mod json;
mod server;
mod tls;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(serve) => server::serve(*serve),
        _ => todo!(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("portolan: {failure}");
            failure.exit_code()
        }
    }
}
