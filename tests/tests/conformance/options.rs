//! config.md, "Linux mount options": each option that a runtime has to implement, as mountinfo shows it in the container.

use testkit::Bundle;

use crate::cases;

/// The fields of a mount of the container's: its own options, its propagation, its file system's options.
fn fields(bundle: &mut Bundle, destination: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
    let line = bundle.prints(&format!("grep ' {destination} ' /proc/self/mountinfo | tail -n 1"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let dash = words
        .iter()
        .position(|word| *word == "-")
        .unwrap_or_else(|| panic!("no mount {destination}: {line}"));
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let tags =
        words[6..dash].iter().map(|word| word.split(':').next().unwrap_or_default().to_owned()).collect();
    (list(words[5]), tags, list(words[dash + 3]))
}

/// A tmpfs with these options has those, and lacks others.
fn gives(
    options: &'static [&'static str],
    has: &'static [&'static str],
    lacks: &'static [&'static str],
) -> impl FnOnce(Bundle) {
    move |mut bundle| {
        bundle.mount("tmpfs", "tmpfs".as_ref(), "/o", options);
        let (own, _, of_the_file_system) = fields(&mut bundle, "/o");
        let all: Vec<String> = own.into_iter().chain(of_the_file_system).collect();
        let there = |name: &&str| all.iter().any(|word| word == name);
        assert!(has.iter().all(there), "{options:?} gave {all:?}");
        assert!(!lacks.iter().any(there), "{options:?} gave {all:?}");
    }
}

