//! Several pairs in one process.

use support::{assert_same_trees, same_trees, until};

use super::*;

fn scene() -> Scene {
    let scene = Scene::new();
    for name in ["one", "two", "three"] {
        Tree::at(scene.path(name)).file("a", name).file("sub/b", name);
    }
    scene
}

fn same(scene: &Scene, name: &str) -> bool {
    same_trees(scene.path(name), scene.path(&format!("{name}-copy"))).is_ok()
}

#[test]
fn one_process_keeps_them_all_and_each_line_tells_its_pair() {
    let scene = scene();
    let running = Proc::start(scene.pairs(&["one", "two", "three"], "exclude = [\"*.tmp\"]").arg("--json"));
    until(PATIENCE, "all to be copied", || ["one", "two", "three"].iter().all(|name| same(&scene, name)));
    for name in ["one", "two", "three"] {
        scene.write(&format!("{name}/new"), name);
        scene.write(&format!("{name}/left.tmp"), name);
    }
    until(PATIENCE, "all changes to arrive", || {
        ["one", "two", "three"].iter().all(|name| scene.text(&format!("{name}-copy/new")) == *name)
    });
    assert_eq!(terminate(running), 0);
    let log = scene.text("home/log/mirror.log");
    for line in log.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let pair = record["pair"].as_str().unwrap_or_else(|| panic!("{line}"));
        assert!(["one", "two", "three"].contains(&pair), "{line}");
        if record["path"] == "new" && record["action"] == "copied" {
            assert_eq!(record["bytes"], pair.len(), "{line}");
        }
    }
    assert!(!scene.path("one-copy/left.tmp").exists() && log.contains("\"pair\":\"three\""));
}

#[test]
fn the_trouble_of_one_is_its_own() {
    let scene = scene();
    fs::remove_dir_all(scene.path("two")).unwrap();
    fs::create_dir(scene.path("three-copy")).unwrap();
    scene.write("three-copy/precious", "x");
    fs::remove_dir_all(scene.path("three")).unwrap();
    fs::create_dir(scene.path("three")).unwrap();
    let running = Proc::start(&mut scene.pairs(&["one", "two", "three"], ""));
    until(PATIENCE, "the one that can be to be copied", || same(&scene, "one"));
    until(PATIENCE, "the guard to hold", || scene.states().iter().any(|pair| pair["state"] == "guard"));
    let two = &scene.states()[1];
    assert_eq!(two["state"], "cannot-start");
    assert!(two["why"].as_str().unwrap().contains("does not exist"), "{two}");
    let output = running.output().join("\n");
    assert!(output.contains("[two] ") && output.contains("it is tried again"), "{output}");
    // It starts once it can.
    Tree::at(scene.path("two")).file("late", "late");
    until(PATIENCE, "the one that came late", || scene.text("two-copy/late") == "late");
    assert!(scene.path("three-copy/precious").exists());
    assert_eq!(terminate(running), 4, "the worst of all");
    assert_same_trees(scene.path("one"), scene.path("one-copy"));
}

