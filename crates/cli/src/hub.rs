//! `lockstep hub`: shares directories, named values and the machines' vitals with everybody who joins.

mod backup;
mod check;
mod limits;
mod on;
mod reload;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::{Notify, watch};

use crate::exit::{Exit, Failure};
use crate::logging::{self, LogArgs};
use crate::signals::{self, Signal};
use crate::table::count;
use crate::{notify, paths, runtime};
use limits::LimitArgs;
use on::OnArgs;

/// Shares directories, named values and the machines' vitals with every machine that joins
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,

    /// Shares DIR under its own name, or as NAME; may be given several times
    #[arg(long, value_name = "[NAME=]DIR")]
    share: Vec<PathBuf>,

    /// Where the hub keeps its key, its roster, its values and its tables
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Where machines come in; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "[::]:7117")]
    listen: String,

    /// Where browsers and other HTTP clients come in; `none` for nowhere
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7118")]
    http: String,

    /// Where lines of plain text are spoken, for nc and small scripts; by default nowhere
    #[arg(long, value_name = "ADDR")]
    text: Option<String>,

    /// Lets --text listen where other machines can connect and everybody on the way can read along
    #[arg(long)]
    text_insecure: bool,

    /// The certificate that HTTP presents, and what goes along with it, in PEM; read again on SIGHUP. Without: plain on
    /// loopback, elsewhere one that the hub's own authority signs (lockstep cert)
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "http_plain")]
    cert: Option<PathBuf>,

    /// The key of --cert, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// Serves HTTP without TLS wherever it is
    #[arg(long)]
    http_plain: bool,

    /// Does not hand out this program over HTTP to machines that have none
    #[arg(long)]
    no_install: bool,

    /// Lets the pages of an origin, such as `https://app.example`, read over HTTP; may be given several times
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    cors: Vec<hub::Origin>,

    /// What the join line calls this machine, where its own name will not do
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,

    /// Who may enrol: by default open where only this machine can connect (over any transport), else by invite
    #[arg(long, value_name = "WHO")]
    enrol: Option<Enrol>,

    #[command(flatten)]
    on: OnArgs,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    /// What has to be there.
    pub(crate) fn reads(&self) -> Vec<PathBuf> {
        // As it is written: what `named` makes of it is no longer what a service is given.
        let shares =
            self.share.iter().map(|share| cut(share).map_or_else(|| share.clone(), |(_, directory)| directory));
        shares.chain(self.cert.clone()).chain(self.key.clone()).collect()
    }

    /// The directories that it writes beyond its own.
    pub(crate) fn writes(&self) -> Vec<PathBuf> {
        self.data.clone().into_iter().chain(self.log.directory()).collect()
    }
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Check(check::CheckArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Enrol {
    /// Whoever comes
    Open,
    /// Whoever has an invite
    Invite,
    /// Nobody new
    Closed,
}

/// Runs the hub until a signal ends it, or does what the word behind it says.
///
/// # Errors
/// When it cannot start: a share that is no directory, a data directory or a port in use. Nothing is shared then.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let data = args.data()?;
    match &args.what {
        Some(What::Backup(args)) => backup::backup(args, &data),
        Some(What::Restore(args)) => backup::restore(args, &data),
        Some(What::Check(check)) => check::check(check, &args),
        None => serve(&args),
    }
}

fn serve(args: &Args) -> Result<Exit, Failure> {
    let stop = signals::flag()?;
    let shares = args.share.iter().map(|share| named(share)).collect::<Result<Vec<_>, Failure>>()?;
    let (set, settings) = watch::channel(args.settings(shares)?);
    let config = args.config(settings)?;
    let bell = Arc::<Notify>::default();
    signals::on_hangup(&bell)?;
    logging::start("hub", &args.log)?;
    let asked = async {
        signals::asked(stop).await;
        notify::tell(notify::STOPPING);
    };
    let ended = runtime::start()?.block_on(async {
        tokio::select! {
            ended = hub::run(config, greet, asked) => ended,
            never = reload::keep(args, &bell, &set) => match never {},
            never = notify::keep_alive() => match never {},
        }
    });
    ended.map_err(|error| {
        let meaningless = matches!(error, hub::Error::ShareName { .. } | hub::Error::Shares(_));
        Failure::new(if meaningless { Exit::Usage } else { Exit::CouldNotRun }, error)
    })?;
    Ok(match stop.requested() {
        Some(Signal::Interrupt) => Exit::Interrupted,
        _ => Exit::Done,
    })
}

