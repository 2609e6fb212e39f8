//! The `portolan` binary: a server, and commands that talk to one over HTTP.

mod arguments;
mod client;
mod command;
mod failure;
mod import;
mod json;
mod moment;
mod server;
mod tls;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};
use failure::Failure;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(serve) => server::serve(&serve),
        Command::Get(get) => command::get(&get),
        Command::Set(set) => command::set(&set),
        Command::Unset(unset) => command::unset(&unset),
        Command::Add(write) => command::add(&write),
        Command::Append(append) => command::append(&append),
        Command::Insert(write) => command::insert(&write),
        Command::Remove(write) => command::remove(&write),
        Command::Undelete(undelete) => command::undelete(&undelete),
        Command::History(history) => command::history(&history),
        Command::Keys(keys) => command::keys(&keys),
        Command::Watch(watch) => command::watch(&watch),
        Command::Import(import) => command::import(&import),
        Command::Export(export) => command::export(&export),
        Command::Status(status) => command::status(&status),
        Command::Members(members) => command::members(&members),
        Command::Forget(forget) => command::forget(&forget),
        Command::Redis(redis) => command::redis(&redis),
        Command::Verify(verify) => command::verify(&verify),
        Command::Completions(completions) => command::completions(&completions),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::OutputClosed) {
                eprintln!("portolan: {failure}");
            }
            failure.exit_code()
        }
    }
}
