//! Network interfaces: `/proc/net/dev`, which shows those of the network namespace we are in.

use std::path::Path;

use super::devices::{DeviceField, Devices, Family, rate};
use crate::{
    fields::field,
    proc::KeptFile,
    schema::{Kind, Metric, Unit},
    stat::number,
};

/// Traffic of each interface.
pub(crate) type Network = Devices<6>;

impl Network {
    pub(crate) fn of(procfs: &Path) -> Self {
        Self::new(&INTERFACES, KeptFile::new(procfs.join("net/dev")))
    }
}

static INTERFACES: Family<6> =
    Family { metric: Metric::Network, prefix: "net", devices_max: 64, line, left_out, made_of_others, fields: FIELDS };

const BYTES: (Unit, Kind) = (Unit::BytesPerSecond, Kind::Rate);
const TIMES: (Unit, Kind) = (Unit::PerSecond, Kind::Rate);
const DEV: &str = "/proc/net/dev";

const FIELDS: &[DeviceField<6>] = &[
    field(
        ("rx_bytes_per_s", "received"),
        BYTES,
        (DEV, "bytes received; of all together without lo, bridges, ifb"),
        rate::<0, 6>,
    )
    .shown(),
    field(
        ("tx_bytes_per_s", "sent"),
        BYTES,
        (DEV, "bytes sent; of all together without lo, bridges, ifb"),
        rate::<1, 6>,
    )
    .shown(),
    field(("rx_packets_per_s", "packets received"), TIMES, (DEV, "packets received"), rate::<2, 6>),
    field(("tx_packets_per_s", "packets sent"), TIMES, (DEV, "packets sent"), rate::<3, 6>),
    field(("rx_lost_per_s", "received lost"), TIMES, (DEV, "packets received with errors, or dropped"), rate::<4, 6>),
    field(("tx_lost_per_s", "sent lost"), TIMES, (DEV, "packets not sent for errors, or dropped"), rate::<5, 6>),
];

/// `NAME:` and 16 counters. A name can hold every byte but `/`, `:` and spaces; there may be no space after the colon.
fn line(line: &[u8]) -> Option<(&[u8], [u64; 6])> {
    let colon = line.iter().rposition(|byte| *byte == b':')?;
    let name = line[..colon].trim_ascii_start();
    let mut words = line[colon + 1..].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut counters = [0; 12];
    for counter in &mut counters {
        *counter = number(words.next()?)?;
    }
    let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped] =
        counters;
    let lost = |errors: u64, dropped: u64| errors.saturating_add(dropped);
    let counters =
        [rx_bytes, tx_bytes, rx_packets, tx_packets, lost(rx_errors, rx_dropped), lost(tx_errors, tx_dropped)];
    (!name.is_empty()).then_some((name, counters))
}

/// The ends of containers' cables: they come and go, and would be columns for ever.
fn left_out(name: &[u8], _: Option<&[u8]>) -> bool {
    name.starts_with(b"veth")
}

/// Traffic that stays on the machine, or is counted at another interface as well.
fn made_of_others(name: &[u8]) -> bool {
    name == b"lo" || [&b"ifb"[..], b"br", b"docker", b"virbr", b"dummy"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_and_without_a_space_after_the_colon() {
        let counters = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
        for text in [format!("  eth0: {counters}"), format!("eth0:{counters}")] {
            assert_eq!(line(text.as_bytes()), Some((&b"eth0"[..], [1, 9, 2, 10, 7, 23])));
        }
        for bad in ["", " face |bytes    packets errs", "eth0: 1 2", "eth0: a b c d e f g h i j k l m n o p"] {
            assert_eq!(line(bad.as_bytes()), None, "{bad}");
        }
    }
}