impl Args {
    fn data(&self) -> Result<PathBuf, Failure> {
        self.data.clone().map_or_else(|| paths::default_data("hub"), Ok)
    }

    /// What can be changed while it runs.
    ///
    /// # Errors
    /// When an event has two commands.
    fn settings(&self, shares: Shares) -> Result<hub::Settings, Failure> {
        Ok(hub::Settings {
            enrol: self.enrol.map(Enrol::into),
            limits: self.limits.limits(),
            cors: self.cors.clone(),
            certificate: self.cert.clone().zip(self.key.clone()),
            on: self.on.commands()?,
            shares,
        })
    }

    fn config(&self, settings: watch::Receiver<hub::Settings>) -> Result<hub::Config, Failure> {
        let http = match self.http.as_str() {
            "none" => None,
            text => Some(hub::HttpConfig {
                address: address(text, "--http", 7118)?,
                plain: self.http_plain,
                handout: !self.no_install,
            }),
        };
        let text = self.text.as_deref().map(|text| plain(text, self.text_insecure)).transpose()?;
        Ok(hub::Config {
            data: self.data()?,
            listen: address(&self.listen, "--listen", 7117)?,
            http,
            text,
            advertise: self.advertise.clone(),
            settings,
            name: None,
            ours: self.log.place("hub")?.into_iter().collect(),
            first_invite: !notify::keeps_what_is_said(),
        })
    }
}

/// Name and directory of each.
type Shares = Vec<(String, PathBuf)>;

/// What starts tells what it is, on stdout. Its join line may hold an invite, which no log is to see: a service's has none.
fn greet(up: hub::Up) {
    notify::tell(notify::READY);
    if let Err(error) = print(&up) {
        tracing::debug!(%error, "nobody reads what the hub says at its start");
    }
}

fn print(up: &hub::Up) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let who = match up.enrol {
        hub::Enrol::Open => "anybody may enrol",
        hub::Enrol::Invite => "enrolment by invite",
        hub::Enrol::Closed => "nobody new may enrol",
    };
    writeln!(out, "lockstep {} hub {}", env!("CARGO_PKG_VERSION"), up.name)?;
    writeln!(out, "data     {}", up.data.display())?;
    for share in &up.shares {
        let counts = if share.complete { count(share.entries, "entry", "entries") } else { "scanning".to_owned() };
        writeln!(out, "share    {}: {counts}", share.name)?;
    }
    writeln!(out, "address  {} (TLS; {who})", up.address)?;
    if let Some(http) = &up.http {
        writeln!(out, "http     {http}")?;
    }
    if let Some(text) = &up.text {
        writeln!(out, "text     {text} (plain text: nc {} {})", text.ip(), text.port())?;
    }
    writeln!(out, "hub key  {}", up.fingerprint)?;
    if let Some(line) = &up.install {
        writeln!(out, "install  {line}")?;
    }
    match &up.link {
        Some(link) => {
            writeln!(out, "join     lockstep join {link}")?;
            if up.enrol == hub::Enrol::Invite {
                writeln!(out, "         (one machine, within 24 h; for more: lockstep invite --uses N)")?;
            }
        }
        None if up.enrol == hub::Enrol::Invite => {
            writeln!(out, "join     with the link that lockstep invite prints, run on this machine")?;
        }
        None => {}
    }
    out.flush()
}

/// The address that `flag` gives; a name is looked up, and a missing port is `port`.
fn address(text: &str, flag: &str, port: u16) -> Result<SocketAddr, Failure> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    // The resolver would take it for an address, of four bytes.
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Failure::usage(format!(
            "{flag} {text}: which address? [::]:{text} is all of them, 127.0.0.1:{text} this machine alone"
        )));
    }
    // A name, or an address without a port.
    use std::net::ToSocketAddrs;
    let with_port = if text.contains(':') { text.to_owned() } else { format!("{text}:{port}") };
    let mut found = with_port.to_socket_addrs().map_err(|e| Failure::usage(format!("{flag} {text}: {e}")))?;
    found.next().ok_or_else(|| Failure::usage(format!("{flag} {text}: no such address")))
}

