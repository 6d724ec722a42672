//! `/proc/PID/stat`, see proc(5).

/// What it shows of a process or a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) name: String,
    pub(super) parent: i32,
    /// In clock ticks since boot.
    pub(super) start: u64,
    pub(super) threads: u64,
    /// A zombie none of whose threads can run.
    pub(super) is_dead: bool,
    /// Its first thread has ended, and others work on: what `/proc/PID` itself shows of its memory and files is empty then.
    pub(super) has_lost_its_first_thread: bool,
    /// A thread of the kernel, which runs no program.
    pub(super) is_the_kernels: bool,
    /// Its new program has no environment yet. Set for a process that hides its environment, too.
    pub(super) is_in_exec: bool,
}

/// The flag of the kernel's own threads (`PF_KTHREAD` in the kernel's `sched.h`).
const KERNEL_THREAD: u64 = 0x0020_0000;

impl Stat {
    pub(super) fn parse(stat: &[u8]) -> Option<Self> {
        // The name, in parentheses, may hold any byte.
        let name = stat.iter().position(|&byte| byte == b'(')?..stat.iter().rposition(|&byte| byte == b')')?;
        let mut fields = std::str::from_utf8(stat.get(name.end + 1..)?).ok()?.split_ascii_whitespace();
        // Fields 3, 4, 9, 20, 22 and 51.
        let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
        let flags: u64 = fields.nth(4)?.parse().ok()?;
        let threads: u64 = fields.nth(10)?.parse().ok()?;
        let start = fields.nth(1)?.parse().ok()?;
        let environment_end = fields.nth(28);
        let has_ended = matches!(state, "Z" | "X" | "x");
        Some(Self {
            name: String::from_utf8_lossy(stat.get(name.start + 1..name.end)?).into_owned(),
            parent,
            start,
            threads,
            is_dead: has_ended && threads <= 1,
            has_lost_its_first_thread: has_ended && threads > 1,
            is_the_kernels: flags & KERNEL_THREAD != 0,
            is_in_exec: environment_end == Some("0"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(name: &str, state: char, threads: u32, environment_end: u64) -> String {
        let before = format!("42 ({name}) {state} 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 {threads} 0 9876");
        // Fields 23 to 50, then 51 and 52.
        format!("{before} {}{environment_end} 0\n", "1 ".repeat(28))
    }

    #[test]
    fn the_start_is_the_22nd_field_whatever_the_name() {
        for name in ["sh", "a b", ") R 1 (", "x)\n"] {
            let parsed = Stat::parse(stat(name, 'S', 1, 5).as_bytes()).unwrap();
            assert_eq!((&*parsed.name, parsed.parent, parsed.start), (name, 7, 9876));
            assert!(!parsed.is_dead && !parsed.is_in_exec && !parsed.is_the_kernels);
        }
        for damaged in ["", "42 (sh) R 1", ")(", "42 ) R ("] {
            assert_eq!(Stat::parse(damaged.as_bytes()), None);
        }
    }

    #[test]
    fn a_zombie_is_dead_unless_other_threads_live_on() {
        let parse = |state, threads| Stat::parse(stat("sh", state, threads, 5).as_bytes()).unwrap();
        for (state, threads, is_dead, is_headless) in
            [('Z', 1, true, false), ('X', 0, true, false), ('Z', 2, false, true), ('S', 2, false, false)]
        {
            let stat = parse(state, threads);
            assert_eq!((stat.is_dead, stat.has_lost_its_first_thread), (is_dead, is_headless), "{state} {threads}");
        }
    }

    #[test]
    fn an_exec_and_a_kernel_thread_are_told() {
        assert!(Stat::parse(stat("sh", 'R', 1, 0).as_bytes()).unwrap().is_in_exec);
        let kernels = stat("kworker", 'I', 1, 0).replace("4194560", "69238880");
        assert!(Stat::parse(kernels.as_bytes()).unwrap().is_the_kernels);
        // Before Linux 3.5 there is no such field.
        let short = stat("sh", 'R', 1, 0).split_ascii_whitespace().take(45).collect::<Vec<_>>().join(" ");
        assert!(!Stat::parse(short.as_bytes()).unwrap().is_in_exec);
    }
}
