//! Scenes, processes and independent checkers for the end-to-end tests.
//!
//! It promises that nothing here uses the code under test: trees are made and compared with plain file calls and with
//! rsync, and the program is known only as a process. Whatever a test starts has ended, and whatever it wrote is gone,
//! when the test is over, also when it failed.
//!
//! A test in a few lines:
//!
//! ```no_run
//! use std::time::Duration;
//! use support::{Proc, Tree, assert_same_trees, lockstep, scratch, until};
//!
//! let dir = scratch();
//! Tree::at(dir.join("src")).file("a", "one").dir("empty").link("to-a", "a");
//! let mirror = Proc::start(lockstep().arg("mirror").arg(dir.join("src")).arg(dir.join("dst")).arg("--watch"));
//! mirror.wait_for_line("watching", Duration::from_secs(10));
//! std::fs::write(dir.join("src/a"), "two").unwrap();
//! until(Duration::from_secs(10), "the edit to arrive", || std::fs::read(dir.join("dst/a")).is_ok_and(|got| got == b"two"));
//! assert_same_trees(dir.join("src"), dir.join("dst"));
//! ```

pub mod archive;
pub mod cable;
pub mod cluster;
pub mod crowd;
pub mod disk;
pub mod edits;
pub mod engine;
pub mod manager;
pub mod npm;
pub mod process;
pub mod program;
pub mod same;
pub mod scratch;
pub mod seed;
pub mod size;
pub mod stock;
pub mod tool;
pub mod tree;
pub mod vendor;
pub mod wait;

pub use archive::same_archives;
pub use cable::Cable;
pub use cluster::{Cluster, PATIENCE};
pub use crowd::Crowd;
pub use disk::SmallDisk;
pub use edits::{Edit, Edits};
pub use manager::Manager;
pub use npm::install_client;
pub use process::Proc;
pub use program::{binary, lockstep, lockstep_at, workspace};
pub use same::{assert_same_trees, same_trees, stat_differences};
pub use scratch::{Scratch, scratch};
pub use seed::{Rng, for_each_seed};
pub use size::{Size, pick, size};
pub use stock::{Library, Stock};
pub use tool::{
    chromium, could_not_run, curl, netcat, node, node_packages, node_with, on_small_disk, python, python_with, root,
    rsync, strace, systemd_analyze,
};
pub use tree::Tree;
pub use vendor::vendor_tree;
pub use wait::{lapse, until};
