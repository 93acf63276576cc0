//! `lockstep demo`, as `make demo` runs it.

use std::fs;
use std::time::Duration;

use support::{PATIENCE, Proc, lockstep_at, scratch};

#[test]
fn the_scripted_demo_ends_with_identical_copies_and_leaves_nothing() {
    let home = scratch();
    let temporary = home.join("tmp");
    fs::create_dir(&temporary).unwrap();
    let output = lockstep_at(&home).args(["demo", "--once"]).env("TMPDIR", &temporary).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for step in ["shared", "edited", "killed      agent 2", "started     agent 2", "identical"] {
        assert!(said.contains(step), "no {step:?} in\n{said}");
    }
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "everything it made is gone");
}

#[test]
fn the_live_demo_shows_every_agent_and_an_interrupt_ends_all_of_it() {
    let home = scratch();
    let temporary = home.join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut demo = Proc::start(lockstep_at(&home).arg("demo").env("TMPDIR", &temporary));
    demo.wait_for_line("CLIENT", PATIENCE);
    let mark = demo.mark();
    for client in 1..=3 {
        demo.wait_for_line_after(mark, &format!("{client}  active"), PATIENCE);
    }
    demo.interrupt();
    assert_eq!(demo.wait_exit(PATIENCE).code(), Some(130));
    support::until(Duration::from_secs(10), "the scratch directory to go", || {
        fs::read_dir(&temporary).is_ok_and(|mut left| left.next().is_none())
    });
}
