//! The benchmarks (`cargo xtask bench`).

use std::process::ExitCode;

fn main() -> ExitCode {
    portolan_bench::run(None)
}
