//! Reads a history back, block by block, beside its writer.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    block::Block,
    dir::{Dir, Part, read_at},
    error::HistoryError,
    frame::Head,
    journal,
    scan::{self, Scan},
    schema::Schema,
};

/// A span of the wall clock, both ends included, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// From here on.
    pub from_ms: i64,
    /// Until here.
    pub to_ms: i64,
}

impl Range {
    /// All of it.
    pub const ALL: Self = Self { from_ms: i64::MIN, to_ms: i64::MAX };

    fn holds(&self, wall_ms: i64) -> bool {
        (self.from_ms..=self.to_ms).contains(&wall_ms)
    }

    fn meets(&self, head: &Head) -> bool {
        head.wall_ms_min <= self.to_ms && self.from_ms <= head.wall_ms_max
    }
}

/// What could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skipped {
    /// Blocks that are cut or damaged.
    pub blocks: u64,
    /// How many rows these say they held, where they still say it.
    pub rows: u64,
    /// Single rows, not yet in a block, that are cut or damaged.
    pub single_rows: u64,
    /// Whole segments whose columns are not known any more.
    pub segments: u64,
}

impl Skipped {
    /// Whether all was read.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What a history holds, as of when it was opened; rows are read from it as they are asked for. About 64 bytes a block are
/// kept in memory.
#[derive(Debug)]
pub struct History {
    dir: Dir,
    segments: Vec<Segment>,
    skipped: Skipped,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    schema: Arc<Schema>,
    /// Where the contents of its blocks are.
    blocks: Vec<(u64, Head)>,
    /// The rows that were in no block when it was opened, with their numbers.
    rows: Vec<u64>,
    block: Block,
}

impl History {
    /// Opens the history in the directory `path`, also while it is written. Nothing is changed.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        let dir = Dir::open(path, false)?;
        // First the single rows, then the blocks: what its writer folds meanwhile is then seen twice, and told once.
        let mut single = BTreeMap::new();
        for (number, sizes) in dir.list()? {
            single.insert(number, read_file(&dir, number, Part::Rows, sizes.rows)?);
        }
        let listed = dir.list()?;
        if listed.is_empty() && !dir.was_written() {
            return Err(HistoryError::None { path: path.to_owned() });
        }
        let mut history = Self { dir, segments: Vec::new(), skipped: Skipped::default() };
        for (number, sizes) in listed {
            let Some(file) = history.dir.read(number, Part::Segment)? else { continue };
            let scan = scan::scan(&file, sizes.segment)
                .map_err(|error| HistoryError::failed("read", &history.dir.file(number, Part::Segment), error))?;
            history.add(number, scan, &single.remove(&number).unwrap_or_default());
        }
        Ok(history)
    }

    fn add(&mut self, number: u64, scan: Scan, single: &[u8]) {
        let Some(schema) = scan.schema else {
            self.skipped.segments += u64::from(scan.bytes > 0 || !single.is_empty());
            return;
        };
        let (rows, block, bad) = journal::read(single, schema.columns.len());
        self.skipped.single_rows += bad;
        let schema = match self.segments.last() {
            Some(last) if *last.schema == schema => Arc::clone(&last.schema),
            _ => Arc::new(schema),
        };
        let segment = Segment { number, schema, blocks: scan.blocks, rows, block };
        // Killed in the middle of a fold, or being folded right now: nothing is missing.
        let missing = |head: &&Head| !segment.has_single(head);
        let cut: Vec<u64> = scan.cut.iter().filter(missing).map(|head| u64::from(head.rows)).collect();
        let elsewhere = scan.places_damaged - scan.cut.len() as u64;
        self.skipped.blocks += elsewhere + cut.len() as u64;
        self.skipped.rows += cut.iter().sum::<u64>();
        self.segments.push(segment);
    }

    /// The schemas of what lies in `range`, each once, the oldest first.
    pub fn schemas(&self, range: Range) -> Vec<Arc<Schema>> {
        let mut found: Vec<Arc<Schema>> = Vec::new();
        for segment in &self.segments {
            let single = segment.block.wall_ms.iter().any(|wall_ms| range.holds(*wall_ms));
            let asked = single || segment.blocks.iter().any(|(_, head)| range.meets(head));
            if asked && found.iter().all(|schema| **schema != *segment.schema) {
                found.push(Arc::clone(&segment.schema));
            }
        }
        found
    }

