//! `lockstep service`: a command as a service of systemd, at every start of the machine, confined to what it needs.

mod ready;
mod unit;

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, anyhow};
use wire::link::JoinLink;

use crate::exit::{Exit, Failure};
use crate::logging::say;
pub(crate) use ready::Paths;
use unit::{MARK, Service, What};

/// Where units of the system are.
const SYSTEM_UNITS: &str = "etc/systemd/system";
/// Where join links of services are, which nobody else is to read.
const SYSTEM_LINKS: &str = "etc/lockstep";

/// Runs a command as a service of systemd, from now on and at every start of the machine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Do,
}

#[derive(Debug, clap::Subcommand)]
enum Do {
    /// Writes the unit, and starts it
    Install(Install),
    /// Stops it, and takes the unit away; data, logs and files stay
    Remove(Remove),
}

#[derive(Debug, clap::Args)]
struct Install {
    /// Which command
    what: What,

    #[command(flatten)]
    common: Common,

    /// Runs it as this user, who then needs the rights to what it reads and writes; by default as root with next to none of
    /// root's rights
    #[arg(long = "as", value_name = "USER", conflicts_with = "user")]
    run_as: Option<String>,

    /// What the command is given, as on the command line: -- --share site=/srv/site
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
struct Remove {
    /// Which command
    what: What,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// For this user's own manager, without root
    #[arg(long)]
    user: bool,

    /// Prints what would be written and run, and does nothing
    #[arg(long)]
    dry_run: bool,

    /// Writes below DIR instead of /, for images; starts and stops nothing
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Installs or removes a service.
///
/// # Errors
/// When the command would not run with these arguments (2), what it reads is not there, a unit of that name is somebody else's, or
/// it cannot be written.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    match args.what {
        Do::Install(install) => self::install(&install),
        Do::Remove(remove) => self::remove(&remove),
    }
}

/// What is to be done, so that it can be told before.
struct Plan {
    /// Files with their modes.
    files: Vec<(PathBuf, u32, String)>,
    /// Directories that must be there.
    directories: Vec<PathBuf>,
    commands: Vec<Vec<String>>,
}

fn install(install: &Install) -> Result<Exit, Failure> {
    let common = &install.common;
    let places = Places::of(common)?;
    let mut args = install.args.clone();
    if install.what == What::Mirror && !args.iter().any(|arg| arg == "--watch") {
        args.push("--watch".into());
    }
    not_at_each_start(install.what, &args)?;
    let paths = paths(install.what, &args)?;
    paths.check(install.what, common.user)?;
    // What is below another root is for a machine that is not there yet.
    if common.root.is_none() {
        paths.are_there()?;
        install.run_as.as_deref().map_or(Ok(()), ready::user)?;
    }
    let (sees_tmp, writes) = (paths.are_temporary(), paths.writes);
    let mut files = Vec::new();
    // A link lets somebody in, and a command line can be read by everybody: the service reads it from a file.
    let link = args.iter_mut().find(|arg| arg.to_str().is_some_and(JoinLink::looks_like));
    let mut stdin = None;
    if let Some(link) = link.filter(|_| install.what == What::Join) {
        let text = std::mem::replace(link, "-".into());
        let path = places.links.join("join.link");
        stdin = Some(places.as_seen(&path));
        files.push((path, 0o600, format!("{}\n", text.to_string_lossy())));
    }
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let service = Service {
        what: install.what,
        user: common.user,
        program,
        args,
        stdin,
        writes: writes.clone(),
        sees_tmp,
        run_as: install.run_as.clone(),
    };
    let name = Service::name(install.what);
    files.push((places.units.join(&name), 0o644, service.unit()));
    let commands = places.commands(&[&["daemon-reload"], &["enable", &name], &["restart", &name]]);
    let directories = if common.root.is_none() { writes } else { Vec::new() };
    let plan = Plan { files, directories, commands };
    if common.dry_run {
        return print(&plan);
    }
    // The unit's name may be taken by somebody else's.
    for (path, ..) in &plan.files {
        ours_or_nothing(path)?;
    }
    for directory in &plan.directories {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    for (path, mode, text) in &plan.files {
        write(path, *mode, text).with_context(|| format!("cannot write {}", path.display()))?;
        say_done("written", path)?;
    }
    run_all(&plan.commands, "written, but not started")
}

fn remove(remove: &Remove) -> Result<Exit, Failure> {
    let places = Places::of(&remove.common)?;
    let name = Service::name(remove.what);
    let unit = places.units.join(&name);
    if !unit.exists() {
        return Err(Failure::could_not_run(anyhow!("there is no {}: nothing to remove", unit.display())));
    }
    ours_or_nothing(&unit)?;
    let mut paths = vec![unit];
    let link = places.links.join("join.link");
    if remove.what == What::Join && link.exists() {
        paths.push(link);
    }
    let before = places.commands(&[&["disable", "--now", &name]]);
    let after = places.commands(&[&["daemon-reload"]]);
    if remove.common.dry_run {
        let mut out = io::stdout().lock();
        let lines = before.iter().map(|command| command.join(" "));
        let lines = lines.chain(paths.iter().map(|path| format!("rm {}", path.display())));
        let mut lines = lines.chain(after.iter().map(|command| command.join(" ")));
        lines.try_for_each(|line| writeln!(out, "{line}")).map_err(Failure::output)?;
        return Ok(Exit::Done);
    }
    let stopped = run_all(&before, "not stopped")?;
    for path in &paths {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        say_done("removed", path)?;
    }
    let reloaded = run_all(&after, "removed, but systemd was not told")?;
    Ok(if stopped == Exit::Done { reloaded } else { stopped })
}

/// Where things are.
struct Places {
    units: PathBuf,
    links: PathBuf,
    root: Option<PathBuf>,
    user: bool,
}

impl Places {
    fn of(common: &Common) -> Result<Places, Failure> {
        let below = common.root.clone().unwrap_or_else(|| "/".into());
        let (units, links) = if common.user {
            let config = config_home()?;
            let config = below.join(config.strip_prefix("/").unwrap_or(&config));
            (config.join("systemd/user"), config.join("lockstep"))
        } else {
            (below.join(SYSTEM_UNITS), below.join(SYSTEM_LINKS))
        };
        Ok(Places { units, links, root: common.root.clone(), user: common.user })
    }

    /// A path as the service will see it, once what is below the given root is the root.
    fn as_seen(&self, path: &Path) -> PathBuf {
        match self.root.as_deref().and_then(|root| path.strip_prefix(root).ok()) {
            Some(below) => Path::new("/").join(below),
            None => path.to_owned(),
        }
    }

    fn commands(&self, all: &[&[&str]]) -> Vec<Vec<String>> {
        if self.root.is_some() {
            return Vec::new();
        }
        let systemctl = ["systemctl"].into_iter().chain(self.user.then_some("--user"));
        let command = |words: &&[&str]| systemctl.clone().chain(words.iter().copied()).map(str::to_owned).collect();
        all.iter().map(command).collect()
    }
}

/// Where a user's settings are; by the XDG rules a value that is not absolute counts as unset.
fn config_home() -> Result<PathBuf, Failure> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    home.ok_or_else(|| Failure::could_not_run(anyhow!("neither XDG_CONFIG_HOME nor HOME names an absolute directory")))
}

