//! Rows by columns, and how a column becomes bytes.
//!
//! A column of whole numbers, or of numbers with up to four decimals, is written as integers, which compress far better. It is
//! written so only if every number comes back bit by bit; any other is written as it is.

use pco::{
    ChunkConfig,
    data_types::Number,
    standalone::{simple_compress_into, simple_decompress_into},
};

use super::frame::Fields;

/// Rows in the order they were taken, by columns. All columns are of one length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Block {
    /// Wall clock, milliseconds since the Unix epoch, UTC. Not always growing: it can be set.
    pub wall_ms: Vec<i64>,
    /// Clock since boot, suspended time included, in milliseconds. It falls only where the machine was started anew.
    pub boot_ms: Vec<i64>,
    /// For each column the value of each row, or what is not known.
    pub columns: Vec<Vec<Option<f64>>>,
}

/// The most decimals a column of integers stands for.
const DECIMALS_MAX: u8 = 4;
/// In place of the number of decimals: numbers as they are.
const AS_THEY_ARE: u8 = 255;
/// Below it every whole number is its own float, and times ten thousand it still fits in 64 bits.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

impl Block {
    /// An empty one of this many columns.
    pub(super) fn of(columns: usize, rows: usize) -> Self {
        Self {
            wall_ms: Vec::with_capacity(rows),
            boot_ms: Vec::with_capacity(rows),
            columns: (0..columns).map(|_| Vec::with_capacity(rows)).collect(),
        }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.wall_ms.len()
    }

    pub(super) fn push(&mut self, wall_ms: i64, boot_ms: i64, values: impl Iterator<Item = Option<f64>>) {
        self.wall_ms.push(wall_ms);
        self.boot_ms.push(boot_ms);
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.push(value);
        }
    }

    pub(super) fn clear(&mut self) {
        self.wall_ms.clear();
        self.boot_ms.clear();
        self.columns.iter_mut().for_each(Vec::clear);
    }

    /// Keeps only the rows for which `keep` says so, given each row's number.
    pub(super) fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        fn filter<T>(column: &mut Vec<T>, keep: &impl Fn(usize) -> bool) {
            let mut row = 0;
            column.retain(|_| {
                row += 1;
                keep(row - 1)
            });
        }
        filter(&mut self.wall_ms, &keep);
        filter(&mut self.boot_ms, &keep);
        for column in &mut self.columns {
            filter(column, &keep);
        }
    }

    /// Appends the compressed columns to `out`: both clocks, then each column behind its length.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for clock in [&self.wall_ms, &self.boot_ms] {
            with_length(out, |out| compress(out, clock));
        }
        for column in &self.columns {
            with_length(out, |out| write_column(out, column));
        }
    }

    /// Reads what [`Block::write`] wrote. `None` where it is not that: the checksum was right, but somebody else wrote it.
    pub(super) fn read(bytes: &[u8], rows: usize, columns: usize) -> Option<Self> {
        let mut fields = Fields(bytes);
        let mut next = || {
            let bytes = u32::from_le_bytes(fields.take()?);
            fields.slice(usize::try_from(bytes).ok()?)
        };
        Some(Self {
            wall_ms: decompress(next()?, rows)?,
            boot_ms: decompress(next()?, rows)?,
            columns: (0..columns).map(|_| read_column(next()?, rows)).collect::<Option<_>>()?,
        })
    }
}

fn with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let bytes = u32::try_from(out.len() - at - 4).expect("a column of a block is far below 4 GiB");
    out[at..at + 4].copy_from_slice(&bytes.to_le_bytes());
}

/// How many are known, which, how they are written, and then these.
fn write_column(out: &mut Vec<u8>, column: &[Option<f64>]) {
    let known: Vec<f64> = column.iter().flatten().copied().collect();
    out.extend_from_slice(&count(known.len()).to_le_bytes());
    if known.is_empty() {
        return;
    }
    if known.len() < column.len() {
        for eight in column.chunks(8) {
            let bits = eight.iter().enumerate().map(|(at, value)| u8::from(value.is_some()) << at);
            out.push(bits.fold(0, |bits, bit| bits | bit));
        }
    }
    match (0..=DECIMALS_MAX).find_map(|decimals| Some((decimals, as_integers(&known, decimals)?))) {
        Some((decimals, integers)) => {
            out.push(decimals);
            compress(out, &integers);
        }
        None => {
            out.push(AS_THEY_ARE);
            compress(out, &known);
        }
    }
}

fn read_column(bytes: &[u8], rows: usize) -> Option<Vec<Option<f64>>> {
    let mut fields = Fields(bytes);
    let known = usize::try_from(u32::from_le_bytes(fields.take()?)).ok().filter(|known| *known <= rows)?;
    if known == 0 {
        return Some(vec![None; rows]);
    }
    let bits = if known < rows { Some(fields.slice(rows.div_ceil(8))?) } else { None };
    let [decimals] = fields.take()?;
    let values: Vec<f64> = if decimals == AS_THEY_ARE {
        decompress(fields.0, known)?
    } else {
        let integers: Vec<i64> = decompress(fields.0, known)?;
        integers.into_iter().map(|integer| from_integer(integer, decimals)).collect()
    };
    let Some(bits) = bits else { return Some(values.into_iter().map(Some).collect()) };
    let mut values = values.into_iter();
    Some((0..rows).map(|row| if bits[row / 8] >> (row % 8) & 1 == 1 { values.next() } else { None }).collect())
}

