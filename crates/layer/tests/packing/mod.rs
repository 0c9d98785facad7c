//! What the tests of packing share.

use std::fs;
use std::path::Path;
use std::process::Command;

use layer::{PackError, Packed, Warning};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use sys::Root;
use tempfile::TempDir;

pub(crate) fn tree() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

pub(crate) fn open(dir: &Path) -> Root {
    Root::open_ambient(dir).expect("open")
}

pub(crate) fn mknod(path: &Path, kind: FileType, major: u32, minor: u32) {
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(CWD, path, kind, Mode::from(0o600), device).expect("mknod");
}

pub(crate) fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).expect("setxattr");
}

/// Packs and gives the archive, the count and the warnings.
pub(crate) fn packed(
    pack: impl FnOnce(&mut Vec<u8>, &mut dyn FnMut(Warning)) -> Result<Packed, PackError>,
) -> (Vec<u8>, Packed, Vec<Warning>) {
    let mut archive = Vec::new();
    let mut warnings = Vec::new();
    let told = pack(&mut archive, &mut |warning| warnings.push(warning)).expect("pack");
    assert_eq!(told.bytes, archive.len() as u64, "the archive's size is told");
    (archive, told, warnings)
}

/// Extracts with GNU tar, keeping everything it can keep.
pub(crate) fn extracted(archive: &[u8]) -> TempDir {
    let dir = tree();
    let file = tree();
    let file = (file.path().join("a.tar"), file);
    fs::write(&file.0, archive).expect("write");
    let tar = Command::new("tar")
        .args([
            "--extract",
            "--numeric-owner",
            "--warning=no-timestamp",
            "--same-owner",
            "--same-permissions",
            "--xattrs",
            "--xattrs-include=*",
        ])
        .arg("-f")
        .arg(&file.0)
        .arg("-C")
        .arg(dir.path())
        .output()
        .expect("tar");
    assert!(tar.status.success(), "tar: {}", String::from_utf8_lossy(&tar.stderr));
    assert!(tar.stderr.is_empty(), "tar: {}", String::from_utf8_lossy(&tar.stderr));
    dir
}

/// Everything about a tree that a layer holds, one entry a line.
pub(crate) fn listing(dir: &Path) -> String {
    let script = r#"
import os,sys,hashlib,stat
root=sys.argv[1]; first={}; out=[]
def one(path,rel):
    try: s=os.lstat(path)
    except FileNotFoundError: return # overlayfs lists a whiteout that hides nothing, though it cannot be opened
    x={n:os.getxattr(path,n,follow_symlinks=False) for n in os.listxattr(path,follow_symlinks=False)}
    x={k:v for k,v in x.items() if not k.startswith(('user.overlay.','trusted.overlay.'))}
    body=''
    if stat.S_ISREG(s.st_mode): body=hashlib.sha256(open(path,'rb').read()).hexdigest()
    if stat.S_ISLNK(s.st_mode): body=os.readlink(path)
    links=first.setdefault((s.st_dev,s.st_ino),rel) if not stat.S_ISDIR(s.st_mode) else ''
    size=s.st_size if stat.S_ISREG(s.st_mode) else 0
    out.append(repr((rel,oct(s.st_mode),s.st_uid,s.st_gid,size,s.st_rdev,s.st_mtime_ns,sorted(x.items()),body,links)))
one(root,'')
for base,dirs,files in os.walk(root):
    dirs.sort()
    for n in sorted(dirs+files):
        p=os.path.join(base,n); one(p,os.path.relpath(p,root))
print('\n'.join(sorted(out)))
"#;
    let out = Command::new("python3").args(["-c", script]).arg(dir).output().expect("python3");
    assert!(out.status.success(), "python3: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}
