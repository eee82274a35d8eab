//! A TUN device: the one system call that no safe crate here offers.
//!
//! The device comes to be when it is attached to an open `/dev/net/tun` and is gone when that file is
//! closed, so nothing is left behind by a test that dies. The interface is moved into a namespace
//! afterwards; the file stays here, and packets are read from it and written to it.
//!
//! Source: Linux, Documentation/networking/tuntap.rst.

use rustix::fs::OFlags;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;

/// Layer 3 packets, without the four bytes of packet information before each.
const IFF_TUN_NO_PI: u16 = 0x0001 | 0x1000;

const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);

/// The kernel's `struct ifreq`, 40 bytes on 64-bit systems, with the member that this call uses.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// A device of this process.
#[derive(Debug)]
pub struct Tun {
    /// Packets that its namespace sends are read here, those for it are written. Does not block.
    pub file: File,
    /// The interface's name, chosen by the kernel.
    pub name: String,
}

impl Tun {
    /// Makes a device named `prefix` and a number.
    ///
    /// # Errors
    /// What the system says, mostly that there is no `/dev/net/tun` or no privilege.
    pub fn open(prefix: &str) -> io::Result<Self> {
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).expect("a small flag");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nonblocking)
            .open("/dev/net/tun")?;
        let mut request = Request {
            name: [0; 16],
            flags: IFF_TUN_NO_PI,
            rest: [0; 22],
        };
        let pattern = format!("{prefix}%d");
        assert!(pattern.len() < request.name.len(), "the prefix is too long");
        request.name[..pattern.len()].copy_from_slice(pattern.as_bytes());
        attach(&file, &mut request)?;
        let name = request.name.iter().take_while(|byte| **byte != 0);
        Ok(Self {
            file,
            name: name.map(|byte| char::from(*byte)).collect(),
        })
    }
}

#[expect(unsafe_code, reason = "an ioctl is a call by number and by layout")]
fn attach(file: &File, request: &mut Request) -> io::Result<()> {
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`. `Request` is `repr(C)` and as long as
    // the kernel's (40 bytes), outlives the call, and every bit pattern is a legal value of it.
    let done = unsafe { ioctl(file, Updater::<TUNSETIFF, Request>::new(request)) };
    Ok(done?)
}

const _: () = assert!(size_of::<Request>() == 40);
