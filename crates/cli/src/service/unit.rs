//! The unit of each command: how systemd is to run it, and what it may do. Text only; nothing here touches the system.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Which command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// `lockstep hub`
    Hub,
    /// `lockstep join`
    Join,
    /// `lockstep mirror --watch`
    Mirror,
    /// `lockstep monitor`
    Monitor,
}

impl What {
    /// The command's word, and the end of the unit's name.
    pub(super) fn word(self) -> &'static str {
        match self {
            What::Hub => "hub",
            What::Join => "join",
            What::Mirror => "mirror",
            What::Monitor => "monitor",
        }
    }

    /// What a person is told that it is.
    fn description(self) -> &'static str {
        match self {
            What::Hub => "Lockstep hub: the latest directories and values for any number of machines",
            What::Join => "Lockstep agent: keeps this machine on a hub's latest",
            What::Mirror => "Lockstep mirror: keeps a directory equal to another",
            What::Monitor => "Lockstep monitor: CPU, memory and more of this machine",
        }
    }

    /// Where it keeps its state, below /var/lib and below a user's state directory.
    fn state(self) -> Option<&'static str> {
        match self {
            What::Hub => Some("hub"),
            What::Join => Some("agent"),
            What::Mirror => Some("mirror"),
            What::Monitor => Some("monitor"),
        }
    }
}

/// How a command is to be run.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) what: What,
    /// By the user's own manager.
    pub(super) user: bool,
    pub(super) program: PathBuf,
    /// What stands behind the command's word.
    pub(super) args: Vec<std::ffi::OsString>,
    /// Read as its standard input.
    pub(super) stdin: Option<PathBuf>,
    /// Directories beyond its own that it may write.
    pub(super) writes: Vec<PathBuf>,
    /// It keeps something in `/tmp` or `/var/tmp`, so these are not its own.
    pub(super) sees_tmp: bool,
    /// Whom the system's manager runs it as; `None`: root, with next to no rights.
    pub(super) run_as: Option<String>,
}

/// The first line of every unit that this program wrote: one without it is somebody else's.
pub(super) const MARK: &str = "# Written by lockstep service install; lockstep service remove takes it away again.";

impl Service {
    /// The unit's name.
    pub(super) fn name(what: What) -> String {
        format!("lockstep-{}.service", what.word())
    }

    /// The unit.
    pub(super) fn unit(&self) -> String {
        let mut lines = Lines::default();
        lines.push(MARK);
        lines.push("# Other settings: systemctl edit");
        lines.section("Unit");
        lines.set("Description", self.what.description());
        if !self.user {
            lines.set("After", "network-online.target");
            lines.set("Wants", "network-online.target");
        }
        lines.section("Service");
        self.process(&mut lines);
        if self.user {
            // What a user's own manager can do without rights of its own.
            lines.all(&CONFINED_ANYWHERE);
        } else {
            self.places(&mut lines);
            self.rights(&mut lines);
            lines.set("PrivateTmp", if self.sees_tmp { "no" } else { "yes" });
            lines.all(&CONFINED);
            lines.all(&CONFINED_ANYWHERE);
        }
        lines.section("Install");
        lines.set("WantedBy", if self.user { "default.target" } else { "multi-user.target" });
        lines.0
    }

    fn process(&self, lines: &mut Lines) {
        lines.set("Type", "notify");
        lines.set("NotifyAccess", "main");
        let words = [self.program.as_os_str(), OsStr::new(self.what.word())].into_iter();
        let words = words.chain(self.args.iter().map(AsRef::as_ref));
        lines.set("ExecStart", &words.map(quoted).collect::<Vec<_>>().join(" "));
        if let Some(stdin) = &self.stdin {
            lines.set("StandardInput", &format!("file:{}", specifiers_escaped(&stdin.display().to_string())));
        }
        if matches!(self.what, What::Hub | What::Mirror | What::Monitor) {
            lines.set("ExecReload", "kill -HUP $MAINPID");
        }
        if matches!(self.what, What::Hub | What::Join | What::Monitor) {
            lines.set("WatchdogSec", "60s");
        }
        if self.what == What::Mirror {
            // A single system call may take longer than its loop otherwise does, as the sync of a very large file.
            lines.set("WatchdogSec", "5min");
        }
        if matches!(self.what, What::Join | What::Mirror) {
            // What a command of --after started ends with it, and that command when it was told all.
            lines.set("KillMode", "mixed");
        }
        lines.set("TimeoutStartSec", "infinity");
        lines.set("Restart", "on-failure");
        lines.set("RestartSec", "5s");
        // Wrong settings do not become right by trying again, nor a directory that holds other things, nor a client that is
        // not let in any more; a hub that cannot be reached yet does, and a source that is not mounted yet.
        let for_good = match self.what {
            What::Hub => "2",
            What::Join => "2 4 5",
            What::Mirror | What::Monitor => "2 4",
        };
        lines.set("RestartPreventExitStatus", for_good);
        lines.set("LimitNOFILE", "65536");
    }

