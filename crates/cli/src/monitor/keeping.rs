//! `monitor --history`: every frame into a history too.

use std::path::PathBuf;

use vitals::history::{Appended, BYTES_MAX_DEFAULT, BYTES_MAX_MIN, Options, Recorder};
use vitals::schema::Unit;
use vitals::{Frame, Value};

use crate::args::parse_size;
use crate::exit::Failure;
use crate::logging::say;

#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// Keeps the numbers in this directory too, for months, for `lockstep history`, `plot` and `top`
    #[arg(long, value_name = "DIR")]
    history: Option<PathBuf>,

    /// The most bytes the history has; the oldest goes first [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_cap)]
    history_max: Option<u64>,
}

impl HistoryArgs {
    /// The directory of the history, where one is named.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        self.history.clone()
    }
}

fn parse_cap(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    if bytes < BYTES_MAX_MIN { Err("a history needs at least 1MiB".into()) } else { Ok(bytes) }
}

/// A history that is kept.
pub(super) struct Keeping {
    path: PathBuf,
    options: Options,
    recorder: Option<Recorder>,
}

impl Keeping {
    /// What was asked for; `None` if no history is to be kept.
    ///
    /// # Errors
    /// When it is said how large, but not where.
    pub(super) fn prepare(args: &HistoryArgs) -> Result<Option<Self>, Failure> {
        let options = Options { bytes_max: args.history_max.unwrap_or(BYTES_MAX_DEFAULT), ..Options::default() };
        match &args.history {
            Some(path) => Ok(Some(Self { path: path.clone(), options, recorder: None })),
            None if args.history_max.is_some() => {
                Err(Failure::usage("--history-max says how large a history gets, but not where: add --history DIR"))
            }
            None => Ok(None),
        }
    }

    /// Records a frame. The first opens the history, as only then all its columns are known, and names it on stderr.
    ///
    /// # Errors
    /// When it cannot be opened, or another process writes it. That an open one cannot be written is said once, as is that it
    /// can be again, and the sampling goes on.
    pub(super) fn record(&mut self, frame: &Frame) -> Result<(), Failure> {
        if self.recorder.is_none() {
            self.recorder = Some(self.open(frame)?);
        }
        match self.recorder.as_mut().map(|recorder| recorder.record(frame)) {
            None | Some(Ok(Appended::Written | Appended::StillLost)) => {}
            Some(Ok(Appended::Resumed { rows_lost })) => {
                say(format_args!("the history is written again; {rows_lost} samples are missing in it"));
            }
            Some(Err(error)) => say(format_args!("{:#}; sampling goes on", anyhow::Error::new(error))),
        }
        Ok(())
    }

    fn open(&self, frame: &Frame) -> Result<Recorder, Failure> {
        let boot = if let Some(Value::Boot(boot)) = frame.get("boot_id") { Some(boot) } else { None };
        let recorder = Recorder::open(&self.path, &frame.schema, boot, self.options).map_err(Failure::could_not_run)?;
        let most = vitals::text::shown(Unit::Bytes.name(), self.options.bytes_max as f64);
        let path = recorder.path().display();
        say(format_args!("history: {path}, at most {most}, {} numbers a sample", recorder.columns()));
        Ok(recorder)
    }
}
