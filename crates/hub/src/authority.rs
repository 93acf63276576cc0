//! The hub's own certificate authority, for browsers and other HTTP clients: its certificate is what they are told to
//! trust, once; what it signs is for every name and address of this machine and changes as they do.
//!
//! It has nothing to do with the key that agents pin, and neither changes the other.

use crate::state::{DataDir, StateError, host_name, write_secret};
use data_encoding::{BASE64, HEXLOWER};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ParsedCertificate;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The authority's certificate in the hub's data directory, in PEM.
pub const CA_NAME: &str = "http-ca.pem";
const CA_KEY_NAME: &str = "http-ca.key.der";
/// For how long what is signed is good.
const LEAF_DAYS: i64 = 90;
/// After this many days it is made anew, long before it ends.
pub(crate) const RENEW_DAYS: i64 = 30;
/// For how long the authority's own certificate is good.
const CA_DAYS: i64 = 20 * 365;
/// No hub was made before this day (2026-01-01). A machine without a battery for its clock begins in 1970, and an authority that
/// it makes then has to be good once the clock is right: it is trusted by hand, and made only once.
const NEVER_BEFORE_MS: i64 = 1_767_225_600_000;

/// The authority.
pub(crate) struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

/// A certificate with what is presented along with it, and its key.
pub(crate) struct Leaf {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Authority {
    /// Reads the authority, or makes it where there is none.
    pub(crate) fn open(data_dir: &DataDir, now_ms: i64) -> Result<Authority, StateError> {
        let (cert_path, key_path) = (data_dir.file(CA_NAME), data_dir.file(CA_KEY_NAME));
        let broken = |path: &Path, why: &dyn std::fmt::Display| StateError::Authority {
            path: path.to_owned(),
            why: why.to_string(),
        };
        match (fs::read(&cert_path), fs::read(&key_path)) {
            (Ok(pem), Ok(der)) => {
                let certificate = CertificateDer::from_pem_slice(&pem).map_err(|e| broken(&cert_path, &e))?;
                let key = KeyPair::try_from(der).map_err(|e| broken(&key_path, &e))?;
                let parsed = ParsedCertificate::try_from(&certificate).map_err(|e| broken(&cert_path, &e))?;
                if parsed.subject_public_key_info().as_ref() != key.subject_public_key_info() {
                    let why = format!("{} is the key of another", key_path.display());
                    return Err(broken(&cert_path, &why));
                }
                Ok(Authority { key, certificate })
            }
            (Ok(_), Err(e)) if e.kind() == ErrorKind::NotFound => {
                Err(broken(&cert_path, &format!("its key {} is not there", key_path.display())))
            }
            // The certificate is written last: without it nobody was told to trust the key.
            (Err(e), _) if e.kind() == ErrorKind::NotFound => {
                let key = KeyPair::generate().map_err(|e| broken(&key_path, &e))?;
                let certificate = ca_params(&key, now_ms).self_signed(&key).map_err(|e| broken(&cert_path, &e))?;
                write_secret(&key_path, &key.serialize_der())?;
                write_secret(&cert_path, pem("CERTIFICATE", certificate.der()).as_bytes())?;
                tracing::info!(path = %cert_path.display(), "a certificate authority was made: `lockstep cert` prints it");
                Ok(Authority { key, certificate: certificate.der().clone() })
            }
            (Err(source), _) => Err(StateError::Io { verb: "read", path: cert_path, source }),
            (_, Err(source)) => Err(StateError::Io { verb: "read", path: key_path, source }),
        }
    }

