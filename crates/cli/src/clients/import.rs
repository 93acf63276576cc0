//! `lockstep clients import`: an inventory that was made elsewhere.

use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::Context as _;
use wire::answer::{Answer, Question};

use crate::exit::{Exit, Failure};
use crate::logging::say;

/// The largest inventory that is read: many times what fits into the roster at once.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads the inventory, asks the hub to take it over, and says what came of it.
///
/// # Errors
/// When it cannot be read, lines of it are wrong (exit code 2, each is told by its number), or the hub is not reached or does not
/// allow it. Nothing has changed then.
pub(super) fn run(
    file: &Path,
    dry_run: bool,
    json: bool,
    ask: &mut impl FnMut(Question) -> Result<Answer, Failure>,
) -> Result<Exit, Failure> {
    let bytes =
        read(file).with_context(|| format!("cannot read {}", file.display())).map_err(Failure::could_not_run)?;
    let inventory = hub::read_inventory(&bytes).map_err(|wrong| refuse(file, wrong))?;
    let (lines, rows): (Vec<u64>, Vec<_>) = inventory.into_iter().unzip();
    let Answer::Imported(imported) = ask(Question::Import { rows, dry_run })? else {
        return Err(Failure::something_else());
    };
    if !imported.wrong.is_empty() {
        let line = |number: u64| usize::try_from(number).ok().and_then(|at| lines.get(at).copied()).unwrap_or_default();
        return Err(refuse(file, imported.wrong.iter().map(|(number, why)| (line(*number), why.clone())).collect()));
    }
    let mut out = io::stdout().lock();
    let written = if json {
        let object = serde_json::json!({
            "changed": imported.changed, "unchanged": imported.unchanged, "dry_run": dry_run,
        });
        writeln!(out, "{object}")
    } else {
        let verb = if dry_run { "would change" } else { "changed" };
        writeln!(out, "{verb}: {}, as they were: {}", imported.changed, imported.unchanged)
    };
    written.map_err(Failure::output)?;
    Ok(Exit::Done)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut source: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(std::fs::File::open(file)?) };
    source.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(io::Error::other(format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20))),
        false => Ok(bytes),
    }
}

/// Tells every wrong line by its number.
fn refuse(file: &Path, wrong: Vec<(u64, String)>) -> Failure {
    let count = wrong.len();
    for (line, why) in wrong {
        say(format_args!("{} line {line}: {}", file.display(), tree::path::escape(why.as_bytes())));
    }
    let lines = if count == 1 { "one line is".to_owned() } else { format!("{count} lines are") };
    Failure::usage(format!("{}: {lines} wrong; nothing was changed", file.display()))
}
