//! Writes a history.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::{
    BLOCK_ROWS, BYTES_MAX_DEFAULT, COLUMNS_MAX,
    block::Block,
    dir::{Dir, Opened, Part, Sizes, read_at},
    error::HistoryError,
    frame::{self, HEAD_BYTES, Head, Kind},
    journal, scan,
    schema::{Column, Schema},
};

/// How large a segment gets, at most.
const SEGMENT_BYTES_MAX: u64 = 8 << 20;
/// The share of the cap that one segment, and the rows in no block, may take each: as the oldest goes as a whole, this is how
/// much less than the cap there may be.
const SHARES: u64 = 16;
/// After how many blocks the schema is written once more, so that one bad spot of a disk does not make a segment unreadable.
const BLOCKS_PER_SCHEMA: u32 = 16;
/// The fewest rows worth a block.
const BLOCK_ROWS_MIN: usize = 16;

/// How a history is kept.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The most all its files take together.
    pub bytes_max: u64,
    /// The most rows of a block: [`BLOCK_ROWS`], but for tests.
    pub block_rows: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { bytes_max: BYTES_MAX_DEFAULT, block_rows: BLOCK_ROWS }
    }
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the history.
    Written,
    /// It is in the history, and this many before it are not, because they could not be written. To be said.
    Resumed {
        /// How many rows are missing.
        rows_lost: u64,
    },
    /// It is lost for a reason that was already given as an error.
    StillLost,
}

/// A history being written. See the [module](super) for what it promises.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    dir: Dir,
    /// What makes us the only writer.
    lock: OwnedFd,
    schema: Schema,
    schema_bytes: Vec<u8>,
    options: Options,
    /// All segments with their sizes, the one being written included.
    files: BTreeMap<u64, Sizes>,
    open: Option<Open>,
    /// The rows that are in no block yet.
    pending: Block,
    values: Vec<Option<f64>>,
    bytes: Vec<u8>,
    rows_lost: u64,
    #[cfg(test)]
    pub(super) room_bytes: usize,
}

/// The segment being written.
#[derive(Debug)]
struct Open {
    number: u64,
    segment: OwnedFd,
    rows: OwnedFd,
    /// The number of the next row, and of the first that is in no block.
    next_row: u64,
    first_pending: u64,
    blocks: u32,
}

impl Writer {
    /// Opens the history in the directory `path`, which is made if it is not there, for rows of this schema.
    ///
    /// The last segment is continued if it has the same schema and is whole; else a new one is begun with the first row.
    ///
    /// # Errors
    /// When somebody else writes it, the directory or a file in it cannot be opened, or the columns do not fit below the cap.
    pub fn open(path: &Path, schema: Schema, options: Options) -> Result<Self, HistoryError> {
        let block_rows = block_rows(&schema.columns, options)?;
        let dir = Dir::open(path, true)?;
        let lock = dir.lock()?;
        let mut writer = Self {
            path: path.to_owned(),
            files: dir.list()?,
            dir,
            lock,
            schema_bytes: schema.to_bytes(),
            pending: Block::of(schema.columns.len(), block_rows),
            values: Vec::with_capacity(schema.columns.len()),
            schema,
            options: Options { block_rows, ..options },
            open: None,
            bytes: Vec::new(),
            rows_lost: 0,
            #[cfg(test)]
            room_bytes: usize::MAX,
        };
        writer.make_room(0)?;
        writer.continue_last()?;
        Ok(writer)
    }

