//! Rights on the command line, for an invite and for a known client: flags, and how they are shown.

use wire::rights::{Rights, RightsChange, Role, Sees};

/// What a client may
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RightsArgs {
    /// What it is: takes part, only gets, or administers as well
    #[arg(long, value_name = "ROLE")]
    role: Option<RoleArg>,

    /// Values it may follow and read: a name, or the beginning of names with * behind it; repeatable, `*` for all, '' for none
    #[arg(long, value_name = "PATTERN")]
    read: Option<Vec<String>>,

    /// Values it may put and remove, as for --read
    #[arg(long, value_name = "PATTERN")]
    put: Option<Vec<String>>,

    /// Shares it may join, as for --read
    #[arg(long, value_name = "NAME")]
    share: Option<Vec<String>>,

    /// The clients it sees
    #[arg(long, value_name = "WHICH")]
    clients: Option<SeesArg>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RoleArg {
    /// Gets what it may, puts what it may
    Client,
    /// Only gets
    Observer,
    /// A client that may invite, revoke and change rights
    Admin,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SeesArg {
    /// All of them
    All,
    /// None but itself
    Itself,
}

impl From<RightsArgs> for RightsChange {
    fn from(args: RightsArgs) -> RightsChange {
        RightsChange {
            role: args.role.map(|role| match role {
                RoleArg::Client => Role::Client,
                RoleArg::Observer => Role::Observer,
                RoleArg::Admin => Role::Admin,
            }),
            read: args.read,
            put: args.put,
            shares: args.share,
            clients: args.clients.map(|sees| match sees {
                SeesArg::All => Sees::All,
                SeesArg::Itself => Sees::Itself,
            }),
        }
    }
}

/// What each right is, as lines of a name and a text.
pub(crate) fn lines(rights: &Rights) -> [(&'static str, String); 5] {
    let put = if rights.role == Role::Observer { Some(&[][..]) } else { rights.put.as_deref() };
    let sees = if rights.role == Role::Admin { Sees::All } else { rights.clients };
    [
        ("role", rights.role.as_str().to_owned()),
        ("reads", list(rights.read.as_deref())),
        ("puts", list(put)),
        ("joins", list(rights.shares.as_deref())),
        ("sees", sees.as_str().to_owned()),
    ]
}

fn list(patterns: Option<&[String]>) -> String {
    let Some(patterns) = patterns else { return "everything".to_owned() };
    let named: Vec<String> =
        patterns.iter().filter(|text| !text.is_empty()).map(|text| tree::path::escape(text.as_bytes())).collect();
    if named.is_empty() { "nothing".to_owned() } else { named.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_what_holds() {
        let shown = |rights: &Rights| lines(rights).map(|(_, text)| text);
        let plain = Rights::default();
        assert_eq!(shown(&plain), ["client", "everything", "everything", "everything", "all"]);
        let read = Some(vec!["".to_owned(), "a*".to_owned()]);
        let observer = Rights { role: Role::Observer, read, shares: Some(vec!["".to_owned()]), ..Rights::default() };
        assert_eq!(shown(&observer), ["observer", "a*", "nothing", "nothing", "all"]);
        let admin = Rights { role: Role::Admin, clients: Sees::Itself, ..Rights::default() };
        assert_eq!(shown(&admin)[4], "all");
    }
}
