//! Looking at what a start would find, without starting: nothing is made, migrated or changed.

use crate::backup::is_store;
use crate::http::{Source, TlsError, read_chain, usable};
use crate::listen::listen;
use crate::settings::enrol_or_default;
use crate::state::{LOCK_NAME, RESTORING_NAME, format};
use crate::{CA_NAME, Config, Error, clock, roster, shares};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tree::Dir;
use tree::at::ListBuffer;
use yasna::tags::TAG_UTCTIME;
use yasna::{ASN1Result, BERReader, Tag};

/// A certificate that is good for less than this is worth a word.
const SOON_DAYS: i64 = 14;
const DAY_S: i64 = 24 * 3600;
/// Where a SQLite file has the number of its format.
const USER_VERSION_AT: usize = 60;

/// How it stands with something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// The hub would start; worth knowing all the same.
    Note,
    /// The hub would not start.
    Bad,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// In words.
    pub text: String,
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, what: &'static str, verdict: Verdict, text: impl Into<String>) {
        self.0.push(Finding { what, verdict, text: text.into() });
    }

    fn bad(&mut self, what: &'static str, error: &(dyn std::error::Error + 'static)) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        self.add(what, Verdict::Bad, text);
    }
}

/// Looks at all that a start with `config` needs. Ports that `held` names are those of the hub that runs on the data directory now.
pub async fn check(config: &Config, held: &[SocketAddr]) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    let set = config.settings.borrow().clone();
    let running = data(&mut findings, &config.data);
    if let Err(error) = shares::check(&set.shares) {
        findings.bad("share", &error);
    }
    for (name, directory) in &set.shares {
        share(&mut findings, name, directory);
    }
    let held = if running { held } else { &[] };
    port(&mut findings, config.listen, "--listen", held).await;
    if let Some(http) = &config.http {
        port(&mut findings, http.address, "--http", held).await;
    }
    if let Some(text) = config.text {
        port(&mut findings, text, "--text", held).await;
    }
    certificate(&mut findings, config);
    let enrol = enrol_or_default(set.enrol, config.only_here());
    let who = match enrol {
        crate::Enrol::Open => "anybody may enrol",
        crate::Enrol::Invite => "enrolment by invite",
        crate::Enrol::Closed => "nobody new may enrol",
    };
    findings.add("enrol", Verdict::Good, who);
    for (event, command) in &set.on {
        match command.check() {
            Ok(()) => findings.add("on", Verdict::Good, format!("{}: {}", event.as_str(), command.shown())),
            Err(error) => findings.bad("on", &error),
        }
    }
    let limits = set.limits;
    findings.add(
        "limits",
        Verdict::Good,
        format!(
            "{} clients, {} values of {} bytes, {} bytes in all, {} puts a second and client, {} connections that have not \
             logged in, {} of one address",
            limits.clients,
            limits.values,
            limits.value_bytes,
            limits.values_bytes,
            limits.puts_per_s,
            limits.strangers,
            limits.strangers_of_address
        ),
    );
    findings.0
}

/// The data directory; whether a hub runs on it.
fn data(findings: &mut Findings, path: &Path) -> bool {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            findings.add("data", Verdict::Note, format!("{shown} is made at the start"));
            return false;
        }
        Err(error) => {
            findings.add("data", Verdict::Bad, format!("{shown} cannot be looked at: {error}"));
            return false;
        }
        Ok(metadata) => metadata,
    };
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        let text = format!("{shown} is no directory of this user (uid {} has it)", metadata.uid());
        findings.add("data", Verdict::Bad, text);
        return false;
    }
    match format::Format::read(path) {
        Err(error) => findings.bad("data", &error),
        Ok(None) => findings.add("data", Verdict::Note, format!("{shown} has no format yet, and is given one")),
        Ok(Some(found)) => match found.usable(path) {
            Err(error) => findings.bad("data", &error),
            Ok(()) if found.number < format::FORMAT => {
                let text = format!("{shown} has format {} and is migrated to {}", found.number, format::FORMAT);
                findings.add("data", Verdict::Note, text);
            }
            Ok(()) => findings.add("data", Verdict::Good, format!("{shown} has format {}", found.number)),
        },
    }
    if path.join(RESTORING_NAME).exists() {
        findings.bad("data", &crate::StateError::Unfinished { path: path.to_owned() });
    }
    stores(findings, path);
    let lock = rustix::fs::open(path.join(LOCK_NAME), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let taken = lock.map(|lock| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared));
    let running = matches!(taken, Ok(Err(rustix::io::Errno::WOULDBLOCK)));
    if running {
        let text = "a hub runs on it now; what follows is how starting it anew would go";
        findings.add("data", Verdict::Note, text);
    }
    running
}

/// The formats of the stores, as far as they stand in the files.
fn stores(findings: &mut Findings, path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_store(&name) {
            continue;
        }
        let known = if name == "roster.db" { roster::FORMAT } else { board::FORMAT };
        let mut head = [0; USER_VERSION_AT + 4];
        let read = fs::File::open(entry.path()).and_then(|mut file| file.read_exact(&mut head));
        // One that is empty yet, or whose newest state is only in its log, says nothing here.
        let Some(found) = read.ok().and_then(|()| head[USER_VERSION_AT..].try_into().ok()).map(u32::from_be_bytes)
        else {
            continue;
        };
        if i64::from(found) > known {
            let text = format!("{} has format {found}, this release knows up to {known}", entry.path().display());
            findings.add("data", Verdict::Bad, text);
        }
    }
}

