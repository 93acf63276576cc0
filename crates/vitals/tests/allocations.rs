//! A sample in steady state allocates nothing, from the kernel's files to the line.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    path::Path,
};

use vitals::{Format, Instants, MetricSet, Probe, process::Scanner};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread asks of it.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

#[allow(unsafe_code, reason = "counting allocations needs an allocator; it only counts and passes on")]
mod counting {
    use super::*;

    // SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            ALLOCATIONS.with(|count| count.set(count.get() + 1));
            // SAFETY: the caller keeps the contract of `alloc`, and it is the same here.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: `pointer` came from `System.alloc` above, with this layout.
            unsafe { System.dealloc(pointer, layout) }
        }
    }
}

#[test]
fn a_sample_in_steady_state_allocates_nothing() {
    let mut probe = Probe::new(Path::new("/proc"), MetricSet::all());
    let (mut scanner, scans) = (Scanner::new(Path::new("/proc")), probe.scans());
    let mut line = Vec::with_capacity(64 << 10);
    let mut warm_up = 3;
    for format in [Format::Text, Format::Csv, Format::Json] {
        for _ in 0..200 {
            let before = ALLOCATIONS.with(Cell::get);
            scans.put(scanner.scan(Instants::now()).expect("this machine has processes"));
            let frame = probe.take(Instants::now()).expect("this machine has a procfs");
            line.clear();
            format.line(&mut line, frame);
            let allocations = ALLOCATIONS.with(Cell::get) - before;
            if warm_up > 0 {
                warm_up -= 1;
            } else {
                assert_eq!(allocations, 0, "in a line of {format:?}");
            }
        }
    }
    let before = ALLOCATIONS.with(Cell::get);
    drop(Box::new(line));
    assert!(ALLOCATIONS.with(Cell::get) > before, "the counter counts");
}