/// The address for lines of text, which nothing protects on their way.
fn plain(text: &str, insecure: bool) -> Result<SocketAddr, Failure> {
    let address = address(text, "--text", 7119)?;
    if address.ip().to_canonical().is_loopback() || insecure {
        return Ok(address);
    }
    Err(Failure::usage(format!(
        "--text {text}: unique IDs and values would cross the network for everybody to read; listen on this machine only \
         (--text 127.0.0.1:{}) and reach it by ssh -L, or add --text-insecure",
        address.port()
    )))
}

/// An origin as browsers name it: scheme, host and port, nothing behind.
fn origin(text: &str) -> Result<hub::Origin, String> {
    hub::Origin::parse(text).ok_or_else(|| "an origin is a scheme and a host, such as https://app.example".to_owned())
}

/// `NAME=DIR`, cut at its `=`, unless that is part of a path.
fn cut(share: &Path) -> Option<(String, PathBuf)> {
    use std::os::unix::ffi::OsStrExt;
    let text = share.as_os_str().as_bytes();
    let at = text.iter().position(|b| *b == b'=').filter(|at| !text[..*at].contains(&b'/'))?;
    let directory = PathBuf::from(std::ffi::OsStr::from_bytes(&text[at + 1..]));
    Some((String::from_utf8_lossy(&text[..at]).into_owned(), directory))
}

/// `NAME=DIR`, or a directory that is shared under its own name.
fn named(share: &Path) -> Result<(String, PathBuf), Failure> {
    if let Some((name, directory)) = cut(share) {
        return Ok((name, absolute(&directory)));
    }
    let whole = share
        .canonicalize()
        .with_context(|| format!("{} cannot be shared", share.display()))
        .map_err(Failure::could_not_run)?;
    let name = whole.file_name().ok_or_else(|| {
        Failure::usage(format!("{} has no name of its own: --share NAME={}", share.display(), share.display()))
    })?;
    Ok((name.to_string_lossy().into_owned(), absolute(share)))
}

/// A path that means the same to whoever asks about it from another directory.
fn absolute(path: &Path) -> PathBuf {
    // Of an empty one there is none: whoever opens it says so.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl From<Enrol> for hub::Enrol {
    fn from(enrol: Enrol) -> Self {
        match enrol {
            Enrol::Open => Self::Open,
            Enrol::Invite => Self::Invite,
            Enrol::Closed => Self::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_its_directorys_name_or_a_given_one() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("photos");
        std::fs::create_dir(&dir).unwrap();
        assert_eq!(named(&dir).unwrap(), ("photos".to_owned(), dir.clone()));
        let given = PathBuf::from(format!("pics={}", dir.display()));
        assert_eq!(named(&given).unwrap(), ("pics".to_owned(), dir.clone()));
        let odd = dir.join("a=b");
        std::fs::create_dir(&odd).unwrap();
        assert_eq!(named(&odd).unwrap().0, "a=b");
    }

    #[test]
    fn plain_text_stays_on_this_machine_unless_forced() {
        for here in ["127.0.0.1", "127.1.2.3:5", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert!(plain(here, false).is_ok(), "{here}");
        }
        for elsewhere in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7119", "[::ffff:192.0.2.1]:1"] {
            let refused = plain(elsewhere, false).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage);
            assert!(plain(elsewhere, true).is_ok());
        }
        assert_eq!(plain("127.0.0.1", false).unwrap().port(), 7119);
    }

    #[test]
    fn an_address_may_lack_its_port() {
        assert_eq!(address("127.0.0.1", "--listen", 7117).unwrap().port(), 7117);
        assert_eq!(address("[::1]:0", "--listen", 7117).unwrap().port(), 0);
        for wrong in ["no such place", "7118"] {
            assert_eq!(address(wrong, "--listen", 7117).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }
}
