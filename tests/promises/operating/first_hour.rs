//! docs/operating.md, "The first hour": what is typed there, typed word by word.
//!
//! Only these words are replaced: `LINK` by what was printed last, and `/srv/site` by a directory of the machine it is typed on. A
//! machine is a home and a directory of its own. That the hub listens on a free port, and takes new machines by invite as it would on a
//! network, is said in the environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use support::{PATIENCE, Proc, Scratch, assert_same_trees, binary, scratch, workspace};

use crate::login::ended;

/// Something typed: where, how it has to end, and the words.
#[derive(Debug)]
struct Typed {
    heading: String,
    machine: String,
    ends_with: i32,
    words: Vec<String>,
}

/// What the document has typed in that section, in order.
fn typed() -> Vec<Typed> {
    let text = fs::read_to_string(workspace().join("docs/operating.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with("The first hour\n")).unwrap();
    let (mut typed, mut heading, mut console, mut on) = (Vec::new(), String::new(), false, (String::new(), 0));
    for line in section.lines() {
        if line.starts_with("```") {
            console = line == "```console";
        } else if let Some(title) = line.strip_prefix("### ") {
            heading = title.to_owned();
        } else if let Some(place) = line.strip_prefix("# on ").filter(|_| console) {
            let machine = place.split([':', ',']).next().unwrap().to_owned();
            let ends_with = place.split("ends with ").nth(1).map_or(0, |code| code.parse().unwrap());
            on = (machine, ends_with);
        } else if let Some(line) = line.strip_prefix("$ ").filter(|_| console) {
            let words = line.split_whitespace().map(str::to_owned).collect();
            typed.push(Typed { heading: heading.clone(), machine: on.0.clone(), ends_with: on.1, words });
        }
    }
    typed
}

/// The machines, and what runs on each.
struct Machines {
    scratch: Scratch,
    running: BTreeMap<String, Proc>,
    /// The link that was printed last.
    link: String,
    /// Where the hub listens, from its first start on.
    listen: String,
}

impl Machines {
    fn home(&self, machine: &str) -> PathBuf {
        self.scratch.join(machine)
    }

    fn site(&self, machine: &str) -> PathBuf {
        self.home(machine).join("srv/site")
    }

    fn state(&self, machine: &str) -> PathBuf {
        self.home(machine).join("state/lockstep")
    }

    fn command(&self, typed: &Typed) -> Command {
        let (home, site) = (self.home(&typed.machine), self.site(&typed.machine));
        fs::create_dir_all(home.join("cwd")).unwrap();
        let mut words = typed.words.iter().map(|word| match word.as_str() {
            "LINK" => self.link.clone(),
            word => word.replace("/srv/site", site.to_str().unwrap()),
        });
        assert_eq!(words.next().as_deref(), Some("lockstep"));
        let mut command = Command::new(binary());
        command.args(words).env_clear().env("HOME", &home).env("XDG_STATE_HOME", home.join("state"));
        command.current_dir(home.join("cwd"));
        // A user who is root keeps its data in /var/lib, which is this machine's own.
        let (state, log) = (self.state(&typed.machine), self.home(&typed.machine).join("log"));
        for (name, value) in [
            ("HUB_LISTEN", self.listen.clone()),
            ("HUB_HTTP", "none".to_owned()),
            ("HUB_ENROL", "invite".to_owned()),
            ("HUB_DATA", state.join("hub").display().to_string()),
            ("JOIN_DATA", state.join("agent").display().to_string()),
            ("LEAVE_DATA", state.join("agent").display().to_string()),
            ("HUB_LOG", log.join("hub.log").display().to_string()),
            ("JOIN_LOG", log.join("join.log").display().to_string()),
            ("LEAVE_LOG", log.join("leave.log").display().to_string()),
        ] {
            command.env(format!("LOCKSTEP_{name}"), value);
        }
        for ask in ["CLIENTS", "INVITE", "STATUS", "WAIT"] {
            command.env(format!("LOCKSTEP_{ask}_DATA"), state.join("hub"));
        }
        command
    }

    fn stop(&mut self, machine: &str) {
        let mut running = self.running.remove(machine).unwrap();
        running.terminate();
        running.wait_exit(PATIENCE);
    }

    /// Types it, and sees that it does what it is to do.
    fn run(&mut self, typed: &Typed) {
        let mut command = self.command(typed);
        let words: Vec<&str> = typed.words.iter().map(String::as_str).collect();
        let stays = match words[1] {
            "hub" => !["check", "backup", "restore"].iter().any(|word| words.contains(word)),
            "join" => typed.ends_with == 0,
            _ => false,
        };
        if stays {
            let proc = Proc::start(&mut command);
            match words[1] {
                "hub" => {
                    let line = proc.wait_for_line("address", PATIENCE);
                    self.listen = line.split_whitespace().nth(1).unwrap().to_owned();
                }
                _ => drop(proc.wait_for_line("in sync", PATIENCE)),
            }
            assert!(self.running.insert(typed.machine.clone(), proc).is_none(), "{typed:?}: something runs there");
            return;
        }
        let (code, said) = ended(&mut command);
        assert_eq!(code, Some(typed.ends_with), "{typed:?}: {said}");
        if let Some(link) = said.split_whitespace().find(|word| word.starts_with("lsj1")) {
            self.link = link.to_owned();
        }
    }
}

#[test]
fn the_first_hour_goes_as_the_document_says_word_by_word() {
    let (scratch, listen) = (scratch(), "127.0.0.1:0".to_owned());
    let mut machines = Machines { scratch, running: BTreeMap::new(), link: String::new(), listen };
    let hub_site = machines.site("hub");
    fs::create_dir_all(hub_site.join("d")).unwrap();
    fs::write(hub_site.join("d/index.html"), "hello").unwrap();
    let all = typed();
    assert!(all.len() > 20 && all.iter().map(|typed| typed.words.len()).sum::<usize>() > 100, "{all:#?}");
    let mut heading = String::new();
    for typed in &all {
        let begins = heading != typed.heading;
        heading.clone_from(&typed.heading);
        // What happens, rather than is typed.
        match (heading.as_str(), begins, typed.words.join(" ").as_str()) {
            ("A cloned disk", true, _) => {
                assert_eq!(machines.running.get_mut("web2").unwrap().wait_exit(PATIENCE).code(), Some(5), "revoked");
                let copied =
                    Command::new("cp").arg("-a").arg(machines.home("web1")).arg(machines.home("web3")).status();
                assert!(copied.unwrap().success());
            }
            ("A lost key", true, _) => {
                assert_same_trees(&hub_site, machines.site("web3"));
                machines.stop("web1");
                fs::remove_file(machines.state("web1").join("agent/key.json")).unwrap();
            }
            ("An upgrade", false, "lockstep --version") => machines.stop("hub"),
            ("An upgrade", false, "lockstep hub restore before-upgrade.backup --replace") => machines.stop("hub"),
            _ => {}
        }
        machines.run(typed);
        if typed.words[1] == "wait" {
            assert_same_trees(&hub_site, machines.site("web1"));
            fs::write(hub_site.join("d").join(format!("{}", all.len())), typed.words.join(" ")).unwrap();
        }
    }
    for machine in ["web1", "web3"] {
        assert_eq!(machines.running.get_mut(machine).unwrap().wait_exit(PATIENCE).code(), Some(0));
        assert!(
            machines.site(machine).join("d/index.html").exists()
                && !machines.state(machine).join("agent/key.json").exists()
        );
    }
    machines.stop("hub");
}
