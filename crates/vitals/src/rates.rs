//! What is derived from samples: CPU shares of an interval, and what memory is used.
//!
//! The definitions, each told where it is computed: busy is all time but idle and iowait, so time stolen by a hypervisor is
//! busy; used memory is total less available, as `free` and psutil ≥ 7.1 say. A number without a sound baseline is not
//! given; [`NoRate`] says why.

use crate::sample::{CPU_SHARES, CpuField, CpuTimes, Memory, Sample};

/// An idle counter that falls back by this much was reset: its CPU went offline and came again between two samples.
/// Smaller dips are the kernel's rounding. Prometheus' node_exporter found this limit.
pub const IDLE_RESET_SECONDS: u64 = 3;

/// Growth of the suspended time that counts as a suspend. The two clocks are read one after the other, so that a gap between
/// the reads, when the machine is loaded, looks like a little of it.
pub const SUSPEND_NS_MIN: u64 = 500_000_000;

/// Figures derived from one sample, and where there is a baseline from the one before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// All CPUs together, over the interval between the two samples; or why nothing can be said.
    pub cpu: Result<CpuRates, NoRate>,
    /// Memory at the newer sample. It needs no baseline.
    pub memory: MemoryUse,
}

impl Rates {
    /// The figures of a first sample: memory alone.
    pub fn first(sample: &Sample) -> Self {
        Self { cpu: Err(NoRate::FirstSample), memory: MemoryUse::of(&sample.memory) }
    }

    /// The figures of `newer`, with `older` as its baseline.
    pub fn between(older: &Sample, newer: &Sample) -> Self {
        Self { cpu: cpu_rates(older, newer), memory: MemoryUse::of(&newer.memory) }
    }

    /// The CPU shares of each CPU in `newer`, keyed by its id; a CPU that is offline is absent. One that `older` does not have
    /// appeared and has no baseline.
    pub fn per_cpu<'s>(
        older: &'s Sample,
        newer: &'s Sample,
    ) -> impl Iterator<Item = (u32, Result<CpuRates, NoRate>)> + 's {
        let broken = break_between(older, newer);
        newer.cpus.iter().map(move |cpu| {
            let rates = match (broken, older.cpus.binary_search_by_key(&cpu.id, |other| other.id)) {
                (Some(reason), _) => Err(reason),
                (None, Err(_)) => Err(NoRate::CpusChanged),
                (None, Ok(at)) => CpuRates::between(&older.cpus[at].times, &cpu.times),
            };
            (cpu.id, rates)
        })
    }
}

/// Why there is no CPU rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRate {
    /// There is nothing before this sample.
    FirstSample,
    /// The samples are of two boots of the machine.
    BootChanged,
    /// The machine was suspended in between, for at least [`SUSPEND_NS_MIN`].
    Suspended,
    /// A CPU came or went, or the kernel prints other columns.
    CpusChanged,
    /// The counters together did not grow.
    TotalNotLarger,
    /// An idle counter fell by [`IDLE_RESET_SECONDS`] or more.
    IdleFell,
    /// A counter fell: it is another device by the same name, or it was set to 0.
    CounterFell,
    /// The sample before does not have it.
    Appeared,
    /// The two samples were taken at the same moment of the monotonic clock.
    NoTimePassed,
}

impl NoRate {
    /// The word for machines; part of the schema of CSV and JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::FirstSample => "first_sample",
            Self::BootChanged => "boot_changed",
            Self::Suspended => "suspended",
            Self::CpusChanged => "cpus_changed",
            Self::TotalNotLarger => "total_not_larger",
            Self::IdleFell => "idle_fell",
            Self::CounterFell => "counter_fell",
            Self::Appeared => "appeared",
            Self::NoTimePassed => "no_time_passed",
        }
    }
}

/// CPU shares of one interval, in percent of all the time accounted for in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuRates {
    /// All but idle and iowait, 0 to 100.
    pub busy_pct: f64,
    /// How many of the counters that make up the total fell by a little and were taken as unchanged, as iowait may.
    pub clamped_fields: u32,
    shares_pct: [Option<f64>; CPU_SHARES],
}

