//! Docker's default profile, for a container's capabilities and a machine.
//!
//! Source: moby, profiles/seccomp, as of June 2026. One rule differs: `socketcall`, through which 32-bit x86 makes sockets
//! too, has no socket call here, since a filter cannot see which family is asked for there (linux/net.h, `SYS_SOCKET`).

use std::collections::HashSet;

use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompOperator,
    LinuxSyscall,
};

use crate::abi::Machine;

/// The address family of the kernel's cryptography, whose sockets write to the page cache.
const AF_ALG: u64 = 38;
/// The address family of the hypervisor's host, which no network namespace confines.
const AF_VSOCK: u64 = 40;
/// The first argument of `socketcall` for `socket`.
const SYS_SOCKET: u64 = 1;
/// `CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET`
const CLONE_NEW: u64 = 0x7e02_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The execution domains that a container may choose: Linux, 32-bit Linux, those with `UNAME26`, and asking.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// What every container may call.
const ALWAYS: &str = "\
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 \
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 \
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate \
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr \
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate \
    ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd \
    getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer \
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid \
    getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid \
    gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 \
    inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64 ioprio_get \
    ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self \
    lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek \
    lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret \
    mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify \
    mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal \
    msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat \
    _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free \
    pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 \
    pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg \
    recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 \
    restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity \
    sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler \
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send \
    sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 \
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid \
    setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area \
    set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack \
    signalfd signalfd4 sigprocmask sigreturn socketpair splice stat stat64 statfs statfs64 statmount statx \
    symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete \
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create \
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 \
    ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice \
    wait4 waitid waitpid write writev";

/// What a kernel since 4.8 allows, which has ptrace(2) go through the filter again.
const SINCE_4_8: &str = "process_vm_readv process_vm_writev ptrace";

/// What one machine has beside the others.
const OF_MACHINE: [(Machine, &str); 2] = [
    (Machine::X86_64, "arch_prctl modify_ldt"),
    (Machine::Aarch64, "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"),
];

/// What a capability is for.
const OF_CAPABILITY: [(Capability, &str); 14] = [
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module init_module finit_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    (Capability::SysRawio, "iopl ioperm"),
    (Capability::SysTime, "settimeofday stime clock_settime clock_settime64"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// Docker's default profile for a container whose bounding set is `capabilities`, on this machine and its kernel.
///
/// On a machine that is not known here it names no architecture; [`crate::compile`] then refuses it.
pub fn docker_default(capabilities: &HashSet<Capability>) -> LinuxSeccomp {
    docker_default_for(capabilities, Machine::native().ok(), kernel())
}

/// The version of the running kernel.
pub(crate) fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The same for a machine and a kernel of this version.
fn docker_default_for(
    capabilities: &HashSet<Capability>,
    machine: Option<Machine>,
    kernel: (u32, u32),
) -> LinuxSeccomp {
    let mut rules = vec![allow(ALWAYS)];
    if kernel >= (4, 8) {
        rules.push(allow(SINCE_4_8));
    }
    rules.extend(sockets());
    rules.extend(PERSONALITIES.map(|domain| allow_if("personality", (0, Op::ScmpCmpEq, domain, None))));
    rules.extend(OF_MACHINE.iter().filter(|(of, _)| Some(*of) == machine).map(|(_, names)| allow(names)));
    let held = OF_CAPABILITY.iter().filter(|(capability, _)| capabilities.contains(capability));
    rules.extend(held.map(|(_, names)| allow(names)));
    if !capabilities.contains(&Capability::SysAdmin) {
        rules.push(allow_if("clone", (0, Op::ScmpCmpMaskedEq, CLONE_NEW, Some(0))));
        // Its flags lie in memory; a C library that is told so uses clone.
        let mut clone3 = LinuxSyscall::default();
        clone3
            .set_names(vec!["clone3".into()])
            .set_action(LinuxSeccompAction::ScmpActErrno)
            .set_errno_ret(Some(ENOSYS));
        rules.push(clone3);
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(machine.map(architectures))
        .set_syscalls(Some(rules));
    profile
}

type Op = LinuxSeccompOperator;

/// Sockets of every family but two.
fn sockets() -> [LinuxSyscall; 4] {
    [
        allow_if("socket", (0, Op::ScmpCmpLt, AF_ALG, None)),
        allow_if("socket", (0, Op::ScmpCmpEq, AF_ALG + 1, None)),
        allow_if("socket", (0, Op::ScmpCmpGt, AF_VSOCK, None)),
        allow_if("socketcall", (0, Op::ScmpCmpNe, SYS_SOCKET, None)),
    ]
}

fn architectures(machine: Machine) -> Vec<Arch> {
    match machine {
        Machine::X86_64 => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        Machine::Aarch64 => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
    }
}

fn allow(names: &str) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.split_ascii_whitespace().map(String::from).collect())
        .set_action(LinuxSeccompAction::ScmpActAllow);
    rule
}

/// `when`: the argument's index, the operator and its two values.
fn allow_if(name: &str, when: (usize, Op, u64, Option<u64>)) -> LinuxSyscall {
    let arg = LinuxSeccompArgBuilder::default().index(when.0).op(when.1).value(when.2);
    let arg = match when.3 {
        Some(second) => arg.value_two(second),
        None => arg,
    };
    let mut rule = allow(name);
    rule.set_args(Some(vec![arg.build().expect("every member is set or has a default")]));
    rule
}
