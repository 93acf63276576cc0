//! What a hostile frame costs: the memory that decoding it takes at most, counted by an allocator.

#![allow(unsafe_code, reason = "an allocator that counts cannot be written without")]

use bytes::{Bytes, BytesMut};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use wire::codec::{FrameReader, decode_to_client, decode_to_hub};
use wire::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_BEFORE_LOGIN};

/// Beside what the frame itself justifies: small tables, errors, one list's reserve.
const OVERHEAD_BYTES: usize = 64 * 1024;
/// The smallest element of a list takes this many times its encoded bytes in memory, at most.
const GROWTH: usize = 64;

thread_local! {
    static IN_USE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came; the counters beside it allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.get() + layout.size();
        IN_USE.set(in_use);
        PEAK.set(PEAK.get().max(in_use));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        IN_USE.set(IN_USE.get().saturating_sub(layout.size()));
        // SAFETY: `ptr` came from `alloc` above, hence from the system's allocator, with this `layout`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn peak<R>(act: impl FnOnce() -> R) -> usize {
    let before = IN_USE.get();
    PEAK.set(before);
    let result = act();
    let peak = PEAK.get() - before;
    drop(result);
    peak
}

/// Every tag followed, somewhere, by a length as large as they get, and filler around it; of these every `every`th.
fn hostile(bytes: usize, every: usize) -> impl Iterator<Item = Vec<u8>> {
    const LENGTHS: [&[u8]; 5] = [
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0xff, 0xff, 0x03],
        &[0x80, 0x80, 0x10],
        &[0],
    ];
    const FILLERS: [u8; 3] = [0, 1, 0xff];
    const PLACES: usize = 40;
    (0..32 * PLACES * LENGTHS.len() * FILLERS.len()).step_by(every).map(move |which| {
        let (which, filler) = (which / FILLERS.len(), FILLERS[which % FILLERS.len()]);
        let (which, length) = (which / LENGTHS.len(), LENGTHS[which % LENGTHS.len()]);
        let (tag, at) = (which / PLACES, 1 + which % PLACES);
        let mut body = vec![filler; bytes.max(at + length.len())];
        body[0] = u8::try_from(tag).expect("below 32");
        body[at..at + length.len()].copy_from_slice(length);
        body.truncate(bytes);
        body
    })
}

#[test]
fn no_frame_takes_more_memory_than_it_justifies() {
    for (bytes, every) in [(16, 1), (FRAME_BYTES_MAX_BEFORE_LOGIN, 1), (FRAME_BYTES_MAX, 13)] {
        for body in hostile(bytes, every) {
            let allowed = OVERHEAD_BYTES + GROWTH * body.len();
            let spent = peak(|| decode_to_hub(&body));
            assert!(spent <= allowed, "hub: {spent} bytes for {} that begin {:?}", body.len(), &body[..16]);
        }
    }
}

#[test]
fn a_frame_from_the_hub_takes_no_more_than_a_few_reserves_beside_its_own() {
    // Lists in answers are not limited one by one; serde reserves at most 1 MiB for each, four deep.
    let reserves = 4 * 1024 * 1024;
    for (bytes, every) in [(16, 1), (FRAME_BYTES_MAX, 997)] {
        for body in hostile(bytes, every) {
            let allowed = reserves + GROWTH * body.len();
            let body = Bytes::from(body);
            let spent = peak(|| decode_to_client(body.clone()));
            assert!(spent <= allowed, "client: {spent} bytes for {} that begin {:?}", body.len(), &body[..16]);
        }
    }
}

#[test]
fn an_announced_gigabyte_takes_nothing() {
    for announced in [1_u32 << 30, u32::MAX, u32::from(u8::MAX) << 24] {
        let mut buf = BytesMut::from(&announced.to_le_bytes()[..]);
        let spent = peak(|| FrameReader::new().next(&mut buf, FRAME_BYTES_MAX).unwrap_err());
        assert!(spent < 1024, "{spent}");
    }
}

#[test]
fn canary_a_list_that_believes_what_it_is_told_is_noticed() {
    let spent = peak(|| Vec::<u8>::with_capacity(1 << 30));
    assert!(spent > OVERHEAD_BYTES + GROWTH * 16);
}
