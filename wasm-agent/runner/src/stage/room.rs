//! The room: the new root of a job's file system.
//!
//! It is made in memory over `/tmp`, which the job's own mount namespace hides from nobody else. Into it
//! come what the job sees of the machine (bound, read-only, with all that is mounted below), its files
//! in `/in`, three devices, the `/proc` of its own process namespace without what that tells of the
//! machine, and a `/tmp` of its own. Then it becomes the root, and the old one is let go of.
//!
//! Not here: which sights a machine shows (`process`).

use super::apart::USER;
use super::talk::{At, Broke};
use crate::job::{Placed, Request};
use crate::limits::SCRATCH_INODES;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where the room is built: a folder that every machine has.
const SITE: &str = "/tmp";
const DEVICES: [&str; 3] = ["/dev/null", "/dev/urandom", "/dev/zero"];
const NOTHING: Option<&str> = None;
/// What a room needs beside the files in it.
const ROOM_BYTES: u64 = 1 << 20;
const PAGE: u64 = 4_096;

/// Something of the machine, found before the room hides it.
enum Sight {
    /// A link to this, which is made anew.
    Link(PathBuf),
    /// A folder or file, open.
    Held { file: File, is_folder: bool },
}

/// Builds the room and moves in. Gives the file that the job reads as its stdin.
pub(super) fn build(request: &Request) -> Result<File, Broke> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(NOTHING, "/", NOTHING, private, NOTHING).at("make its mounts its own")?;
    let sights = find(&request.sees)?;
    let devices = find(&DEVICES.map(str::to_owned))?;
    raise(request)?;
    for (path, sight) in &sights {
        show(path, sight, MsFlags::MS_NODEV)?;
    }
    for (path, sight) in &devices {
        show(path, sight, MsFlags::MS_NOEXEC)?;
    }
    drop((sights, devices));
    furnish(request)?;
    move_in()?;
    let stdin = File::open("/stdin").at("open its stdin")?;
    fs::remove_file("/stdin").at("hide its stdin")?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(NOTHING, "/", NOTHING, flags, NOTHING).at("close the room")?;
    chdir("/tmp").at("go to /tmp")?;
    Ok(stdin)
}

/// Opens what the job is to see. What is not there is left out.
fn find(paths: &[String]) -> Result<Vec<(String, Sight)>, Broke> {
    let mut found = Vec::new();
    for path in paths {
        let step = format!("find {path}");
        let kind = match fs::symlink_metadata(path) {
            Ok(kind) => kind,
            Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
            Err(why) => return Err(why).at(&step),
        };
        let sight = match kind.is_symlink() {
            true => Sight::Link(fs::read_link(path).at(&step)?),
            false => {
                let opened = OpenOptions::new()
                    .read(true)
                    .custom_flags(nix::libc::O_PATH | nix::libc::O_NOFOLLOW)
                    .open(path);
                Sight::Held {
                    file: opened.at(&step)?,
                    is_folder: kind.is_dir(),
                }
            }
        };
        found.push((path.clone(), sight));
    }
    Ok(found)
}

/// Puts an empty file system over the site, with the folders that every room has.
fn raise(request: &Request) -> Result<(), Broke> {
    let pages = |bytes: usize| (bytes as u64).div_ceil(PAGE) * PAGE;
    let files = request.files.iter().map(|file| pages(file.bytes.len()));
    let bytes = ROOM_BYTES + pages(request.stdin.len()) + files.sum::<u64>();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("size={bytes},nr_inodes=1024,mode=0755");
    mount(Some("room"), SITE, Some("tmpfs"), flags, Some(&*options)).at("raise the room")?;
    for folder in ["dev", "etc", "in", "old", "proc", "tmp"] {
        fs::create_dir(inside(folder)).at("make a folder")?;
    }
    // Before what is shown, which may lie below it. A size of 0 would be no limit at all.
    let bytes = request.budget.scratch_bytes.max(PAGE);
    let options = format!("size={bytes},nr_inodes={SCRATCH_INODES},mode=1777");
    mount(
        Some("scratch"),
        &inside("tmp"),
        Some("tmpfs"),
        flags,
        Some(&*options),
    )
    .at("make its /tmp")
}

