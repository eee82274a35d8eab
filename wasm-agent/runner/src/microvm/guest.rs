//! The guest: three instructions in real mode, in a virtual machine of one page and one processor.
//!
//! It says one byte on a port and halts. That is the least from which can be seen that a guest runs, and
//! it is told apart from a `/dev/kvm` that opens and does nothing.
//!
//! Handing a page to a guest is the one `unsafe` call.

use super::Trial;
use kvm_bindings::{KVM_API_VERSION, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use std::time::Instant;

/// Where the guest lies in its memory.
const PLACE: u64 = 0x1000;
/// The port it speaks on: the first serial line of a PC.
const PORT: u16 = 0x3f8;
/// What it says.
const BYTE: u8 = b'A';
/// mov dx, PORT; mov al, BYTE; out dx, al; hlt
const CODE: [u8; 7] = [0xba, 0xf8, 0x03, 0xb0, BYTE, 0xee, 0xf4];
/// How often it is run, for the time it takes at best.
const RUNS: u32 = 20;

/// A page as the processor wants it.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// Why the guest did not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunGuest {
    #[error("cannot {step}: {why}")]
    Refused {
        step: &'static str,
        #[source]
        why: kvm_ioctls::Error,
    },
    #[error("/dev/kvm speaks version {0} of its interface, and not {KVM_API_VERSION}")]
    Version(i32),
    #[error("the guest did something else: {0}")]
    Astray(String),
}

/// Makes the machine and runs the guest in it.
pub(super) fn run() -> Result<Trial, RunGuest> {
    let refused = |step| move |why| RunGuest::Refused { step, why };
    let kvm = Kvm::new().map_err(refused("open /dev/kvm"))?;
    let api = kvm.get_api_version();
    if api != KVM_API_VERSION as i32 {
        return Err(RunGuest::Version(api));
    }
    let began = Instant::now();
    // Made before the machine, so dropped after it.
    let mut page = Box::new(Page([0; 4096]));
    page.0[..CODE.len()].copy_from_slice(&CODE);
    let machine = kvm.create_vm().map_err(refused("make a machine"))?;
    give(&machine, &mut page).map_err(refused("give it memory"))?;
    let mut processor = machine
        .create_vcpu(0)
        .map_err(refused("make a processor"))?;
    let make_us = us(began);
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        rewind(&processor).map_err(refused("set registers"))?;
        let began = Instant::now();
        step(&mut processor)?;
        runs.push(us(began));
    }
    Ok(Trial {
        api,
        make_us,
        first_us: runs[0],
        best_us: runs.iter().copied().min().unwrap_or(0),
    })
}

#[allow(
    unsafe_code,
    reason = "memory is lent to a machine; see docs/decisions/0012"
)]
fn give(machine: &kvm_ioctls::VmFd, page: &mut Page) -> Result<(), kvm_ioctls::Error> {
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: PLACE,
        memory_size: page.0.len() as u64,
        userspace_addr: page.0.as_mut_ptr() as u64,
    };
    // SAFETY: the region is this one page, which is aligned, and which outlives the machine: `run` drops
    // it later, and the guest runs nowhere else. Nothing here reads it while the guest may write.
    unsafe { machine.set_user_memory_region(region) }
}

/// Sets the processor to the guest's first instruction.
fn rewind(processor: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut special = processor.get_sregs()?;
    special.cs.base = 0;
    special.cs.selector = 0;
    processor.set_sregs(&special)?;
    let mut registers = processor.get_regs()?;
    registers.rip = PLACE;
    // The one bit of the flags that is always set.
    registers.rflags = 2;
    processor.set_regs(&registers)
}

/// Runs to the halt, and sees the byte on the way.
fn step(processor: &mut VcpuFd) -> Result<(), RunGuest> {
    let mut is_said = false;
    loop {
        let exit = processor.run().map_err(|why| RunGuest::Refused {
            step: "run it",
            why,
        })?;
        match exit {
            VcpuExit::IoOut(PORT, &[BYTE]) if !is_said => is_said = true,
            VcpuExit::Hlt if is_said => return Ok(()),
            other => return Err(RunGuest::Astray(format!("{other:?}"))),
        }
    }
}

fn us(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
