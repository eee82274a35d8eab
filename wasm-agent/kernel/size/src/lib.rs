//! The kernel in a program without a standard library, as on a device, so that its size can be read.
//!
//! The program is linked and never run. Each entry of the kernel is called from a symbol that the
//! linker keeps; without the feature `kernel` the same symbols do nothing.
//!
//! Not here: what is measured and how large it may be (`size.sh`).
#![no_std]

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(feature = "kernel"))]
// SAFETY: nothing else in the program has this name.
#[unsafe(no_mangle)]
pub extern "C" fn weighed(_bytes: &[u8; 65536], _page: &mut [u8; 65536]) -> u64 {
    0
}

#[cfg(feature = "kernel")]
// SAFETY: nothing else in the program has this name.
#[unsafe(no_mangle)]
pub extern "C" fn weighed(bytes: &[u8; 65536], page: &mut [u8; 65536]) -> u64 {
    use aquifer_kernel::{Export, Host, HostTrap, Import, Instance, Module};

    struct Mute;
    impl Host for Mute {
        fn call(
            &mut self,
            import: &Import<'_>,
            arguments: &[u64],
            memory: &mut [u8],
        ) -> Result<Option<u64>, HostTrap> {
            core::hint::black_box((import, arguments, memory));
            Ok(core::hint::black_box(None))
        }
    }

    let Ok(module) = Module::parse(bytes) else {
        return 1;
    };
    let mut instance = Instance::new(&module, page);
    let Some(Export::Function(handle)) = module.export(b"handle") else {
        return 2;
    };
    let inbox = instance.global(b"MVA_INBOX").unwrap_or(0);
    let mut fuel = 1 << 20;
    let called = instance.invoke(handle, &[inbox, 1], &mut fuel, &mut Mute);
    match called {
        Ok(result) => result.unwrap_or(fuel),
        Err(_) => u64::from(instance.place()) + instance.memory().len() as u64,
    }
}