    /// From the next row on the columns are these. They begin a new segment.
    ///
    /// # Errors
    /// When there are too many, or they do not fit below the cap; the columns are then as before.
    pub fn turn_to(&mut self, columns: Vec<Column>) -> Result<(), HistoryError> {
        let block_rows = block_rows(&columns, self.options)?;
        if self.pending.rows() > 0 {
            // What cannot become a block now stays as it is, where it is read too.
            self.fold().ok();
        }
        self.leave();
        self.options.block_rows = block_rows;
        self.schema.columns = columns;
        self.schema_bytes = self.schema.to_bytes();
        self.pending = Block::of(self.schema.columns.len(), block_rows);
        Ok(())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All files together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|sizes| sizes.sum()).sum()
    }

    /// Appends a row: the wall clock and the clock since boot, both in milliseconds, and a value for each column. What is not
    /// finite is not known.
    ///
    /// # Errors
    /// When the row could not be written and the one before could: said once. Until one is written again, each next one is
    /// tried, counted, and [`Appended::StillLost`].
    ///
    /// # Panics
    /// When there are not as many values as columns.
    pub fn append(
        &mut self,
        wall_ms: i64,
        boot_ms: i64,
        values: impl IntoIterator<Item = Option<f64>>,
    ) -> Result<Appended, HistoryError> {
        self.values.clear();
        self.values.extend(values);
        assert_eq!(self.values.len(), self.schema.columns.len(), "a value for each column");
        for (value, column) in self.values.iter_mut().zip(&self.schema.columns) {
            *value = column.kept(*value);
        }
        match self.try_append(wall_ms, boot_ms) {
            Ok(()) => match std::mem::take(&mut self.rows_lost) {
                0 => Ok(Appended::Written),
                rows_lost => Ok(Appended::Resumed { rows_lost }),
            },
            Err(error) => {
                self.rows_lost += 1;
                if self.rows_lost == 1 { Err(error) } else { Ok(Appended::StillLost) }
            }
        }
    }

    fn try_append(&mut self, wall_ms: i64, boot_ms: i64) -> Result<(), HistoryError> {
        self.still_there()?;
        if self.pending.rows() >= self.options.block_rows {
            self.fold()?;
        }
        if self.open.is_none() {
            self.begin()?;
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let row = open.next_row;
        open.next_row += 1;
        self.bytes.clear();
        journal::write(&mut self.bytes, row, wall_ms, boot_ms, &self.values);
        if let Err(error) = self.write(Part::Rows) {
            if let Some(open) = &mut self.open {
                open.next_row = row;
            }
            return Err(error);
        }
        self.pending.push(wall_ms, boot_ms, self.values.iter().copied());
        Ok(())
    }

    /// Begins anew where somebody removed the files under us: what is written into them would be gone.
    fn still_there(&mut self) -> Result<(), HistoryError> {
        let Some(open) = &self.open else { return Ok(()) };
        let path = self.dir.file(open.number, Part::Rows);
        let stat = rustix::fs::fstat(&open.rows).map_err(|error| HistoryError::failed("look at", &path, error))?;
        if stat.st_nlink == 0 {
            self.leave();
            let dir = Dir::open(&self.path, true)?;
            if !dir.is_locked_by(&self.lock) {
                self.lock = dir.lock()?;
            }
            self.files = dir.list()?;
            self.dir = dir;
        }
        Ok(())
    }

    /// Makes the pending rows a block of the segment, on disk before they leave the file of rows.
    fn fold(&mut self) -> Result<(), HistoryError> {
        let Some(open) = &self.open else { return Ok(()) };
        self.bytes.clear();
        if open.blocks % BLOCKS_PER_SCHEMA == 1 {
            frame::write_schema(&mut self.bytes, &self.schema_bytes);
        }
        write_block(&mut self.bytes, &self.pending, open.first_pending);
        self.write(Part::Segment)?;
        let emptied = self.empty_rows();
        if emptied.is_err() {
            // The rows are in both files, where readers see them once; nothing more may come into either.
            self.leave();
        }
        emptied
    }

    fn empty_rows(&mut self) -> Result<(), HistoryError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let failed = |step, part, error| HistoryError::failed(step, &self.dir.file(open.number, part), error);
        rustix::fs::fdatasync(&open.segment).map_err(|error| failed("sync", Part::Segment, error))?;
        rustix::fs::ftruncate(&open.rows, 0).map_err(|error| failed("empty", Part::Rows, error))?;
        open.blocks += 1;
        open.first_pending = open.next_row;
        self.pending.clear();
        let number = open.number;
        let sizes = self.files.entry(number).or_default();
        sizes.rows = 0;
        if sizes.segment >= SEGMENT_BYTES_MAX.min(self.options.bytes_max / SHARES) {
            self.leave();
            self.dir.remove(number, Part::Rows)?;
        }
        Ok(())
    }

    /// Appends no more to this segment; the next row begins another. Its rows that are in no block stay as they are.
    fn leave(&mut self) {
        self.open = None;
        self.pending.clear();
    }

    /// Begins a new segment.
    fn begin(&mut self) -> Result<(), HistoryError> {
        let number = self.files.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
        let begun = self.begin_at(number);
        if begun.is_err() {
            self.leave();
            // A segment without a schema is of no use. Where it cannot be removed it is found again at the next start.
            self.dir.remove(number, Part::Rows).ok();
            self.dir.remove(number, Part::Segment).ok();
            self.files.remove(&number);
        }
        begun
    }

    fn begin_at(&mut self, number: u64) -> Result<(), HistoryError> {
        let segment = self.dir.append(number, Part::Segment, Opened::New)?;
        let rows = self.dir.append(number, Part::Rows, Opened::New)?;
        self.files.insert(number, Sizes::default());
        self.open = Some(Open { number, segment, rows, next_row: 0, first_pending: 0, blocks: 0 });
        self.bytes.clear();
        frame::write_schema(&mut self.bytes, &self.schema_bytes);
        frame::write_schema(&mut self.bytes, &self.schema_bytes);
        self.write(Part::Segment)
    }

    /// Goes on with the last segment if it is whole and has our schema. If it has another its rows become a block.
    fn continue_last(&mut self) -> Result<(), HistoryError> {
        let Some((&number, &sizes)) = self.files.last_key_value() else { return Ok(()) };
        let Some(file) = self.dir.read(number, Part::Segment)? else { return Ok(()) };
        let path = self.dir.file(number, Part::Segment);
        let scan = scan::scan(&file, sizes.segment).map_err(|error| HistoryError::failed("read", &path, error))?;
        let next_row = scan.next_row();
        let Some(schema) = scan.schema.as_ref().filter(|_| scan.is_whole()) else { return Ok(()) };
        let Some((first, block)) = self.read_rows(number, sizes.rows, schema)? else { return Ok(()) };
        let end = first + block.rows() as u64;
        if block.rows() > 0 && first != next_row && end > next_row {
            return Ok(());
        }
        let rows = self.dir.append(number, Part::Rows, Opened::Either)?;
        let mut pending = block;
        // Killed between the two steps of a fold: what is in a block is not needed a second time.
        if end <= next_row && sizes.rows > 0 {
            let path = self.dir.file(number, Part::Rows);
            rustix::fs::ftruncate(&rows, 0).map_err(|error| HistoryError::failed("empty", &path, error))?;
            self.files.insert(number, Sizes { rows: 0, ..sizes });
            pending.clear();
        }
        self.open = Some(Open {
            number,
            segment: self.dir.append(number, Part::Segment, Opened::Existing)?,
            rows,
            next_row: next_row.max(end),
            first_pending: next_row,
            blocks: u32::try_from(scan.blocks.len()).unwrap_or(u32::MAX),
        });
        if *schema == self.schema {
            self.pending = pending;
        } else {
            let ours = std::mem::replace(&mut self.schema_bytes, schema.to_bytes());
            let room = std::mem::replace(&mut self.pending, pending);
            if self.pending.rows() > 0 {
                // What cannot become a block now stays as it is, where it is read too.
                self.fold().ok();
            }
            self.leave();
            (self.schema_bytes, self.pending) = (ours, room);
        }
        Ok(())
    }

    /// The rows in no block and the number of the first, if every record of them is whole.
    fn read_rows(&self, number: u64, bytes: u64, schema: &Schema) -> Result<Option<(u64, Block)>, HistoryError> {
        let mut content = vec![0; usize::try_from(bytes).unwrap_or(0)];
        if let Some(file) = self.dir.read(number, Part::Rows)? {
            let path = self.dir.file(number, Part::Rows);
            let count = read_at(&file, &mut content, 0).map_err(|error| HistoryError::failed("read", &path, error))?;
            content.truncate(count);
        }
        let (rows, block, bad) = journal::read(&content, schema.columns.len());
        let first = rows.first().copied().unwrap_or(0);
        let in_order = rows.iter().zip(first..).all(|(row, expected)| *row == expected);
        Ok((bad == 0 && in_order).then_some((first, block)))
    }

    /// Removes oldest segments until `more` bytes fit below the cap. The one being written stays.
    fn make_room(&mut self, more: u64) -> Result<(), HistoryError> {
        while self.bytes() + more > self.options.bytes_max {
            let current = self.open.as_ref().map(|open| open.number);
            let oldest =
                self.files.first_key_value().map(|(number, _)| *number).filter(|oldest| current != Some(*oldest));
            let Some(oldest) = oldest else {
                let columns = self.schema.columns.len();
                return Err(HistoryError::TooSmall { columns, bytes_max: self.options.bytes_max });
            };
            self.dir.remove(oldest, Part::Segment)?;
            self.dir.remove(oldest, Part::Rows)?;
            self.files.remove(&oldest);
        }
        Ok(())
    }

    /// Appends `self.bytes` to a file of the segment being written, below the cap. What was written of bytes that did not all
    /// fit is taken back; where that fails the segment is left, as nothing may stand behind what is torn.
    fn write(&mut self, part: Part) -> Result<(), HistoryError> {
        self.make_room(self.bytes.len() as u64)?;
        let Some(Open { number, segment, rows, .. }) = &self.open else { return Ok(()) };
        let sizes = self.files.entry(*number).or_default();
        let (file, size) = match part {
            Part::Segment => (segment, &mut sizes.segment),
            Part::Rows => (rows, &mut sizes.rows),
        };
        #[cfg(test)]
        let bytes = &self.bytes[..self.bytes.len().min(self.room_bytes)];
        #[cfg(not(test))]
        let bytes = &self.bytes[..];
        let whole = if bytes.len() < self.bytes.len() { Err(Errno::NOSPC) } else { Ok(()) };
        match write_all(file, bytes).and(whole) {
            Ok(()) => {
                *size += self.bytes.len() as u64;
                #[cfg(test)]
                {
                    self.room_bytes -= self.bytes.len();
                }
                Ok(())
            }
            Err(error) => {
                let error = HistoryError::failed("write to", &self.dir.file(*number, part), error);
                if rustix::fs::ftruncate(file, *size).is_err() {
                    *size += self.bytes.len() as u64;
                    self.leave();
                }
                Err(error)
            }
        }
    }
}

