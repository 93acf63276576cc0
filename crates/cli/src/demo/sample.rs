//! What the demo shares, and how it changes it: a little of every kind.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Directories of small files.
const DIRECTORIES: usize = 8;
/// Small files in each.
const FILES: usize = 25;
/// Bytes of the one large file, which travels in chunks.
const LARGE_BYTES: usize = 3 << 20;

/// Fills the new directory `share`; returns how many files are in it.
pub(super) fn fill(share: &Path) -> io::Result<usize> {
    for d in 0..DIRECTORIES {
        let dir = share.join(format!("project-{d}/src"));
        fs::create_dir_all(&dir)?;
        for f in 0..FILES {
            fs::write(dir.join(format!("part-{f}.txt")), format!("file {f} of project {d}\n").repeat(1 + f * 7))?;
        }
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    fs::write(share.join("large.bin"), noise.take(LARGE_BYTES).collect::<Vec<u8>>())?;
    fs::write(share.join("run.sh"), "#!/bin/sh\necho lockstep\n")?;
    fs::set_permissions(share.join("run.sh"), fs::Permissions::from_mode(0o755))?;
    fs::create_dir(share.join("empty"))?;
    symlink("project-0/src", share.join("newest"))?;
    Ok(DIRECTORIES * FILES + 2)
}

/// Adds, changes, renames, removes, and changes kinds. `round` makes each time different.
pub(super) fn edit(share: &Path, round: usize) -> io::Result<()> {
    let project = share.join(format!("project-{round}"));
    fs::rename(&project, share.join(format!("renamed-{round}")))?;
    fs::create_dir_all(project.join("new/deep/er"))?;
    fs::write(project.join("new/deep/er/file"), format!("new in round {round}\n"))?;
    fs::remove_dir_all(share.join(format!("project-{}/src", round + 4)))?;
    fs::write(share.join(format!("project-{}/src", round + 4)), "a directory became a file\n")?;
    let mut large = fs::OpenOptions::new().append(true).open(share.join("large.bin"))?;
    large.write_all(format!("appended in round {round}\n").as_bytes())?;
    fs::set_permissions(share.join("run.sh"), fs::Permissions::from_mode(0o700 + u32::from(round == 1) * 0o050))?;
    fs::remove_file(share.join("newest"))?;
    symlink(format!("renamed-{round}/src"), share.join("newest"))
}
