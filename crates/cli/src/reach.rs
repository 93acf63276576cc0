//! How a command reaches a hub: the running hub or agent of this machine, else an address.
//!
//! One machine, one login: a command never logs in beside a running agent, it asks through it.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::Decision;
use agent::client::{Client, ClientError, Target};
use agent::program::{BadCredentials, CREDENTIALS_BYTES_MAX, Credentials, Program, ProgramError};
use anyhow::Context as _;
use wire::answer::{Answer, Question};
use wire::message::Code;

use crate::exit::{Exit, Failure};
use crate::{join, paths};

/// What the hub refuses for what it is, whoever asks and whenever.
const MEANINGLESS: [Code; 2] = [Code::BadId, Code::Protocol];
/// May hold a token, so that it stands in no command line and no file.
const TOKEN_VARIABLE: &str = "LOCKSTEP_TOKEN";
/// The first wait before a reconnect; each further one is twice as long.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
/// The longest.
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// A connection that held for this long was one: a reconnect after it is a first try.
const HELD: Duration = Duration::from_secs(10);

/// Which hub
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ReachArgs {
    /// The data directory of the hub or agent on this machine to ask; by default the hub's, then the agent's
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Asks the hub at this address or join link itself, logged in as --id; not beside a running agent
    #[arg(long, global = true, value_name = "ADDR")]
    hub: Option<String>,

    /// The ID to log in with at --hub; its unique ID is kept in the data directory
    #[arg(long, global = true, value_name = "N", requires = "hub", allow_negative_numbers = true)]
    id: Option<String>,
}

/// Which hub, and with what
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct AskArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    /// Asks over HTTP at --hub, such as `https://hub.example:7118`, with the token that administers in this file; behind it may
    /// stand what `lockstep cert` prints. The variable LOCKSTEP_TOKEN may hold the same
    #[arg(long, global = true, value_name = "FILE", requires = "hub", conflicts_with = "id")]
    token_file: Option<PathBuf>,
}

/// Where questions go.
pub(crate) enum Asker {
    /// Through this machine's hub or agent, or logged in.
    Client(Box<Client>),
    /// Over HTTP.
    Program(Program),
}

impl Asker {
    /// Asks; for [`Question::Wait`] this takes as long as it says.
    ///
    /// # Errors
    /// As [`answered`].
    pub(crate) async fn ask(&mut self, question: Question) -> Result<Answer, Failure> {
        match self {
            Asker::Client(client) => client.ask(question).await.map_err(answered),
            Asker::Program(program) => program.ask(&question).await.map_err(answered_program),
        }
    }
}

/// A question that came to nothing: what the hub refuses is said as it says it. What has no meaning, as a name with a control
/// character, is wrong usage (2), whoever saw it first; whom the hub does not let in at all ends with 5; all else could not run (3).
pub(crate) fn answered(error: ClientError) -> Failure {
    let meaningless = matches!(error, ClientError::Unsaid(_)) || error.code().is_some_and(|c| MEANINGLESS.contains(&c));
    let exit = match (meaningless, error.is_for_good()) {
        (true, _) => Exit::Usage,
        (false, true) => Exit::Refused,
        (false, false) => Exit::CouldNotRun,
    };
    Failure::new(exit, error)
}

/// The same of a question over HTTP.
fn answered_program(error: ProgramError) -> Failure {
    let meaningless = match &error {
        ProgramError::Refused { code, .. } => MEANINGLESS.iter().any(|bad| bad.as_str() == code),
        _ => false,
    };
    Failure::new(if meaningless { Exit::Usage } else { Exit::CouldNotRun }, error)
}

impl AskArgs {
    /// Connects.
    ///
    /// # Errors
    /// As [`ReachArgs::connect`], and when what is to be a token is none.
    pub(crate) async fn connect(&self) -> Result<Asker, Failure> {
        match (&self.reach.hub, self.credentials()?) {
            (Some(hub), Some(credentials)) => {
                Program::new(hub, credentials).map(Asker::Program).map_err(|error| Failure::usage(error.to_string()))
            }
            (Some(_), None) if self.reach.id.is_none() => Err(Failure::usage(
                "--hub needs to know as whom: --id N logs in as a client, --token-file FILE asks over HTTP with a token",
            )),
            _ => self.reach.connect().await.map(|client| Asker::Client(Box::new(client))),
        }
    }

    /// Takes flags that stand behind words which may begin with a hyphen.
    ///
    /// # Errors
    /// When they are none of these.
    pub(crate) fn update(&mut self, flags: Vec<String>) -> Result<(), Failure> {
        use clap::{Args as _, FromArgMatches as _};
        let parser = Self::augment_args(clap::Command::new("lockstep").no_binary_name(true).disable_help_flag(true));
        let parsed = parser.try_get_matches_from(flags).and_then(|matches| self.update_from_arg_matches(&matches));
        parsed.map_err(|error| Failure::usage(error.to_string().trim_end()))
    }

