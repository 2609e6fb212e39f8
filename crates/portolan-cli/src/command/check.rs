//! verify and completions: no server needed.

use std::io::Write as _;

use clap::CommandFactory as _;
use portolan::{Error, MapReport};

use super::{output, written};
use crate::arguments::{Arguments, Completions, Verify};
use crate::failure::Failure;

/// `portolan verify`
pub(crate) fn verify(arguments: &Verify) -> Result<(), Failure> {
    let report = portolan::verify(&arguments.dir).map_err(|error| match error {
        Error::StoreMissing { .. } => Failure::NotFound(error.to_string()),
        _ => Failure::Refused(error.to_string()),
    })?;
    let mut out = output();
    let mut print = || {
        for map in &report.maps {
            let MapReport {
                name,
                keys,
                operations,
                digest,
            } = map;
            writeln!(
                out,
                "{name}: {keys} keys, {operations} operations, digest {digest:032x}"
            )?;
        }
        writeln!(
            out,
            "the store {} is sound: format {}, replica {}, {} maps, {} bytes",
            arguments.dir.display(),
            report.format,
            report.replica,
            report.maps.len(),
            report.bytes
        )?;
        out.flush()
    };
    written(print())
}

/// `portolan completions`
pub(crate) fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "portolan",
        &mut script,
    );
    let mut out = std::io::stdout().lock();
    written(out.write_all(&script).and_then(|()| out.flush()))
}
