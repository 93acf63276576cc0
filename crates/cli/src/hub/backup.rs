//! `lockstep hub backup` and `lockstep hub restore`: all that a hub knows, in one file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use wire::answer::{Answer, Question};

use crate::exit::{Exit, Failure};
use crate::{answered, reach, runtime};

/// Writes all that the hub knows into one file, while it runs or not: keys, roster, values, indexes of its shares
///
/// Not the files of the shares. Who has the file can be the hub: keep it as safe as the data directory.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct BackupArgs {
    /// The file, which appears when it is whole, and takes the place of one that is there
    file: PathBuf,

    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// Puts a backup back as the data directory of a hub that does not run
///
/// Clients go on by themselves: what they got since the backup was made goes once they know all that the hub has. Who
/// enrolled since then has to join again, and who was revoked since then has to be revoked again.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RestoreArgs {
    /// The backup
    file: PathBuf,

    /// Replaces what is in the data directory; it is kept there under before-restore-*
    #[arg(long)]
    replace: bool,

    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// Backs up the hub of the data directory `data`.
///
/// # Errors
/// When there is none, or the file cannot be written: what was there before is still there then.
pub(super) fn backup(args: &BackupArgs, data: &Path) -> Result<Exit, Failure> {
    let runtime = runtime::start()?;
    let staged = runtime.block_on(async {
        let Some(mut client) = reach::served(data).await? else { return Ok(None) };
        match client.ask(Question::Backup).await.map_err(answered)? {
            Answer::Backup { directory } => Ok::<_, Failure>(Some(PathBuf::from(directory))),
            _ => Err(Failure::something_else()),
        }
    })?;
    let running = staged.is_some();
    let staged = staged.map_or_else(|| hub::backup::stage_stopped(data), Ok).map_err(Failure::could_not_run)?;
    let packed = hub::backup::pack(&staged, &args.file).map_err(Failure::could_not_run)?;
    let file = std::path::absolute(&packed.file).unwrap_or(packed.file);
    let names: Vec<&str> = packed.files.iter().map(|member| member.name.as_str()).collect();
    tell(|out| match args.json {
        true => {
            let told = json!({ "file": file.display().to_string(), "bytes": packed.bytes, "running": running, "files": names });
            writeln!(out, "{told}")
        }
        false => writeln!(out, "backup   {} ({} files, {} bytes)", file.display(), names.len(), packed.bytes),
    })
}

/// Puts a backup back as `data`.
///
/// # Errors
/// When the file is no whole backup, a hub runs there, or there is something that is not to be replaced.
pub(super) fn restore(args: &RestoreArgs, data: &Path) -> Result<Exit, Failure> {
    let restored = hub::backup::restore(&args.file, data, args.replace).map_err(Failure::could_not_run)?;
    let before = restored.before.as_ref().map(|before| before.display().to_string());
    tell(|out| {
        if args.json {
            let told = json!({
                "data": restored.data.display().to_string(),
                "made_at": restored.made_at,
                "software": restored.software,
                "files": restored.files,
                "before": before,
            });
            return writeln!(out, "{told}");
        }
        let (data, files) = (restored.data.display(), restored.files);
        writeln!(out, "restored {data} ({files} files, of {}, by {})", restored.made_at, restored.software)?;
        if let Some(before) = &before {
            writeln!(out, "before   {before} has what was there; remove it when all is well")?;
        }
        writeln!(
            out,
            "next     start the hub; who enrolled since then joins again, who was revoked since then is revoked again"
        )
    })
}

fn tell(say: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    say(&mut out).and_then(|()| out.flush()).map_err(Failure::output)?;
    Ok(Exit::Done)
}