    /// A certificate for these names and addresses, from now on; what cannot be one's name is left out.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn sign(&self, names: &BTreeSet<String>, now_ms: i64) -> Result<Leaf, rcgen::Error> {
        let fits = |name: &&String| CertificateParams::new(vec![(*name).clone()]).is_ok();
        let mut params = CertificateParams::new(names.iter().filter(fits).cloned().collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, "lockstep hub");
        good_for(&mut params, now_ms, LEAF_DAYS);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        // Only its name and key say who signed, and these follow from the key.
        let issuer = Issuer::new(ca_params(&self.key, now_ms), &self.key);
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Leaf {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }
}

fn ca_params(key: &KeyPair, now_ms: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let number = HEXLOWER.encode(&blake3::hash(key.public_key_pem().as_bytes()).as_bytes()[..4]);
    params.distinguished_name.push(DnType::CommonName, format!("lockstep hub CA {number}"));
    good_for(&mut params, now_ms.max(NEVER_BEFORE_MS), CA_DAYS);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// From yesterday's midnight (UTC) on, so that a client whose clock is a little behind agrees, for so many days.
fn good_for(params: &mut CertificateParams, now_ms: i64, days: i64) {
    let now = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let today = jiff::tz::TimeZone::UTC.to_datetime(now).date();
    let midnight = |days: i64| {
        let date = today.checked_add(jiff::Span::new().days(days)).unwrap_or(today);
        let number = |n: i8| u8::try_from(n).unwrap_or(1);
        rcgen::date_time_ymd(i32::from(date.year()), number(date.month()), number(date.day()))
    };
    (params.not_before, params.not_after) = (midnight(-1), midnight(days));
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Every name and address by which this machine may be asked for, and `more`.
pub(crate) fn local_names(more: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
    names.insert(host_name());
    let trie = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    names.extend(ipv4_addresses(&trie).map(|address| address.to_string()));
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    names.extend(ipv6_addresses(&table).map(|address| address.to_string()));
    names.extend(more);
    names
}

/// The addresses that are this machine's own, in the kernel's routing trie: each stands in the line before its mark.
fn ipv4_addresses(trie: &str) -> impl Iterator<Item = Ipv4Addr> {
    let pairs = trie.lines().zip(trie.lines().skip(1));
    pairs
        .filter(|(_, mark)| mark.trim() == "/32 host LOCAL")
        .filter_map(|(line, _)| line.trim().strip_prefix("|-- ")?.parse().ok())
}

/// The addresses of the kernel's table of interfaces: 32 hexadecimal digits begin each line.
fn ipv6_addresses(table: &str) -> impl Iterator<Item = IpAddr> {
    let words = table.lines().filter_map(|line| line.split_whitespace().next());
    words.filter_map(|word| {
        let bytes: [u8; 16] = HEXLOWER.decode(word.as_bytes()).ok()?.try_into().ok()?;
        Some(Ipv6Addr::from(bytes).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_authority_is_made_once_only_its_owner_reads_it_and_what_it_signs_names_this_machine() {
        let scratch = tempfile::tempdir().unwrap();
        let data = DataDir::open(scratch.path()).unwrap();
        let now_ms = 1_790_000_000_000;
        let first = Authority::open(&data, now_ms).unwrap();
        let again = Authority::open(&data, now_ms + 86_400_000 * 400).unwrap();
        assert_eq!(first.certificate, again.certificate);
        for name in [CA_NAME, CA_KEY_NAME] {
            assert_eq!(fs::metadata(data.file(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        let names = local_names(["hub.example".to_owned(), "not a name\u{e4}".to_owned()]);
        assert!(names.contains("127.0.0.1") && names.contains(&host_name()));
        let leaf = again.sign(&names, now_ms).unwrap();
        assert_eq!(leaf.chain.len(), 2);
        let has = |text: &str| leaf.chain[0].windows(text.len()).any(|window| window == text.as_bytes());
        assert!(has("hub.example") && has("localhost"));
    }

    #[test]
    fn an_authority_that_is_not_whole_or_anothers_is_left_as_it_is_and_says_what_to_do() {
        let now_ms = 1_790_000_000_000;
        let made = || {
            let scratch = tempfile::tempdir().unwrap();
            let data = DataDir::open(scratch.path()).unwrap();
            Authority::open(&data, now_ms).unwrap();
            (data, scratch)
        };
        let ((other, _scratch), garbage) = (made(), b"no certificate, no key".as_slice());
        let of_other = |name: &str| fs::read(other.file(name)).unwrap();
        for (name, instead) in [
            (CA_NAME, Some(garbage.to_vec())),
            (CA_KEY_NAME, Some(garbage.to_vec())),
            (CA_NAME, Some(of_other(CA_NAME))),
            (CA_KEY_NAME, Some(of_other(CA_KEY_NAME))),
            (CA_KEY_NAME, None),
        ] {
            let (data, _scratch) = made();
            let both = || [CA_NAME, CA_KEY_NAME].map(|name| fs::read(data.file(name)).ok());
            match &instead {
                Some(bytes) => fs::write(data.file(name), bytes).unwrap(),
                None => fs::remove_file(data.file(name)).unwrap(),
            }
            let before = both();
            let Err(error) = Authority::open(&data, now_ms) else { panic!("{name} was taken") };
            let text = error.to_string();
            assert!(text.contains(&data.file(name).display().to_string()) && text.contains("move it away"), "{text}");
            assert_eq!(both(), before);
            // As it says.
            fs::rename(data.file(CA_NAME), data.file("away")).unwrap();
            Authority::open(&data, now_ms).unwrap();
        }
    }

    #[test]
    fn addresses_are_read_as_the_kernel_tells_them() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 192.0.2.7\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(ipv4_addresses(trie).collect::<Vec<_>>(), [Ipv4Addr::new(192, 0, 2, 7)]);
        let table = "00000000000000000000000000000001 01 80 10 80       lo\nfe80 x\n";
        assert_eq!(ipv6_addresses(table).collect::<Vec<_>>(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
    }
}
