//! The package as it is installed, its own tests, and its examples.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use support::{PATIENCE, Proc, python_with, scratch, until, workspace};

use super::driver::{Driven, ROUTES, python};
use super::{hub, is_active, keyed};
use crate::login::stdout;
use serde_json::json;

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}\n{said}");
    output
}

#[test]
fn its_own_tests_pass() {
    let mut tests = python();
    let output = succeeds(tests.args(["-m", "unittest", "discover", "-s"]).arg(workspace().join("python/tests")));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ran = said.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse::<u32>().ok());
    assert!(ran.is_some_and(|count| count >= 30), "{said}");
}

/// Without anything from elsewhere, as what builds it is there: `pip install ./python` gets that by itself.
#[test]
fn it_installs_and_says_what_it_is() {
    let python = python_with(&["setuptools"]);
    let dir = scratch();
    let copy = dir.join("python");
    // Built in a copy, since building leaves things behind.
    succeeds(Command::new("cp").arg("-R").arg(workspace().join("python")).arg(&copy));
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        symlink(workspace().join(licence), dir.join(licence)).unwrap();
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--target"]);
    succeeds(pip.arg(dir.join("there")).arg(&copy).env("PIP_DISABLE_PIP_VERSION_CHECK", "1"));
    let script = format!(
        "import importlib.metadata as m, lockstep, pathlib; d = m.distribution('lockstep'); \
         assert pathlib.Path(lockstep.__file__).is_relative_to({there:?}), lockstep.__file__; \
         assert d.version == lockstep.__version__ == {version:?}, d.version; \
         assert d.metadata['License-Expression'] == 'MIT OR Apache-2.0', list(d.metadata.items()); \
         assert d.metadata['Requires-Python'] == '>=3.10'; \
         assert any(r.startswith('python-socketio[client]') for r in d.requires), d.requires; \
         assert any('aiohttp' in r for r in d.requires), d.requires; \
         files = [str(f) for f in d.files]; \
         assert 'lockstep/py.typed' in files and any(f.endswith('LICENSE-MIT') for f in files), files; \
         assert not any(f.startswith('test') for f in files), files; \
         lockstep.Client('http://127.0.0.1:1', 7)",
        there = dir.join("there"),
        version = env!("CARGO_PKG_VERSION"),
    );
    succeeds(Command::new(&python).args(["-c", &script]).env("PYTHONPATH", dir.join("there")).current_dir(&dir));
}

#[test]
fn the_example_puts_and_prints_and_finds_its_key_again() {
    let (cluster, url) = hub();
    let mut command = python();
    command.arg(workspace().join("examples/python/client.py")).args([&url, "7"]).stdin(Stdio::piped());
    command.env("KEY_FILE", cluster.path().join("keys/example"));
    let mut other = Driven::settled(ROUTES[0], &url, 8, keyed(&cluster, "8"));
    for round in ["first", "second"] {
        let mut proc = Proc::start_with_stdin(&mut command);
        let mut stdin = proc.take_stdin().unwrap();
        until(PATIENCE, "it is in", || is_active(&cluster, 7));
        writeln!(stdin, "mine {round}").unwrap();
        proc.wait_for_line("put: version", PATIENCE);
        proc.wait_for_line(&format!("mine = {round}"), PATIENCE);
        other.hear_value(0, "mine", &json!(round));
        other.call(json!(["put", "theirs", round]));
        proc.wait_for_line(&format!("theirs = {round}"), PATIENCE);
        drop(stdin);
        assert!(proc.wait_exit(PATIENCE).success());
        until(PATIENCE, "it is out", || !is_active(&cluster, 7));
    }
    other.close();
}

#[test]
fn m3_6_the_example_reads_the_tables_as_files_and_by_their_address() {
    let (mut cluster, url) = hub();
    let mut client = Driven::settled(ROUTES[0], &url, 7, keyed(&cluster, "7"));
    for (name, value) in [("a", "one"), ("b", "three")] {
        client.call(json!(["put", name, value]));
    }
    let table = |place: &str, token: Option<&str>| {
        let mut command = Command::new(python_with(&["pandas"]));
        command.arg(workspace().join("examples/python/table.py")).arg(place).env("no_proxy", "*");
        match token {
            Some(token) => command.env("TOKEN", token),
            None => command.env("KEY_FILE", cluster.path().join("keys/7")),
        };
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let data = cluster.hub_data();
    until(PATIENCE, "the tables to be written", || {
        fs::read_to_string(data.join("values.csv")).is_ok_and(|text| text.contains("three"))
    });
    for place in [data.to_str().unwrap(), url.as_str()] {
        let (read, said) = table(place, None);
        assert!(read && said.contains("2 values, 8 bytes") && said.contains("active    1"), "{said}");
    }
    let token = stdout(cluster.run(&["token", "--name", "table"]));
    let (read, said) = table(&url, Some(token.trim()));
    assert!(read && said.contains("2 values, 8 bytes") && said.contains("active    1"), "{said}");
    let (read, said) = table(&url, Some("no such token"));
    assert!(!read && said.contains("401"), "{said}");
    client.close();
    assert!(cluster.hub().is_running());
}