/// A bind mount with this option has that propagation.
fn propagates(option: &'static str, tags: &'static [&'static str], below: bool) -> impl FnOnce(Bundle) {
    move |mut bundle| {
        let source = bundle.path("source");
        std::fs::create_dir_all(source.join("sub")).expect("mkdir");
        // In a namespace of its own, whose mounts are shared ones, with one below the source.
        bundle.mount("bind", &source, "/o", &["rbind", option]);
        bundle.sh("grep -E ' /o(/sub)? ' /proc/self/mountinfo");
        bundle.write();
        let script =
            "mount -t tmpfs -o mode=755 below \"$1/sub\" && mount --make-rshared / && shift && exec \"$@\"";
        let mut command = bundle.world().command("unshare");
        command
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(&source)
            .args(["oci-spawn", "--root"])
            .arg(bundle.states());
        command.args(["run", "-b"]).arg(bundle.dir()).arg(bundle.id());
        let said = bundle.finish(command).ok();
        let text = said.text();
        let of = |place: &str| -> Vec<String> {
            let line = text
                .lines()
                .find(|line| line.contains(&format!(" {place} ")))
                .unwrap_or_else(|| panic!("{said}"));
            let words: Vec<&str> = line.split(' ').skip(6).take_while(|word| *word != "-").collect();
            words.iter().map(|word| word.split(':').next().unwrap_or_default().to_owned()).collect()
        };
        let has = |place: &str| {
            tags.iter().all(|tag| of(place).iter().any(|word| word == tag))
                && (!tags.is_empty() || of(place).is_empty())
        };
        assert!(has("/o"), "{said}");
        assert!(!below || has("/o/sub"), "{said}");
    }
}

cases! {
    "config.md, Linux mount options" {
        option_async: "`async`" => gives(&["sync", "async"], &[], &["sync"]);
        option_atime: "`atime`" => gives(&["noatime", "atime"], &[], &["noatime"]);
        option_bind: "`bind`: of a directory, without what is mounted below" => binds("bind", false);
        option_defaults: "`defaults`" => gives(&["defaults"], &["rw"], &["nosuid", "noexec", "ro"]);
        option_dev: "`dev`" => |mut bundle| {
            bundle.config["linux"]["resources"] = serde_json::json!({"devices": [{"allow": true, "access": "rwm"}]});
            gives(&["nodev", "dev"], &[], &["nodev"])(bundle);
        };
        option_diratime: "`diratime`" => gives(&["nodiratime", "diratime"], &[], &["nodiratime"]);
        option_dirsync: "`dirsync`" => gives(&["dirsync"], &["dirsync"], &["sync"]);
        option_exec: "`exec`" => gives(&["noexec", "exec"], &[], &["noexec"]);
        option_iversion: "`iversion`" => gives(&["iversion"], &["rw"], &[]);
        option_lazytime: "`lazytime`" => gives(&["lazytime"], &["lazytime"], &[]);
        option_loud: "`loud`" => gives(&["silent", "loud"], &["rw"], &[]);
        option_noatime: "`noatime`" => gives(&["noatime"], &["noatime"], &["relatime"]);
        option_nodev: "`nodev`" => gives(&["nodev"], &["nodev"], &[]);
        option_nodiratime: "`nodiratime`" => gives(&["nodiratime"], &["nodiratime"], &[]);
        option_noexec: "`noexec`" => gives(&["noexec"], &["noexec"], &[]);
        option_noiversion: "`noiversion`" => gives(&["iversion", "noiversion"], &["rw"], &[]);
        option_nolazytime: "`nolazytime`" => gives(&["lazytime", "nolazytime"], &[], &["lazytime"]);
        option_norelatime: "`norelatime`" => gives(&["norelatime"], &["rw"], &["noatime"]);
        option_nostrictatime: "`nostrictatime`" => gives(&["strictatime", "nostrictatime"], &["relatime"], &[]);
        option_nosuid: "`nosuid`" => gives(&["nosuid"], &["nosuid"], &[]);
        option_private: "`private`" => propagates("private", &[], false);
        option_rbind: "`rbind`: of a directory with all that is mounted below" => binds("rbind", true);
        option_relatime: "`relatime`" => gives(&["strictatime", "relatime"], &["relatime"], &[]);
        option_remount: "`remount`: of what is mounted there already" => |mut bundle| {
            bundle.mount("tmpfs", "tmpfs".as_ref(), "/o", &["nosuid"]);
            bundle.mount("tmpfs", "tmpfs".as_ref(), "/o", &["remount", "ro", "noexec"]);
            let count = bundle.prints("grep -c ' /o ' /proc/self/mountinfo");
            assert_eq!(count, "1\n", "a remount is no second mount");
            let (own, _, _) = fields(&mut bundle, "/o");
            assert!(own.contains(&"ro".to_owned()) && own.contains(&"noexec".to_owned()), "{own:?}");
        };
        option_ro: "`ro`" => |mut bundle| {
            bundle.mount("tmpfs", "tmpfs".as_ref(), "/o", &["ro"]);
            let source = bundle.root().join("tmp");
            bundle.mount("bind", &source, "/b", &["bind", "ro"]);
            assert_eq!(bundle.prints("touch /o/x /b/x 2>&1 | grep -c Read-only"), "2\n");
        };
        option_rprivate: "`rprivate`" => propagates("rprivate", &[], true);
        option_rshared: "`rshared`" => propagates("rshared", &["shared"], true);
        option_rslave: "`rslave`" => propagates("rslave", &["master"], true);
        option_runbindable: "`runbindable`" => propagates("runbindable", &["unbindable"], true);
        option_rw: "`rw`" => gives(&["ro", "rw"], &["rw"], &["ro"]);
        option_shared: "`shared`" => propagates("shared", &["shared"], false);
        option_silent: "`silent`" => gives(&["silent"], &["rw"], &[]);
        option_slave: "`slave`" => propagates("slave", &["master"], false);
        option_strictatime: "`strictatime`" => gives(&["strictatime"], &["rw"], &["relatime", "noatime"]);
        option_suid: "`suid`" => gives(&["nosuid", "suid"], &[], &["nosuid"]);
        option_sync: "`sync`" => gives(&["sync"], &["sync"], &[]);
        option_unbindable: "`unbindable`" => propagates("unbindable", &["unbindable"], false);
        recursive_options: "`rro`, `rnosuid`, `rnodev`, `rnoexec`, `rnoatime`, `rnosymfollow` hold for all that is mounted below (SHOULD)" => |mut bundle| {
            let source = bundle.path("source");
            std::fs::create_dir_all(source.join("sub")).expect("mkdir");
            bundle.mount("bind", &source, "/o", &["rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnoatime", "rnosymfollow"]);
            bundle.sh("grep -E ' /o(/sub)? ' /proc/self/mountinfo");
            bundle.write();
            let script = "mount -t tmpfs -o mode=755 below \"$1/sub\" && shift && exec \"$@\"";
            let mut command = bundle.world().command("unshare");
            command.args(["-m", "sh", "-c", script, "sh"]).arg(&source).args(["oci-spawn", "--root"]).arg(bundle.states());
            command.args(["run", "-b"]).arg(bundle.dir()).arg(bundle.id());
            let said = bundle.finish(command).ok();
            let text = said.text();
            assert_eq!(text.lines().count(), 2, "{said}");
            for line in text.lines() {
                let own = line.split(' ').nth(5).unwrap_or_default();
                assert!(["ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow"].iter().all(|name| own.split(',').any(|word| word == *name)), "{said}");
            }
        };
    }
}

/// A bind mount of a directory that has a mount below it.
fn binds(option: &'static str, below: bool) -> impl FnOnce(Bundle) {
    move |mut bundle| {
        let source = bundle.path("source");
        std::fs::create_dir_all(source.join("sub")).expect("mkdir");
        std::fs::write(source.join("file"), "").expect("write");
        bundle.mount("none", &source, "/o", &[option]);
        bundle.sh("ls /o /o/sub | grep -E 'file|below'");
        bundle.write();
        let script = "mount -t tmpfs below \"$1/sub\" && touch \"$1/sub/below\" && shift && exec \"$@\"";
        let mut command = bundle.world().command("unshare");
        command
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(&source)
            .args(["oci-spawn", "--root"])
            .arg(bundle.states());
        command.args(["run", "-b"]).arg(bundle.dir()).arg(bundle.id());
        let said = bundle.finish(command).ok();
        assert_eq!(said.text(), if below { "file\nbelow\n" } else { "file\n" });
    }
}
