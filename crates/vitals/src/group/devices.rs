//! Devices by their names, with counters that only grow: what disks and network interfaces have in common.

use std::fmt::Write as _;

use super::{Group, Step, read_optional, real};
use crate::{
    fields::Field,
    format::steers,
    proc::KeptFile,
    schema::{Column, Metric, Missing, Value},
};

/// The most devices that are told apart at all, so that a machine that makes a new one every second does not fill memory.
const DEVICES_MAX: usize = 4096;

/// What is particular to one kind of device.
#[derive(Debug)]
pub(crate) struct Family<const N: usize> {
    pub(crate) metric: Metric,
    /// What keys begin with: `disk` in `disk_sda_read_bytes_per_s`.
    pub(crate) prefix: &'static str,
    /// The most devices that get columns of their own. Later ones are in the sums alone.
    pub(crate) devices_max: usize,
    /// A line of the file as name and counters; `None` for a line that is about something else.
    pub(crate) line: fn(&[u8]) -> Option<Line<'_, N>>,
    /// What is neither shown nor in the sums, by its name and that of the last one before it that was not left out.
    pub(crate) left_out: fn(name: &[u8], before: Option<&[u8]>) -> bool,
    /// What is shown and not in the sums, because it is made of others or leads nowhere.
    pub(crate) made_of_others: fn(name: &[u8]) -> bool,
    /// The columns of all together and of each device.
    pub(crate) fields: &'static [DeviceField<N>],
}

/// Name and counters of a device.
pub(crate) type Line<'a, const N: usize> = (&'a [u8], [u64; N]);

/// A column of a device.
pub(crate) type DeviceField<const N: usize> = Field<[Result<f64, Missing>; N]>;

#[derive(Debug)]
struct Device<const N: usize> {
    name: Vec<u8>,
    older: Option<[u64; N]>,
    newer: Option<[u64; N]>,
    rates: [Result<f64, Missing>; N],
}

/// The devices of one file.
#[derive(Debug)]
pub(crate) struct Devices<const N: usize> {
    family: &'static Family<N>,
    file: KeptFile,
    devices: Vec<Device<N>>,
    /// All together, but those made of others.
    sums: [Result<f64, Missing>; N],
    /// The device whose line came last and was not left out.
    before: Vec<u8>,
}

impl<const N: usize> Devices<N> {
    pub(crate) fn new(family: &'static Family<N>, file: KeptFile) -> Self {
        let sums = [Err(Missing::NotTold); N];
        Self { family, file, devices: Vec::new(), sums, before: Vec::new() }
    }

    /// Fills in the line of one device; true if it was not known.
    fn take(
        devices: &mut Vec<Device<N>>,
        expected_at: usize,
        name: &[u8],
        counters: [u64; N],
        columns_max: usize,
    ) -> (usize, bool) {
        // Lines nearly always come in the order they came in before.
        let known = if devices.get(expected_at).is_some_and(|device| device.name == name) {
            Some(expected_at)
        } else {
            devices.iter().position(|device| device.name == name)
        };
        if let Some(at) = known {
            // A name that is there twice counts once.
            devices[at].newer.get_or_insert(counters);
            return (at, false);
        }
        if devices.len() < DEVICES_MAX {
            let rates = [Err(Missing::Absent); N];
            devices.push(Device { name: name.to_owned(), older: None, newer: Some(counters), rates });
            return (devices.len() - 1, devices.len() <= columns_max);
        }
        (expected_at, false)
    }
}

impl<const N: usize> Group for Devices<N> {
    fn read(&mut self, step: &mut Step<'_>) -> bool {
        let Self { family, file, devices, sums, before } = self;
        for device in devices.iter_mut() {
            device.older = device.newer.take();
        }
        let mut grew = false;
        let told = read_optional(file, step.buffer);
        match told {
            Err(why) => {
                *sums = [Err(why); N];
                for device in devices.iter_mut() {
                    device.rates = [Err(why); N];
                }
                return false;
            }
            Ok(content) => {
                before.clear();
                let mut expected_at = 0;
                for (name, counters) in content.split(|byte| *byte == b'\n').filter_map(family.line) {
                    if (family.left_out)(name, (!before.is_empty()).then_some(before)) {
                        continue;
                    }
                    let (at, new) = Self::take(devices, expected_at, name, counters, family.devices_max);
                    expected_at = at + 1;
                    grew |= new;
                    before.clear();
                    before.extend_from_slice(name);
                }
            }
        }
        *sums = match step.broken {
            Some(why) => [Err(why.into()); N],
            None => [Ok(0.0); N],
        };
        for device in devices.iter_mut() {
            let Some(newer) = device.newer else {
                device.rates = [Err(Missing::Absent); N];
                continue;
            };
            let summed = !(family.made_of_others)(&device.name);
            for (at, rate) in device.rates.iter_mut().enumerate() {
                *rate = step.rate(device.older.map(|older| older[at]), newer[at]);
                // One that just appeared or was exchanged has no rate, and the others' are still right.
                if let (true, Ok(sum), Ok(rate)) = (summed, &mut sums[at], *rate) {
                    *sum += rate;
                }
            }
        }
        grew
    }

    fn columns(&self, out: &mut Vec<Column>) {
        let all = |field: &DeviceField<N>| Column {
            key: format!("{}_{}", self.family.prefix, field.key).into(),
            ..field.column(self.family.metric)
        };
        out.extend(self.family.fields.iter().map(all));
        for device in self.devices.iter().take(self.family.devices_max) {
            let name = key_part(&device.name);
            out.extend(self.family.fields.iter().map(|field| Column {
                key: format!("{}_{name}_{}", self.family.prefix, field.key).into(),
                title: format!("{name} {}", field.title).into(),
                in_text: false,
                ..field.column(self.family.metric)
            }));
        }
    }

    fn values(&self, out: &mut Vec<Value>) {
        out.extend(self.family.fields.iter().map(|field| (field.value)(&self.sums)));
        for device in self.devices.iter().take(self.family.devices_max) {
            out.extend(self.family.fields.iter().map(|field| (field.value)(&device.rates)));
        }
    }
}

/// The rate of one counter as a value.
pub(crate) fn rate<const AT: usize, const N: usize>(rates: &[Result<f64, Missing>; N]) -> Value {
    real(rates[AT])
}

/// A device's name as part of a key: what could steer a terminal, and what is not UTF-8, byte by byte as `%1b`. Two names never
/// become the same.
fn key_part(name: &[u8]) -> String {
    let mut part = String::new();
    let escape = |part: &mut String, bytes: &[u8]| {
        for byte in bytes {
            write!(part, "%{byte:02x}").expect("a String takes every char");
        }
    };
    for chunk in name.utf8_chunks() {
        for char in chunk.valid().chars() {
            if steers(char) || matches!(char, '%' | '"' | '\\' | ',' | ' ') {
                escape(&mut part, char.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                part.push(char);
            }
        }
        escape(&mut part, chunk.invalid());
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_is_a_plain_part_of_a_key_and_stays_itself() {
        assert_eq!(key_part(b"eth0.100@x"), "eth0.100@x");
        assert_eq!(key_part(b"a\x1b[m\",%\xff"), "a%1b[m%22%2c%25%ff");
        assert_ne!(key_part(b"e\x01"), key_part(b"e%01"));
    }
}