fn share(findings: &mut Findings, name: &str, directory: &Path) {
    let listed = Dir::open_root(directory).and_then(|dir| dir.list(&mut ListBuffer::default()));
    match listed {
        Ok(entries) => {
            let entries = if entries.len() == 1 { "1 entry".to_owned() } else { format!("{} entries", entries.len()) };
            let text = format!("{name}: {} can be read, with {entries} in it", directory.display());
            findings.add("share", Verdict::Good, text);
        }
        Err(error) => findings.bad("share", &error),
    }
}

async fn port(findings: &mut Findings, address: SocketAddr, flag: &'static str, held: &[SocketAddr]) {
    if address.port() != 0 && held.iter().any(|held| held.port() == address.port()) {
        findings.add("port", Verdict::Good, format!("{flag} {address} is held by the hub that runs now"));
        return;
    }
    match listen(address, flag).await {
        Ok((listener, _)) => {
            drop(listener);
            let text = if address.port() == 0 { "takes a free port" } else { "is free" };
            findings.add("port", Verdict::Good, format!("{flag} {address} {text}"));
        }
        Err(Error::Listen { address, source, hint }) => {
            findings.add("port", Verdict::Bad, format!("{flag} {address}: {source}{hint}"));
        }
        Err(error) => findings.bad("port", &error),
    }
}

/// What HTTP presents, and until when it is good.
fn certificate(findings: &mut Findings, config: &Config) {
    let Some(http) = &config.http else { return };
    let set = config.settings.borrow().clone();
    match set.certificate {
        _ if http.plain => findings.add("cert", Verdict::Note, "HTTP is served without TLS"),
        None if http.address.ip().is_loopback() => {
            findings.add("cert", Verdict::Good, "HTTP is plain, for this machine alone");
        }
        None => {
            let ca = config.data.join(CA_NAME);
            let text = if ca.exists() {
                "signed by the hub's own authority"
            } else {
                "signed by an authority that is made at the start"
            };
            findings.add("cert", Verdict::Good, format!("{text}: {}", ca.display()));
        }
        Some((certificate, key)) => {
            let looked = usable(&Source::Files(certificate.clone(), key), clock::now_ms())
                .and_then(|()| read_chain(&certificate))
                .and_then(|chain| good_for(&certificate, chain.first().map(AsRef::as_ref).unwrap_or_default()));
            match looked {
                Err(error) => findings.bad("cert", &error),
                Ok((verdict, text)) => findings.add("cert", verdict, format!("{}: {text}", certificate.display())),
            }
        }
    }
}

fn good_for(path: &Path, certificate: &[u8]) -> Result<(Verdict, String), TlsError> {
    let (from_s, to_s) =
        validity(certificate).map_err(|error| TlsError::File { path: path.to_owned(), why: error.to_string() })?;
    let now_s = clock::now_ms() / 1000;
    let time = |s: i64| jiff::Timestamp::from_second(s).map(|time| time.to_string()).unwrap_or_default();
    Ok(if now_s < from_s {
        (Verdict::Bad, format!("it is good only from {} on", time(from_s)))
    } else if now_s > to_s {
        (Verdict::Bad, format!("it was good until {}", time(to_s)))
    } else {
        let days = (to_s - now_s) / DAY_S;
        let verdict = if days < SOON_DAYS { Verdict::Note } else { Verdict::Good };
        (verdict, format!("it is good until {}, for {days} days", time(to_s)))
    })
}

/// From when to when a certificate is good, in seconds since 1970: what comes before it there (RFC 5280, section 4.1) is passed over.
fn validity(certificate: &[u8]) -> ASN1Result<(i64, i64)> {
    let time = |reader: BERReader<'_, '_>| match reader.lookahead_tag()? {
        TAG_UTCTIME => reader.read_utctime().map(|time| time.datetime().unix_timestamp()),
        _ => reader.read_generalized_time().map(|time| time.datetime().unix_timestamp()),
    };
    yasna::parse_der(certificate, |reader| {
        reader.read_sequence(|certificate| {
            let validity = certificate.next().read_sequence(|signed| {
                let version = Tag::context(0);
                signed.read_optional(|reader| reader.read_tagged(version, |reader| reader.read_u8()))?;
                for _ in ["serialNumber", "signature", "issuer"] {
                    signed.next().read_der()?;
                }
                let validity = signed.next().read_sequence(|times| Ok((time(times.next())?, time(times.next())?)))?;
                while signed.read_optional(|reader| reader.read_der())?.is_some() {}
                Ok(validity)
            })?;
            for _ in ["signatureAlgorithm", "signatureValue"] {
                certificate.next().read_der()?;
            }
            Ok(validity)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_from_when_to_when_it_is_good_in_each_of_the_two_ways_to_write_a_time() {
        let key = rcgen::KeyPair::generate().unwrap();
        for (from, to, expected) in [
            // In two digits of a year up to 2049, in four from 2050 on (RFC 5280, section 4.1.2.5).
            ((2026, 11, 30), (2027, 11, 30), (1_795_996_800, 1_827_532_800)),
            ((2049, 12, 31), (2050, 1, 1), (2_524_521_600, 2_524_608_000)),
        ] {
            let mut parameters = rcgen::CertificateParams::new(vec!["hub.example".to_owned()]).unwrap();
            parameters.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
            parameters.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
            let der = parameters.self_signed(&key).unwrap().der().to_vec();
            assert_eq!(validity(&der).unwrap(), expected);
            for cut in 0..der.len() {
                assert!(validity(&der[..cut]).is_err(), "cut at {cut} of {}", der.len());
            }
        }
    }
}
