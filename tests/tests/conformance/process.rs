//! config.md, "Process", "User", "Hostname" and "Domainname".

use serde_json::{Value, json};

use crate::{cases, prints, refused, refuses, set, without};

/// Runs `sleep` with the change and reads a file of its process.
fn file_of_process(bundle: &mut testkit::Bundle, name: &str) -> String {
    bundle.args(&["sleep", "100"]);
    bundle.create().ok();
    bundle.start().ok();
    std::fs::read_to_string(format!("/proc/{}/{name}", bundle.pid())).expect("procfs")
}

/// All limits that the kernel has.
const LIMITS: [(&str, &str); 16] = [
    ("RLIMIT_AS", "Max address space"),
    ("RLIMIT_CORE", "Max core file size"),
    ("RLIMIT_CPU", "Max cpu time"),
    ("RLIMIT_DATA", "Max data size"),
    ("RLIMIT_FSIZE", "Max file size"),
    ("RLIMIT_LOCKS", "Max file locks"),
    ("RLIMIT_MEMLOCK", "Max locked memory"),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size"),
    ("RLIMIT_NICE", "Max nice priority"),
    ("RLIMIT_NOFILE", "Max open files"),
    ("RLIMIT_NPROC", "Max processes"),
    ("RLIMIT_RSS", "Max resident set"),
    ("RLIMIT_RTPRIO", "Max realtime priority"),
    ("RLIMIT_RTTIME", "Max realtime timeout"),
    ("RLIMIT_SIGPENDING", "Max pending signals"),
    ("RLIMIT_STACK", "Max stack size"),
];