    /// Where it keeps what it writes, and what it sees of the rest.
    fn places(&self, lines: &mut Lines) {
        let word = self.what.word();
        let variable = |flag: &str| format!("LOCKSTEP_{}_{flag}", word.to_uppercase());
        if self.what == What::Monitor {
            lines.set("DynamicUser", "yes");
            lines.set("StateDirectory", "lockstep-monitor");
            lines.set("LogsDirectory", "lockstep-monitor");
            lines.set("Environment", &format!("{}=/var/log/lockstep-monitor/monitor.log", variable("LOG")));
            lines.set("Environment", &format!("{}=/var/lib/lockstep-monitor", variable("HISTORY")));
            lines.set("Environment", &format!("{}=true", variable("QUIET")));
        } else {
            if let Some(user) = &self.run_as {
                lines.set("User", user);
            }
            if let Some(state) = self.what.state() {
                lines.set("StateDirectory", &format!("lockstep/{state}"));
                lines.set("StateDirectoryMode", "0700");
                lines.set("Environment", &format!("{}=/var/lib/lockstep/{state}", variable("DATA")));
            }
            lines.set("LogsDirectory", "lockstep");
            lines.set("Environment", &format!("{}=/var/log/lockstep/{word}.log", variable("LOG")));
        }
        for path in &self.writes {
            lines.set("ReadWritePaths", &quoted(path.as_os_str()));
        }
        lines.set("UMask", "0077");
        lines.set("ProtectSystem", "strict");
        let home = if matches!(self.what, What::Monitor) { "yes" } else { "read-only" };
        lines.set("ProtectHome", home);
    }

    /// What it may do with what it sees.
    fn rights(&self, lines: &mut Lines) {
        // Of root nothing is left but: to read what is shared, whoever's it is; to keep copies for whoever owns them.
        let capabilities = match (self.what, &self.run_as) {
            (What::Monitor, _) | (_, Some(_)) => "",
            (What::Hub, None) => "CAP_DAC_READ_SEARCH",
            (What::Join | What::Mirror, None) => "CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_CHOWN CAP_FOWNER CAP_FSETID",
        };
        lines.set("CapabilityBoundingSet", capabilities);
        lines.set("AmbientCapabilities", "");
        let families = match self.what {
            What::Mirror => "AF_UNIX",
            What::Hub | What::Join => "AF_UNIX AF_INET AF_INET6",
            What::Monitor => "AF_UNIX AF_INET AF_INET6",
        };
        lines.set("RestrictAddressFamilies", families);
        lines.set("SystemCallFilter", "@system-service");
        if self.what == What::Monitor {
            lines.set("SystemCallFilter", "~@privileged @resources");
            lines.set("MemoryMax", "64M");
        } else {
            lines.set("SystemCallFilter", "~@resources @keyring @memlock @timer");
        }
        lines.set("SystemCallErrorNumber", "EPERM");
        if matches!(self.what, What::Mirror | What::Monitor) {
            lines.set("IPAddressDeny", "any");
            if self.what == What::Monitor {
                lines.set("IPAddressAllow", "localhost");
            }
        }
    }
}

