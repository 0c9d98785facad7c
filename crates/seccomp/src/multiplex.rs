//! Calls of x86 that have many others behind one number: socketcall(2) and ipc(2).
//!
//! A rule for `socket` is also one for the socket call of `socketcall`, as libseccomp has it: a C library may use either.
//! Its arguments lie in memory there, where no filter can look. So what depends on them is refused as strictly as any of
//! its rules says, and is allowed only by a rule for `socketcall` itself.

use oci_spec::runtime::LinuxSeccompOperator;

use crate::condition::Condition;
use crate::rules::{Call, Guard, Rules, Verdict, strictness};
use crate::table::Row;

/// The calls behind `socketcall` by their numbers (linux/net.h, `SYS_*`).
const SOCKET_CALLS: [(u64, &str); 20] = [
    (1, "socket"),
    (2, "bind"),
    (3, "connect"),
    (4, "listen"),
    (5, "accept"),
    (6, "getsockname"),
    (7, "getpeername"),
    (8, "socketpair"),
    (9, "send"),
    (10, "recv"),
    (11, "sendto"),
    (12, "recvfrom"),
    (13, "shutdown"),
    (14, "setsockopt"),
    (15, "getsockopt"),
    (16, "sendmsg"),
    (17, "recvmsg"),
    (18, "accept4"),
    (19, "recvmmsg"),
    (20, "sendmmsg"),
];

/// The calls behind `ipc` by their numbers (linux/ipc.h).
const IPC_CALLS: [(u64, &str); 12] = [
    (1, "semop"),
    (2, "semget"),
    (3, "semctl"),
    (4, "semtimedop"),
    (11, "msgsnd"),
    (12, "msgrcv"),
    (13, "msgget"),
    (14, "msgctl"),
    (21, "shmat"),
    (22, "shmdt"),
    (23, "shmget"),
    (24, "shmctl"),
];

/// The calls with others behind them, with what the profile says of those.
pub(crate) fn calls(rules: &Rules) -> Vec<(Row, Call)> {
    let sockets = Row::find("socketcall").map(|row| (row, call(rules, row, &SOCKET_CALLS, 0xffff_ffff)));
    // The upper half of ipc's first argument is a version (ipc/syscall.c).
    let ipc = Row::find("ipc").map(|row| (row, call(rules, row, &IPC_CALLS, 0xffff)));
    sockets.into_iter().chain(ipc).collect()
}

fn call(rules: &Rules, row: Row, behind: &[(u64, &str)], mask: u64) -> Call {
    let mut call = rules.call(row).clone();
    for (number, name) in behind {
        let Some(row) = Row::find(name) else { continue };
        if let Some(verdict) = verdict(rules.call(row), rules.default) {
            let operator = LinuxSeccompOperator::ScmpCmpMaskedEq;
            let condition = Condition { index: 0, operator, value: mask, second: *number };
            call.guards.push(Guard { conditions: vec![condition], verdict });
            call.is_named = true;
        }
    }
    call.settle(rules.default);
    call
}

/// What can be said of a call without its arguments: the strictest of its verdicts; nothing where those are conditions for
/// what is otherwise refused.
fn verdict(call: &Call, default: Verdict) -> Option<Verdict> {
    let rest = call.fixed.unwrap_or(default);
    let strictest = call.guards.first().map(|guard| guard.verdict);
    strictest.filter(|verdict| strictness(*verdict) < strictness(rest)).or(call.fixed)
}
