//! The documents say what is: paths that exist, flags that exist, and no flag untold.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use support::{binary, workspace};

const DOCUMENTS: [&str; 7] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/command-line.md",
    "python/README.md",
];
/// Where all flags are ours.
const FOR_USERS: [&str; 3] = ["README.md", "docs/command-line.md", "CHANGELOG.md"];
/// Flags every command has, told once for all.
const FLAGS_OF_ALL: [&str; 3] = ["--help", "--version", "--config"];

/// The documents with their text: those named above, and whatever else lies in docs/.
fn documents() -> Vec<(String, String)> {
    let mut names: BTreeSet<String> = DOCUMENTS.map(String::from).into();
    for entry in fs::read_dir(workspace().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            names.insert(format!("docs/{name}"));
        }
    }
    let text = |name: &String| fs::read_to_string(workspace().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    names.iter().map(|name| (name.clone(), text(name))).collect()
}

/// The paths of the repository a text names, in backticks or as the target of a link.
fn paths_named(text: &str) -> BTreeSet<String> {
    let places = ["crates/", "tests/", "docs/", "bench/", "make/", ".ci/", "web/", "python/", "examples/"];
    let code = text.split('`').skip(1).step_by(2).filter(|word| places.iter().any(|place| word.starts_with(place)));
    let code = code.filter(|word| !word.contains(char::is_whitespace));
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
    code.chain(links).map(|path| path.split('#').next().unwrap_or(path).to_owned()).collect()
}

/// The long flags in a text, each a whole word.
fn flags(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices("--").map(|(at, _)| at);
    let alone = starts.filter(|at| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '-'));
    let word = |at: usize| {
        let rest = &text[at + 2..];
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(rest.len());
        rest[..end].trim_end_matches('-').to_owned()
    };
    alone.map(word).filter(|flag| !flag.is_empty()).map(|flag| format!("--{flag}")).collect()
}

/// `lockstep COMMAND... --help`, or `None` where there is no such command.
fn help(command: &[String]) -> Option<String> {
    let output = Command::new(binary()).args(command).arg("--help").output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// All commands with their help, those below other commands too.
fn commands() -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(command) = open.pop() {
        let text = help(&command).unwrap_or_else(|| panic!("lockstep {} has no help", command.join(" ")));
        let listed = text.split("Commands:").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
        for name in listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
            let name = name.split_whitespace().next().expect("a listed command has a name");
            open.push(command.iter().cloned().chain([name.to_owned()]).collect());
        }
        found.push((command, text));
    }
    found
}

/// The lines a reader is told to type: `$ ...` in ```console blocks.
fn typed(text: &str) -> Vec<String> {
    let blocks = text.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

#[test]
fn every_path_the_documents_name_exists() {
    for (name, text) in documents() {
        let beside = PathBuf::from(&name).parent().map(|dir| workspace().join(dir)).expect("a document is a file");
        for path in paths_named(&text) {
            assert!(workspace().join(&path).exists() || beside.join(&path).exists(), "{name} names {path}");
        }
    }
}

#[test]
fn every_flag_is_documented() {
    let told: BTreeSet<String> = documents().iter().flat_map(|(_, text)| flags(text)).collect();
    for (command, text) in commands() {
        for flag in flags(text.split("Options:").nth(1).unwrap_or_default()) {
            assert!(told.contains(&flag), "lockstep {}: {flag} is in no document", command.join(" "));
        }
    }
}

#[test]
fn every_flag_the_user_is_told_of_exists() {
    let known: BTreeSet<String> = commands().iter().flat_map(|(_, text)| flags(text)).collect();
    for (name, text) in documents().iter().filter(|(name, _)| FOR_USERS.contains(&name.as_str())) {
        for flag in flags(text) {
            assert!(known.contains(&flag), "{name} tells of {flag}, which no command has");
        }
    }
}

#[test]
fn every_command_is_documented() {
    let text: String = documents().into_iter().map(|(_, text)| text).collect();
    for (command, _) in commands() {
        let last = command.last().map_or("lockstep", String::as_str);
        assert!(text.contains(last), "lockstep {} is in no document", command.join(" "));
    }
}

#[test]
fn every_documented_command_line_is_one_the_program_has() {
    let known = commands();
    for (name, text) in documents() {
        for line in typed(&text) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("make") => {
                    let goal = words.next().unwrap_or("build");
                    let makefile = fs::read_to_string(workspace().join("Makefile")).unwrap();
                    assert!(makefile.lines().any(|rule| rule.starts_with(&format!("{goal}:"))), "{name}: make {goal}");
                }
                Some("lockstep") => {
                    let words: Vec<&str> = words.collect();
                    if words.iter().all(|word| FLAGS_OF_ALL.contains(word)) {
                        continue;
                    }
                    let matching = known.iter().filter(|(command, _)| {
                        !command.is_empty()
                            && words.starts_with(&command.iter().map(String::as_str).collect::<Vec<_>>())
                    });
                    let Some((_, help)) = matching.max_by_key(|(command, _)| command.len()) else {
                        panic!("{name}: there is no command for: {line}");
                    };
                    // What stands behind is for the command that a service runs.
                    for flag in flags(line.split(" -- ").next().unwrap_or_default()) {
                        assert!(
                            flags(help).contains(&flag) || FLAGS_OF_ALL.contains(&flag.as_str()),
                            "{name}: {flag} in: {line}"
                        );
                    }
                }
                _ => panic!("{name}: only make and lockstep are typed in examples: {line}"),
            }
        }
    }
}

/// Names of tests in a text: long words in code, with underscores.
fn tests_named(text: &str) -> BTreeSet<String> {
    let is_test = |word: &&str| {
        word.len() >= 20
            && word.matches('_').count() >= 3
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    text.split('`').skip(1).step_by(2).filter(is_test).map(str::to_owned).collect()
}

#[test]
fn every_test_the_documents_name_exists() {
    let mut sources = String::new();
    let mut dirs = vec![workspace().join("tests"), workspace().join("crates")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                sources += &fs::read_to_string(path).unwrap();
            }
        }
    }
    for name in ["docs/abuse.md", "docs/traps.md"] {
        let named = tests_named(&fs::read_to_string(workspace().join(name)).unwrap());
        assert!(named.len() > 20, "{name} names {named:?}");
        let missing: Vec<_> = named.iter().filter(|test| !sources.contains(&format!("fn {test}("))).collect();
        assert!(missing.is_empty(), "{name} names tests that are not there: {missing:?}");
    }
}

#[test]
fn the_readers_of_the_documents_see_what_is_there() {
    assert_eq!(
        paths_named("`crates/x/y.rs` and `a b` [l](docs/z.md#top) [w](https://x/y)").into_iter().collect::<Vec<_>>(),
        ["crates/x/y.rs", "docs/z.md"]
    );
    assert_eq!(flags("`--a-b X|--c` x--d ---- --log=F").into_iter().collect::<Vec<_>>(), ["--a-b", "--c", "--log"]);
    assert_eq!(typed("```console\n$ make x\nout\n```\n```\n$ no\n```"), ["make x"]);
}