/// Of the system nothing but what is read-only anyway. What reads /proc needs all of it.
const CONFINED: [(&str, &str); 9] = [
    ("PrivateDevices", "yes"),
    ("PrivateMounts", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectHostname", "yes"),
    ("RemoveIPC", "yes"),
];

/// What needs no rights to be given up.
const CONFINED_ANYWHERE: [(&str, &str); 6] = [
    ("NoNewPrivileges", "yes"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("LockPersonality", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("SystemCallArchitectures", "native"),
];

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn push(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn section(&mut self, name: &str) {
        self.push(&format!("\n[{name}]"));
    }

    fn set(&mut self, name: &str, value: &str) {
        self.push(&format!("{name}={value}"));
    }

    fn all(&mut self, settings: &[(&str, &str)]) {
        settings.iter().for_each(|(name, value)| self.set(name, value));
    }
}

/// One word of a command line as systemd reads it: nothing in it is a specifier, a variable or a separator.
fn quoted(word: &OsStr) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./:=,+@*[]".contains(b);
    if !word.is_empty() && word.as_bytes().iter().all(plain) {
        return word.to_string_lossy().into_owned();
    }
    let mut quoted = String::from("\"");
    for chunk in word.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                '%' => quoted.push_str("%%"),
                '$' => quoted.push_str("$$"),
                c if c.is_control() => c.to_string().bytes().for_each(|b| quoted.push_str(&format!("\\x{b:02x}"))),
                c => quoted.push(c),
            }
        }
        chunk.invalid().iter().for_each(|b| quoted.push_str(&format!("\\x{b:02x}")));
    }
    quoted.push('"');
    quoted
}

fn specifiers_escaped(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn service(what: What) -> Service {
        let args = vec!["a b".into(), "100%".into(), "$HOME".into()];
        let program = PathBuf::from("/usr/bin/lockstep");
        Service {
            what,
            user: false,
            program,
            args,
            stdin: None,
            writes: vec!["/srv/x y".into()],
            sees_tmp: false,
            run_as: None,
        }
    }

    #[test]
    fn words_reach_the_program_as_they_are() {
        let quote = |word: &[u8]| quoted(OsStr::from_bytes(word));
        assert_eq!(quote(b"site=/srv/site"), "site=/srv/site");
        assert_eq!(quote(b""), "\"\"");
        assert_eq!(quote(b"a \"b\" \\ 5% $HOME"), r#""a \"b\" \\ 5%% $$HOME""#);
        assert_eq!(quote(b"a\nb\xff\xc3\xa9"), "\"a\\x0ab\\xffé\"");
        assert_eq!(quote("\u{85}".as_bytes()), "\"\\xc2\\x85\"");
    }

    #[test]
    fn each_unit_is_marked_runs_its_command_and_gives_up_what_it_does_not_need() {
        for (what, rights) in [
            (What::Hub, "CAP_DAC_READ_SEARCH"),
            (What::Join, "CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_CHOWN CAP_FOWNER CAP_FSETID"),
            (What::Mirror, "CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_CHOWN CAP_FOWNER CAP_FSETID"),
            (What::Monitor, ""),
        ] {
            let unit = service(what).unit();
            assert!(unit.starts_with(MARK));
            let word = what.word();
            assert!(unit.contains(&format!("\nExecStart=/usr/bin/lockstep {word} \"a b\" \"100%%\" \"$$HOME\"\n")));
            assert!(
                unit.contains(&format!("\nCapabilityBoundingSet={rights}\n"))
                    && unit.contains("\nNoNewPrivileges=yes\n")
            );
            assert!(unit.contains("\nReadWritePaths=\"/srv/x y\"\n") && unit.contains("\nProtectSystem=strict\n"));
            assert!(unit.contains("\nPrivateTmp=yes\n"));
            let there = Service { sees_tmp: true, ..service(what) }.unit();
            assert!(there.contains("\nPrivateTmp=no\n"), "what it keeps there it sees");
            let other = Service { run_as: Some("www".into()), ..service(what) }.unit();
            assert!(other.contains("\nCapabilityBoundingSet=\n"), "another user has none of root's rights");
        }
    }

    #[test]
    fn a_unit_of_a_users_own_manager_asks_for_nothing_that_this_one_cannot_do() {
        let unit = Service { user: true, ..service(What::Join) }.unit();
        for only_of_the_system in
            ["ProtectSystem", "CapabilityBoundingSet", "StateDirectory", "multi-user", "DynamicUser"]
        {
            assert!(!unit.contains(only_of_the_system), "{only_of_the_system}");
        }
        assert!(unit.contains("WantedBy=default.target") && unit.contains("NoNewPrivileges=yes"));
    }
}
