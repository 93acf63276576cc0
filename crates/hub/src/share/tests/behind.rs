//! When a share says of itself that its board may not be what its directory holds.

use super::super::{Place, Share};
use super::fs;
use std::path::Path;

/// A share of `directory`, its index beside it, with its first scan done.
async fn shared(scratch: &Path, directory: &Path) -> (Share, super::super::ShareThread) {
    let spool = scratch.join("spool");
    fs::create_dir_all(&spool).unwrap();
    let place = Place { index: scratch.join("index.db"), spool: &spool, boot_id: "boot".into(), ours: &[] };
    let (share, thread) = Share::start("s", directory, place).unwrap();
    share.barrier().await.unwrap();
    (share, thread)
}

#[tokio::test]
async fn a_share_whose_path_leads_elsewhere_says_so_until_it_is_back() {
    let scratch = tempfile::tempdir().unwrap();
    let (above, away) = (scratch.path().join("above"), scratch.path().join("away"));
    fs::create_dir_all(above.join("share")).unwrap();
    fs::write(above.join("share/f"), "f").unwrap();
    let (share, thread) = shared(scratch.path(), &above.join("share")).await;
    assert_eq!(share.behind(), None);
    // A directory above it: the kernel tells of nothing.
    fs::rename(&above, &away).unwrap();
    share.barrier().await.unwrap();
    assert!(share.behind().unwrap().contains("leads elsewhere"), "{:?}", share.behind());
    fs::rename(&away, &above).unwrap();
    share.barrier().await.unwrap();
    assert_eq!(share.behind(), None);
    drop(thread);
}

#[tokio::test]
async fn a_hub_that_fails_while_it_starts_leaves_no_share_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("share");
    fs::create_dir(&directory).unwrap();
    let (share, thread) = shared(scratch.path(), &directory).await;
    drop(thread);
    assert_eq!(share.barrier().await, None, "its thread has ended");
}
