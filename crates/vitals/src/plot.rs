//! Draws CPU and memory over time, as SVG or PNG, from lines of a log or from a history.
//!
//! A [`Recording`] takes samples as they come and keeps a picture's worth of them; [`svg`] and [`png()`] draw it. What is not
//! known, and time in which nothing was recorded, stays empty: a line never bridges a gap.
//!
//! It never does: read a font or any other file of the system, or keep more than [`recording::BUCKETS_MAX`] points a series.

mod axis;
mod draw;
mod paint;
pub mod read;
pub mod recording;

use thiserror::Error;

pub use self::{
    paint::{png, svg},
    recording::Recording,
};

/// What is drawn, by the keys of the columns.
pub const KEYS: [&str; 7] = [
    "cpu_busy_pct",
    "cpu_system_pct",
    "cpu_iowait_pct",
    "cpu_steal_pct",
    "mem_used_bytes",
    "swap_used_bytes",
    "mem_total_bytes",
];

/// The values of one sample, in the order of [`KEYS`].
pub type Values = [Option<f64>; KEYS.len()];

/// The smallest picture in which the words have room, in pixels.
pub const SIZE_MIN: (u32, u32) = (480, 360);

/// The largest picture.
pub const SIZE_MAX: (u32, u32) = (4096, 4096);

/// How a picture is to look.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// Width and height in pixels, from [`SIZE_MIN`] to [`SIZE_MAX`].
    pub size: (u32, u32),
    /// Light on dark.
    pub dark: bool,
    /// What stands above it; any text.
    pub title: &'a str,
    /// By how many milliseconds the clocks of people are ahead of UTC, at a moment in milliseconds since the Unix epoch.
    pub offset_ms: &'a dyn Fn(i64) -> i64,
    /// What that zone is called.
    pub zone: &'a str,
}

impl std::fmt::Debug for Look<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").field("size", &self.size).field("dark", &self.dark).finish_non_exhaustive()
    }
}

/// Why there is no picture.
#[derive(Debug, Error)]
pub enum PlotError {
    /// No sample has CPU or memory.
    #[error("there is no sample with CPU or memory to draw")]
    Nothing,
    /// The size is not one that can be drawn.
    #[error("a picture is from {}x{} to {}x{} pixels", SIZE_MIN.0, SIZE_MIN.1, SIZE_MAX.0, SIZE_MAX.1)]
    Size,
    /// The library that draws failed.
    #[error("the picture could not be drawn: {0}")]
    Draw(String),
    /// The PNG could not be made.
    #[error("the picture could not be made a PNG")]
    Png(#[from] png::EncodingError),
}

#[cfg(test)]
mod tests;
