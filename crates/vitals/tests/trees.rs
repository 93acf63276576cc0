//! Thousands of generated procfs trees, read through real files by a sampler that keeps them open, against a plain model.

#![allow(clippy::unwrap_used, reason = "in a test, helpers included, a failure is to be seen")]

use std::{fmt::Write as _, fs, path::Path};

use proptest::{prelude::*, test_runner::TestRunner};
use vitals::{
    NoRate, Rates, Sample, Sampler,
    sample::{CpuField, ticks_per_second},
};

const COLUMNS_MAX: usize = 10;
const OPTIONAL: [&str; 8] =
    ["MemFree", "MemAvailable", "Buffers", "Cached", "SReclaimable", "Shmem", "SwapTotal", "SwapFree"];

/// What a tree says, before it is written.
#[derive(Debug, Clone)]
struct Tree {
    sum: Vec<u64>,
    /// Sorted by id, with gaps where CPUs are offline.
    cpus: Vec<(u32, Vec<u64>)>,
    total_kib: u64,
    fields_kib: [Option<u64>; OPTIONAL.len()],
    interrupts: usize,
    spaced: bool,
    ends_in_newline: bool,
}

impl Tree {
    fn write(&self, dir: &Path) {
        let mut stat = String::new();
        let mut line = |name: &str, ticks: &[u64]| {
            stat.push_str(name);
            ticks.iter().for_each(|ticks| write!(stat, " {ticks}").unwrap());
            stat.push('\n');
        };
        line("cpu ", &self.sum);
        self.cpus.iter().for_each(|(id, ticks)| line(&format!("cpu{id}"), ticks));
        writeln!(stat, "intr 9{}\nctxt 1\nbtime 1", " 0".repeat(self.interrupts)).unwrap();
        let space = if self.spaced { "      " } else { "" };
        let mut meminfo = format!("MemTotal:{space}{} kB\nActive(anon): 5 kB\n", self.total_kib);
        for (name, kib) in OPTIONAL.iter().zip(self.fields_kib) {
            kib.iter().for_each(|kib| writeln!(meminfo, "{name}:{space}{kib} kB").unwrap());
        }
        for (name, mut content) in [("stat", stat), ("meminfo", meminfo)] {
            if !self.ends_in_newline {
                content.pop();
            }
            fs::write(dir.join(name), content).unwrap();
        }
    }

    /// What [`Rates`] must say of the CPUs with `older` as the baseline; `Ok` is busy ticks of all ticks.
    fn expected(&self, older: &Self) -> Result<(u64, u64), NoRate> {
        let ids = |tree: &Self| tree.cpus.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        let total = |tree: &Self| tree.sum.iter().take(8).sum::<u64>();
        let reset = |old: &[u64], new: &[u64]| old[3] >= new[3] + 3 * ticks_per_second();
        if ids(self) != ids(older) || self.sum.len() != older.sum.len() {
            return Err(NoRate::CpusChanged);
        }
        if total(self) <= total(older) {
            return Err(NoRate::TotalNotLarger);
        }
        let each = older.cpus.iter().zip(&self.cpus).any(|((_, old), (_, new))| reset(old, new));
        if each || reset(&older.sum, &self.sum) {
            return Err(NoRate::IdleFell);
        }
        let deltas: Vec<u64> =
            self.sum.iter().zip(&older.sum).take(8).map(|(new, old)| new.saturating_sub(*old)).collect();
        let quiet = deltas[3] + deltas.get(4).copied().unwrap_or(0);
        let all = deltas.iter().sum::<u64>();
        Ok((all - quiet, all))
    }

