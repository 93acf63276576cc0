//! A machine that has nothing but a shell and curl gets the hub's own program by one line, and nothing that anybody changed on its
//! way: what is not what the hub printed never runs, and leaves nothing.

mod glibc;
mod liar;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use support::{Cluster, PATIENCE, Proc, binary, curl, lockstep_at, pick, scratch, until};

use crate::http::hub;
use crate::http_tls::pair;
use crate::web::Web;
use liar::{Liar, Lie};

/// The line that the hub printed at its start.
#[track_caller]
fn line_of(cluster: &mut Cluster) -> String {
    let line = cluster.hub().wait_for_line("install  sh -c", PATIENCE);
    line.strip_prefix("install  ").expect("that is how it begins").to_owned()
}

/// `line` as a person types it at `shell`, on a machine where programs go to `bin`.
fn typed(shell: &str, line: &str, bin: &Path) -> Command {
    drop(curl());
    let mut command = Command::new(shell);
    command.args(["-c", line]).env("LOCKSTEP_INSTALL_DIR", bin).env("no_proxy", "*");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The shells that are here; sh is everywhere.
fn shells() -> Vec<&'static str> {
    let is_here = |shell: &&str| Command::new(shell).args(["-c", ":"]).output().is_ok_and(|o| o.status.success());
    ["sh", "dash", "bash"].into_iter().filter(is_here).collect()
}

/// A directory of programs that answer as those of another machine would, before the real ones.
fn another_machine(programs: &[(&str, &str)]) -> (support::Scratch, String) {
    let dir = scratch();
    for (name, script) in programs {
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default());
    (dir, path)
}

