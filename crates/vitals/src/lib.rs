//! Samples the machine: CPU and memory, rates, the log of them.