    fn check_raw(&self, sample: &Sample) -> Result<(), TestCaseError> {
        prop_assert_eq!(sample.cpu.present(), &self.sum[..]);
        let cpus: Vec<_> = sample.cpus.iter().map(|cpu| (cpu.id, cpu.times.present().to_vec())).collect();
        prop_assert_eq!(&cpus, &self.cpus);
        let memory = &sample.memory;
        prop_assert_eq!(memory.total_bytes, self.total_kib * 1024);
        let read = [
            memory.free_bytes,
            memory.available_bytes,
            memory.buffers_bytes,
            memory.cached_bytes,
            memory.sreclaimable_bytes,
            memory.shmem_bytes,
            memory.swap_total_bytes,
            memory.swap_free_bytes,
        ];
        prop_assert_eq!(read, self.fields_kib.map(|kib| kib.map(|kib| kib * 1024)));
        Ok(())
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let cpus = prop_oneof![8 => 0usize..9, 1 => 1usize..=512];
    let columns = prop_oneof![3 => Just(COLUMNS_MAX), 1 => 4usize..=COLUMNS_MAX];
    (columns, cpus).prop_flat_map(|(columns, cpus)| {
        let counters = move || prop::collection::vec(0u64..100_000, columns);
        // Gaps: each id is some steps behind the one before.
        let cpu = (prop_oneof![9 => Just(1u32), 1 => 1u32..20], counters());
        (
            counters(),
            prop::collection::vec(cpu, cpus),
            1u64..1 << 40,
            prop::array::uniform8(prop::option::weighted(0.9, 0u64..1 << 41)),
            prop_oneof![9 => 0usize..50, 1 => 0usize..20_000],
            any::<bool>(),
            prop::bool::weighted(0.9),
        )
            .prop_map(|(sum, steps, total_kib, fields_kib, interrupts, spaced, ends_in_newline)| {
                let mut next_id = 0;
                let cpus = steps.into_iter().map(|(step, ticks)| {
                    next_id += step;
                    (next_id - 1, ticks)
                });
                let cpus = cpus.collect();
                Tree { sum, cpus, total_kib, fields_kib, interrupts, spaced, ends_in_newline }
            })
    })
}

/// The tree a while later: most counters have grown, some fell, now and then a CPU came or went.
fn later(older: Tree) -> impl Strategy<Value = (Tree, Tree)> {
    let count = (older.cpus.len() + 1) * COLUMNS_MAX;
    let change = prop_oneof![20 => 0i64..200, 1 => -250i64..0, 1 => -2000i64..0];
    let hotplug = prop_oneof![8 => Just(0u8), 1 => Just(1), 1 => Just(2)];
    let memory = prop::array::uniform8(prop::option::weighted(0.9, 0u64..1 << 41));
    (prop::collection::vec(change, count), hotplug, memory).prop_map(move |(changes, hotplug, fields_kib)| {
        let mut newer = Tree { fields_kib, ..older.clone() };
        let mut changes = changes.into_iter();
        let lines = std::iter::once(&mut newer.sum).chain(newer.cpus.iter_mut().map(|(_, ticks)| ticks));
        for ticks in lines.flatten() {
            *ticks = ticks.saturating_add_signed(changes.next().unwrap_or(0));
        }
        match hotplug {
            1 => drop(newer.cpus.pop()),
            2 => newer.cpus.push((20_000, older.sum.clone())),
            _ => {}
        }
        (older.clone(), newer)
    })
}

#[test]
fn m1_1_m1_2_any_tree_is_read_as_it_is_and_judged_by_the_definitions() {
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::with_cases(2000)
    });
    let mut reasons = [0u32; 4];
    let counted = std::cell::RefCell::new(&mut reasons);
    let dir = tempfile::tempdir().unwrap();
    runner
        .run(&tree().prop_flat_map(later), |(older, newer)| {
            let mut sampler = Sampler::new(dir.path());
            older.write(dir.path());
            let first = sampler.sample().unwrap();
            older.check_raw(&first)?;
            // In place, under the open descriptors.
            newer.write(dir.path());
            let second = sampler.sample().unwrap();
            newer.check_raw(&second)?;
            let expected = newer.expected(&older);
            let rates = Rates::between(&first, &second);
            prop_assert_eq!(rates.cpu.map(|_| ()), expected.map(|_| ()));
            if let (Ok(cpu), Ok((busy, all))) = (rates.cpu, expected) {
                let percent = busy as f64 * 100.0 / all as f64;
                prop_assert!((cpu.busy_pct - percent).abs() < 1e-9, "{} but {}", cpu.busy_pct, percent);
                prop_assert_eq!(cpu.share_pct(CpuField::Steal).is_some(), newer.sum.len() >= 8);
            }
            counted.borrow_mut()[match expected {
                Ok(_) => 0,
                Err(NoRate::CpusChanged) => 1,
                Err(NoRate::TotalNotLarger) => 2,
                Err(_) => 3,
            }] += 1;
            Ok(())
        })
        .unwrap();
    assert!(reasons.iter().all(|count| *count > 5), "each case came up: {reasons:?}");
}