/// How many rows of these columns make a block: fewer where the cap leaves less room.
fn block_rows(columns: &[Column], options: Options) -> Result<usize, HistoryError> {
    let columns = columns.len();
    if columns > COLUMNS_MAX {
        return Err(HistoryError::TooManyColumns { columns });
    }
    let fits = options.bytes_max / SHARES / journal::record_bytes(columns) as u64;
    let rows = BLOCK_ROWS.min(usize::try_from(fits).unwrap_or(usize::MAX));
    if rows < BLOCK_ROWS_MIN {
        return Err(HistoryError::TooSmall { columns, bytes_max: options.bytes_max });
    }
    Ok(rows.min(options.block_rows))
}

fn write_all(file: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Appends the frame of a block whose first row has this number.
fn write_block(out: &mut Vec<u8>, block: &Block, first_row: u64) {
    let start = out.len();
    out.resize(start + HEAD_BYTES, 0);
    block.write(out);
    let head = Head {
        first_row,
        rows: u32::try_from(block.rows()).unwrap_or(u32::MAX),
        wall_ms_min: block.wall_ms.iter().min().copied().unwrap_or(0),
        wall_ms_max: block.wall_ms.iter().max().copied().unwrap_or(0),
        ..Head::new(Kind::Block, &out[start + HEAD_BYTES..])
    };
    let mut bytes = Vec::with_capacity(HEAD_BYTES);
    head.write(&mut bytes);
    out[start..start + HEAD_BYTES].copy_from_slice(&bytes);
}
