//! What each family is called, what type it is, and where it stands in its file. Names and types are node_exporter's.

use crate::sample::CpuField;

/// One family of samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family<'a> {
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    pub(super) help: &'a str,
}

/// How its samples move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// How a number of diskstats becomes a sample.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale {
    As,
    Sectors,
    Milliseconds,
}

impl<'a> Family<'a> {
    pub(super) const fn gauge(name: &'a str, help: &'a str) -> Self {
        Self { name, kind: Kind::Gauge, help }
    }

    const fn counter(name: &'a str, help: &'a str) -> Self {
        Self { name, kind: Kind::Counter, help }
    }
}

/// Labels of `mode` and the column of each.
pub(super) const MODES: [(&str, CpuField); 8] = [
    ("idle", CpuField::Idle),
    ("iowait", CpuField::Iowait),
    ("irq", CpuField::Irq),
    ("nice", CpuField::Nice),
    ("softirq", CpuField::Softirq),
    ("steal", CpuField::Steal),
    ("system", CpuField::System),
    ("user", CpuField::User),
];

pub(super) const CPU: Family<'_> = Family::counter("node_cpu_seconds_total", "Seconds each CPU spent in each mode.");
pub(super) const CPU_GUEST: Family<'_> = Family::counter(
    "node_cpu_guest_seconds_total",
    "Seconds each CPU spent in guests, which are inside user and nice.",
);

/// Lines of `/proc/stat` with one number each.
pub(super) const STAT: &[(&[u8], Family<'_>)] = &[
    (b"intr ", Family::counter("node_intr_total", "Interrupts serviced.")),
    (b"ctxt ", Family::counter("node_context_switches_total", "Context switches.")),
    (b"btime ", Family::gauge("node_boot_time_seconds", "When the machine started, seconds since the Unix epoch.")),
    (b"processes ", Family::counter("node_forks_total", "Processes and threads made.")),
    (b"procs_running ", Family::gauge("node_procs_running", "Tasks that run or could.")),
    (b"procs_blocked ", Family::gauge("node_procs_blocked", "Tasks that wait for a disk.")),
];

type Lines = [(&'static [u8], Family<'static>)];

/// Lines of `/proc/pressure/cpu`, `memory` and `io`.
pub(super) const PRESSURE: [&Lines; 3] = [
    &[(
        b"some",
        Family::counter("node_pressure_cpu_waiting_seconds_total", "Time in which some task waited for a CPU."),
    )],
    &[
        (
            b"some",
            Family::counter("node_pressure_memory_waiting_seconds_total", "Time in which some task waited for memory."),
        ),
        (
            b"full",
            Family::counter("node_pressure_memory_stalled_seconds_total", "Time in which all tasks waited for memory."),
        ),
    ],
    &[
        (
            b"some",
            Family::counter("node_pressure_io_waiting_seconds_total", "Time in which some task waited for a disk."),
        ),
        (
            b"full",
            Family::counter("node_pressure_io_stalled_seconds_total", "Time in which all tasks waited for a disk."),
        ),
    ],
];

/// Numbers of a line of `/proc/diskstats`, counted behind the name.
pub(super) const DISK: &[(usize, Scale, Family<'_>)] = &[
    (0, Scale::As, Family::counter("node_disk_reads_completed_total", "Reads completed.")),
    (1, Scale::As, Family::counter("node_disk_reads_merged_total", "Reads merged.")),
    (2, Scale::Sectors, Family::counter("node_disk_read_bytes_total", "Bytes read.")),
    (3, Scale::Milliseconds, Family::counter("node_disk_read_time_seconds_total", "Time spent by all reads.")),
    (4, Scale::As, Family::counter("node_disk_writes_completed_total", "Writes completed.")),
    (5, Scale::As, Family::counter("node_disk_writes_merged_total", "Writes merged.")),
    (6, Scale::Sectors, Family::counter("node_disk_written_bytes_total", "Bytes written.")),
    (7, Scale::Milliseconds, Family::counter("node_disk_write_time_seconds_total", "Time spent by all writes.")),
    (8, Scale::As, Family::gauge("node_disk_io_now", "Reads and writes under way.")),
    (9, Scale::Milliseconds, Family::counter("node_disk_io_time_seconds_total", "Time with something under way.")),
    (
        10,
        Scale::Milliseconds,
        Family::counter("node_disk_io_time_weighted_seconds_total", "Time spent by all that was under way."),
    ),
    (11, Scale::As, Family::counter("node_disk_discards_completed_total", "Discards completed.")),
    (12, Scale::As, Family::counter("node_disk_discards_merged_total", "Discards merged.")),
    (13, Scale::As, Family::counter("node_disk_discarded_sectors_total", "Sectors discarded.")),
    (14, Scale::Milliseconds, Family::counter("node_disk_discard_time_seconds_total", "Time spent by all discards.")),
    (15, Scale::As, Family::counter("node_disk_flush_requests_total", "Flushes completed.")),
    (
        16,
        Scale::Milliseconds,
        Family::counter("node_disk_flush_requests_time_seconds_total", "Time spent by all flushes."),
    ),
];

/// Numbers of a line of `/proc/net/dev`, counted behind the name.
pub(super) const NETWORK: &[(usize, Family<'_>)] = &[
    (0, Family::counter("node_network_receive_bytes_total", "Bytes received.")),
    (1, Family::counter("node_network_receive_packets_total", "Packets received.")),
    (2, Family::counter("node_network_receive_errs_total", "Errors while receiving.")),
    (3, Family::counter("node_network_receive_drop_total", "Packets dropped while receiving.")),
    (4, Family::counter("node_network_receive_fifo_total", "Overruns of buffers while receiving.")),
    (5, Family::counter("node_network_receive_frame_total", "Framing errors while receiving.")),
    (6, Family::counter("node_network_receive_compressed_total", "Compressed packets received.")),
    (7, Family::counter("node_network_receive_multicast_total", "Multicast packets received.")),
    (8, Family::counter("node_network_transmit_bytes_total", "Bytes sent.")),
    (9, Family::counter("node_network_transmit_packets_total", "Packets sent.")),
    (10, Family::counter("node_network_transmit_errs_total", "Errors while sending.")),
    (11, Family::counter("node_network_transmit_drop_total", "Packets dropped while sending.")),
    (12, Family::counter("node_network_transmit_fifo_total", "Overruns of buffers while sending.")),
    (13, Family::counter("node_network_transmit_colls_total", "Collisions while sending.")),
    (14, Family::counter("node_network_transmit_carrier_total", "Losses of the carrier while sending.")),
    (15, Family::counter("node_network_transmit_compressed_total", "Compressed packets sent.")),
];

pub(super) const UNAME: Family<'_> = Family::gauge("node_uname_info", "What uname says.");
pub(super) const OWN_CPU: Family<'_> = Family::counter("process_cpu_seconds_total", "CPU time this program used.");
pub(super) const OWN_MEMORY: Family<'_> =
    Family::gauge("process_resident_memory_bytes", "Memory this program holds resident.");
pub(super) const BUILD: Family<'_> = Family::gauge("lockstep_build_info", "Which version this program is.");
