//! The engine against real directories: trees, containment, guards, readers.

mod contain;
mod guards;
mod live;
mod props;
mod readers;
mod rights;
mod scene;
