//! Two engines, one answer: the kernel against wasmi, on mutants of valid modules.
//!
//! A mutant is a module with a few bytes changed, drawn from a fixed seed. Three things must hold.
//! What the kernel takes, wasmi takes: the validator is sound. What wasmi takes and the kernel does
//! not is outside the profile or beyond a limit: the validator is complete. And where both run it,
//! results, traps, globals and the whole memory are the same after each call.
//!
//! `AQUIFER_FUZZ` sets the number of mutants. A failure prints the number of its mutant.
//!
//! Not here: the modules that are mutated (`seeds.rs`), the specification's tests (`spec`).

mod seeds;

use aquifer_kernel::limits::PAGE_BYTES;
use aquifer_kernel::{Export, Host, HostTrap, Import, Instance, Module, Trap, Why};
use wasmi::{
    Config, Engine, ExternType, Func, FuncType, Linker, Store, StoreLimits, StoreLimitsBuilder,
    TrapCode, Val, ValType,
};

/// Mutants where nothing else is asked for.
const MUTANTS: u64 = 20_000;
/// Instructions of one call.
const FUEL: u64 = 5_000;
/// An instruction costs wasmi another amount; this is more than enough for the same call.
const FUEL_OF_WASMI: u64 = 1_000_000;

#[derive(Default, Debug)]
struct Tally {
    mutants: u64,
    /// Both took it.
    taken: u64,
    /// Both refused it.
    refused: u64,
    /// Outside the profile or beyond a limit.
    outside: u64,
    calls: u64,
    returned: u64,
    trapped: u64,
    /// Calls that one of both ended for want of fuel or stack.
    exhausted: u64,
}

#[test]
fn mutants_run_alike_in_two_engines() {
    let mutants = std::env::var("AQUIFER_FUZZ").map_or(MUTANTS, |n| n.parse().expect("a number"));
    let only = std::env::var("AQUIFER_MUTANT").map(|n| n.parse().expect("a number"));
    let first = *only.as_ref().unwrap_or(&0);
    let end = only.map_or(mutants, |only: u64| only + 1);
    let seeds = seeds::all();
    let engine = Engine::new(&profile());
    let mut tally = Tally::default();
    for nth in first..end {
        let mut rng = Rng(nth);
        let mut bytes = seeds[rng.below(seeds.len())].clone();
        if nth >= seeds.len() as u64 * 8 {
            mutate(&mut bytes, &mut rng);
        }
        let compared = compare(&engine, &bytes, &mut rng, &mut tally);
        if let Err(difference) = compared {
            std::fs::write(
                std::env::temp_dir().join(format!("mutant-{nth}.wasm")),
                &bytes,
            )
            .ok();
            panic!("mutant {nth}: {difference}");
        }
        tally.mutants += 1;
    }
    println!("{tally:?}");
    if first == 0 && mutants >= MUTANTS {
        assert!(
            tally.taken * 10 > tally.mutants,
            "too few mutants are valid"
        );
        assert!(tally.returned + tally.trapped > tally.mutants);
    }
}

/// wasmi, confined to `mva1-int` and what cannot be switched off.
fn profile() -> Config {
    let mut config = Config::default();
    config
        .wasm_multi_value(false)
        .wasm_multi_memory(false)
        .wasm_saturating_float_to_int(false)
        .wasm_reference_types(false)
        .wasm_tail_call(false)
        .wasm_extended_const(false)
        .floats(false)
        .consume_fuel(true);
    config
}