    /// The earliest and the latest wall clock in it; `None` where there is no row.
    pub fn span(&self) -> Option<Range> {
        let heads = self.segments.iter().flat_map(|segment| &segment.blocks);
        let blocks = heads.map(|(_, head)| (head.wall_ms_min, head.wall_ms_max));
        let single = self.segments.iter().flat_map(|segment| &segment.block.wall_ms).map(|ms| (*ms, *ms));
        let ends = blocks.chain(single).reduce(|(from, to), (earlier, later)| (from.min(earlier), to.max(later)));
        ends.map(|(from_ms, to_ms)| Range { from_ms, to_ms })
    }

    /// The rows whose wall clock lies in `range`, in the order they were taken.
    pub fn rows(&self, range: Range) -> Rows<'_> {
        Rows { history: self, range, segment: 0, block: 0, next_row: 0, skipped: self.skipped }
    }
}

impl Segment {
    fn has_single(&self, head: &Head) -> bool {
        let end = head.first_row.saturating_add(u64::from(head.rows));
        (head.first_row..end).all(|row| self.rows.binary_search(&row).is_ok())
    }
}

/// The rows of a span, a block at a time.
#[derive(Debug)]
pub struct Rows<'a> {
    history: &'a History,
    range: Range,
    segment: usize,
    block: usize,
    /// The first row of the segment that was not told yet.
    next_row: u64,
    skipped: Skipped,
}

impl Rows<'_> {
    /// The next rows, with what their columns are; `None` at the end. Never an empty block.
    ///
    /// # Errors
    /// When a file cannot be read. What is in it but damaged is skipped and counted.
    pub fn next_block(&mut self) -> Result<Option<(Arc<Schema>, Block)>, HistoryError> {
        while let Some(segment) = self.history.segments.get(self.segment) {
            let block = match segment.blocks.get(self.block) {
                Some((at, head)) => {
                    self.block += 1;
                    if self.range.meets(head) { self.read(segment, *at, head)? } else { None }
                }
                None => {
                    let (mut block, next_row) = (segment.block.clone(), self.next_row);
                    block.retain(|row| segment.rows[row] >= next_row);
                    (self.segment, self.block, self.next_row) = (self.segment + 1, 0, 0);
                    Some(block)
                }
            };
            let Some(mut block) = block else { continue };
            let wall_ms = block.wall_ms.clone();
            block.retain(|row| self.range.holds(wall_ms[row]));
            if block.rows() > 0 {
                return Ok(Some((Arc::clone(&segment.schema), block)));
            }
        }
        Ok(None)
    }

    /// What could not be read so far; what lies outside of the span and was not looked at is not known to be whole.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    fn read(&mut self, segment: &Segment, at: u64, head: &Head) -> Result<Option<Block>, HistoryError> {
        let (dir, number) = (&self.history.dir, segment.number);
        // Removed meanwhile to make room: that is no damage.
        let Some(file) = dir.read(number, Part::Segment)? else { return Ok(None) };
        let content = scan::content(&file, at, head)
            .map_err(|error| HistoryError::failed("read", &dir.file(number, Part::Segment), error))?;
        let rows = usize::try_from(head.rows).unwrap_or(usize::MAX).min(ROWS_MAX);
        let block = content.and_then(|content| Block::read(&content, rows, segment.schema.columns.len()));
        let Some(mut block) = block else {
            if !segment.has_single(head) {
                self.skipped.blocks += 1;
                self.skipped.rows += u64::from(head.rows);
            }
            return Ok(None);
        };
        // A block whose sync failed was written once more.
        let told = usize::try_from(self.next_row.saturating_sub(head.first_row)).unwrap_or(usize::MAX);
        block.retain(|row| row >= told);
        self.next_row = self.next_row.max(head.first_row.saturating_add(u64::from(head.rows)));
        Ok(Some(block))
    }
}

/// The most rows of a block that are believed.
const ROWS_MAX: usize = 1 << 20;

fn read_file(dir: &Dir, number: u64, part: Part, bytes: u64) -> Result<Vec<u8>, HistoryError> {
    let mut content = vec![0; usize::try_from(bytes.min(FILE_BYTES_MAX)).unwrap_or(0)];
    let count = match dir.read(number, part)? {
        Some(file) => read_at(&file, &mut content, 0)
            .map_err(|error| HistoryError::failed("read", &dir.file(number, part), error))?,
        None => 0,
    };
    content.truncate(count);
    Ok(content)
}

/// No writer lets a file of single rows grow beyond it.
const FILE_BYTES_MAX: u64 = 1 << 30;