/// The numbers times 10^decimals, if they all are whole then and come back bit by bit.
fn as_integers(values: &[f64], decimals: u8) -> Option<Vec<i64>> {
    let scale = 10_f64.powi(i32::from(decimals));
    let integer = |value: &f64| {
        let scaled = (value * scale).round();
        if scaled.abs() > WHOLE_MAX {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
        let integer = scaled as i64;
        (from_integer(integer, decimals).to_bits() == value.to_bits()).then_some(integer)
    };
    values.iter().map(integer).collect()
}

fn from_integer(integer: i64, decimals: u8) -> f64 {
    integer as f64 / 10_f64.powi(i32::from(decimals.min(DECIMALS_MAX)))
}

fn compress<T: Number>(out: &mut Vec<u8>, numbers: &[T]) {
    simple_compress_into(numbers, &ChunkConfig::default(), out).expect("memory takes every byte");
}

fn decompress<T: Number + Default>(bytes: &[u8], count: usize) -> Option<Vec<T>> {
    let mut numbers = vec![T::default(); count];
    let progress = simple_decompress_into(bytes, &mut numbers).ok()?;
    (progress.n_processed == count).then_some(numbers)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a block has few rows")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = Option<f64>> {
        let finite = prop::num::f64::ANY.prop_filter("finite", |value| value.is_finite());
        let hundredths = (-1_000_000_i64..1_000_000).prop_map(|whole| whole as f64 / 100.0);
        let whole = any::<i64>().prop_map(|whole| whole as f64);
        let odd = prop::sample::select(vec![0.0, -0.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 1e300, 2_f64.powi(53)]);
        prop_oneof![3 => Just(None), 2 => finite.prop_map(Some), 4 => hundredths.prop_map(Some), 2 => whole.prop_map(Some), 1 => odd.prop_map(Some)]
    }

    fn column(rows: usize) -> impl Strategy<Value = Vec<Option<f64>>> {
        let kinds = prop_oneof![
            Just(vec![None; rows]),
            prop::collection::vec(number(), rows),
            prop::collection::vec((0..100_u32).prop_map(|whole| Some(f64::from(whole) * 0.25)), rows),
            prop::collection::vec((0..1_u64 << 40).prop_map(|whole| Some((whole * 4096) as f64)), rows),
        ];
        kinds.boxed()
    }

    fn bits(column: &[Option<f64>]) -> Vec<Option<u64>> {
        column.iter().map(|value| value.map(f64::to_bits)).collect()
    }

    proptest! {
        #[test]
        fn every_number_comes_back_bit_by_bit(
            (wall_ms, columns) in (1_usize..200).prop_flat_map(|rows| {
                (prop::collection::vec(any::<i64>(), rows), prop::collection::vec(column(rows), 0..5))
            })
        ) {
            let block = Block { boot_ms: wall_ms.iter().map(|ms| ms >> 1).collect(), wall_ms, columns };
            let mut bytes = Vec::new();
            block.write(&mut bytes);
            let back = Block::read(&bytes, block.rows(), block.columns.len()).expect("it was just written");
            prop_assert_eq!(&back.wall_ms, &block.wall_ms);
            prop_assert_eq!(&back.boot_ms, &block.boot_ms);
            for (back, column) in back.columns.iter().zip(&block.columns) {
                prop_assert_eq!(bits(back), bits(column));
            }
        }

        /// A right checksum over nonsense is no reason to crash either.
        #[test]
        fn nonsense_is_refused_or_read_but_never_a_crash(bytes in prop::collection::vec(any::<u8>(), 0..300), rows in 0_usize..50) {
            let block = Block::read(&bytes, rows, 2);
            prop_assert!(block.is_none_or(|block| block.columns.iter().all(|column| column.len() == rows)));
        }

        #[test]
        fn a_damaged_block_is_no_crash(byte in 0_usize..400, flip in 1_u8..) {
            let mut block = Block::of(2, 64);
            for row in 0..64_i64 {
                block.push(row * 1000, row * 1000, [Some(row as f64), (row % 3 > 0).then_some(0.5)].into_iter());
            }
            let mut bytes = Vec::new();
            block.write(&mut bytes);
            let at = byte % bytes.len();
            bytes[at] ^= flip;
            let back = Block::read(&bytes, 64, 2);
            prop_assert!(back.is_none_or(|back| back.columns.iter().all(|column| column.len() == 64)));
        }
    }

    #[test]
    fn tenths_and_bytes_are_written_as_integers() {
        for (value, decimals) in [(12.0, 0), (12.5, 1), (0.07, 2), (4096.0 * 1e9, 0), (0.1234, 4)] {
            let found = (0..=DECIMALS_MAX).find(|decimals| as_integers(&[value], *decimals).is_some());
            assert_eq!(found, Some(decimals), "{value}");
        }
        for value in [-0.0, 1.0 / 3.0, f64::MAX] {
            assert!((0..=DECIMALS_MAX).all(|decimals| as_integers(&[value], decimals).is_none()), "{value}");
        }
    }
}
