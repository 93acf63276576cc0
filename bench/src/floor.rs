//! What the bare system calls cost: a thread that watches one directory, and copies and renames what was closed.
//!
//! It checks nothing, keeps no times or modes, knows no subdirectory and loses changes on an overflow. Nothing that
//! does more can be faster.

use anyhow::{Context as _, Result};
use rustix::fs::inotify;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Starts the loop from `source` to `copy`; it ends with the process.
pub(crate) fn start(source: &Path, copy: &Path) -> Result<()> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).context("inotify")?;
    inotify::add_watch(&watch, source, inotify::WatchFlags::CLOSE_WRITE).context("cannot watch the source")?;
    let (source, copy) = (source.to_owned(), copy.to_owned());
    std::thread::spawn(move || {
        if let Err(error) = follow(&watch, &source, &copy) {
            // Whoever waits for the copy runs into its deadline, and this says why.
            note(&format!("the bare loop ended: {error:#}"));
        }
    });
    Ok(())
}

fn follow(watch: &OwnedFd, source: &Path, copy: &Path) -> Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    let beside = copy.join(".beside");
    loop {
        let event = events.next()?;
        let Some(name) = event.file_name().and_then(|name| name.to_str().ok()) else { continue };
        let content = fs::read(source.join(name))?;
        fs::write(&beside, content)?;
        fs::rename(&beside, copy.join(name))?;
    }
}

fn note(text: &str) {
    use std::io::Write as _;
    // Nobody is left to tell when stderr is gone.
    writeln!(std::io::stderr(), "{text}").ok();
}