cases! {
    "config.md, Process" {
        a_console_size_without_a_terminal_is_ignored: "`consoleSize` is ignored if `terminal` is false or unset" => |mut bundle| {
            bundle.config["process"]["consoleSize"] = json!({"height": 10, "width": 20});
            assert_eq!(bundle.prints("tty || echo none"), "not a tty\nnone\n");
            bundle.config["process"]["terminal"] = json!(false);
            assert_eq!(bundle.prints("echo runs"), "runs\n");
        };
        a_relative_working_directory_is_refused: "`cwd` is an absolute path" => refused(set("process.cwd", json!("tmp")), "cwd");
        a_process_without_a_working_directory_is_refused: "`cwd` is required" => refused(without("process.cwd"), "cwd");
        the_working_directory_is_set: "`cwd` is the working directory of the executable" => prints(set("process.cwd", json!("/tmp")), "pwd", "/tmp\n");
        the_environment_is_exactly_the_given_one: "`env` has the semantics of environ" => prints(
            set("process.env", json!(["PATH=/bin", "HOME=/x", "EMPTY=", "EQ=a=b", "NEWLINE=a\nb"])),
            "cat /proc/1/environ | tr '\\0' '|'", "PATH=/bin|HOME=/x|EMPTY=|EQ=a=b|NEWLINE=a\nb|");
        a_process_needs_an_argument: "`args` has at least one entry" => |mut bundle| {
            for args in [json!([]), Value::Null] {
                bundle.config["process"]["args"] = args;
                refuses(&bundle, "args");
            }
        };
        the_program_is_searched_in_the_path_given: "the first of `args` is used as execvp's file, searched in the PATH of `env`" => |mut bundle| {
            std::fs::create_dir(bundle.root().join("own")).expect("mkdir");
            testkit::copy_program("/bin/busybox", bundle.root().join("own/echo"));
            bundle.config["process"]["env"] = json!(["PATH=/nowhere:/own:/bin"]);
            bundle.args(&["echo", "found"]);
            assert_eq!(bundle.run().ok().text(), "found\n");
            bundle.config["process"]["env"] = json!(["PATH=/own"]);
            bundle.args(&["ls"]);
            refuses(&bundle, "ls");
        };
    }
    "config.md, POSIX process" {
        a_limit_that_the_kernel_lacks_is_refused: "a type that cannot be mapped to a kernel interface is an error" => refused(
            set("process.rlimits", json!([{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}])), "RLIMIT_NONSENSE");
        every_limit_is_known: "for each entry getrlimit on `type` succeeds" => |mut bundle| {
            // Lower than what is there, so that no right is needed.
            let own = std::fs::read_to_string("/proc/self/limits").expect("limits");
            let hard = |title: &str| {
                let line = own.lines().find(|line| line.starts_with(title)).expect("a limit");
                line[title.len()..].split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(1 << 30)
            };
            let limits: Vec<Value> = LIMITS.iter().map(|(kind, title)| json!({"type": kind, "soft": hard(title), "hard": hard(title)})).collect();
            bundle.config["process"]["rlimits"] = json!(limits);
            let seen = file_of_process(&mut bundle, "limits");
            for (kind, title) in LIMITS {
                let line = seen.lines().find(|line| line.starts_with(title)).unwrap_or_else(|| panic!("{title}: {seen}"));
                let found = line[title.len()..].split_whitespace().nth(1).expect("hard").to_owned();
                assert_eq!(found, hard(title).to_string(), "{kind}");
            }
        };
        soft_limits_match: "`soft`: rlim_cur matches" => |mut bundle| {
            bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096}]);
            let seen = file_of_process(&mut bundle, "limits");
            let of = |title: &str| seen.lines().find(|line| line.starts_with(title)).expect("a line").split_whitespace().rev().nth(2).expect("soft").to_owned();
            assert_eq!((of("Max open files"), of("Max core file size")), ("100".into(), "0".into()));
        };
        hard_limits_match: "`hard`: rlim_max matches" => |mut bundle| {
            bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096}]);
            let seen = file_of_process(&mut bundle, "limits");
            let of = |title: &str| seen.lines().find(|line| line.starts_with(title)).expect("a line").split_whitespace().rev().nth(1).expect("hard").to_owned();
            assert_eq!((of("Max open files"), of("Max core file size")), ("200".into(), "4096".into()));
        };
        a_limit_given_twice_is_refused: "duplicated entries of one `type` are an error" => refused(
            set("process.rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 10}, {"type": "RLIMIT_NOFILE", "soft": 20, "hard": 20}])), "RLIMIT_NOFILE");
    }
    "config.md, Linux Process" {
        capabilities_that_cannot_be_granted_are_warned_of: "a capability that the kernel lacks, or that cannot be granted, is logged as a warning, and is no failure (SHOULD NOT)" => |mut bundle| {
            let log = bundle.path("log");
            for set in ["bounding", "permitted", "effective"] {
                bundle.config["process"]["capabilities"][set] = json!(["CAP_KILL", "CAP_NONSENSE"]);
            }
            bundle.sh("grep CapEff /proc/self/status");
            bundle.write();
            let mut command = bundle.command(&["--log", &log.display().to_string(), "run", "-b"]);
            command.arg(bundle.dir()).arg(bundle.id());
            let said = bundle.finish(command).ok();
            assert_eq!(said.text(), "CapEff:\t0000000000000020\n");
            let logged = std::fs::read_to_string(log).unwrap_or_default();
            assert!(logged.contains("warning") && logged.contains("CAP_NONSENSE"), "{logged} {said}");
        };
        capabilities_are_those_of_the_five_sets: "effective, bounding, inheritable, permitted and ambient are the capabilities kept" => |mut bundle| {
            bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            bundle.config["process"]["capabilities"] = json!({
                "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
                "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
            });
            let sets = bundle.prints("grep Cap /proc/self/status | cut -f2");
            let words: Vec<u64> = sets.lines().map(|line| u64::from_str_radix(line, 16).expect("hex")).collect();
            // After an exec by another user than root the ambient ones are what is permitted and effective.
            assert_eq!(words, [0x20, 0x20, 0x20, 0xa1, 0x20]);
        };
        no_new_privileges_is_set: "with `noNewPrivileges` the process cannot gain privileges" => prints(
            set("process.noNewPrivileges", json!(true)), "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n");
        oom_score_adj_is_set: "`oomScoreAdj` is set to the given value" => |mut bundle| {
            bundle.config["process"]["oomScoreAdj"] = json!(123);
            assert_eq!(file_of_process(&mut bundle, "oom_score_adj"), "123\n");
        };
        oom_score_adj_is_left_alone: "without `oomScoreAdj` its value is not changed" => |mut bundle| {
            bundle.args(&["sleep", "100"]);
            bundle.write();
            let mut command = bundle.world().command("sh");
            command.args(["-c", "echo 77 >/proc/self/oom_score_adj; exec \"$@\"", "sh", "oci-spawn", "--root"]).arg(bundle.states());
            command.args(["run", "-d", "-b"]).arg(bundle.dir()).arg(bundle.id());
            bundle.finish(command).ok();
            assert_eq!(std::fs::read_to_string(format!("/proc/{}/oom_score_adj", bundle.pid())).expect("procfs"), "77\n");
        };
        a_scheduler_has_its_defaults: "`scheduler`: `nice`, `priority`, `runtime`, `deadline` and `period` are 0 where they are not set" => |mut bundle| {
            bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH"});
            let stat = file_of_process(&mut bundle, "stat");
            let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
            // Nice is field 19, the policy field 41 of proc_pid_stat(5); the third is the first here.
            assert_eq!((fields[16], fields[38]), ("0", "3"), "{stat}");
        };
        an_io_priority_is_set: "`ioPriority` is set" => |mut bundle| {
            testkit::needs!(Program("ionice"));
            bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            bundle.start().ok();
            let mut command = bundle.world().command("ionice");
            command.args(["-p", &bundle.pid().to_string()]);
            assert_eq!(bundle.finish(command).ok().text(), "best-effort: prio 6\n");
        };
        an_unknown_policy_is_refused: "a policy that is none is an error" => refused(set("process.scheduler", json!({"policy": "SCHED_NONSENSE"})), "SCHED_NONSENSE");
    }
    "config.md, POSIX-platform User" {
        the_process_is_its_user: "`uid` and `gid` are the process's" => prints(set("process.user", json!({"uid": 1000, "gid": 1001})), "id -u; id -g", "1000\n1001\n");
        a_umask_is_set: "`umask` is the process's" => prints(set("process.user", json!({"uid": 0, "gid": 0, "umask": 63})), "umask", "0077\n");
        additional_groups_are_added: "`additionalGids` are added to the process" => prints(
            set("process.user", json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6]})), "grep Groups /proc/self/status | tr -d ' '", "Groups:\t56\n");
        a_user_without_ids_is_refused: "`uid` and `gid` are required" => |mut bundle| {
            for (name, other) in [("uid", "gid"), ("gid", "uid")] {
                bundle.config["process"]["user"] = json!({other: 0});
                refuses(&bundle, name);
            }
        };
    }
    "config.md, Hostname and Domainname" {
        the_host_name_is_set: "`hostname` is that of processes in the container" => prints(set("hostname", json!("mrsdalloway")), "hostname", "mrsdalloway\n");
        the_domain_name_is_set: "`domainname` is that of processes in the container" => prints(
            set("domainname", json!("foobarbaz.test")), "cat /proc/sys/kernel/domainname", "foobarbaz.test\n");
        the_runtimes_own_names_are_left_alone: "the names are set in the container's UTS namespace, never in the runtime's" => |mut bundle| {
            let before = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("procfs");
            bundle.without_namespace("uts");
            refuses(&bundle, "hostname");
            assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").expect("procfs"), before);
        };
    }
}
