//! `lockstep hub check`.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;
use support::{lockstep_at, scratch};

use super::all_of;
use crate::login::{empty_hub, ended};

/// What `lockstep hub ARGS check --json` finds, and how it ends.
#[track_caller]
fn check(home: &Path, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = lockstep_at(home).arg("hub").args(args).args(["check", "--json"]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), lines)
}

/// The texts of what is `verdict` of `what`.
fn told(found: &[Value], what: &str, verdict: &str) -> String {
    let those = found.iter().filter(|found| found["what"] == what && found["verdict"] == verdict);
    those.map(|found| found["text"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_check_of_what_would_start_says_so_and_makes_nothing() {
    let dir = scratch();
    let (home, site) = (dir.join("home"), dir.join("site"));
    fs::create_dir(&site).unwrap();
    fs::write(site.join("f"), "x").unwrap();
    let share = format!("site={}", site.display());
    let (code, found) = check(&home, &["--listen", "127.0.0.1:0", "--share", &share, "--max-clients", "7"]);
    assert_eq!(code, Some(0), "{found:?}");
    assert!(told(&found, "share", "good").contains("with 1 entry in it"), "{found:?}");
    assert!(told(&found, "data", "note").contains("is made at the start"), "{found:?}");
    assert!(told(&found, "enrol", "good").contains("anybody"), "{found:?}");
    assert!(told(&found, "limits", "good").contains("7 clients"), "{found:?}");
    assert!(!home.exists(), "nothing was made");
}

#[test]
fn all_that_would_keep_a_hub_from_starting_is_told_at_once() {
    let dir = scratch();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (data, missing) = (dir.join("home/hub"), dir.join("missing"));
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("format"), "format 999\nwritten by lockstep 7.8.9\n").unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["hub.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    let before = all_of(&dir);
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (share, cert, key) = (format!("x={}", missing.display()), at("cert.pem"), at("key.pem"));
    let args = ["--listen", &address, "--http", "127.0.0.1:0", "--share", &share, "--cert", &cert, "--key", &key];
    let (code, found) = check(&dir.join("home"), &args);
    assert_eq!(code, Some(3), "{found:?}");
    assert!(told(&found, "port", "bad").contains("another program listens there"), "{found:?}");
    assert!(told(&found, "data", "bad").contains("install lockstep 7.8.9"), "{found:?}");
    assert!(told(&found, "share", "bad").contains("missing"), "{found:?}");
    assert!(told(&found, "cert", "bad").contains("it was good until 2021-01-01"), "{found:?}");
    assert_eq!(all_of(&dir), before);
}

#[test]
fn a_certificate_says_until_when_it_is_good() {
    let dir = scratch();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["hub.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2999, 1, 2);
    fs::write(dir.join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    fs::write(dir.join("other.pem"), other.serialize_pem()).unwrap();
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let args = |key: &str| {
        ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--cert", &at("cert.pem"), "--key", key].map(str::to_owned)
    };
    let look = |key: &str| {
        let args = args(&at(key));
        check(&dir.join("home"), &args.each_ref().map(String::as_str))
    };
    let (code, found) = look("key.pem");
    assert!(code == Some(0) && told(&found, "cert", "good").contains("good until 2999-01-02"), "{found:?}");
    let (code, found) = look("other.pem");
    assert!(code == Some(3) && told(&found, "cert", "bad").contains("made together"), "{found:?}");
}

#[test]
fn the_ports_of_the_hub_that_runs_are_its_own_and_a_wrong_configuration_is_told_by_its_key() {
    let cluster = empty_hub(&[]);
    let (code, found) = check(&cluster.hub_home(), &["--listen", &cluster.address()]);
    assert_eq!(code, Some(0), "{found:?}");
    assert!(told(&found, "port", "good").contains("held by the hub that runs now"), "{found:?}");
    assert!(told(&found, "data", "note").contains("a hub runs on it now"), "{found:?}");
    let file = cluster.path().join("lockstep.toml");
    fs::write(&file, "[hub]\nmax-client = 7\n").unwrap();
    let (code, said) = ended(lockstep_at(cluster.hub_home()).args(["hub", "check", "--config"]).arg(&file));
    assert!(code == Some(2) && said.contains("hub.max-client; did you mean max-clients?"), "{said}");
}
