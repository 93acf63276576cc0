//! A store for the model: it can be copied, put back, lost, and made to fail.

use crate::{Meta, Name, Record, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What a store holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) records: BTreeMap<Name, Record>,
    pub(super) meta: Meta,
}

/// How the next commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing was written.
    Before,
    /// All was written, though the answer says that it failed.
    After,
}

/// The disk under one store; it outlives the process that writes to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<(Content, Option<Fault>)>>);

impl Disk {
    pub(super) fn content(&self) -> Content {
        self.0.lock().unwrap().0.clone()
    }

    pub(super) fn put_back(&self, content: Content) {
        self.0.lock().unwrap().0 = content;
    }

    pub(super) fn fail_next(&self, fault: Fault) {
        self.0.lock().unwrap().1 = Some(fault);
    }
}

impl Store for Disk {
    fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<Meta, StoreError> {
        let Content { records, meta } = self.content();
        records.into_values().for_each(each);
        Ok(meta)
    }

    fn commit(&mut self, records: &[Record], forget: &[Name], meta: Option<&Meta>) -> Result<(), StoreError> {
        let (content, fault) = &mut *self.0.lock().unwrap();
        let fault = fault.take();
        if fault != Some(Fault::Before) {
            for record in records {
                content.records.insert(record.name.clone(), record.clone());
            }
            for name in forget {
                content.records.remove(name);
            }
            if let Some(meta) = meta {
                content.meta = meta.clone();
            }
        }
        fault.map_or(Ok(()), |fault| Err(StoreError::Other(format!("{fault:?}"))))
    }
}
