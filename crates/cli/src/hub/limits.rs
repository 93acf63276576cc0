//! The flags that limit what a hub takes; what each limits, and its default, is in [`hub::Limits`].

use hub::Limits;

use std::time::Duration;

use crate::args::{parse_duration, parse_size};

/// What a hub takes before it says no
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(super) struct LimitArgs {
    /// Clients logged in at once [default: 20000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_clients: Option<u64>,

    /// Values [default: 100000]
    #[arg(long, value_name = "N")]
    max_values: Option<u64>,

    /// Bytes of one value, at most 256KiB [default: 256KiB]
    #[arg(long, value_name = "SIZE", value_parser = value_size)]
    max_value_size: Option<u64>,

    /// Bytes of all values with their names [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_values_size: Option<u64>,

    /// Values that one client may put or remove in a second; whoever is faster is slowed down [default: 5000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_puts: Option<u64>,

    /// Connections that have not logged in, from everybody [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_strangers: Option<u64>,

    /// Connections and sessions that have not logged in, from one address [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_strangers_per_address: Option<u64>,

    /// Who is back within so long was never away, for --on away [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    away_after: Option<Duration>,

    /// Who is here and has lacked something for so long is behind, for --on behind [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    behind_after: Option<Duration>,
}

impl LimitArgs {
    pub(super) fn limits(&self) -> Limits {
        let default = Limits::default();
        let Limits { clients, values, values_bytes, value_bytes, puts_per_s, strangers, strangers_of_address, .. } =
            default;
        Limits {
            clients: self.max_clients.unwrap_or(clients),
            values: self.max_values.unwrap_or(values),
            values_bytes: self.max_values_size.unwrap_or(values_bytes),
            value_bytes: self.max_value_size.unwrap_or(value_bytes),
            puts_per_s: self.max_puts.unwrap_or(puts_per_s),
            strangers: self.max_strangers.unwrap_or(strangers),
            strangers_of_address: self.max_strangers_per_address.unwrap_or(strangers_of_address),
            away_after: self.away_after.unwrap_or(default.away_after),
            behind_after: self.behind_after.unwrap_or(default.behind_after),
        }
    }
}

/// The protocol carries no larger ones.
fn value_size(text: &str) -> Result<u64, String> {
    let most = Limits::default().value_bytes;
    parse_size(text).and_then(|size| if size <= most { Ok(size) } else { Err("a value has at most 256KiB".into()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        limits: LimitArgs,
    }

    #[test]
    fn what_the_help_calls_default_is_the_default_and_every_flag_sets_its_own_limit() {
        let limits = |args: &[&str]| Cli::parse_from([&["x"], args].concat()).limits.limits();
        let defaults = [
            "--max-clients=20000",
            "--max-values=100000",
            "--max-value-size=256KiB",
            "--max-values-size=256MiB",
            "--max-puts=5000",
            "--max-strangers=1024",
            "--max-strangers-per-address=1024",
            "--away-after=5s",
            "--behind-after=60s",
        ];
        assert_eq!(limits(&defaults), Limits::default());
        assert_eq!(limits(&[]), Limits::default());
        // Whatever the width that the lines are broken at.
        let help = <Cli as clap::CommandFactory>::command().render_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for flag in defaults {
            let (name, value) = flag.split_once('=').unwrap();
            let told = help.split(name).nth(1).unwrap().split("[default: ").nth(1).unwrap();
            assert!(told.starts_with(value), "{name}: {told}");
            let other = if name.ends_with("-after") { "1s" } else { "1" };
            assert_ne!(limits(&[&format!("{name}={other}")]), Limits::default(), "{name}");
        }
        assert!(Cli::try_parse_from(["x", "--max-value-size=257KiB"]).is_err());
    }
}