impl CpuRates {
    /// The share of one field, 0 to 100. `None` if this kernel does not print the field, and for the guest fields, which are
    /// inside user and nice. The shares that are there add up to 100.
    pub fn share_pct(&self, field: CpuField) -> Option<f64> {
        self.shares_pct.get(field as usize).copied().flatten()
    }

    /// The shares between two readings of one `cpu` line.
    fn between(older: &CpuTimes, newer: &CpuTimes) -> Result<Self, NoRate> {
        if older.present().len() != newer.present().len() {
            return Err(NoRate::CpusChanged);
        }
        if newer.total_ticks() <= older.total_ticks() {
            return Err(NoRate::TotalNotLarger);
        }
        if idle_was_reset(older, newer) {
            return Err(NoRate::IdleFell);
        }
        let mut deltas = [None; CPU_SHARES];
        let mut clamped_fields = 0;
        for (delta, (&old, &new)) in deltas.iter_mut().zip(older.present().iter().zip(newer.present())) {
            *delta = Some(new.saturating_sub(old));
            clamped_fields += u32::from(new < old);
        }
        let ticks = |field: CpuField| u128::from(deltas[field as usize].unwrap_or(0));
        let total: u128 = deltas.iter().flatten().map(|&delta| u128::from(delta)).sum();
        let busy = total - ticks(CpuField::Idle) - ticks(CpuField::Iowait);
        Ok(Self {
            busy_pct: percent(busy, total),
            clamped_fields,
            shares_pct: deltas.map(|delta| Some(percent(u128::from(delta?), total))),
        })
    }
}

/// What memory and swap are used, in bytes. `None` where the kernel does not print what is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryUse {
    /// What the kernel can use.
    pub total_bytes: u64,
    /// Total less available: procps ≥ 4.0.1, psutil ≥ 7.1.
    pub used_bytes: Option<u64>,
    /// The kernel's estimate; where it is missing, 0 or above the total (old kernels, LXC): what is free, as procps does.
    pub available_bytes: Option<u64>,
    /// Used for nothing at all.
    pub free_bytes: Option<u64>,
    /// Cache of files and reclaimable kernel objects, as procps and psutil count.
    pub cached_bytes: Option<u64>,
    /// Total less free, buffers and cached: what htop and older tools call used. For comparison.
    pub used_htop_bytes: Option<u64>,
    /// Size of swap.
    pub swap_total_bytes: Option<u64>,
    /// Swap total less swap free.
    pub swap_used_bytes: Option<u64>,
}

impl MemoryUse {
    /// Derives the figures from the raw fields.
    pub fn of(raw: &Memory) -> Self {
        let total = raw.total_bytes;
        let available = match raw.available_bytes {
            Some(available) if available != 0 && available <= total => Some(available),
            // In a container the file may mix its own total with the host's other fields.
            _ => raw.free_bytes.map(|free| free.min(total)),
        };
        // Kernels before 2.6.19 did not tell SReclaimable apart; every tool counts it as 0 there.
        let cached = raw.cached_bytes.map(|cached| cached.saturating_add(raw.sreclaimable_bytes.unwrap_or(0)));
        let used_htop = || {
            let free = raw.free_bytes?;
            let unused = free.checked_add(raw.buffers_bytes?)?.checked_add(cached?)?;
            Some(total.checked_sub(unused).unwrap_or(total.saturating_sub(free)))
        };
        let swap_used = || Some(raw.swap_total_bytes?.saturating_sub(raw.swap_free_bytes?));
        Self {
            total_bytes: total,
            used_bytes: available.map(|available| total - available),
            available_bytes: available,
            free_bytes: raw.free_bytes,
            cached_bytes: cached,
            used_htop_bytes: used_htop(),
            swap_total_bytes: raw.swap_total_bytes,
            swap_used_bytes: swap_used(),
        }
    }

