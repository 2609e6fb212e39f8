//! What the standard library would bring: memory, and an end where the engine is wrong.

use core::panic::PanicInfo;

use crate::memory::Memory;

#[global_allocator]
static MEMORY: Memory = Memory::new();

/// The page sees a `RuntimeError`; texts that nobody reads are not part of the module.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
