//! The store of boards that live in memory: it keeps nothing.

use super::{Meta, Store, StoreError};
use crate::index::{Name, Record};

/// A store for what may be lost at the end of the process. It is always found empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryStore;

impl Store for MemoryStore {
    fn load(&mut self, _each: &mut dyn FnMut(Record)) -> Result<Meta, StoreError> {
        Ok(Meta::default())
    }

    fn commit(&mut self, _records: &[Record], _forget: &[Name], _meta: Option<&Meta>) -> Result<(), StoreError> {
        Ok(())
    }
}
