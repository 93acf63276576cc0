//! Trees to copy.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use support::Rng;

/// Makes `count` files of 100 bytes to 8 KiB in directories of fifty, all different. Gives their bytes in all.
pub(crate) fn small_files(dir: &Path, count: usize, rng: &mut Rng) -> Result<u64> {
    let mut bytes = 0;
    for n in 0..count {
        let parent = dir.join(format!("d{:03}/e{:02}", n / 500, n / 50 % 10));
        if n % 50 == 0 {
            fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        let length = 100 + rng.below(8092);
        let file = parent.join(format!("f{n:06}"));
        fs::write(&file, rng.bytes(length)).with_context(|| format!("cannot write {}", file.display()))?;
        bytes += length as u64;
    }
    Ok(bytes)
}
