//! Takes samples: reads four small files of one procfs and the clocks.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    clock::Instants,
    meminfo::{self, MeminfoError},
    proc::{Buffer, KeptFile},
    sample::{BootId, Load, Sample},
    stat::{self, StatError},
};

/// Reads samples from one procfs. Files stay open between samples, and the buffer is kept.
#[derive(Debug)]
pub struct Sampler {
    stat: KeptFile,
    meminfo: KeptFile,
    loadavg: KeptFile,
    boot_id: KeptFile,
    buffer: Buffer,
    /// How long what changes slowly holds, and what was read of it.
    slow_holds_ns: u64,
    slow: Option<Slow>,
}

/// What need not be read at each sample.
#[derive(Debug)]
struct Slow {
    read_ns: u64,
    load: Option<Load>,
    boot_id: Option<BootId>,
    /// All CPU time told since then; what falls behind it may be of another boot.
    total_ticks: u128,
}

/// How often the kernel computes load averages.
const LOAD_NS: u64 = 5_000_000_000;

impl Sampler {
    /// A sampler of the tree at `procfs`, `/proc` for the machine it runs on. Nothing is opened before the first sample.
    pub fn new(procfs: &Path) -> Self {
        let file = |name| KeptFile::new(procfs.join(name));
        Self {
            stat: file("stat"),
            meminfo: file("meminfo"),
            loadavg: file("loadavg"),
            boot_id: file("sys/kernel/random/boot_id"),
            buffer: Buffer::new(),
            slow_holds_ns: 0,
            slow: None,
        }
    }

    /// From now on reads load averages and the id of the boot only as often as the kernel computes the former, every 5 s, and
    /// when counters fell. The other two files are read at each sample.
    pub fn spare(&mut self) {
        self.slow_holds_ns = LOAD_NS;
    }

    /// Takes one sample, stamped with the clocks of this moment.
    ///
    /// # Errors
    /// When `stat` or `meminfo` cannot be read or is not what it should be. The next call tries again, with newly opened
    /// files where reading failed.
    pub fn sample(&mut self) -> Result<Sample, SampleError> {
        let mut sample = Sample::default();
        self.sample_into(&mut sample, Instants::now())?;
        Ok(sample)
    }

    /// Takes one sample into `sample`, stamped `taken`. The room `sample` already has is used again, so that in steady state
    /// nothing is allocated.
    ///
    /// # Errors
    /// As [`Sampler::sample`]; `sample` is then of no use.
    pub fn sample_into(&mut self, sample: &mut Sample, taken: Instants) -> Result<(), SampleError> {
        sample.taken = taken;
        let content = self.stat.read(&mut self.buffer)?;
        match stat::parse(content, &mut sample.cpus) {
            Ok(cpu) => sample.cpu = cpu,
            Err(source) => return Err(SampleError::Stat { path: self.stat.path().to_owned(), source }),
        }
        let content = self.meminfo.read(&mut self.buffer)?;
        match meminfo::parse(content) {
            Ok(memory) => sample.memory = memory,
            Err(source) => return Err(SampleError::Meminfo { path: self.meminfo.path().to_owned(), source }),
        }
        let total_ticks = sample.cpu.total_ticks();
        let holds = |slow: &Slow| {
            let age_ns = taken.monotonic_ns.checked_sub(slow.read_ns);
            age_ns.is_some_and(|ns| ns < self.slow_holds_ns) && total_ticks >= slow.total_ticks
        };
        let slow = match self.slow.take().filter(holds) {
            Some(slow) => Slow { total_ticks, ..slow },
            // Containers and captured trees often lack these two; a sample without them is still a sample.
            None => Slow {
                read_ns: taken.monotonic_ns,
                load: self.loadavg.read(&mut self.buffer).ok().and_then(Load::parse),
                boot_id: self.boot_id.read(&mut self.buffer).ok().and_then(BootId::parse),
                total_ticks,
            },
        };
        (sample.load, sample.boot_id) = (slow.load, slow.boot_id);
        self.slow = Some(slow);
        Ok(())
    }
}

/// Why there is no sample.
#[derive(Debug, Error)]
pub enum SampleError {
    /// A file could not be opened or read.
    #[error("cannot read {path} (is a procfs there?)")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A file is larger than any kernel makes it.
    #[error("{path} is larger than {bytes_max} bytes, so it is not a file of procfs")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        bytes_max: usize,
    },
    /// The CPU counters could not be understood.
    #[error("{path} is not the kernel's CPU statistics")]
    Stat {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: StatError,
    },
    /// The memory figures could not be understood.
    #[error("{path} is not the kernel's memory statistics")]
    Meminfo {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: MeminfoError,
    },
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_machine_itself_can_be_sampled() {
        let mut sampler = Sampler::new(Path::new("/proc"));
        let sample = sampler.sample().unwrap();
        assert!(sample.memory.total_bytes > 0);
        assert!(sample.cpu.total_ticks() > 0);
        assert!(!sample.cpus.is_empty());
        assert!(sampler.sample().unwrap().taken.monotonic_ns >= sample.taken.monotonic_ns);
    }

    #[test]
    fn load_and_boot_are_read_every_five_seconds_when_spared_and_at_once_when_counters_fell() {
        let dir = tempfile::tempdir().unwrap();
        let mut sampler = Sampler::new(dir.path());
        sampler.spare();
        let mut load_at = |seconds: u64, ticks: u64, load: u32| {
            fs::write(dir.path().join("meminfo"), "MemTotal: 1 kB\n").unwrap();
            fs::write(dir.path().join("stat"), format!("cpu {ticks} 0 0 0\n")).unwrap();
            fs::write(dir.path().join("loadavg"), format!("{load} 0 0 1/1 1\n")).unwrap();
            let mut sample = Sample::default();
            let taken = Instants { monotonic_ns: seconds * 1_000_000_000, ..Instants::default() };
            sampler.sample_into(&mut sample, taken).unwrap();
            sample.load.unwrap().one_minute
        };
        assert_eq!(load_at(100, 10, 1), 1.0);
        assert_eq!(load_at(104, 20, 2), 1.0);
        assert_eq!(load_at(105, 30, 3), 3.0, "five seconds are over");
        assert_eq!(load_at(106, 29, 4), 4.0, "counters fell");
        assert_eq!(load_at(90, 40, 5), 5.0, "a clock that went back");
    }

    #[test]
    fn a_tree_without_load_and_boot_id_is_enough_and_one_without_stat_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut sampler = Sampler::new(dir.path());
        fs::write(dir.path().join("meminfo"), "MemTotal: 1 kB\n").unwrap();
        let error = sampler.sample().unwrap_err();
        assert!(matches!(&error, SampleError::Unreadable { path, .. } if *path == dir.path().join("stat")), "{error}");
        fs::write(dir.path().join("stat"), "cpu 1 2 3 4\n").unwrap();
        let sample = sampler.sample().unwrap();
        assert_eq!((sample.load, sample.boot_id, sample.cpus.len()), (None, None, 0));
        fs::write(dir.path().join("meminfo"), "MemFree: 1 kB\n").unwrap();
        assert!(matches!(sampler.sample().unwrap_err(), SampleError::Meminfo { .. }));
        fs::write(dir.path().join("meminfo"), "MemTotal: 2 kB\n").unwrap();
        assert_eq!(sampler.sample().unwrap().memory.total_bytes, 2048, "the next call tries again");
    }
}
