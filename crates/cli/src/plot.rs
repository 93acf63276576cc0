//! `lockstep plot`: CPU and memory over time, as a picture, of a log or of a history.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use vitals::history::{History, Range};
use vitals::log::SEGMENTS_MAX;
use vitals::plot::{self, Look, PlotError, Recording, read};

use crate::exit::{Exit, Failure};
use crate::history::{Span, place, say_skipped};
use crate::logging::say;

/// Draws CPU and memory over time, of a log or a history, as SVG or PNG
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A log of `lockstep monitor` in any of its formats, with its older parts LOG.1, LOG.2 and so on; `-` for standard input; or
    /// the directory of a history [default: the history, where `lockstep history` looks for it]
    #[arg(value_name = "LOG|HISTORY")]
    source: Option<PathBuf>,

    /// The picture; its ending says which kind: .svg or .png. A file of this name is replaced, whole, at the very end
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    #[command(flatten)]
    span: Span,

    /// Dark on light, or light on dark
    #[arg(long, value_name = "THEME", default_value = "light")]
    theme: Theme,

    /// Width and height in pixels
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "1200x640", value_parser = parse_size)]
    size: (u32, u32),

    /// What stands above it [default: the name of the source]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Theme {
    Light,
    Dark,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Svg,
    Png,
}

/// Reads the source and writes the picture.
///
/// # Errors
/// When the source cannot be read or has no sample in the span, or the picture cannot be written. An older picture is then
/// still there.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let kind = match args.output.extension().map(|ending| ending.to_ascii_lowercase()) {
        Some(ending) if ending == "svg" => Kind::Svg,
        Some(ending) if ending == "png" => Kind::Png,
        _ => return Err(Failure::usage("the picture is FILE.svg or FILE.png: its ending says which kind it is")),
    };
    let range = args.span.range(Timestamp::now())?;
    let source = match &args.source {
        Some(source) => source.clone(),
        None => place(None)?,
    };
    let mut recording = Recording::default();
    read_source(&source, range, &mut recording)?;
    let zone = TimeZone::system();
    let offset_ms = |wall_ms: i64| {
        let at = Timestamp::from_millisecond(wall_ms).unwrap_or_default();
        i64::from(zone.to_offset(at).seconds()) * 1000
    };
    let last = recording.span().map_or(0, |(_, last)| last);
    let title = args.title.unwrap_or_else(|| source.display().to_string());
    let look = Look {
        size: args.size,
        dark: args.theme == Theme::Dark,
        title: &title,
        offset_ms: &offset_ms,
        zone: &zone_name(&zone, last),
    };
    let picture = match kind {
        Kind::Svg => plot::svg(&recording, &look).map(String::into_bytes),
        Kind::Png => plot::png(&recording, &look),
    };
    let picture = picture.map_err(|error| match error {
        PlotError::Nothing => Failure::could_not_run(anyhow::anyhow!(
            "{} has no sample with CPU or memory in this span, so no picture was made; `lockstep monitor` makes such samples",
            source.display()
        )),
        error => Failure::could_not_run(error),
    })?;
    write_whole(&args.output, &picture)?;
    say(format_args!("{} samples are drawn in {}", recording.samples(), args.output.display()));
    Ok(Exit::Done)
}

fn read_source(source: &Path, range: Range, recording: &mut Recording) -> Result<(), Failure> {
    if source == Path::new("-") {
        return read_lines("standard input", BufReader::new(io::stdin().lock()), range, recording);
    }
    if source.is_dir() {
        let history = History::open(source).map_err(Failure::could_not_run)?;
        let skipped = read::history(&history, range, recording).map_err(Failure::could_not_run)?;
        say_skipped(source, skipped);
        return Ok(());
    }
    // The older parts first, as they were written; most of them need not be there.
    let older = (1..SEGMENTS_MAX).rev().map(|number| {
        let mut name = OsString::from(source);
        name.push(format!(".{number}"));
        PathBuf::from(name)
    });
    for part in older.filter(|part| part.is_file()).chain([source.to_owned()]) {
        let file = File::open(&part).with_context(|| format!("cannot read {}; no picture was made", part.display()))?;
        read_lines(&part.display().to_string(), BufReader::new(file), range, recording)?;
    }
    Ok(())
}

fn read_lines(name: &str, input: impl io::BufRead, range: Range, recording: &mut Recording) -> Result<(), Failure> {
    let found =
        read::lines(input, range, recording).with_context(|| format!("cannot read {name}; no picture was made"))?;
    if let Some(first) = found.first_bad {
        let bad = found.bad;
        say(format_args!("{bad} lines of {name} are no samples, and skipped; the first is line {first}"));
    }
    Ok(())
}

/// Writes beside and renames, so that a picture is whole or the older one is still there.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;

    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = || format!("cannot write {}; what was there is unchanged", path.display());
    let mut builder = tempfile::Builder::new();
    // As any new file: the umask takes away what it should.
    let mut file = builder
        .prefix(".lockstep-plot-")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(beside)
        .with_context(failed)?;
    file.write_all(content).with_context(failed)?;
    file.persist(path).map_err(|error| error.error).with_context(failed)?;
    Ok(())
}

/// The name of the zone, or where it has none by how much it is ahead of UTC.
fn zone_name(zone: &TimeZone, wall_ms: i64) -> String {
    let at = Timestamp::from_millisecond(wall_ms).unwrap_or_default();
    let offset = zone.to_offset(at);
    if offset.is_zero() { "UTC".into() } else { format!("UTC{offset}") }
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let size = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let (min, max) = (plot::SIZE_MIN, plot::SIZE_MAX);
    let within = |(width, height): &(u32, u32)| (min.0..=max.0).contains(width) && (min.1..=max.1).contains(height);
    size.filter(within)
        .ok_or_else(|| format!("a size is WIDTHxHEIGHT, from {}x{} to {}x{} pixels", min.0, min.1, max.0, max.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_two_numbers_within_the_bounds() {
        assert_eq!(parse_size("800x600"), Ok((800, 600)));
        for text in ["", "800", "x", "800x", "-1x600", "800x600x2", "100x100", "99999x99999"] {
            assert!(parse_size(text).unwrap_err().contains("480x360"), "{text}");
        }
    }

    #[test]
    fn a_zone_without_a_name_says_how_far_it_is_from_utc() {
        let zone = |seconds| TimeZone::fixed(jiff::tz::Offset::from_seconds(seconds).unwrap());
        assert_eq!(zone_name(&zone(0), 0), "UTC");
        assert_eq!(zone_name(&zone(5 * 3600 + 1800), 0), "UTC+05:30");
    }
}
