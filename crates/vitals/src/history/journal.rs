//! The records of rows that are in no block yet. All records of a segment are of one length, so that a damaged one does not hide
//! the next.

use super::{block::Block, frame::Fields};

/// How long the record of a row of so many columns is.
pub(super) fn record_bytes(columns: usize) -> usize {
    4 + 8 + 8 + 8 + columns.div_ceil(8) + 8 * columns
}

/// Appends the record of the row with this number within its segment.
pub(super) fn write(out: &mut Vec<u8>, row: u64, wall_ms: i64, boot_ms: i64, values: &[Option<f64>]) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&row.to_le_bytes());
    out.extend_from_slice(&wall_ms.to_le_bytes());
    out.extend_from_slice(&boot_ms.to_le_bytes());
    for eight in values.chunks(8) {
        let bits = eight.iter().enumerate().map(|(at, value)| u8::from(value.is_some()) << at);
        out.push(bits.fold(0, |bits, bit| bits | bit));
    }
    for value in values {
        out.extend_from_slice(&value.unwrap_or(0.0).to_le_bytes());
    }
    let crc = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The rows of `bytes` that can be read, with their numbers, and how many records cannot.
pub(super) fn read(bytes: &[u8], columns: usize) -> (Vec<u64>, Block, u64) {
    let each = record_bytes(columns);
    let mut block = Block::of(columns, bytes.len() / each);
    let (mut rows, mut bad) = (Vec::new(), 0);
    for record in bytes.chunks(each) {
        let last = rows.last().copied();
        match read_one(record, columns).filter(|(row, ..)| last.is_none_or(|last| *row > last)) {
            Some((row, wall_ms, boot_ms, values)) => {
                rows.push(row);
                block.push(wall_ms, boot_ms, values.into_iter());
            }
            None => bad += 1,
        }
    }
    (rows, block, bad)
}

fn read_one(record: &[u8], columns: usize) -> Option<(u64, i64, i64, Vec<Option<f64>>)> {
    if record.len() != record_bytes(columns) {
        return None;
    }
    let mut fields = Fields(record);
    let crc = u32::from_le_bytes(fields.take()?);
    if crc32fast::hash(fields.0) != crc {
        return None;
    }
    let row = u64::from_le_bytes(fields.take()?);
    let wall_ms = i64::from_le_bytes(fields.take()?);
    let boot_ms = i64::from_le_bytes(fields.take()?);
    let bits = fields.slice(columns.div_ceil(8))?;
    let value = |column: usize| {
        let value = f64::from_le_bytes(fields.take()?);
        Some((bits[column / 8] >> (column % 8) & 1 == 1).then_some(value))
    };
    Some((row, wall_ms, boot_ms, (0..columns).map(value).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<u8> {
        let mut bytes = Vec::new();
        for row in 0..3_u32 {
            let values = [Some(f64::from(row)), None, Some(-0.0)];
            write(&mut bytes, u64::from(row) + 10, i64::from(row) * 1000, 5, &values);
        }
        bytes
    }

    #[test]
    fn records_come_back() {
        let bytes = three();
        assert_eq!(bytes.len(), 3 * record_bytes(3));
        let (rows, block, bad) = read(&bytes, 3);
        assert_eq!((rows, bad), (vec![10, 11, 12], 0));
        assert_eq!(block.wall_ms, [0, 1000, 2000]);
        assert_eq!(block.columns[0], [Some(0.0), Some(1.0), Some(2.0)]);
        assert_eq!(block.columns[1], [None; 3]);
        assert!(block.columns[2].iter().flatten().all(|value| value.to_bits() == (-0.0_f64).to_bits()));
    }

    #[test]
    fn a_damaged_record_costs_itself_and_a_cut_one_too() {
        let bytes = three();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let (rows, _, bad) = read(&damaged, 3);
            assert_eq!((rows.len(), bad), (2, 1), "bit {bit}");
            assert!(!rows.contains(&(10 + (bit / 8 / record_bytes(3)) as u64)));
        }
        for cut in 0..bytes.len() {
            let (rows, _, bad) = read(&bytes[..cut], 3);
            assert_eq!(rows.len(), cut / record_bytes(3));
            assert_eq!(bad, u64::from(cut % record_bytes(3) > 0));
        }
    }
}
