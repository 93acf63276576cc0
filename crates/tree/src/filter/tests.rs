use super::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::io::Write;
use std::process::{Command, Stdio};

fn path(s: &str) -> RelPath {
    RelPath::new(s.as_bytes()).unwrap()
}

fn patterns(lines: &[&str]) -> Patterns {
    Patterns::new(lines.iter().map(|line| line.as_bytes())).unwrap()
}

/// What the filter says of `at`, with all directories above it entered one by one.
fn judge(filter: &Filter, files: &[(&str, &Arc<Patterns>)], at: &RelPath, is_dir: bool) -> (Verdict, Verdict) {
    let of =
        |dir: &RelPath| files.iter().find(|(path, _)| path.as_bytes() == dir.as_bytes()).map(|(_, p)| Arc::clone(p));
    let mut scope = filter.root(of(&RelPath::root()));
    let mut dir = RelPath::root();
    let (parent, _) = at.split().unwrap();
    for component in parent.components() {
        dir = dir.join(&crate::Name::new(component).unwrap()).unwrap();
        scope = filter.enter(&scope, &dir, of(&dir));
    }
    (filter.source(&scope, at, is_dir), filter.extra(&scope, at, is_dir))
}

#[test]
fn the_last_pattern_that_matches_decides() {
    let filter = Filter { patterns: patterns(&["*.o", "!keep.o", "/build/", "docs/**/x"]), ..Filter::default() };
    let says = |at: &str, is_dir| judge(&filter, &[], &path(at), is_dir).0;
    assert_eq!(says("a.o", false), Verdict::LeaveAlone);
    assert_eq!(says("sub/keep.o", false), Verdict::Wanted);
    assert_eq!(says("build", true), Verdict::LeaveAlone);
    assert_eq!(says("build", false), Verdict::Wanted, "the pattern is about directories");
    assert_eq!(says("build/in/keep.o", false), Verdict::LeaveAlone, "nothing comes back from below");
    assert_eq!(says("sub/build", true), Verdict::Wanted);
    assert_eq!(says("docs/a/b/x", false), Verdict::LeaveAlone);
}

#[test]
fn a_deeper_ignore_file_wins_and_the_operator_over_both() {
    let (top, deep) = (Arc::new(patterns(&["*.log", "tmp"])), Arc::new(patterns(&["!a.log", "/only-here"])));
    let files: [(&str, &Arc<Patterns>); 2] = [("", &top), ("d", &deep)];
    let filter = Filter::default();
    let says = |filter: &Filter, at: &str| judge(filter, &files, &path(at), false).0;
    assert_eq!(says(&filter, "a.log"), Verdict::LeaveAlone);
    assert_eq!(says(&filter, "d/a.log"), Verdict::Wanted);
    assert_eq!(says(&filter, "d/only-here"), Verdict::LeaveAlone);
    assert_eq!(says(&filter, "d/e/only-here"), Verdict::Wanted);
    let operator = Filter { patterns: patterns(&["d/a.log", "!tmp"]), ..Filter::default() };
    assert_eq!(says(&operator, "d/a.log"), Verdict::LeaveAlone);
    assert_eq!(says(&operator, "tmp"), Verdict::Wanted);
}

#[test]
fn excluded_names_stay_at_the_destination_unless_told_otherwise() {
    let mut filter = Filter { patterns: patterns(&["*.o"]), ..Filter::default() };
    let says = |filter: &Filter, at: &str| judge(filter, &[], &path(at), false);
    assert_eq!(says(&filter, "a.o").1, Verdict::LeaveAlone);
    assert_eq!(says(&filter, "a.c").1, Verdict::Absent);
    filter.delete_excluded = true;
    assert_eq!(says(&filter, "a.o"), (Verdict::Absent, Verdict::Absent));
}

