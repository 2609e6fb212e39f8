//! The benchmarks (`cargo xtask bench`).

fn main() -> anyhow::Result<()> {
    portolan_bench::run(None)
}