fn names_in(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_machine_with_a_shell_and_curl_gets_the_program_by_one_line_and_joins_as_it_says() {
    let (mut cluster, web, _) = hub(&[]);
    let line = line_of(&mut cluster);
    let program = fs::read(binary()).unwrap();
    for shell in shells() {
        let bin = cluster.path().join(format!("bin of {shell}"));
        let output = typed(shell, &line, &bin).output().unwrap();
        assert!(output.status.success(), "{shell}: {}", said(&output));
        assert!(fs::read(bin.join("lockstep")).unwrap() == program, "{shell}");
        assert_eq!(fs::metadata(bin.join("lockstep")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(names_in(&bin), ["lockstep"], "{shell}");
        assert!(said(&output).contains("join LINK DIR"), "{}", said(&output));
    }
    // With a link: what is printed in the end is what joins.
    let invited = String::from_utf8(cluster.run(&["invite", "--install"]).stdout).unwrap();
    assert!(invited.starts_with("echo lsj1.") && invited.ends_with(&format!(" | {line} -\n")), "{invited}");
    let bin = cluster.path().join("bin");
    let output = typed("sh", &invited, &bin).output().unwrap();
    let told = said(&output);
    let join = told.lines().find(|line| line.contains(" join lsj1.")).unwrap_or_else(|| panic!("{told}"));
    let words: Vec<&str> = join.split_whitespace().collect();
    assert_eq!((words[0], words[3]), (bin.join("lockstep").to_str().unwrap(), "DIR"), "{join}");
    let mut command = Command::new(words[0]);
    let home = lockstep_at(cluster.agent_home(1));
    command.envs(home.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut agent = Proc::start(command.args(&words[1..3]).arg(cluster.copy(1)).args(["--id", "1"]));
    until(PATIENCE, "the share to be there", || fs::read(cluster.copy(1).join("f")).is_ok_and(|f| f == b"x"));
    // The same again, while the one that is there runs: it is replaced, and goes on as it was.
    let again = typed("sh", &line, &bin).output().unwrap();
    assert!(again.status.success() && agent.is_running(), "{}", said(&again));
    let told: serde_json::Value =
        serde_json::from_slice(&cluster.run(&["invite", "--install", "--json"]).stdout).unwrap();
    assert!(told["link"].as_str().unwrap().starts_with("lsj1.") && told["line"] == line.as_str(), "{told}");
    let mut offered = web.nobody().get("/install").json();
    for of_the_invite in ["link", "uses", "expires_s"] {
        offered[of_the_invite] = told[of_the_invite].clone();
    }
    assert_eq!(told, offered);
}

#[test]
fn the_link_that_comes_with_the_line_stands_in_no_list_of_processes() {
    let (cluster, _, _) = hub(&[]);
    let invited = String::from_utf8(cluster.run(&["invite", "--install"]).stdout).unwrap();
    let link = invited.split_whitespace().nth(1).unwrap();
    let seen = cluster.path().join("seen");
    let looks = format!(
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >>'{}'\nPATH=${{PATH#*:}}\nexec curl \"$@\"",
        seen.display()
    );
    drop(curl());
    let (_dir, path) = another_machine(&[("curl", &looks)]);
    // As at a prompt: the shell reads the line, and is not started with it.
    let install = |line: &str| {
        let mut command = Command::new("sh");
        let bin = cluster.path().join("bin");
        command
            .env("LOCKSTEP_INSTALL_DIR", &bin)
            .env("no_proxy", "*")
            .env("PATH", &path)
            .stdin(std::process::Stdio::piped());
        let mut shell = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        assert!(output.status.success() && said(&output).contains(&format!("join {link} DIR")), "{}", said(&output));
        fs::read_to_string(&seen).unwrap()
    };
    let processes = install(&invited);
    assert!(processes.contains("install/install.sh") && !processes.contains(link), "{processes}");
    // What is looked for is seen where a program is given it.
    let piped =
        format!("sh -c 'echo $1 | {{ shift; exec \"$@\"; }}' sh {link} {}", invited.split_once(" | ").unwrap().1);
    assert!(install(&piped).contains(link));
}

#[test]
fn the_program_is_told_by_its_sha256_and_is_the_one_that_runs_also_after_another_was_put_in_its_place() {
    let mut cluster = Cluster::start(|_| {}, &["--http", "127.0.0.1:0"]);
    cluster.stop_hub();
    let program = cluster.path().join("lockstep");
    fs::copy(binary(), &program).unwrap();
    let asked = cluster.hub_command();
    let mut command = Command::new(&program);
    command.args(asked.get_args()).envs(asked.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let hub = Proc::start(&mut command);
    let url = hub.wait_for_line("http     http", PATIENCE).split_whitespace().nth(1).unwrap().to_owned();
    let line = hub.wait_for_line("install  sh -c", PATIENCE)["install  ".len()..].to_owned();
    // As an upgrade does it.
    let newer = cluster.path().join("newer");
    fs::write(&newer, "#!/bin/sh\necho newer\n").unwrap();
    fs::rename(&newer, &program).unwrap();
    let output = typed("sh", &line, &cluster.path().join("bin")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(fs::read(cluster.path().join("bin/lockstep")).unwrap() == fs::read(binary()).unwrap());
    let sums = curl().args(["-sS", "--noproxy", "*"]).arg(format!("{url}install/{}.sha256", name())).output().unwrap();
    fs::write(cluster.path().join("bin/SUMS"), &sums.stdout).unwrap();
    fs::rename(cluster.path().join("bin/lockstep"), cluster.path().join("bin").join(name())).unwrap();
    let mut check = Command::new("sha256sum");
    let checked = check.args(["-c", "SUMS"]).current_dir(cluster.path().join("bin")).output().unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
}

/// What this hub's program is called.
fn name() -> String {
    format!("lockstep-{}-linux", std::env::consts::ARCH)
}

#[test]
fn what_is_not_what_the_hub_printed_never_runs_and_leaves_nothing() {
    let (mut cluster, web, _) = hub(&[]);
    let line = line_of(&mut cluster);
    let base = format!("http://{}", web.address);
    let (script, program) = (web.get("/install/install.sh").body, web.get(&format!("/install/{}", name())).body);
    let mark = cluster.path().join("ran");
    let evil = format!("#!/bin/sh\necho ran >>'{}'\n", mark.display()).into_bytes();
    let cut = program[..program.len() / 2].to_vec();
    let mut flipped = program.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let longer_script = [&script[..], b"\necho more"].concat();
    let lies = [
        ("another script", Lie { script: Some(evil.clone()), program: None }),
        ("a script with a line more", Lie { script: Some(longer_script), program: None }),
        ("half a script", Lie { script: Some(script[..script.len() / 2].to_vec()), program: None }),
        ("no script", Lie { script: None, program: Some(program.clone()) }),
        ("another program", Lie { script: Some(script.clone()), program: Some(evil.clone()) }),
        ("one bit of the program", Lie { script: Some(script.clone()), program: Some(flipped) }),
        ("half of the program", Lie { script: Some(script.clone()), program: Some(cut) }),
        ("no program", Lie { script: Some(script.clone()), program: None }),
    ];
    for (what, lie) in lies {
        let liar = Liar::new(lie);
        let (new, kept) = (cluster.path().join("new"), cluster.path().join("kept"));
        fs::create_dir_all(&kept).unwrap();
        fs::write(kept.join("lockstep"), "as it was").unwrap();
        for bin in [&new, &kept] {
            let output = typed("sh", &line.replace(&base, &liar.base()), bin).output().unwrap();
            assert_eq!(output.status.code(), Some(3), "{what}: {}", said(&output));
            assert!(said(&output).contains("nothing was"), "{what}: {}", said(&output));
        }
        assert!(!mark.exists(), "{what} ran");
        assert!(!new.exists(), "{what} left {:?}", names_in(&new));
        assert_eq!(names_in(&kept), ["lockstep"], "{what}");
        assert_eq!(fs::read(kept.join("lockstep")).unwrap(), b"as it was", "{what}");
    }
    // The same liar, and a line that trusts whoever answers: what is looked for above is seen where it happens.
    let liar = Liar::new(Lie { script: Some(evil), program: None });
    let trusting = format!("curl -fsS {}/install/install.sh | sh", liar.base());
    assert!(typed("sh", &trusting, cluster.path()).output().unwrap().status.success() && mark.exists());
}

#[test]
fn a_machine_that_the_program_is_not_for_is_told_so_before_anything_is_fetched() {
    let (mut cluster, web, _) = hub(&[]);
    let line = line_of(&mut cluster);
    let glibc = web.get("/install").json()["glibc"].as_str().expect("it is built for glibc").to_owned();
    let no = "exit 1";
    let older = [
        (vec![("uname", "case $1 in -m) echo pdp11 ;; *) echo Linux ;; esac")], "this machine is pdp11".to_owned()),
        (vec![("uname", "echo Plan9")], "this is Plan9".to_owned()),
        (vec![("getconf", "echo glibc 2.9")], format!("needs glibc {glibc} or newer, and this machine has 2.9")),
        (vec![("getconf", "echo glibc 1.99")], "this machine has 1.99".to_owned()),
        (vec![("getconf", no), ("ldd", "echo 'ldd (GNU libc) 2.17'")], "this machine has 2.17".to_owned()),
        (vec![("getconf", no), ("ldd", "echo 'ldd (Debian GLIBC 2.28-10) 2.28'")], "this machine has 2.28".to_owned()),
        (vec![("getconf", no), ("ldd", "echo 'musl libc (x86_64)' >&2; exit 1")], "this machine has musl".to_owned()),
    ];
    let bin = cluster.path().join("bin");
    for (programs, why) in older {
        let (_dir, path) = another_machine(&programs);
        let output = typed("sh", &line, &bin).env("PATH", path).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{programs:?}: {}", said(&output));
        assert!(said(&output).contains(&why), "{programs:?}: {}", said(&output));
        assert!(!bin.exists());
    }
    // New enough, or nothing tells: then the program itself is asked.
    for programs in
        [vec![("getconf", "echo glibc 3.0")], vec![("getconf", "echo glibc 2.99")], vec![("getconf", no), ("ldd", no)]]
    {
        let (_dir, path) = another_machine(&programs);
        let output = typed("sh", &line, &bin).env("PATH", path).output().unwrap();
        assert!(output.status.success(), "{programs:?}: {}", said(&output));
        fs::remove_dir_all(&bin).unwrap();
    }
    for other in ["lockstep-pdp11-linux", "lockstep", "../hub.key.der", "%2e%2e%2fhub.key.der", "install.sh.sha256"] {
        let reply = web.nobody().get(&format!("/install/{other}"));
        assert_eq!((reply.status, reply.problem().as_str()), (404, "not_found"), "{other}");
    }
    let reply = web.nobody().get("/install/lockstep-pdp11-linux").json();
    assert!(reply["detail"].as_str().unwrap().contains(&name()), "{reply}");
}

#[test]
fn a_hub_over_tls_that_the_machine_does_not_know_is_as_good() {
    let dir = scratch();
    let (certificate, key) = pair();
    let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&cert_file, certificate).unwrap();
    fs::write(&key_file, key).unwrap();
    let args = ["--http", "127.0.0.1:0", "--cert", cert_file.to_str().unwrap(), "--key", key_file.to_str().unwrap()];
    let mut cluster = Cluster::start(|_| {}, &args);
    let line = line_of(&mut cluster);
    assert!(line.contains(" 'https://127.0.0.1:"), "{line}");
    let bin = cluster.path().join("bin");
    let output = typed("sh", &line, &bin).output().unwrap();
    assert!(output.status.success() && bin.join("lockstep").exists(), "{}", said(&output));
}

#[test]
fn who_does_not_want_it_hands_nothing_out_and_a_line_that_others_could_not_use_is_not_printed() {
    let (mut cluster, web, _) = hub(&["--no-install"]);
    cluster.link();
    assert!(!cluster.hub().output().iter().any(|line| line.starts_with("install")));
    for target in ["/install", "/install/install.sh", &format!("/install/{}", name())] {
        let reply = web.nobody().get(target);
        assert_eq!((reply.status, reply.problem().as_str()), (404, "not_found"), "{target}");
        assert!(reply.json()["detail"].as_str().unwrap().contains("--no-install"));
    }
    let invites = |cluster: &Cluster| {
        fs::read_to_string(cluster.hub_data().join("audit.jsonl")).unwrap().matches("invited").count()
    };
    let before = invites(&cluster);
    let refused = cluster.run(&["invite", "--install"]);
    assert!(refused.status.code() == Some(3) && said(&refused).contains("--no-install"), "{}", said(&refused));
    // Reached from everywhere, and its HTTP from here alone.
    let home = scratch();
    let elsewhere = Proc::start(lockstep_at(&home).args(["hub", "--http", "127.0.0.1:0", "--listen", "0.0.0.0:0"]));
    elsewhere.wait_for_line("lockstep join", PATIENCE);
    assert!(!elsewhere.output().iter().any(|line| line.starts_with("install")));
    let mut asked = lockstep_at(&home);
    let refused = asked.args(["invite", "--install", "--data"]).arg(home.join("hub")).output().unwrap();
    assert!(refused.status.code() == Some(3) && said(&refused).contains("--http ADDR"), "{}", said(&refused));
    assert_eq!(invites(&cluster), before, "no invite is made for what cannot be installed");
}

/// A request for the program whose answer is not read.
fn asked(web: &Web) -> std::net::TcpStream {
    let mut stream = web.connect();
    let head = format!("GET /install/{} HTTP/1.1\r\nhost: {}\r\n\r\n", name(), web.address);
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// The status of its answer.
fn status(stream: &mut std::net::TcpStream) -> u16 {
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    std::str::from_utf8(&head[9..]).unwrap().parse().unwrap()
}

#[test]
fn many_who_fetch_it_and_some_who_take_nothing_keep_nobody_waiting() {
    let (mut cluster, web, _) = hub(&[]);
    let nobody = web.nobody();
    nobody.get(&format!("/install/{}", name()));
    let rss = cluster.hub().own_rss_bytes().unwrap();
    let mut streams: Vec<_> = (0..pick(40, 400)).map(|_| asked(&nobody)).collect();
    let given: Vec<u16> = streams.iter_mut().map(status).collect();
    let (taken, refused) = given.iter().partition::<Vec<u16>, _>(|status| **status == 200);
    assert_eq!(taken.len(), 16, "the places of one address: {given:?}");
    assert!(refused.iter().all(|status| *status == 503), "{given:?}");
    let full = nobody.get(&format!("/install/{}", name()));
    assert_eq!((full.status, full.problem().as_str(), full.headers["retry-after"].as_str()), (503, "full", "5"));
    // Nobody else notices: values go their way, and another address has places of its own.
    let begun = Instant::now();
    for n in 0..20 {
        assert!(web.put("/api/values/x", &[], format!("{n}").as_bytes()).status < 300);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let url = format!("http://{}/install/{}", web.address, name());
    let file = cluster.path().join("fetched");
    let fetched = curl()
        .args(["-fsS", "--noproxy", "*", "--interface", "127.0.0.2", "-o"])
        .arg(&file)
        .arg(&url)
        .output()
        .unwrap();
    assert!(fetched.status.success(), "{}", said(&fetched));
    assert!(fs::read(&file).unwrap() == fs::read(binary()).unwrap());
    let now = cluster.hub().own_rss_bytes().unwrap();
    assert!(now < rss + (16 << 20), "{rss} and then {now}");
    // Who takes nothing is cut, and its place is another's; the line itself waits for one.
    let line = line_of(&mut cluster);
    let output = typed("sh", &line, &cluster.path().join("bin")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    // A slow one that takes something gets it whole.
    let mut slow = asked(&nobody);
    let mut piece = vec![0; 256 << 10];
    let program = fs::read(binary()).unwrap();
    let read = slow.read(&mut piece).unwrap();
    let mut all = piece[..read].to_vec();
    let begin = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    while all.len() < begin + program.len() {
        let read = slow.read(&mut piece).unwrap();
        assert!(read > 0, "cut after {} bytes", all.len());
        all.extend_from_slice(&piece[..read]);
    }
    assert!(all[begin..] == program, "a slow one gets it whole");
    drop(streams);
}

#[test]
fn the_program_is_known_by_its_hash_and_not_sent_twice() {
    let (_cluster, web, _) = hub(&[]);
    let target = format!("/install/{}", name());
    let whole = web.nobody().get(&target);
    let told = web.nobody().get("/install").json();
    assert_eq!(whole.headers["etag"], format!("\"{}\"", told["sha256"].as_str().unwrap()));
    assert_eq!(whole.headers["content-length"], told["bytes"].to_string());
    let again = web.nobody().send("GET", &target, &[("if-none-match", &whole.headers["etag"])], b"");
    assert_eq!((again.status, again.body.len()), (304, 0));
    let head = web.nobody().send("HEAD", &target, &[], b"");
    assert_eq!((head.status, &head.headers["content-length"]), (200, &whole.headers["content-length"]));
    let told = format!("{}  {}\n", told["sha256"].as_str().unwrap(), name());
    assert_eq!(web.nobody().get(&format!("{target}.sha256")).text(), told);
}
