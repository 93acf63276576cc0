//! Tests that something is refused are worth what they do where nothing refuses it: each check of [`CHECKS`] is taken out of a
//! copy of the sources, one after another, and the tests named beside it must fail there.
//!
//! Building so often takes most of an hour, so that is done in the large size alone. In the small one it is seen to that every
//! check stands where the list says, and that every test is there.

mod checks;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::{Size, size, workspace};

use checks::{CHECKS, Check};

/// The copy, and what is built of it.
const PLACE: &str = "target/taken-out";
/// What of the sources is copied.
const SOURCES: [&str; 12] = [
    "Cargo.toml",
    "Cargo.lock",
    "clippy.toml",
    "README.md",
    "bench",
    "crates",
    "docs",
    "examples",
    "javascript",
    "python",
    "fuzz",
    "tests",
];

#[test]
fn what_is_refused_is_let_through_once_its_check_is_taken_out_and_the_test_of_it_sees_that() {
    let sources = workspace();
    for check in CHECKS {
        let text = fs::read_to_string(sources.join(check.file)).unwrap();
        assert_eq!(text.matches(check.stands).count(), 1, "{} has not once: {}", check.file, check.stands);
        assert!(!check.tests.is_empty() && check.stands != check.instead);
        for test in check.tests {
            test.expected_in(&sources);
        }
    }
    if size() == Size::Small {
        return;
    }
    let copy = Copy::of(&sources);
    copy.build().expect("the sources as they are");
    let all: Vec<_> = CHECKS.iter().flat_map(|check| check.tests).collect();
    for test in &all {
        let output = copy.run(test);
        assert!(test.passed(&output), "{} fails with every check in its place: {}", test.name, said(&output));
    }
    let unseen: Vec<String> = CHECKS.iter().filter_map(|check| copy.without(check)).collect();
    assert!(unseen.is_empty(), "not noticed, {} of {}:\n{}", unseen.len(), CHECKS.len(), unseen.join("\n"));
}

/// A test, and where it stands.
pub(crate) struct Test {
    /// The crate whose unit test it is; `None`: it is one of the promises.
    pub(crate) of: Option<&'static str>,
    pub(crate) name: &'static str,
}

impl Test {
    fn expected_in(&self, sources: &Path) {
        let mut dirs = vec![match self.of {
            Some(crate_name) => sources.join("crates").join(crate_name).join("src"),
            None => sources.join("tests/promises"),
        }];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else if fs::read_to_string(path).unwrap_or_default().contains(&format!("fn {}(", self.name)) {
                    return;
                }
            }
        }
        panic!("there is no test {} in {}", self.name, self.of.unwrap_or("the promises"));
    }

    fn passed(&self, output: &Output) -> bool {
        self.ended(output, "ok")
    }

    /// It ran and failed, which what did not build does not.
    fn failed(&self, output: &Output) -> bool {
        self.ended(output, "FAILED")
    }

    fn ended(&self, output: &Output, how: &str) -> bool {
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().any(|line| line.ends_with(&format!("{} ... {how}", self.name)))
    }
}

/// The sources once more, to be changed.
struct Copy {
    root: PathBuf,
}

impl Copy {
    fn of(sources: &Path) -> Self {
        let root = sources.join(PLACE);
        fs::create_dir_all(root.join("target")).unwrap();
        for name in SOURCES {
            // As a copy that keeps times does: what did not change is not built again.
            let copied = Command::new("rsync").args(["-a", "--delete"]).arg(sources.join(name)).arg(&root).status();
            assert!(copied.unwrap().success(), "{name}");
        }
        for name in ["venv", "node"] {
            let link = root.join("target").join(name);
            if !link.is_symlink() {
                std::os::unix::fs::symlink(sources.join("target").join(name), link).unwrap();
            }
        }
        Self { root }
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .env_remove("CARGO_MANIFEST_DIR");
        cargo.env("LOCKSTEP_TEST_SIZE", "small").env("LOCKSTEP_BIN", self.root.join("target/debug/lockstep"));
        cargo.stdin(Stdio::null());
        cargo
    }

    fn build(&self) -> Result<(), String> {
        let output = self.cargo().args(["build", "--workspace", "--locked", "--bin", "lockstep"]).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(said(&output)) }
    }

    fn run(&self, test: &Test) -> Output {
        let mut cargo = self.cargo();
        match test.of {
            Some(crate_name) => {
                cargo.args(["test", "--locked", "--lib", "-p", &format!("lockstep-{crate_name}"), test.name])
            }
            None => cargo.args(["test", "--workspace", "--locked", "--test", "promises", test.name]),
        };
        cargo.output().unwrap()
    }

    /// What is to be told where one is taken out and none of its tests, or not all of them, notice.
    fn without(&self, check: &Check) -> Option<String> {
        let file = self.root.join(check.file);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replacen(check.stands, check.instead, 1)).unwrap();
        let needs_program = check.tests.iter().any(|test| test.of.is_none());
        let built = if needs_program { self.build() } else { Ok(()) };
        let unseen = match built {
            Err(why) => Some(format!("{}: does not build: {why}", check.what)),
            Ok(()) => {
                let outputs = check.tests.iter().map(|test| (test, self.run(test)));
                let blind: Vec<_> = outputs.filter(|(test, output)| !test.failed(output)).collect();
                let tell = |(test, output): &(&Test, Output)| {
                    format!("{}: {} does not fail: {}", check.what, test.name, said(output))
                };
                (!blind.is_empty()).then(|| blind.iter().map(tell).collect::<Vec<_>>().join("\n"))
            }
        };
        fs::write(&file, text).unwrap();
        eprintln!("{}: {}", check.what, if unseen.is_none() { "noticed" } else { "NOT NOTICED" });
        unseen
    }
}

/// The end of what a command said.
fn said(output: &Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n    ")
}