fn inside(path: &str) -> PathBuf {
    Path::new(SITE).join(path.trim_start_matches('/'))
}

/// Shows one sight at its own path, read-only.
fn show(path: &str, sight: &Sight, besides: MsFlags) -> Result<(), Broke> {
    let step = format!("show {path}");
    let place = inside(path);
    let above = place.parent().unwrap_or_else(|| Path::new(SITE));
    fs::create_dir_all(above).at(&step)?;
    match sight {
        Sight::Link(to) => symlink(to, &place).at(&step),
        Sight::Held { file, is_folder } => {
            let made = match is_folder {
                true => fs::create_dir(&place),
                false => File::create(&place).map(drop),
            };
            made.at(&step)?;
            let source = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(&source), &place, NOTHING, flags, NOTHING).at(&step)?;
            harden(&place, besides).at(&step)
        }
    }
}

/// Makes the mount at `place` and all below it read-only and without power. What the machine forbids
/// there already must be forbidden again, or the kernel refuses.
fn harden(place: &Path, besides: MsFlags) -> io::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut hardened = 0;
    for (point, options) in table.lines().filter_map(entry) {
        if !point.starts_with(place) {
            continue;
        }
        let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        flags |= MsFlags::MS_NOSUID | besides;
        for option in options.split(',') {
            flags |= match option {
                "noexec" => MsFlags::MS_NOEXEC,
                "nodev" => MsFlags::MS_NODEV,
                _ => MsFlags::empty(),
            };
        }
        mount(NOTHING, &point, NOTHING, flags, NOTHING)?;
        hardened += 1;
    }
    match hardened {
        0 => Err(io::Error::other("it is not in the table of mounts")),
        _ => Ok(()),
    }
}

/// The place and the options of a line of `mountinfo`.
fn entry(line: &str) -> Option<(PathBuf, &str)> {
    let mut fields = line.split(' ').skip(4);
    let (point, options) = (fields.next()?, fields.next()?);
    Some((unescape(point).into(), options))
}

/// The kernel writes a space, a tab, a new line and a backslash in octal.
fn unescape(text: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    escapes
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Puts in what is the job's own.
fn furnish(request: &Request) -> Result<(), Broke> {
    for (name, to) in [
        ("fd", ""),
        ("stdin", "/0"),
        ("stdout", "/1"),
        ("stderr", "/2"),
    ] {
        let place = inside("dev").join(name);
        symlink(format!("/proc/self/fd{to}"), place).at("link its streams")?;
    }
    let users = format!("job:x:{USER}:{USER}:job:/tmp:/bin/sh\n");
    fs::write(inside("etc/passwd"), users).at("name its user")?;
    fs::write(inside("etc/group"), format!("job:x:{USER}:\n")).at("name its group")?;
    for file in &request.files {
        place(file).at(&format!("place the file {}", file.name))?;
    }
    fs::write(inside("stdin"), &request.stdin).at("write its stdin")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some("proc"),
        &inside("proc"),
        Some("proc"),
        flags,
        Some("subset=pid"),
    )
    .at("mount its /proc")
}

fn place(file: &Placed) -> io::Result<()> {
    let path = inside("in").join(&file.name);
    fs::write(&path, &file.bytes)?;
    let mode = if file.is_program { 0o555 } else { 0o444 };
    fs::set_permissions(&path, Permissions::from_mode(mode))
}

/// Makes the room the root and lets go of the old one.
fn move_in() -> Result<(), Broke> {
    pivot_root(SITE, &inside("old")).at("move into the room")?;
    chdir("/").at("move into the room")?;
    umount2("/old", MntFlags::MNT_DETACH).at("let go of the old root")?;
    fs::remove_dir("/old").at("let go of the old root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_mounts_is_read_with_its_escapes() {
        let line =
            r"36 35 98:0 /a /mnt/with\040space\134 rw,noexec,relatime shared:1 - ext4 /dev/x rw";
        let (point, options) = entry(line).expect("an entry");
        assert_eq!(point, Path::new("/mnt/with space\\"));
        assert_eq!(options, "rw,noexec,relatime");
        assert!(entry("").is_none());
    }
}
