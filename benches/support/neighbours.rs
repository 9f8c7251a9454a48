//! Other users of the CPUs: those we make, and those we cannot help.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::thread::{CpuSet, sched_setaffinity};

/// One thread per CPU that computes without pause, pinned there, until this is dropped.
pub(crate) struct BusyNeighbours {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl BusyNeighbours {
    /// Starts them.
    pub(crate) fn on_every_cpu() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..cpu_count())
            .map(|cpu| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || compute(cpu, &stop))
            })
            .collect();
        Self { stop, threads }
    }
}

impl Drop for BusyNeighbours {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A neighbour cannot panic; were it to, the figures would still be the ones measured.
            let _ = thread.join();
        }
    }
}

fn compute(cpu: usize, stop: &AtomicBool) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).expect("a thread may be pinned to a CPU it may run on");
    let mut sum = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        for step in 0..1000_u64 {
            sum = black_box(sum.wrapping_add(step));
        }
    }
}

/// CPUs this process may run on.
pub(crate) fn cpu_count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Watches how much of the CPUs went to others.
pub(crate) struct CpuWatch {
    busy_ticks: u64,
    own_ticks: u64,
    all_ticks: u64,
}

impl CpuWatch {
    /// Begins to watch.
    pub(crate) fn begin() -> Self {
        let (busy_ticks, all_ticks) = machine_ticks();
        Self {
            busy_ticks,
            own_ticks: own_ticks(),
            all_ticks,
        }
    }

    /// The share of the CPUs that other processes used since then, 0 to 1.
    pub(crate) fn foreign_share(&self) -> f64 {
        let (busy, all) = machine_ticks();
        let own = own_ticks().saturating_sub(self.own_ticks);
        let foreign = busy.saturating_sub(self.busy_ticks).saturating_sub(own);
        foreign as f64 / all.saturating_sub(self.all_ticks).max(1) as f64
    }
}

/// Ticks the machine was busy, and all ticks, since it started (proc(5)).
fn machine_ticks() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .map(|f| f.parse().unwrap_or(0))
        .collect();
    // user nice system idle iowait irq softirq steal; guest time is part of user.
    let all: u64 = ticks.iter().take(8).sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (all - idle, all)
}

/// User and system ticks of this process, fields 14 and 15 of its stat file.
fn own_ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    behind_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|f| f.parse().unwrap_or(0))
        .sum()
}
