//! Tells the linker what a page need not load.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").as_deref() == Ok("wasm") {
        // Addresses and calls in as few bytes as they take, rather than in five.
        println!("cargo::rustc-cdylib-link-arg=--compress-relocations");
    }
}
