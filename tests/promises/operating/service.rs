//! `lockstep service`: what it writes is what systemd takes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use support::{lockstep_at, scratch, systemd_analyze};

use crate::login::{empty_hub, ended, stdout};

/// As an administrator would, with nothing of the tests' own in the environment.
fn service(home: &Path, args: &[&str]) -> Command {
    let mut command = lockstep_at(home);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("LOCKSTEP_") {
            command.env_remove(variable);
        }
    }
    for variable in
        ["HUB_DATA", "HUB_LOG", "HUB_HTTP", "JOIN_DATA", "JOIN_LOG", "MIRROR_LOG", "MONITOR_LOG", "LEAVE_LOG"]
    {
        command.env_remove(format!("LOCKSTEP_{variable}"));
    }
    command.arg("service").args(args);
    command
}

#[test]
fn what_is_meant_for_one_start_is_not_done_at_each() {
    let dir = scratch();
    let root = dir.join("root");
    let at = root.to_str().unwrap();
    for (what, flag) in [("join", "--adopt"), ("join", "--allow-mass-delete"), ("mirror", "--allow-mass-delete")] {
        let words = if what == "join" { ["hub.example", "/srv/copy"] } else { ["/srv/a", "/srv/b"] };
        let install =
            |extra: &[&str]| ended(service(&dir, &["install", what, "--root", at, "--"]).args(words).args(extra));
        let (code, said) = install(&[flag]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(flag) && said.contains(&format!("start lockstep {what} once by hand")), "{said}");
        assert!(!root.exists(), "nothing is written");
        // The canary: it is not refused for anything else.
        let (code, said) = install(&[]);
        assert_eq!(code, Some(0), "{said}");
        fs::remove_dir_all(&root).unwrap();
    }
}

#[test]
fn units_of_every_command_are_taken_by_systemd_and_confined() {
    let dir = scratch();
    let root = dir.join("root");
    let (at, link) = (root.to_str().unwrap(), empty_hub(&[]).link());
    let of = |what: &str| -> Vec<&str> {
        match what {
            "hub" => vec!["--share", "site=/srv/a site", "--max-clients", "7"],
            "join" => vec![&link, "/srv/copy", "--id", "7"],
            "mirror" => vec!["/srv/a", "/srv/b"],
            _ => vec!["--metrics", "all"],
        }
    };
    // systemd's own figure, in tenths: what each may still do is told in its unit.
    for (what, exposed) in [("hub", "35"), ("join", "50"), ("mirror", "45"), ("monitor", "25")] {
        let (code, said) = ended(service(&dir, &["install", what, "--root", at, "--"]).args(of(what)));
        assert_eq!(code, Some(0), "{said}");
        let unit = root.join(format!("etc/systemd/system/lockstep-{what}.service"));
        let text = fs::read_to_string(&unit).unwrap();
        assert_eq!(fs::metadata(&unit).unwrap().permissions().mode() & 0o777, 0o644);
        let verified = systemd_analyze().arg("verify").arg(&unit).output().unwrap();
        assert!(verified.status.success(), "{what}: {verified:?}\n{text}");
        assert_eq!(String::from_utf8_lossy(&verified.stderr), "", "{what}: not a word\n{text}");
        let judged = ["security", "--offline=true", "--threshold", exposed];
        let judged = systemd_analyze().args(judged).arg(&unit).output().unwrap();
        assert!(judged.status.success(), "{what}: {}", String::from_utf8_lossy(&judged.stdout));
        assert!(!text.contains(&link), "a link lets somebody in");
        // The canary: it looks.
        fs::write(&unit, text.replace("[Install]", "Frobnicate=yes\n[Install]")).unwrap();
        let verified = systemd_analyze().arg("verify").arg(&unit).output().unwrap();
        assert!(String::from_utf8_lossy(&verified.stderr).contains("Frobnicate"), "{what}");
        fs::write(&unit, text).unwrap();
    }
    let kept = root.join("etc/lockstep/join.link");
    assert_eq!(fs::read_to_string(&kept).unwrap().trim(), link);
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    for what in ["hub", "join", "mirror", "monitor"] {
        let (code, said) = ended(&mut service(&dir, &["remove", what, "--root", at]));
        assert_eq!(code, Some(0), "{said}");
    }
    assert!(!kept.exists() && fs::read_dir(root.join("etc/systemd/system")).unwrap().next().is_none());
    let (code, said) = ended(&mut service(&dir, &["remove", "hub", "--root", at]));
    assert!(code == Some(3) && said.contains("nothing to remove"), "{said}");
}

