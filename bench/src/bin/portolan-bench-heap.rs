//! The benchmarks' second build: the same work with every byte on the heap counted.
//!
//! It is a program of its own so that counting costs nothing where time is measured.

use std::alloc::System;
use std::process::ExitCode;

use cap::Cap;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

fn main() -> ExitCode {
    portolan_bench::run(Some(|| HEAP.allocated()))
}