#[test]
fn without_watch_each_is_done_once_and_the_worst_exit_code_counts() {
    let scene = scene();
    let once = |names: &[&str]| {
        scene.configure(names, "");
        let mut command = scene.lockstep();
        super::super::mirror::run(command.args(["mirror", "--config"]).arg(scene.path("mirror.toml")))
    };
    let (code, stdout, stderr) = once(&["one", "two"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(same(&scene, "one") && same(&scene, "two") && stdout.contains("[two] "), "{stdout}");
    scene.fifo("one/fifo");
    assert_eq!(once(&["one", "two"]).0, 1);
    let (code, _, stderr) = once(&["one", "missing", "three"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(same(&scene, "three") && stderr.contains("[missing] "), "{stderr}");
    let (code, _, stderr) = once(&["missing", "nowhere"]);
    assert!(code == 3 && stderr.contains("missing") && stderr.contains("nowhere"), "{stderr}");
}

#[test]
fn a_mistake_in_the_file_is_told_by_name_and_nothing_is_done() {
    let scene = scene();
    let refused = |text: &str| {
        scene.write("mirror.toml", text);
        let mut command = scene.lockstep();
        let (code, _, stderr) =
            super::super::mirror::run(command.args(["mirror", "--config"]).arg(scene.path("mirror.toml")));
        assert_eq!(code, 2, "{stderr}");
        stderr
    };
    let pair = "[[mirror.pair]]\nsource = \"one\"\ndestination = \"one-copy\"\n";
    assert!(
        refused(&format!("{pair}exlude = [\"x\"]\n"))
            .contains("mirror.pair 1: unknown key exlude; did you mean exclude?")
    );
    assert!(refused(&format!("{pair}max-size = \"much\"\n")).contains("mirror.pair 1: "));
    assert!(refused(&format!("{pair}log = \"none\"\n")).contains("log is the same for all"));
    assert!(refused("[[mirror.pair]]\ndestination = \"x\"\n").contains("source is missing"));
    assert!(refused(&format!("{pair}{pair}")).contains("two pairs are called one"));
    assert!(refused(&format!("{pair}watch = true\ndry-run = true\n")).contains("cannot be used with"));
    assert!(refused(&format!("{pair}name = \"a[b\"\n")).contains("bracket"));
    assert!(refused("[mirror.pair]\nsource = \"one\"\n").contains("[[mirror.pair]]"));
    assert!(!scene.path("one-copy").exists());
}

#[test]
fn the_order_to_read_it_again_changes_what_changed_and_leaves_the_rest_alone() {
    let scene = scene();
    let mut running = Proc::start(&mut scene.pairs(&["one", "two"], ""));
    let watching = |name: &str| scene.states().iter().any(|pair| pair["name"] == name && pair["state"] == "watching");
    until(PATIENCE, "both to be watched", || watching("one") && watching("two"));
    let since = |name: &str| {
        scene.states().iter().find(|pair| pair["name"] == name).map(|pair| pair["walks"].as_u64().unwrap())
    };
    assert_eq!(since("one"), Some(1));
    scene.configure(&["one", "three"], "");
    running.signal(rustix::process::Signal::HUP);
    until(PATIENCE, "the new one", || watching("three") && scene.states().len() == 2);
    assert_eq!((since("one"), since("two")), (Some(1), None), "what stays is not even compared again");
    scene.write("two/a", "not followed any more");
    scene.write("three/a", "followed");
    scene.write("one/a", "still followed");
    until(PATIENCE, "those that are kept", || scene.text("three-copy/a") == "followed" && same(&scene, "one"));
    assert_eq!(scene.text("two-copy/a"), "two");
    // One that changes is kept by its new settings.
    scene.configure(&["one", "three"], "exclude = [\"a\"]");
    running.signal(rustix::process::Signal::HUP);
    running.wait_for_line("2 changed or gone", PATIENCE);
    until(PATIENCE, "them to be there again", || watching("one") && watching("three") && since("one") == Some(1));
    // A file that cannot be read changes nothing.
    scene.write("mirror.toml", "[[mirror.pair]]\nsuorce = \"x\"\n");
    running.signal(rustix::process::Signal::HUP);
    running.wait_for_line("the configuration stays as it was: ", PATIENCE);
    assert!(watching("one") && watching("three"));
    assert_eq!(terminate(running), 0);
}

#[test]
fn told_to_end_it_follows_what_was_changed_in_each_and_compares_them_once_more() {
    let scene = scene();
    let mut running = Proc::start(&mut scene.pairs(&["one", "two", "three"], ""));
    until(PATIENCE, "all to be watched", || {
        let pairs = scene.states();
        pairs.len() == 3 && pairs.iter().all(|pair| pair["state"] == "watching")
    });
    running.pause();
    for name in ["one", "two", "three"] {
        Tree::at(scene.path(name).join("late")).file("deep/er", name);
        // A drift that no event of the source tells of.
        scene.write(&format!("{name}-copy/a"), "meddled with");
    }
    running.signal(rustix::process::Signal::TERM);
    running.resume();
    assert_eq!(running.wait_exit(PATIENCE).code(), Some(0));
    for name in ["one", "two", "three"] {
        assert_same_trees(scene.path(name), scene.path(&format!("{name}-copy")));
    }
}