    /// Used in percent of total, 0 to 100. `None` if either is unknown.
    pub fn used_pct(&self) -> Option<f64> {
        let used = self.used_bytes?;
        (self.total_bytes > 0).then(|| percent(u128::from(used), u128::from(self.total_bytes)))
    }
}

fn cpu_rates(older: &Sample, newer: &Sample) -> Result<CpuRates, NoRate> {
    if let Some(reason) = break_between(older, newer) {
        return Err(reason);
    }
    if !older.cpus.iter().map(|cpu| cpu.id).eq(newer.cpus.iter().map(|cpu| cpu.id)) {
        return Err(NoRate::CpusChanged);
    }
    let rates = CpuRates::between(&older.cpu, &newer.cpu)?;
    // One CPU that was off and on again in between spoils the sum, although the others may hide it there.
    let reset = older.cpus.iter().zip(&newer.cpus).any(|(old, new)| idle_was_reset(&old.times, &new.times));
    if reset { Err(NoRate::IdleFell) } else { Ok(rates) }
}

/// What makes the counters of two samples have nothing to do with each other.
pub(crate) fn break_between(older: &Sample, newer: &Sample) -> Option<NoRate> {
    match (older.boot_id, newer.boot_id) {
        (Some(old), Some(new)) if old != new => Some(NoRate::BootChanged),
        _ if newer.taken.suspended_since_ns(&older.taken) >= SUSPEND_NS_MIN => Some(NoRate::Suspended),
        _ => None,
    }
}

fn idle_was_reset(older: &CpuTimes, newer: &CpuTimes) -> bool {
    let idle = |times: &CpuTimes| times.ticks(CpuField::Idle).unwrap_or(0);
    idle(older).saturating_sub(idle(newer)) >= IDLE_RESET_SECONDS * crate::sample::ticks_per_second()
}

