//! HTTPS, asked by a client that is not ours and knows nothing but the certificate it was given.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use support::{Cluster, PATIENCE, curl, lockstep_at, scratch, until};

use crate::login::hub_log;

fn start(args: &[&str]) -> Cluster {
    Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), args)
}

/// Where the hub serves HTTP: scheme and port.
fn port(cluster: &mut Cluster) -> (String, u16) {
    let line = cluster.hub().wait_for_line("http     http", PATIENCE);
    let url = line.split_whitespace().nth(1).unwrap();
    let (scheme, _) = url.split_once("://").unwrap();
    (scheme.to_owned(), url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap())
}

fn key_line(cluster: &mut Cluster) -> String {
    cluster.hub().wait_for_line("hub key", PATIENCE)
}

/// Whether curl gets an answer from this host, trusting what is in `ca` and nothing else.
fn answers(host: &str, port: u16, ca: &Path) -> bool {
    let mut command = curl();
    let resolve = format!("{host}:{port}:127.0.0.1");
    command.args(["--silent", "--noproxy", "*", "--resolve", &resolve, "--cacert"]).arg(ca);
    let output = command.arg(format!("https://{host}:{port}/healthz")).output().unwrap();
    output.status.success() && output.stdout == b"ok\n"
}

#[test]
fn where_others_reach_it_http_is_served_with_a_certificate_of_the_hubs_own_authority() {
    let mut cluster = start(&["--http", "127.0.0.1:0"]);
    let agents_know = key_line(&mut cluster);
    assert_eq!(port(&mut cluster).0, "http", "plain on loopback");
    let none = cluster.run(&["cert"]);
    assert!(!none.status.success() && String::from_utf8_lossy(&none.stderr).contains("--http"));
    cluster.stop_hub();

    let data = cluster.hub_data();
    cluster.set_hub_args(&["--http", "0.0.0.0:0", "--advertise", "hub.example"]);
    cluster.start_hub();
    let (scheme, first_port) = port(&mut cluster);
    assert_eq!(scheme, "https");
    let printed = cluster.run(&["cert"]);
    assert!(printed.status.success());
    let ca = cluster.path().join("ca.pem");
    fs::write(&ca, &printed.stdout).unwrap();
    assert!(!String::from_utf8_lossy(&printed.stdout).contains("PRIVATE"));
    for host in ["localhost", "127.0.0.1", "hub.example"] {
        assert!(answers(host, first_port, &ca), "{host}");
    }
    assert!(!answers("other.example", first_port, &ca), "a name that is none of the hub's");
    let other = cluster.path().join("other.pem");
    fs::write(&other, pair().0).unwrap();
    assert!(!answers("localhost", first_port, &other), "a client that trusts another authority");
    // Whatever HTTPS presents, agents know the hub by the same key; and the authority is the same after a restart.
    assert_eq!(key_line(&mut cluster), agents_know);
    cluster.kill_hub();
    cluster.start_hub();
    let (_, again) = port(&mut cluster);
    assert!(answers("localhost", again, &ca));
    // A new authority: the old one is not trusted any more, agents notice nothing.
    cluster.stop_hub();
    for name in ["http-ca.pem", "http-ca.key.der"] {
        fs::remove_file(data.join(name)).unwrap();
    }
    cluster.start_hub();
    let (_, renewed) = port(&mut cluster);
    assert!(!answers("localhost", renewed, &ca));
    assert_eq!(key_line(&mut cluster), agents_know);
}

#[test]
fn plain_http_elsewhere_only_by_name() {
    let mut cluster = start(&["--http", "0.0.0.0:0", "--http-plain"]);
    let (scheme, port) = port(&mut cluster);
    assert_eq!(scheme, "http");
    let url = format!("http://127.0.0.1:{port}/healthz");
    assert_eq!(curl().args(["--silent", "--noproxy", "*", &url]).output().unwrap().stdout, b"ok\n");
}

#[test]
fn a_certificate_from_files_is_read_again_on_sighup_and_a_bad_pair_keeps_the_old_one() {
    let files = scratch();
    let (first, second) = (pair(), pair());
    let (cert, key) = (files.join("cert.pem"), files.join("key.pem"));
    let place = |cert_pem: &str, key_pem: &str| {
        fs::write(&cert, cert_pem).unwrap();
        fs::write(&key, key_pem).unwrap();
    };
    let ca = |name: &str, pem: &str| -> PathBuf {
        fs::write(files.join(name), pem).unwrap();
        files.join(name)
    };
    let (first_ca, second_ca) = (ca("1.pem", &first.0), ca("2.pem", &second.0));
    place(&first.0, &first.1);
    let args = ["--http", "127.0.0.1:0", "--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let mut cluster = start(&args);
    let (scheme, port) = port(&mut cluster);
    assert_eq!(scheme, "https", "a certificate that was given is used, on loopback too");
    assert!(answers("localhost", port, &first_ca) && !answers("localhost", port, &second_ca));
    place(&second.0, &second.1);
    cluster.hub().signal(Signal::HUP);
    until(PATIENCE, "the second certificate", || answers("localhost", port, &second_ca));
    place(&first.0, &second.1);
    cluster.hub().signal(Signal::HUP);
    until(PATIENCE, "the bad pair to be told", || hub_log(&cluster).contains("the old one stays"));
    assert!(answers("localhost", port, &second_ca));
    // At the start there is no old one.
    let mut bad = lockstep_at(files.join("home"));
    let output = bad.args(["hub", "--listen", "127.0.0.1:0"]).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("certificate"), "{output:?}");
}

#[test]
fn a_hub_that_is_called_something_else_presents_that_name_and_its_authority_stays() {
    let mut cluster = start(&["--http", "0.0.0.0:0", "--advertise", "first.example"]);
    let (_, first) = port(&mut cluster);
    let ca = cluster.path().join("ca.pem");
    fs::write(&ca, cluster.run(&["cert"]).stdout).unwrap();
    assert!(answers("first.example", first, &ca) && !answers("second.example", first, &ca));
    cluster.stop_hub();
    cluster.set_hub_args(&["--http", "0.0.0.0:0", "--advertise", "second.example"]);
    cluster.start_hub();
    let (_, second) = port(&mut cluster);
    assert!(answers("second.example", second, &ca) && !answers("first.example", second, &ca));
    // Another's file in its place: nothing is served by it, nothing is made anew unasked, and what to do is said.
    cluster.stop_hub();
    let file = cluster.hub_data().join("http-ca.pem");
    let whole = fs::read(&file).unwrap();
    for instead in [pair().0, "no certificate".to_owned()] {
        fs::write(&file, &instead).unwrap();
        let mut hub = lockstep_at(cluster.path().join("home"));
        hub.args(["hub", "--listen", "127.0.0.1:0", "--http", "0.0.0.0:0", "--data"]).arg(cluster.hub_data());
        let output = hub.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("http-ca.pem") && said.contains("move it away"), "{said}");
        assert_eq!(fs::read(&file).unwrap(), instead.as_bytes());
    }
    fs::write(&file, whole).unwrap();
    cluster.start_hub();
    let (_, third) = port(&mut cluster);
    assert!(answers("second.example", third, &ca));
}

/// A certificate for localhost that signs itself, and its key, in PEM.
pub(crate) fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}
