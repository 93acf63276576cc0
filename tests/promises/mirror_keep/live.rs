//! What is kept is kept live: changes that show in nothing but ctime, and names that share a file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::FileType;
use support::archive::{self, ACL_ACCESS, acl, own, set_xattr};
use support::tool::root;
use support::{Proc, Scratch, same_archives, scratch, until};

use super::{PATIENCE, mirror};

/// Runs `story` beside a live mirror of `fill`ed trees; each of its steps waits until both sides are the same.
fn live(fill: impl Fn(&Path), story: impl Fn(&Path, &Path, &dyn Fn(&str))) {
    let places: [fn() -> Scratch; 2] = [scratch, || support::scratch::scratch_in("/dev/shm")];
    for place in places {
        let dir = place();
        let (source, dest) = (dir.join("src"), dir.join("dst"));
        fill(&source);
        let running = Proc::start(&mut mirror(&source, &dest, &["-a", "--watch"]));
        running.wait_for_line("watching", PATIENCE);
        story(&source, &dest, &|what| {
            let last = std::cell::RefCell::new(String::new());
            let deadline = std::time::Instant::now() + PATIENCE;
            until(PATIENCE * 2, what, || match same_archives(&source, &dest) {
                Ok(()) => true,
                Err(differs) => {
                    assert!(std::time::Instant::now() < deadline, "{what}: {differs}");
                    last.replace(differs);
                    false
                }
            });
        });
    }
}

#[test]
fn m2_7_owners_attributes_and_acls_are_followed_and_given_back() {
    if !root() {
        return;
    }
    live(archive::fill, |source, dest, same| {
        same("the first copy");
        for (turn, side) in [(1_u8, source), (2, dest)] {
            let value = [turn; 5];
            let id = u32::from(turn) * 100;
            own(&side.join("plain"), id + 1, id + 2).unwrap();
            same("an owner");
            own(&side.join("link"), id + 3, id + 4).unwrap();
            same("the owner of a link");
            own(side, id + 5, id + 6).unwrap();
            set_xattr(side, "user.of-the-root", &value).unwrap();
            same("the root's own");
            set_xattr(&side.join("plain"), "user.x", &value).unwrap();
            same("a new attribute");
            set_xattr(&side.join("sub/noted"), "user.note", &value).unwrap();
            archive::remove_xattr(&side.join("sub/noted"), ["", "user.long", "user.empty"][usize::from(turn)]).unwrap();
            same("attributes of a file");
            set_xattr(&side.join("sub/deep"), "user.of-a-directory", &value).unwrap();
            set_xattr(&side.join("sub/deep"), archive::ACL_DEFAULT, &acl(id, 1, 7, 0)).unwrap();
            same("attributes of a directory");
            set_xattr(&side.join("plain"), ACL_ACCESS, &acl(id, 6, 6, 0)).unwrap();
            same("an ACL");
            fs::set_permissions(side.join("owned"), fs::Permissions::from_mode(0o2755 + id)).unwrap();
            same("a set-id bit");
            set_xattr(&side.join("another"), "user.of-all-names", &value).unwrap();
            same("an attribute of a file with several names");
            own(&side.join("fifo"), id + 7, id + 8).unwrap();
            fs::remove_file(side.join("sub/loop")).unwrap();
            archive::node(&side.join("sub/loop"), FileType::BlockDevice, rustix::fs::makedev(7, id)).unwrap();
            same("special files");
            archive::node(&side.join(format!("sub/new{turn}")), FileType::Fifo, 0).unwrap();
            same("a new fifo");
        }
    });
}

#[test]
fn m2_7_a_change_through_one_name_reaches_all_names_of_the_file() {
    let fill = |source: &Path| {
        fs::create_dir_all(source.join("d/e")).unwrap();
        fs::write(source.join("a"), "one").unwrap();
        fs::write(source.join("alone"), "alone").unwrap();
        for name in ["b", "d/c", "d/e/d"] {
            fs::hard_link(source.join("a"), source.join(name)).unwrap();
        }
    };
    live(fill, |source, dest, same| {
        same("the first copy");
        for name in ["d/e/d", "a", "b"] {
            fs::write(source.join(name), format!("written through {name}")).unwrap();
            same("content");
        }
        // Same size and, as nothing but the content was reported, perhaps the same time.
        fs::write(source.join("d/c"), "WRITTEN through b").unwrap();
        same("content of the same size");
        fs::set_permissions(source.join("b"), fs::Permissions::from_mode(0o600)).unwrap();
        same("a mode");
        // A name for a file that had only one, so it was not known as one with several.
        fs::hard_link(source.join("alone"), source.join("d/not alone")).unwrap();
        same("a second name");
        fs::hard_link(source.join("a"), source.join("d/e/fifth")).unwrap();
        same("another name");
        fs::remove_file(source.join("a")).unwrap();
        same("a name less");
        fs::rename(source.join("d/e"), source.join("moved")).unwrap();
        fs::write(source.join("moved/d"), "after the move").unwrap();
        same("names that moved");
        fs::write(source.join("b.new"), "its own now").unwrap();
        fs::rename(source.join("b.new"), source.join("b")).unwrap();
        same("a link broken at the source");
        fs::copy(dest.join("d/c"), dest.join("d/c.copy")).unwrap();
        fs::rename(dest.join("d/c.copy"), dest.join("d/c")).unwrap();
        same("a link broken at the destination");
        fs::remove_file(dest.join("b")).unwrap();
        fs::hard_link(dest.join("d/c"), dest.join("b")).unwrap();
        same("a link too many at the destination");
        fs::write(dest.join("d/c"), "meddled with through one name").unwrap();
        same("content meddled with");
        fs::create_dir(source.join("0 copy")).unwrap();
        for name in ["d/c", "b", "moved/d"] {
            fs::hard_link(source.join(name), source.join("0 copy").join(name.replace('/', " "))).unwrap();
        }
        same("a directory of links");
    });
}
