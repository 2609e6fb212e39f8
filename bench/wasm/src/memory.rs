//! Memory in blocks of a few sizes: what was freed is used again by what needs a block as large.
//!
//! A twentieth of what an allocator takes that joins free blocks, for at most a quarter more memory
//! in each block, and whatever a page once needed of one size and does not need again.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::memory_grow;
use core::cell::Cell;
use core::ptr::null_mut;

/// What memory is taken from the page in, and the least that is.
const WASM_PAGE: usize = 64 * 1024;
/// All blocks begin at multiples of it, and none is smaller.
const LEAST: usize = 16;
/// Blocks whose size is a multiple of it begin at one: a line of the processor's cache.
const LINE: usize = 64;
/// Four sizes between a power of two and the next.
const SIZES: usize = 4 * usize::BITS as usize;

/// A free block: it begins with where the next one of its size is.
type Free = *mut Cell<usize>;

pub(crate) struct Memory {
    /// The first free block of each size, or 0.
    free: [Cell<usize>; SIZES],
    /// What has not been cut into blocks so far.
    rest: Cell<(usize, usize)>,
}

// proof: a module without atomics runs on one thread.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) const fn new() -> Self {
        Self {
            free: [const { Cell::new(0) }; SIZES],
            rest: Cell::new((0, 0)),
        }
    }

    /// A block of bytes nobody has used, or 0.
    fn cut(&self, size: usize) -> usize {
        let (mut start, mut end) = self.rest.get();
        if size.is_multiple_of(LINE) {
            start = start.next_multiple_of(LINE);
        }
        if start + size > end {
            let pages = (size + LINE).div_ceil(WASM_PAGE);
            let grown = memory_grow(0, pages);
            if grown == usize::MAX {
                return 0;
            }
            // Mostly it goes on where the last piece ends.
            let new = grown * WASM_PAGE;
            start = if new == end { start } else { new };
            end = new + pages * WASM_PAGE;
        }
        self.rest.set((start + size, end));
        start
    }
}

/// The number of the size that is right for a layout, and how many bytes that is.
fn size_of(layout: Layout) -> (usize, usize) {
    let bytes = match layout.align() {
        ..=LEAST => layout.size().max(LEAST),
        _ => layout.size().next_multiple_of(LINE),
    };
    let power = bytes.ilog2();
    let step = (1 << power >> 2usize).max(LEAST);
    let size = bytes.next_multiple_of(step);
    let power = size.ilog2();
    (4 * power as usize + (size >> (power - 2) & 3), size)
}

// proof: a block is given once until it is freed: it is cut from what was never given, or taken off
// the list of free ones, which all have the size that was asked for. Nobody writes to a free block,
// so its first bytes are where the next one is. Blocks stand at multiples of 16, and those for what
// wants multiples of 64 have such a size, and stand at one. Sizes of layouts are below 2^31, so sums do not overflow.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (number, size) = size_of(layout);
        if layout.align() > LINE {
            return null_mut();
        }
        let head = &self.free[number];
        let block = head.get();
        if block == 0 {
            return self.cut(size) as *mut u8;
        }
        head.set(unsafe { (*(block as Free)).get() });
        block as *mut u8
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let head = &self.free[size_of(layout).0];
        unsafe { (*(block as Free)).set(head.get()) };
        head.set(block as usize);
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // proof: the caller has seen to it that this is a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        if size_of(layout) == size_of(wanted) {
            return block;
        }
        let new = unsafe { self.alloc(wanted) };
        if !new.is_null() {
            unsafe {
                new.copy_from_nonoverlapping(block, bytes.min(layout.size()));
                self.dealloc(block, layout);
            }
        }
        new
    }
}