fn compare(engine: &Engine, bytes: &[u8], rng: &mut Rng, tally: &mut Tally) -> Result<(), String> {
    let theirs = wasmi::Module::new(engine, bytes);
    let ours = Module::parse(bytes);
    let (theirs, ours) = match (theirs, &ours) {
        (Ok(theirs), Ok(ours)) => (theirs, ours),
        (Err(error), Ok(_)) => return Err(format!("taken, though: {error}")),
        (Ok(_), Err(refused)) => {
            tally.outside += 1;
            let known = matches!(
                refused.why,
                Why::Unsupported | Why::Limit(_) | Why::Name | Why::Segment
            );
            return known
                .then_some(())
                .ok_or_else(|| format!("refused: {refused:?}"));
        }
        (Err(_), Err(_)) => {
            tally.refused += 1;
            return Ok(());
        }
    };
    tally.taken += 1;
    let limits = StoreLimitsBuilder::new().memory_size(PAGE_BYTES).build();
    let mut store = Store::new(engine, limits);
    store.limiter(|limits: &mut StoreLimits| limits);
    store.set_fuel(FUEL_OF_WASMI).map_err(|e| e.to_string())?;
    let mut linker = Linker::<StoreLimits>::new(engine);
    linker.allow_shadowing(true);
    for import in theirs.imports() {
        let ExternType::Func(of) = import.ty().clone() else {
            return Err("an import of another kind".into());
        };
        let function = echo(&mut store, of, import.name().to_owned());
        linker
            .define("mva1", import.name(), function)
            .map_err(|e| e.to_string())?;
    }
    // One name may be imported with two types: then not both can be linked by name.
    let Ok(other) = linker.instantiate_and_start(&mut store, &theirs) else {
        let mut names: Vec<_> = theirs.imports().map(|i| i.name()).collect();
        names.sort_unstable();
        let twice = names.windows(2).any(|pair| pair[0] == pair[1]);
        return twice
            .then_some(())
            .ok_or_else(|| "it cannot be instantiated".into());
    };
    let mut page = Box::new([0xff; PAGE_BYTES]);
    let mut instance = Instance::new(ours, &mut page);
    let functions: Vec<_> = theirs
        .exports()
        .filter(|export| matches!(export.ty(), ExternType::Func(_)))
        .map(|export| export.name())
        .collect();
    for _ in 0..functions.len().min(4) * 2 {
        let name = functions[rng.below(functions.len())];
        let function = other.get_func(&store, name).ok_or("an export is lost")?;
        let alike = call(ours, &mut instance, name, &mut store, function, rng, tally)?;
        if !alike {
            return Ok(());
        }
        let memory = other.get_memory(&store, "memory");
        if memory.is_some_and(|memory| memory.data(&store) != instance.memory()) {
            return Err(format!("after {name}, the memories differ"));
        }
        for export in theirs.exports() {
            if let Some(global) = other.get_global(&store, export.name()) {
                let (theirs, ours) = (
                    plain(&global.get(&store)),
                    instance.global(export.name().as_bytes()),
                );
                if theirs != ours {
                    return Err(format!(
                        "after {name}, {} differs: {theirs:?} {ours:?}",
                        export.name()
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Calls a function in both. Whether both ended, so that they are still in the same state.
fn call(
    module: &Module<'_>,
    instance: &mut Instance<'_>,
    name: &str,
    store: &mut Store<StoreLimits>,
    function: Func,
    rng: &mut Rng,
    tally: &mut Tally,
) -> Result<bool, String> {
    let of = function.ty(&*store);
    let arguments: Vec<Val> = of.params().iter().map(|of| rng.value(*of)).collect();
    let plainly: Vec<u64> = arguments.iter().filter_map(plain).collect();
    let mut results: Vec<Val> = of.results().iter().map(|of| Val::default(*of)).collect();
    tally.calls += 1;

    let Some(Export::Function(index)) = module.export(name.as_bytes()) else {
        return Err(format!("{name} is not exported"));
    };
    let mut fuel = FUEL;
    let ours = instance.invoke(index, &plainly, &mut fuel, &mut Echo);
    if fuel > FUEL {
        return Err("fuel was made".into());
    }
    if matches!(ours, Err(Trap::OutOfFuel | Trap::StackExhausted)) {
        tally.exhausted += 1;
        return Ok(false);
    }
    store.set_fuel(FUEL_OF_WASMI).map_err(|e| e.to_string())?;
    let theirs = match function.call(&mut *store, &arguments, &mut results) {
        Ok(()) => Ok(results.first().and_then(plain)),
        Err(error) => match error.as_trap_code() {
            Some(TrapCode::OutOfFuel | TrapCode::StackOverflow) => {
                tally.exhausted += 1;
                return Ok(false);
            }
            // Only the host's own errors have no code.
            code => Err(code.map_or(Some(Trap::Host(HostTrap::RESULT)), class)),
        },
    };
    let alike = match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => ours == theirs,
        (Err(ours), Err(theirs)) => Some(ours) == theirs,
        _ => false,
    };
    if !alike {
        return Err(format!("{name}{plainly:?}: {ours:?} is not {theirs:?}"));
    }
    match ours {
        Ok(_) => tally.returned += 1,
        Err(_) => tally.trapped += 1,
    }
    Ok(true)
}

fn class(code: TrapCode) -> Option<Trap> {
    Some(match code {
        TrapCode::UnreachableCodeReached => Trap::Unreachable,
        TrapCode::MemoryOutOfBounds => Trap::OutOfBounds,
        TrapCode::IntegerDivisionByZero => Trap::DivideByZero,
        TrapCode::IntegerOverflow => Trap::Overflow,
        TrapCode::TableOutOfBounds | TrapCode::IndirectCallToNull | TrapCode::BadSignature => {
            Trap::IndirectCall
        }
        _ => return None,
    })
}

/// A host whose every import returns a hash of its name and arguments.
struct Echo;

impl Host for Echo {
    fn call(
        &mut self,
        import: &Import<'_>,
        arguments: &[u64],
        _: &mut [u8],
    ) -> Result<Option<u64>, HostTrap> {
        // The seeds' names say whether there is a result.
        let result = !import.name.starts_with(b"put");
        Ok(result.then(|| hash(import.name, arguments)))
    }
}

fn hash(name: &[u8], arguments: &[u64]) -> u64 {
    let bytes = name.iter().map(|byte| u64::from(*byte));
    bytes
        .chain(arguments.iter().copied())
        .fold(7, |hash: u64, value| {
            hash.wrapping_mul(31).wrapping_add(value)
        })
}

/// The same host for wasmi.
fn echo(store: &mut Store<StoreLimits>, of: FuncType, name: String) -> Func {
    Func::new(&mut *store, of.clone(), move |_, arguments, results| {
        let arguments: Vec<u64> = arguments.iter().filter_map(plain).collect();
        let answers = !name.starts_with("put");
        if answers == results.is_empty() {
            return Err(wasmi::Error::new("no result, or one too many"));
        }
        if let (Some(result), Some(of)) = (results.first_mut(), of.results().first()) {
            *result = value(*of, hash(name.as_bytes(), &arguments));
        }
        Ok(())
    })
}

fn plain(value: &Val) -> Option<u64> {
    match value {
        Val::I32(value) => Some(u64::from(*value as u32)),
        Val::I64(value) => Some(*value as u64),
        _ => None,
    }
}

fn value(of: ValType, bits: u64) -> Val {
    match of {
        ValType::I32 => Val::I32(bits as i32),
        _ => Val::I64(bits as i64),
    }
}

/// Changes a module: some changes that the kernel takes, so that the mutant is far from its seed and
/// still valid, and in half of the cases one more that may be anything.
fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.below(8) {
        let mut changed = bytes.clone();
        change(&mut changed, rng);
        if Module::parse(&changed).is_ok() {
            *bytes = changed;
        }
    }
    if rng.below(2) == 0 {
        change(bytes, rng);
    }
}

fn change(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = 8 + rng.below(bytes.len() - 8);
    match rng.below(8) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = rng.next() as u8,
        2 => bytes[at] = bytes[at].wrapping_add(1),
        3 => bytes[at] = bytes[at].wrapping_sub(1),
        4 => {
            let from = 8 + rng.below(bytes.len() - 8);
            let length = (1 + rng.below(6)).min(bytes.len() - at.max(from));
            bytes.copy_within(from..from + length, at);
        }
        5 | 6 => {
            // The next instruction of one of these rows becomes another of its row.
            let rows = [
                (0x6a, 0x78),
                (0x46, 0x4f),
                (0x51, 0x5a),
                (0x7c, 0x8a),
                (0x2c, 0x2f),
                (0x20, 0x24),
            ];
            let (first, last) = rows[rng.below(rows.len())];
            let next = bytes[at..]
                .iter_mut()
                .find(|byte| (first..=last).contains(*byte));
            if let Some(byte) = next {
                *byte = first + rng.below(usize::from(last - first) + 1) as u8;
            }
        }
        _ => match rng.below(3) {
            0 => bytes.insert(at, rng.next() as u8),
            1 if bytes.len() > 16 => drop(bytes.remove(at)),
            _ => bytes.truncate(at.max(16)),
        },
    }
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// An argument: most often at an edge.
    fn value(&mut self, of: ValType) -> Val {
        let edges = [
            0,
            1,
            2,
            7,
            31,
            64,
            255,
            65_535,
            65_536,
            1 << 31,
            u64::MAX,
            1 << 63,
        ];
        let bits = match self.below(3) {
            0 => self.next(),
            1 => self.next() % 100,
            _ => edges[self.below(edges.len())],
        };
        value(of, bits)
    }
}