/// `part` of a `whole` above 0, in percent.
fn percent(part: u128, whole: u128) -> f64 {
    // Rounding may end a hair above.
    (part as f64 * 100.0 / whole as f64).min(100.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        clock::Instants,
        sample::{BootId, OneCpu, ticks_per_second},
    };

    fn times(columns: &[u64]) -> CpuTimes {
        CpuTimes::new(columns).unwrap()
    }

    fn sample(columns: &[u64]) -> Sample {
        Sample { cpu: times(columns), ..Sample::default() }
    }

    fn with_cpus(columns: &[u64], cpus: &[(u32, &[u64])]) -> Sample {
        let cpus = cpus.iter().map(|(id, columns)| OneCpu { id: *id, times: times(columns) }).collect();
        Sample { cpus, ..sample(columns) }
    }

    fn reason(older: &Sample, newer: &Sample) -> NoRate {
        Rates::between(older, newer).cpu.unwrap_err()
    }

    #[test]
    fn m1_2_busy_is_all_but_idle_and_iowait_and_steal_is_busy() {
        let older = sample(&[100, 0, 0, 1000, 0, 0, 0, 0, 0, 0]);
        let newer = sample(&[110, 10, 10, 1040, 10, 10, 0, 10, 5, 5]);
        let rates = Rates::between(&older, &newer).cpu.unwrap();
        assert_eq!(rates.busy_pct, 50.0);
        assert_eq!(rates.share_pct(CpuField::Steal), Some(10.0));
        assert_eq!(rates.share_pct(CpuField::Idle), Some(40.0));
        assert_eq!(rates.share_pct(CpuField::Guest), None, "guests are inside user");
        assert_eq!(rates.clamped_fields, 0);
    }

    #[test]
    fn a_field_the_kernel_does_not_print_has_no_share() {
        let rates = Rates::between(&sample(&[0, 0, 0, 0]), &sample(&[1, 0, 0, 3])).cpu.unwrap();
        assert_eq!((rates.busy_pct, rates.share_pct(CpuField::Steal)), (25.0, None));
    }

    #[test]
    fn small_dips_are_clamped_and_counted() {
        let rates = Rates::between(&sample(&[0, 0, 0, 100, 50]), &sample(&[40, 0, 0, 90, 45])).cpu.unwrap();
        assert_eq!((rates.busy_pct, rates.clamped_fields), (100.0, 2));
    }

    #[test]
    fn m1_2_without_a_baseline_there_is_no_number_but_a_reason() {
        let reset = IDLE_RESET_SECONDS * ticks_per_second();
        let older = with_cpus(&[10, 0, 0, 1000], &[(0, &[5, 0, 0, 500]), (1, &[5, 0, 0, 500])]);
        let newer = with_cpus(&[20, 0, 0, 1010], &[(0, &[10, 0, 0, 505]), (1, &[10, 0, 0, 505])]);
        assert!(Rates::between(&older, &newer).cpu.is_ok());

        assert_eq!(Rates::first(&newer).cpu, Err(NoRate::FirstSample));
        assert_eq!(reason(&older, &older), NoRate::TotalNotLarger);
        assert_eq!(reason(&newer, &older), NoRate::TotalNotLarger);

        let mut other = newer.clone();
        other.cpus.pop();
        assert_eq!(reason(&older, &other), NoRate::CpusChanged, "one went");
        assert_eq!(reason(&other, &newer), NoRate::CpusChanged, "one came");
        other.cpus.push(OneCpu { id: 2, ..newer.cpus[1] });
        assert_eq!(reason(&older, &other), NoRate::CpusChanged, "as many, but others");
        assert_eq!(reason(&older, &sample(&[20, 0, 0, 1010, 0])), NoRate::CpusChanged);

        let base = sample(&[0, 0, 0, 1000]);
        assert_eq!(reason(&base, &sample(&[1000, 0, 0, 1000 - reset])), NoRate::IdleFell);
        assert!(Rates::between(&base, &sample(&[1000, 0, 0, 1001 - reset])).cpu.is_ok(), "one tick less is a dip");
        let mut hidden = newer.clone();
        hidden.cpus[0].times = times(&[10, 0, 0, 500 - reset]);
        assert_eq!(reason(&older, &hidden), NoRate::IdleFell, "one CPU was reset, the sum hides it");

        let mut slept = newer.clone();
        slept.taken = Instants { wall_ns: 0, monotonic_ns: 5, boottime_ns: 5 + SUSPEND_NS_MIN };
        assert_eq!(reason(&older, &slept), NoRate::Suspended);
        slept.taken.boottime_ns -= 1;
        assert!(Rates::between(&older, &slept).cpu.is_ok());

        let boot = |digit: &str| BootId::parse(digit.repeat(36).as_bytes());
        let (mut before, mut after) = (older.clone(), newer.clone());
        (before.boot_id, after.boot_id) = (boot("a"), boot("b"));
        assert_eq!(reason(&before, &after), NoRate::BootChanged);
        after.boot_id = None;
        assert!(Rates::between(&before, &after).cpu.is_ok(), "unknown is not different");
    }

    #[test]
    fn each_cpu_is_compared_with_itself_and_offline_ones_are_absent() {
        let older = with_cpus(&[10, 0, 0, 10], &[(0, &[0, 0, 0, 0]), (2, &[0, 0, 0, 0])]);
        let newer = with_cpus(&[20, 0, 0, 20], &[(0, &[1, 0, 0, 1]), (1, &[9, 0, 0, 9]), (2, &[3, 0, 0, 1])]);
        let rates: Vec<_> =
            Rates::per_cpu(&older, &newer).map(|(id, rates)| (id, rates.map(|rates| rates.busy_pct))).collect();
        assert_eq!(rates, [(0, Ok(50.0)), (1, Err(NoRate::CpusChanged)), (2, Ok(75.0))]);
    }

    #[test]
    fn m1_1_used_is_total_less_available_with_the_guards_of_procps() {
        let raw = Memory {
            total_bytes: 1000,
            free_bytes: Some(100),
            available_bytes: Some(600),
            buffers_bytes: Some(50),
            cached_bytes: Some(300),
            sreclaimable_bytes: Some(25),
            shmem_bytes: Some(10),
            swap_total_bytes: Some(500),
            swap_free_bytes: Some(200),
        };
        let memory = MemoryUse::of(&raw);
        assert_eq!((memory.used_bytes, memory.available_bytes, memory.cached_bytes), (Some(400), Some(600), Some(325)));
        assert_eq!((memory.used_htop_bytes, memory.swap_used_bytes), (Some(525), Some(300)));
        assert_eq!(memory.used_pct(), Some(40.0));
        for odd in [None, Some(0), Some(1001)] {
            let memory = MemoryUse::of(&Memory { available_bytes: odd, ..raw });
            assert_eq!((memory.available_bytes, memory.used_bytes), (Some(100), Some(900)), "available {odd:?}");
        }
        let bare = MemoryUse::of(&Memory { total_bytes: 1000, ..Memory::default() });
        assert_eq!((bare.used_bytes, bare.cached_bytes, bare.used_htop_bytes), (None, None, None));
        let lxc = MemoryUse::of(&Memory { cached_bytes: Some(5000), ..raw });
        assert_eq!(lxc.used_htop_bytes, Some(900), "the host's cache in a container's file");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn rates_stay_within_0_and_100_and_add_up(
            old in prop::collection::vec(prop_oneof![0u64..2000, Just(u64::MAX), any::<u64>()], 4..=10),
            new in prop::collection::vec(prop_oneof![0u64..2000, Just(u64::MAX), any::<u64>()], 4..=10),
        ) {
            let (older, newer) = (sample(&old), sample(&new));
            match Rates::between(&older, &newer).cpu {
                Ok(rates) => {
                    prop_assert_eq!(old.len(), new.len());
                    prop_assert!((0.0..=100.0).contains(&rates.busy_pct));
                    let shares: f64 = rates.shares_pct.iter().flatten().sum();
                    prop_assert!((shares - 100.0).abs() < 1e-9, "{}", shares);
                    let quiet: f64 = [CpuField::Idle, CpuField::Iowait].iter().filter_map(|f| rates.share_pct(*f)).sum();
                    prop_assert!((rates.busy_pct + quiet - 100.0).abs() < 1e-9);
                }
                Err(NoRate::CpusChanged) => prop_assert_ne!(old.len(), new.len()),
                Err(NoRate::TotalNotLarger) => prop_assert!(newer.cpu.total_ticks() <= older.cpu.total_ticks()),
                Err(NoRate::IdleFell) => prop_assert!(old[3] - new[3] >= 300),
                Err(other) => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn used_and_available_add_up_to_the_total(
            total in 0u64..=1 << 50,
            fields in prop::collection::vec(prop::option::of(prop_oneof![Just(0), 0u64..1 << 51, Just(u64::MAX)]), 8),
        ) {
            let raw = Memory {
                total_bytes: total,
                free_bytes: fields[0],
                available_bytes: fields[1],
                buffers_bytes: fields[2],
                cached_bytes: fields[3],
                sreclaimable_bytes: fields[4],
                shmem_bytes: fields[5],
                swap_total_bytes: fields[6],
                swap_free_bytes: fields[7],
            };
            let memory = MemoryUse::of(&raw);
            if let (Some(used), Some(available)) = (memory.used_bytes, memory.available_bytes) {
                prop_assert_eq!(used + available, total);
            } else {
                prop_assert!(memory.used_bytes.is_none() && memory.available_bytes.is_none());
                prop_assert!(raw.free_bytes.is_none());
            }
            prop_assert!(memory.used_htop_bytes.unwrap_or(0) <= total);
            prop_assert!(memory.used_pct().is_none_or(|percent| (0.0..=100.0).contains(&percent)));
        }
    }
}
