//! What the columns of a segment are. Written as JSON, so that a person with `strings` can read it in ten years.

use serde::{Deserialize, Serialize};

use super::COLUMNS_MAX;
use crate::schema::Unit;

/// The format of segments and rows this program writes. It reads no other.
const FORMAT: u32 = 1;

/// One column of numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// The name for machines, with its unit: a CSV column, a JSON key.
    pub key: String,
    /// What it is measured in, by [`crate::schema::Unit::name`].
    pub unit: String,
}

impl Column {
    /// Percent are kept to a hundredth: the kernel counts in hundredths of a second, so finer digits are mostly noise, and they
    /// would take more room than everything else.
    pub(super) fn kept(&self, value: Option<f64>) -> Option<f64> {
        let value = value.filter(|value| value.is_finite());
        if self.unit == Unit::Percent.name() { value.map(|percent| (percent * 100.0).round() / 100.0) } else { value }
    }
}

/// The columns of a segment, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    /// The columns. Time is in every row and no column.
    pub columns: Vec<Column>,
    /// The boot of the machine its rows are of, if the kernel told: clocks since boot are compared within one only.
    pub boot: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    lockstep_history: u32,
    boot: Option<String>,
    columns: Vec<Column>,
}

impl Schema {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let written = Written { lockstep_history: FORMAT, boot: self.boot.clone(), columns: self.columns.clone() };
        serde_json::to_vec(&written).expect("names and units are text")
    }

    /// `None` where it is none of ours, or of a format yet to come.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(bytes).ok()?;
        let ours = written.lockstep_history == FORMAT && written.columns.len() <= COLUMNS_MAX;
        ours.then_some(Self { columns: written.columns, boot: written.boot })
    }
}
