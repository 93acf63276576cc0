//! `lockstep invite`: a join line for machines that may enrol.

use std::io::Write;
use std::time::Duration;

use wire::answer::{Answer, Question};
use wire::limits::INVITE_S;
use wire::link::JoinLink;
use wire::rights::IdRange;

use crate::args::{duration, parse_duration};
use crate::exit::{Exit, Failure};
use crate::logging::say;
use crate::reach::AskArgs;
use crate::rights::RightsArgs;
use crate::runtime;

/// Makes an invite and prints the line with which a machine joins; for the hub's own machine and admins
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many machines may use it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,

    /// For how long: 30m, 24h, 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = life)]
    expires: Duration,

    /// Only for these IDs: 100-199, or 7
    #[arg(long, value_name = "RANGE", value_parser = IdRange::parse)]
    ids: Option<IdRange>,

    /// A tag for whoever enrols by it; repeatable
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,

    #[command(flatten)]
    rights: RightsArgs,

    /// Prints the line for a machine that has no lockstep yet: it installs this hub's own, and tells how to join
    #[arg(long)]
    install: bool,

    /// Prints one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    reach: AskArgs,
}

/// For how long an invite can be good.
fn life(text: &str) -> Result<Duration, String> {
    let life = parse_duration(text)?;
    let days = INVITE_S.end() / 86_400;
    INVITE_S.contains(&life.as_secs()).then_some(life).ok_or_else(|| format!("an invite is good for 1s to {days}d"))
}

/// Prints the join line.
///
/// # Errors
/// When the hub is not reached, or does not allow it.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let Args { uses, expires, ids, tag, rights, json, .. } = args;
    let good = Good { uses, expires };
    let question = Question::Invite { uses, expires_s: expires.as_secs(), ids, rights: rights.into(), tags: tag };
    let (installer, answer) = runtime::start()?.block_on(async {
        let mut client = args.reach.connect().await?;
        // First, so that no invite is made for what cannot be installed.
        let installer = match args.install {
            true => Some(client.ask(Question::Install).await?),
            false => None,
        };
        Ok::<_, Failure>((installer, client.ask(question).await?))
    })?;
    match installer {
        None => print_link(&answer, Some(good), json),
        Some(installer) => print_install(&installer, &answer, good, json),
    }
}

/// For whom, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Good {
    uses: u32,
    expires: Duration,
}

impl Good {
    fn put_in(self, object: &mut serde_json::Value) {
        object["uses"] = self.uses.into();
        object["expires_s"] = self.expires.as_secs().into();
    }

    /// On stderr, so that what is on stdout can be passed on as it is.
    fn say(self) {
        let machines = if self.uses == 1 { "one machine".to_owned() } else { format!("{} machines", self.uses) };
        say(format_args!(
            "good for {machines}, within {}; it lets in who has it: pass it on as a password",
            duration(self.expires)
        ));
    }
}

/// The link that a hub made, which is one.
///
/// # Errors
/// When it answered something else.
fn made(answer: &Answer) -> Result<&str, Failure> {
    match answer {
        Answer::Link { link } if JoinLink::parse(link.reveal()).is_ok() => Ok(link.reveal()),
        _ => Err(Failure::something_else()),
    }
}

/// Prints the line that installs the program, and gives it the link that it is to tell of in the end: by a command that is part of
/// every shell, and so stands in no list of processes.
fn print_install(installer: &Answer, answer: &Answer, good: Good, json: bool) -> Result<Exit, Failure> {
    let link = made(answer)?;
    let installer = match installer {
        Answer::Install(installer) if !installer.line.contains(char::is_control) => installer,
        _ => return Err(Failure::something_else()),
    };
    let mut out = std::io::stdout().lock();
    let written = if json {
        let mut object = serde_json::to_value(installer).unwrap_or_default();
        object["link"] = link.into();
        good.put_in(&mut object);
        writeln!(out, "{object}")
    } else {
        good.say();
        writeln!(out, "echo {link} | {} -", installer.line)
    };
    written.map_err(Failure::output)?;
    Ok(Exit::Done)
}

/// Prints the line that a link is to be used in, and what it is good for where that was asked for.
pub(crate) fn print_link(answer: &Answer, good: Option<Good>, json: bool) -> Result<Exit, Failure> {
    let link = made(answer)?;
    let mut out = std::io::stdout().lock();
    let written = if json {
        let mut object = serde_json::json!({ "link": link });
        if let Some(good) = good {
            good.put_in(&mut object);
        }
        writeln!(out, "{object}")
    } else {
        if let Some(good) = good {
            good.say();
        }
        writeln!(out, "lockstep join {link}")
    };
    written.map_err(Failure::output)?;
    Ok(Exit::Done)
}