/// Refuses what is meant for one start: at each of them it would undo a guard, and nobody watches.
fn not_at_each_start(what: What, args: &[OsString]) -> Result<(), Failure> {
    let refused: &[&str] = match what {
        What::Join => &["--adopt", "--allow-mass-delete"],
        What::Mirror => &["--allow-mass-delete"],
        What::Hub | What::Monitor => &[],
    };
    let words = args.iter().take_while(|arg| *arg != "--");
    let given = words.filter_map(|arg| arg.to_str()).find_map(|arg| {
        let flag = arg.split_once('=').map_or(arg, |(flag, _)| flag);
        refused.iter().find(|refused| **refused == flag)
    });
    given.map_or(Ok(()), |flag| {
        Err(Failure::usage(format!(
            "{flag} is for one start, and a service would do it at each: start lockstep {} once by hand with it, and install \
             the service without it",
            what.word()
        )))
    })
}

/// What the command reads and writes beyond its own, if it would run with these arguments.
fn paths(what: What, args: &[OsString]) -> Result<Paths, Failure> {
    crate::paths_of(what.word(), args).map_err(|error| {
        let text = error.render().to_string();
        let text = text.trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned();
        Failure::usage(format!("lockstep {} would not start: {text}", what.word()))
    })
}

/// Refuses what this program did not write.
fn ours_or_nothing(path: &Path) -> Result<(), Failure> {
    let is_unit = path.extension().is_some_and(|ending| ending == "service");
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(anyhow::Error::new(error).context(format!("cannot read {}", path.display())).into()),
        Ok(text) if !is_unit || text.starts_with(MARK.as_bytes()) => Ok(()),
        Ok(_) => Err(Failure::could_not_run(anyhow!(
            "{} was not written by lockstep service install; nothing was changed: move it away first",
            path.display()
        ))),
    }
}

/// Written beside and renamed, so that systemd never reads half of it.
fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    let beside = path.with_extension("new");
    if let Err(error) = fs::remove_file(&beside)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn print(plan: &Plan) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    let mut told = || -> io::Result<()> {
        for (path, mode, text) in &plan.files {
            // What lets somebody in is not for a screen.
            let text = if *mode == 0o600 { "(the join link)\n" } else { text };
            writeln!(out, "# {} (mode {mode:04o})\n{text}", path.display())?;
        }
        plan.directories.iter().try_for_each(|directory| writeln!(out, "# mkdir -p {}", directory.display()))?;
        plan.commands.iter().try_for_each(|command| writeln!(out, "# {}", command.join(" ")))
    };
    told().map_err(Failure::output)?;
    Ok(Exit::Done)
}

fn say_done(what: &str, path: &Path) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{what:8} {}", path.display()).map_err(Failure::output)
}

/// Runs what tells systemd. Where it does not listen, what is done stays done, and that is said.
fn run_all(commands: &[Vec<String>], otherwise: &str) -> Result<Exit, Failure> {
    for command in commands {
        let (program, args) = command.split_first().context("a command has a program")?;
        let why = match Command::new(program).args(args).output() {
            Ok(output) if output.status.success() => continue,
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        say(format_args!("lockstep: {otherwise}: {}: {why}", command.join(" ")));
        return Ok(Exit::SomeFailed);
    }
    Ok(Exit::Done)
}
