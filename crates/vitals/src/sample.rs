//! One reading of the machine: raw counters and amounts as the kernel gave them. Nothing is derived here.

use std::fmt;

use crate::clock::Instants;

/// What the kernel said at one moment. Counters are kept raw; [`crate::Rates`] come from two samples.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// When it was taken, just before the first read.
    pub taken: Instants,
    /// Which boot of the machine it belongs to. `None` if the tree does not say.
    pub boot_id: Option<BootId>,
    /// CPU time since boot, all CPUs together: the line `cpu` of `/proc/stat`.
    pub cpu: CpuTimes,
    /// CPU time of each CPU that is online, sorted by id. Ids have gaps where CPUs are offline.
    pub cpus: Vec<OneCpu>,
    /// Memory, in bytes.
    pub memory: Memory,
    /// Load averages. `None` if the tree has none.
    pub load: Option<Load>,
}

/// The columns of a `cpu` line of `/proc/stat`, in their order there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuField {
    /// User mode; guests are inside.
    User,
    /// User mode with lowered priority; guests of that kind are inside.
    Nice,
    /// Kernel mode.
    System,
    /// Nothing to do.
    Idle,
    /// Nothing to do while I/O was outstanding. May decrease: proc_stat(5).
    Iowait,
    /// Hardware interrupts.
    Irq,
    /// Software interrupts.
    Softirq,
    /// Taken by the hypervisor for others.
    Steal,
    /// Guests' virtual CPUs; already counted in user.
    Guest,
    /// Guests' virtual CPUs with lowered priority; already counted in nice.
    GuestNice,
}

/// How many columns a `cpu` line can have. Later ones are not read.
pub const CPU_COLUMNS: usize = 10;

/// How many of the columns make up the whole: guests are already inside user and nice.
pub const CPU_SHARES: usize = 8;

/// Counters of one `cpu` line since boot, in ticks of [`ticks_per_second`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuTimes {
    ticks: [u64; CPU_COLUMNS],
    columns: usize,
}

impl CpuTimes {
    /// Takes the columns in the kernel's order; those past [`CPU_COLUMNS`] are left out. `None` with fewer than four
    /// (user, nice, system, idle), which no kernel prints.
    pub fn new(columns: &[u64]) -> Option<Self> {
        let columns = &columns[..columns.len().min(CPU_COLUMNS)];
        if columns.len() <= CpuField::Idle as usize {
            return None;
        }
        let mut ticks = [0; CPU_COLUMNS];
        ticks[..columns.len()].copy_from_slice(columns);
        Some(Self { ticks, columns: columns.len() })
    }

    /// The counter of one column, in ticks; `None` if this kernel does not print it.
    pub fn ticks(&self, field: CpuField) -> Option<u64> {
        self.present().get(field as usize).copied()
    }

    /// The columns that are there, in ticks.
    pub fn present(&self) -> &[u64] {
        &self.ticks[..self.columns]
    }

    /// The higher of the two in each column; both have the same columns.
    pub(crate) fn highest(&self, other: &Self) -> Self {
        let mut highest = *self;
        highest.ticks.iter_mut().zip(other.ticks).for_each(|(ticks, other)| *ticks = (*ticks).max(other));
        highest
    }

    /// The sum of the first [`CPU_SHARES`] columns, in ticks: all time this line accounts for.
    pub fn total_ticks(&self) -> u128 {
        self.ticks[..CPU_SHARES].iter().map(|&ticks| u128::from(ticks)).sum()
    }
}

/// One CPU that is online.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneCpu {
    /// The number in `cpuN`.
    pub id: u32,
    /// Its counters.
    pub times: CpuTimes,
}

/// Fields of `/proc/meminfo`, in bytes, as the kernel gave them. `None`: this kernel does not print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// `MemTotal`: what the kernel can use.
    pub total_bytes: u64,
    /// `MemFree`: used for nothing at all.
    pub free_bytes: Option<u64>,
    /// `MemAvailable`: the kernel's own estimate of what new work could have without swapping.
    pub available_bytes: Option<u64>,
    /// `Buffers`: cache of block devices.
    pub buffers_bytes: Option<u64>,
    /// `Cached`: cache of files, shared memory and tmpfs included.
    pub cached_bytes: Option<u64>,
    /// `SReclaimable`: kernel objects that can be given back.
    pub sreclaimable_bytes: Option<u64>,
    /// `Shmem`: shared memory and tmpfs.
    pub shmem_bytes: Option<u64>,
    /// `SwapTotal`.
    pub swap_total_bytes: Option<u64>,
    /// `SwapFree`.
    pub swap_free_bytes: Option<u64>,
}

/// Load averages: tasks running or waiting, averaged over 1, 5 and 15 minutes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Over one minute.
    pub one_minute: f64,
    /// Over five minutes.
    pub five_minutes: f64,
    /// Over fifteen minutes.
    pub fifteen_minutes: f64,
}

impl Load {
    /// Reads the first three words of `/proc/loadavg`. `None` if they are not there or no finite numbers.
    pub fn parse(content: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(content).ok()?.split_ascii_whitespace();
        let mut next = || words.next()?.parse::<f64>().ok().filter(|load| load.is_finite() && *load >= 0.0);
        Some(Self { one_minute: next()?, five_minutes: next()?, fifteen_minutes: next()? })
    }
}

/// The kernel's random id of one boot, in its own spelling: hexadecimal digits and dashes, [`BOOT_ID_BYTES`] long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BootId([u8; BOOT_ID_BYTES]);

/// The length of a UUID in words.
pub const BOOT_ID_BYTES: usize = 36;

impl BootId {
    /// Reads `/proc/sys/kernel/random/boot_id`. `None` if it is anything but digits and dashes of the right length.
    pub fn parse(content: &[u8]) -> Option<Self> {
        let id: [u8; BOOT_ID_BYTES] = content.trim_ascii().try_into().ok()?;
        id.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-').then_some(Self(id))
    }

    /// The id as the kernel prints it.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII passes the parser")
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// USER_HZ: how many ticks of [`CpuTimes`] make a second; 100 on every common architecture.
pub fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_a_kernel_does_not_print_are_unknown_not_zero() {
        assert_eq!(CpuTimes::new(&[1, 2, 3]), None);
        let old = CpuTimes::new(&[1, 2, 3, 4]).unwrap();
        assert_eq!(old.ticks(CpuField::Idle), Some(4));
        assert_eq!(old.ticks(CpuField::Iowait), None);
        let new = CpuTimes::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]).unwrap();
        assert_eq!(new.ticks(CpuField::GuestNice), Some(10));
        assert_eq!(new.total_ticks(), 36, "guests are inside user and nice");
    }

    #[test]
    fn a_load_average_is_three_finite_numbers_or_nothing() {
        let load = Load::parse(b"0.52 1.25 10.00 2/713 12345\n").unwrap();
        assert_eq!((load.one_minute, load.five_minutes, load.fifteen_minutes), (0.52, 1.25, 10.0));
        for bad in ["", "1 2", "1 2 x", "NaN 1 1", "-1 1 1", "inf 1 1"] {
            assert_eq!(Load::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_boot_id_is_taken_only_in_the_kernels_spelling() {
        let id = "49c14376-1a7d-47d9-8ce7-4aa5f5f6774f";
        assert_eq!(BootId::parse(format!("{id}\n").as_bytes()).unwrap().as_str(), id);
        for bad in ["", "49c14376", "49c14376-1a7d-47d9-8ce7-4aa5f5f6774\"", "49c14376-1a7d-47d9-8ce7-4aa5f5f6774f0"] {
            assert_eq!(BootId::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
