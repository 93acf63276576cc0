//! What the kernel allows a user to watch, and what to do where that is not enough.

/// A limit of inotify, as set now; `None` where it cannot be read.
pub(super) fn limit(name: &str) -> Option<u64> {
    read(&format!("/proc/sys/fs/inotify/{name}"))
}

/// What to do when there are no more watches.
pub(super) fn watches_hint() -> String {
    // A container with users of its own has a limit of its own, below that of the machine.
    let (machine, container) = (limit("max_user_watches"), read("/proc/sys/user/max_inotify_watches"));
    words("inotify watches are used up; the rest is polled", "watches", machine, container)
}

/// What to do when there are no more queues.
pub(super) fn instances_hint() -> String {
    let (machine, container) = (limit("max_user_instances"), read("/proc/sys/user/max_inotify_instances"));
    words("inotify instances are used up", "instances", machine, container)
}

fn words(what: &str, which: &str, machine: Option<u64>, container: Option<u64>) -> String {
    let (sysctl, now) = match (machine, container) {
        (Some(machine), Some(container)) if container < machine => {
            (format!("user.max_inotify_{which}"), Some(container))
        }
        _ => (format!("fs.inotify.max_user_{which}"), machine),
    };
    match now {
        Some(now) => format!("this user's {now} {what}. Raise it: sysctl {sysctl}={}", now.saturating_mul(2)),
        None => format!("this user's {what}. Raise the sysctl {sysctl}"),
    }
}

fn read(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_is_in_force_is_named() {
        let hint = |machine, container| words("x are used up", "watches", machine, container);
        assert!(hint(Some(100), Some(100)).ends_with("sysctl fs.inotify.max_user_watches=200"));
        assert!(hint(Some(100), Some(20)).ends_with("20 x are used up. Raise it: sysctl user.max_inotify_watches=40"));
        assert!(hint(None, None).ends_with("Raise the sysctl fs.inotify.max_user_watches"));
    }
}