#[test]
fn a_users_own_services_are_theirs_and_a_dry_run_writes_nothing() {
    let dir = scratch();
    let (home, root) = (dir.join("home"), dir.join("root"));
    let at = root.to_str().unwrap();
    let told = stdout(service(&home, &["install", "monitor", "--user", "--dry-run"]).output().unwrap());
    assert!(told.contains("WantedBy=default.target") && told.contains("systemctl --user"), "{told}");
    assert!(!home.exists());
    let (code, said) = ended(&mut service(&home, &["install", "monitor", "--user", "--root", at]));
    assert_eq!(code, Some(0), "{said}");
    let unit = root.join(home.strip_prefix("/").unwrap()).join(".config/systemd/user/lockstep-monitor.service");
    let mut verify = systemd_analyze();
    let verified = verify.args(["--user", "verify"]).arg(&unit).env("XDG_RUNTIME_DIR", &*dir).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[test]
fn what_would_not_start_or_is_somebody_elses_is_not_installed() {
    let dir = scratch();
    let root = dir.join("root");
    let at = root.to_str().unwrap();
    for (args, why) in [
        (&["hub", "--root", at, "--", "--frobnicate"][..], "lockstep hub would not start"),
        (&["mirror", "--root", at, "--", "/a", "b"], "begin it with /"),
        (&["join", "--root", at, "--", "hub.example", "copy"], "begin it with /"),
        (&["monitor", "--root", at, "--", "--history", "/var/tmp/history"], "a /tmp of its own"),
        (&["monitor", "--root", at, "--", "--history", "/home/me/history"], "nobody's home"),
        (&["hub", "--dry-run", "--as", "nobody is called so"], "there is no such user"),
        (&["mirror", "--root", at, "--config", "pairs.toml"], "pairs.toml"),
    ] {
        let (code, said) = ended(&mut service(&dir, &[&["install"], args].concat()));
        assert!(code == Some(2) && said.contains(why), "{said}");
    }
    let missing = dir.join("missing");
    for (what, flag) in [("hub", "--share"), ("mirror", "--watch")] {
        let args = ["install", what, "--user", "--dry-run", "--", flag, missing.to_str().unwrap()];
        let (code, said) = ended(service(&dir, &args).args((what == "mirror").then_some("/srv/b")));
        assert!(code == Some(3) && said.contains("would not start") && said.contains("missing"), "{what}: {said}");
    }
    assert!(!root.exists());
    let unit = root.join("etc/systemd/system/lockstep-hub.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    fs::write(&unit, "[Service]\nExecStart=/bin/true\n").unwrap();
    for what in ["install", "remove"] {
        let (code, said) = ended(&mut service(&dir, &[what, "hub", "--root", at]));
        assert!(code == Some(3) && said.contains("not written by lockstep"), "{said}");
    }
    assert!(fs::read_to_string(&unit).unwrap().contains("/bin/true"));
}

/// What a service says is kept for others to read; a link that lets somebody in is not in it.
#[test]
fn a_hub_that_is_a_service_makes_no_invite_at_its_start_and_says_what_does() {
    let dir = scratch();
    let socket = dir.join("notify");
    let _manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    let invited = |home: &Path| {
        let log = fs::read_to_string(home.join("data/audit.jsonl")).unwrap();
        log.lines().filter(|line| line.contains("\"invited\"")).count()
    };
    let start = |service: bool| {
        let home = dir.join(if service { "service" } else { "by-hand" });
        let mut command = lockstep_at(&home);
        command.args(["hub", "--listen", "127.0.0.1:0", "--http", "none", "--enrol", "invite", "--data"]);
        command.arg(home.join("data"));
        if service {
            command.env("NOTIFY_SOCKET", &socket);
        }
        let hub = support::Proc::start(&mut command);
        let join = hub.wait_for_line("join ", support::PATIENCE);
        (join, invited(&home), hub)
    };
    let (join, invites, _hub) = start(true);
    assert!(join.contains("lockstep invite") && !join.contains("lsj1."), "{join}");
    assert_eq!(invites, 0);
    // By hand there is one, and it is on record.
    let (join, invites, _hub) = start(false);
    assert!(join.contains("lockstep join lsj1."), "{join}");
    assert_eq!(invites, 1);
}

#[test]
fn a_service_manager_is_told_when_a_hub_is_up_alive_and_about_to_end() {
    let dir = scratch();
    let socket = dir.join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut command = lockstep_at(dir.join("home"));
    command.args(["hub", "--listen", "127.0.0.1:0"]).env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "200000");
    let mut hub = support::Proc::start(&mut command);
    let hear = || {
        let mut told = [0; 256];
        let length = manager.recv(&mut told).unwrap();
        String::from_utf8(told[..length].to_vec()).unwrap()
    };
    let wait_for = |wanted: &str| while hear() != wanted {};
    wait_for("READY=1");
    wait_for("WATCHDOG=1");
    wait_for("WATCHDOG=1");
    hub.terminate();
    wait_for("STOPPING=1");
    assert_eq!(hub.wait_exit(support::PATIENCE).code(), Some(0));
}
