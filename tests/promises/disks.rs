//! What an agent does when the disk of its copy is not mounted: at its start, and while it keeps it.

use std::fs;
use std::process::Command;

use support::{Cluster, Tree, could_not_run, lockstep_at};

/// Told by a shell in a namespace where it may mount. `$1` is the disk, `$2` the copy's mount point, `$3` the join link, `$4` the
/// log, `$5` the program, `$6` the hub's data.
const STORY: &str = r#"
await() { n=0; until eval "$1"; do n=$((n + 1)); [ $n -lt 600 ] || { echo "never: $1"; cat "$log"; exit 9; }; sleep 0.05; done; }
is() { [ "$(cat "$1" 2> /dev/null)" = "$2" ]; }
end() { kill $pid; wait $pid || :; }
trap 'kill $pid 2> /dev/null || :' EXIT
disk=$1 copy=$2 link=$3 log=$4 program=$5 hub=$6
mount -t tmpfs none "$disk"
mount --bind "$disk" "$copy"
"$program" join "$link" "$copy" --id 1 --log "$log" & pid=$!
await 'is "$copy/text" one'
await 'grep -q "in sync" "$log"'
end

umount "$copy"
"$program" join --log "$log" & pid=$!
await 'grep -q "seems not to be mounted" "$log"'
await '"$program" status --data "$hub" --json | grep -q "seems not to be mounted"'
code=0; "$program" wait --data "$hub" --client 1 --timeout 300ms || code=$?
[ $code = 1 ] || exit 10
[ -z "$(ls -A "$copy")" ] || exit 11
mount --bind "$disk" "$copy"
await 'grep -q "is there again" "$log"'
"$program" wait --data "$hub" --client 1 --timeout 60s

umount -l "$copy"
await 'grep -q "is not the directory it was" "$log"'
[ -z "$(ls -A "$copy")" ] || exit 12
is "$disk/text" one || exit 13
mount --bind "$disk" "$copy"
"$program" wait --data "$hub" --client 1 --timeout 60s
# Nothing of it was taken for an edit, or put anew.
grep -q "undone" "$log" && exit 14
end

# Nor is a mount point filled that is on the very disk of the copy.
umount "$copy"
mkdir "$disk/deep" "$disk/point"
mount --bind "$disk/deep" "$disk/point"
log=$log.same
"$program" join "$link" "$disk/point" --data "$copy.data" --id 2 --log "$log" & pid=$!
await 'is "$disk/deep/text" one'
await 'grep -q "in sync" "$log"'
end
umount "$disk/point"
"$program" join --data "$copy.data" --log "$log" & pid=$!
await 'grep -q "seems not to be mounted" "$log"'
[ -z "$(ls -A "$disk/point")" ] || exit 15
end
rm -r "$disk/deep" "$disk/point"
log=${log%.same}

# Whoever wants it to begin anew there says so.
"$program" join --adopt --log "$log" & pid=$!
await 'is "$copy/text" one'
end
"#;

#[test]
fn m2_1_an_empty_mount_point_is_not_filled_and_the_copy_is_kept_on_once_its_disk_is_back() {
    let cluster = Cluster::start(|share| drop(Tree::at(share).file("text", "one")), &[]);
    let namespace = ["--map-root-user", "--mount"];
    let ready = Command::new("unshare").args(namespace).arg("true").output();
    if !ready.is_ok_and(|output| output.status.success()) {
        could_not_run("unshare, and a system where it may mount");
    }
    let (disk, copy) = (cluster.path().join("disk"), cluster.copy(1));
    fs::create_dir(&disk).unwrap();
    fs::create_dir(&copy).unwrap();
    let agent = lockstep_at(cluster.agent_home(1));
    let mut story = Command::new("unshare");
    story.args(namespace).args(["sh", "-ec", STORY, "sh"]).arg(&disk).arg(&copy).arg(cluster.link());
    story.arg(cluster.path().join("join.log")).arg(agent.get_program()).arg(cluster.hub_data());
    let output = story.envs(agent.get_envs().filter_map(|(k, v)| Some((k, v?)))).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let log = fs::read_to_string(cluster.path().join("join.log")).unwrap_or_default();
    assert!(output.status.success(), "{}\n{}\n{}\n{log}", output.status, text(&output.stdout), text(&output.stderr));
}