#[test]
fn names_that_are_not_utf_8_are_matched_byte_by_byte() {
    let latin = Patterns::new([&b"caf\xe9"[..], b"?x", b"[\xf0-\xff]y"]).unwrap();
    for (name, expected) in [
        (&b"caf\xe9"[..], Some(true)),
        (b"sub/caf\xe9", Some(true)),
        ("café".as_bytes(), None),
        (b"\xffx", Some(true)),
        (b"\xffy", Some(true)),
        (b"\xefy", None),
    ] {
        assert_eq!(latin.judge(name, false), expected, "{name:?}");
    }
    let expressions = Expressions::new(&[], &[], &["..y$".into(), r"(?-u:\xe9)".into()], &[]).unwrap();
    assert_eq!(expressions.source(b"\xffxy"), Verdict::Absent);
    assert_eq!(expressions.source(b"\xe9tude"), Verdict::Absent);
    assert_eq!(expressions.source(b"a\xe9"), Verdict::Wanted, "anchored at the start");
}

#[test]
fn expressions_begin_at_the_start_and_judge_each_path_for_itself() {
    let list = |s: &[&str]| s.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let filter = Filter {
        expressions: Expressions::new(
            &list(&[r".*\.py$", "sub"]),
            &list(&[r"sub/keep\.py"]),
            &list(&["sub"]),
            &list(&[r"(?i).*CACHE"]),
        )
        .unwrap(),
        ..Filter::default()
    };
    let says = |at: &str| judge(&filter, &[], &path(at), false);
    assert_eq!(says("a.py"), (Verdict::Wanted, Verdict::Absent));
    assert_eq!(says("x/a.py").0, Verdict::Wanted);
    assert_eq!(says("a.txt").0, Verdict::Absent, "not among the only ones");
    assert_eq!(says("sub/b.py"), (Verdict::Absent, Verdict::Absent));
    assert_eq!(says("sub/keep.py").0, Verdict::Wanted, "wins under an excluded parent");
    assert_eq!(says("my-cache/c.py"), (Verdict::LeaveAlone, Verdict::LeaveAlone));
    assert!(filter.looks_below());
    for wrong in ["(", "a)(b", r"(a)\1", "(?=a)"] {
        let error = Expressions::new(&list(&[wrong]), &[], &[], &[]).unwrap_err();
        assert!(matches!(&error, FilterError::Expression { pattern, .. } if pattern == wrong), "{error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}

#[test]
fn comments_empty_lines_and_the_ends_of_other_systems_are_no_patterns() {
    let parsed = Patterns::parse(b"\xef\xbb\xbf# comment\r\n\r\n\\#file\r\ntrailing   \n").unwrap();
    assert_eq!(parsed.lines.len(), 2);
    assert_eq!(parsed.judge(b"#file", false), Some(true));
    assert_eq!(parsed.judge(b"trailing", false), Some(true));
    assert_eq!(Patterns::parse(&vec![b'a'; PATTERN_BYTES_MAX + 1]).unwrap_err(), FilterError::TooLarge);
}

/// A repository over a small alphabet, so that patterns over the same one often match, and all that is in it.
struct Repository {
    root: tempfile::TempDir,
    paths: Vec<(String, bool)>,
}

impl Repository {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let dirs = ["a", "b", "ab", "a-b", "*", "[", "\\", "!a", "#", "a b", "B"];
        let files = ["c", "ba", "b-", "**", "]", "\\a", "!", "#b", "b ", "C", "abc", "-"];
        let mut paths = Vec::new();
        let mut fill = |above: &str, dirs: &[&str], files: &[&str]| {
            for name in dirs {
                std::fs::create_dir(root.path().join(format!("{above}{name}"))).unwrap();
                paths.push((format!("{above}{name}"), true));
            }
            for name in files {
                std::fs::write(root.path().join(format!("{above}{name}")), "").unwrap();
                paths.push((format!("{above}{name}"), false));
            }
        };
        fill("", &dirs, &files);
        for dir in dirs {
            fill(&format!("{dir}/"), &["a", "ba", "C"], &["b", "ab", "c", "[", "B"]);
            fill(&format!("{dir}/a/"), &["a"], &["b", "ab", "c"]);
        }
        let git = Command::new("git").arg("-C").arg(root.path()).args(["init", "-q"]).status();
        assert!(git.unwrap().success());
        Self { root, paths }
    }

    /// Which paths git ignores, with `top` as the top `.gitignore` and `deep` as that of `a/`.
    fn ignored(&self, top: &[u8], deep: &[u8]) -> Vec<bool> {
        std::fs::write(self.root.path().join(".gitignore"), top).unwrap();
        std::fs::write(self.root.path().join("a/.gitignore"), deep).unwrap();
        let mut check = Command::new("git")
            .arg("-C")
            .arg(self.root.path())
            .args(["check-ignore", "-z", "-v", "-n", "--no-index", "--stdin"])
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asked: Vec<u8> = self.paths.iter().flat_map(|(path, _)| [path.as_bytes(), b"\0"].concat()).collect();
        let mut stdin = check.stdin.take().unwrap();
        let writer = std::thread::spawn(move || stdin.write_all(&asked).unwrap());
        let output = check.wait_with_output().unwrap();
        writer.join().unwrap();
        // Source, line, pattern, path; a pattern that brings back begins with an exclamation mark.
        let fields: Vec<&[u8]> = output.stdout.split(|b| *b == 0).collect();
        let said: Vec<bool> =
            fields.chunks_exact(4).map(|record| !record[2].is_empty() && record[2][0] != b'!').collect();
        assert_eq!(said.len(), self.paths.len(), "{:?}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

fn a_pattern() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(vec![
        "a",
        "b",
        "ab",
        "*",
        "**",
        "/",
        "?",
        "[ab]",
        "[!a]",
        "[^b]",
        "[a-c]",
        "[[:alpha:]]",
        "[]a]",
        "[",
        "\\",
        "!",
        "#",
        " ",
        "-",
        "/**/",
        "**/",
        "/**",
        "\\*",
        "[a-]",
        "[\\]]",
        "B",
        "[[:x:]]",
        "[c-a]",
        "[!-b]",
        "***",
        "[a/b]",
    ]);
    prop::collection::vec(atom, 1..6).prop_map(|atoms| atoms.concat())
}

#[test]
fn what_is_ignored_is_what_git_ignores() {
    let repository = Repository::new();
    let mut runner = TestRunner::new(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() });
    let patterns = (prop::collection::vec(a_pattern(), 1..5), prop::collection::vec(a_pattern(), 0..3));
    let ignored = Cell::new(0);
    let done = runner.run(&patterns, |(top, deep)| {
        let (top, deep) = (top.join("\n"), deep.join("\n"));
        let git = repository.ignored(top.as_bytes(), deep.as_bytes());
        let top_patterns = Arc::new(Patterns::parse(top.as_bytes()).unwrap());
        let deep_patterns = Arc::new(Patterns::parse(deep.as_bytes()).unwrap());
        for ((at, is_dir), git) in repository.paths.iter().zip(git) {
            ignored.set(ignored.get() + usize::from(git));
            let files: [(&str, &Arc<Patterns>); 2] = [("", &top_patterns), ("a", &deep_patterns)];
            let ours = judge(&Filter::default(), &files, &path(at), *is_dir).0 != Verdict::Wanted;
            prop_assert_eq!(ours, git, "{:?} (directory: {}) with {:?} and in a/ {:?}", at, is_dir, &top, &deep);
        }
        Ok(())
    });
    if let Err(error) = done {
        panic!("{error}");
    }
    assert!(ignored.get() > 1_000, "the patterns matched next to nothing");
}

#[test]
fn plain_are_only_patterns_that_exclude_exactly_what_they_say() {
    let plain = |lines: &[&str]| Patterns::new(lines.iter().map(|line| line.as_bytes())).unwrap().plain().to_vec();
    let said = ["/a", "b/", "c/d ", "/e/f/", "*.o", "g/*", "h[i]", "j\\k", "# l", "", "/", "m//n", "o/../p"];
    assert_eq!(plain(&said), [&b"/a"[..], b"b", b"/c/d", b"/e/f"]);
    assert!(plain(&["/a", "!b"]).is_empty(), "something is brought back");
}