    /// The token, where one is named; that of the environment counts for a hub that is asked as nobody in particular.
    fn credentials(&self) -> Result<Option<Credentials>, Failure> {
        let wrong = |whose: &str, why: BadCredentials| Failure::usage(format!("{whose}: {why}"));
        if let Some(path) = &self.token_file {
            let text = read(path).with_context(|| format!("cannot read {}", path.display()))?;
            return Credentials::parse(&text).map(Some).map_err(|why| wrong(&path.display().to_string(), why));
        }
        if self.reach.hub.is_none() || self.reach.id.is_some() {
            return Ok(None);
        }
        match std::env::var(TOKEN_VARIABLE) {
            Ok(text) => Credentials::parse(&text).map(Some).map_err(|why| wrong(TOKEN_VARIABLE, why)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(wrong(TOKEN_VARIABLE, BadCredentials::Token)),
        }
    }
}

/// A short file of text.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(CREDENTIALS_BYTES_MAX as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// Why there is no connection.
enum Unreached {
    /// None of these places is served.
    Nobody(Vec<PathBuf>),
    /// Somebody is there, but.
    Client(ClientError),
    /// The command line does not say how.
    Failure(Failure),
}

impl ReachArgs {
    /// Connects.
    ///
    /// # Errors
    /// When nothing on this machine answers, or the hub is not reached: exit code 3; 5 where it does not let this client in.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        self.try_once().await.map_err(Failure::from)
    }

    /// Connects again, as often as it takes until the hub or the agent is back.
    ///
    /// # Errors
    /// When it refuses.
    pub(crate) async fn connect_again(&self, patience: &mut Patience) -> Result<Client, Failure> {
        loop {
            patience.wait().await;
            match self.try_once().await {
                Err(Unreached::Nobody(_)) => {}
                Err(Unreached::Client(error)) if error.is_passing() => {}
                other => return other.map_err(Failure::from),
            }
        }
    }

    async fn try_once(&self) -> Result<Client, Unreached> {
        if let (Some(hub), Some(id)) = (&self.hub, &self.id) {
            let (mut addresses, trust, invite) = join::hub(Some(hub)).map_err(Unreached::Failure)?;
            let key_dir = self.data.clone().map_or_else(|| paths::default_data("agent"), Ok);
            let target = Target::Hub {
                address: addresses.pop().unwrap_or_default(),
                trust,
                id: Some(join::id(id).map_err(Unreached::Failure)?),
                invite,
                name: join::machine_name(),
                key_dir: key_dir.map_err(Unreached::Failure)?,
            };
            return Client::connect(target, &join::software()).await.map_err(Unreached::Client);
        }
        if self.hub.is_some() {
            return Err(Unreached::Failure(Failure::usage("--hub needs to know as whom: --id N logs in as a client")));
        }
        let default = |of| paths::default_data(of).map_err(Unreached::Failure);
        let places = match &self.data {
            Some(data) => vec![data.clone()],
            None => vec![default("hub")?, default("agent")?],
        };
        for place in &places {
            let socket = agent::state::socket_path(place);
            // A socket that nobody serves any more is left by a process that was killed: the next place is tried.
            match Client::connect(Target::Socket(socket), &join::software()).await {
                Ok(client) => return Ok(client),
                Err(error) if is_nobody(&error) => {}
                Err(error) => return Err(Unreached::Client(error)),
            }
        }
        Err(Unreached::Nobody(places))
    }
}

/// The hub or agent that runs on the data directory `data`; `None` where nobody does.
///
/// # Errors
/// When somebody is there and does not answer as one should.
pub(crate) async fn served(data: &std::path::Path) -> Result<Option<Client>, Failure> {
    let socket = agent::state::socket_path(data);
    match Client::connect(Target::Socket(socket), &join::software()).await {
        Ok(client) => Ok(Some(client)),
        Err(error) if is_nobody(&error) => Ok(None),
        Err(error) => Err(answered(error)),
    }
}

impl From<Unreached> for Failure {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Failure(failure) => failure,
            Unreached::Client(error) => answered(error),
            Unreached::Nobody(places) => {
                let tried: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
                Failure::could_not_run(anyhow::anyhow!(
                    "no hub and no agent runs on {}; start one, name its --data DIR, or ask a hub with --hub ADDR --id N",
                    tried.join(" or ")
                ))
            }
        }
    }
}

/// How long to wait before the next try: ever longer, until a connection has held for a while.
pub(crate) struct Patience {
    next: Duration,
    since: Instant,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { next: AGAIN_FIRST, since: Instant::now() }
    }

    async fn wait(&mut self) {
        if self.since.elapsed() > HELD {
            self.next = AGAIN_FIRST;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(AGAIN_MAX);
        self.since = Instant::now();
    }
}

/// Whether there is no socket, or one that nobody serves.
fn is_nobody(error: &ClientError) -> bool {
    matches!(error, ClientError::Disk(_)) && error.is_passing()
}

/// Asks a person whether a hub that was never met is the right one; without a terminal the answer is no.
pub(crate) fn ask() -> Arc<agent::dial::Ask> {
    Arc::new(|address, fingerprint| {
        use std::io::{IsTerminal, Write};
        if !std::io::stdin().is_terminal() {
            return Decision::NoTerminal;
        }
        let mut stderr = std::io::stderr();
        let question = format!(
            "The hub at {address} was never met. Its key is {fingerprint}; compare it with what the hub printed at its start.\nIs it the same? [yes/no] "
        );
        let mut answer = String::new();
        let asked = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
        match asked.and_then(|()| std::io::stdin().read_line(&mut answer)) {
            Ok(_) if answer.trim().eq_ignore_ascii_case("yes") => Decision::Yes,
            _ => Decision::No,
        }
    })
}
