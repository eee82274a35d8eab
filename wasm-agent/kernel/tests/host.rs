//! What a host sees: imports, fuel, traps, exported globals, and why a module is refused.
//!
//! Not here: what instructions do (`spec`, `differential`).

use aquifer_kernel::limits::{
    BULK_BYTES_PER_FUEL, EXPORTS_MAX, FUNCTIONS_MAX, GLOBALS_MAX, LABELS_MAX, LOCALS_MAX,
    MODULE_BYTES_MAX, NESTING_MAX, OPERANDS_MAX, PAGE_BYTES, TABLE_MAX, TYPES_MAX,
};
use aquifer_kernel::{Export, Host, HostTrap, Import, Instance, Limit, Module, Trap, Why};

/// An agent that announces what it is handed, and counts.
const AGENT: &str = r#"(module
  (import "mva1" "publish" (func $publish (param i32 i32) (result i32)))
  (import "mva1" "log" (func $log (param i64)))
  (memory (export "memory") 1 1)
  (global (export "MVA_STATE") i32 (i32.const 1024))
  (global (export "MVA_INBOX") i32 (i32.const 4096))
  (global $count (export "count") (mut i32) (i32.const 0))
  (data (i32.const 8) "hello")
  (func (export "handle") (param i32 i32) (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store8 (local.get 0) (i32.const 72))
    (call $log (i64.extend_i32_u (local.get 1)))
    (call $publish (local.get 0) (local.get 1)))
  (func (export "spin") (loop (br 0)))
  (func (export "wipe") (param i32) (memory.fill (i32.const 0) (i32.const 0) (local.get 0)))
  (func (export "fall") (result i32) (unreachable)))"#;

#[derive(Default)]
struct Recorder {
    heard: Vec<(Vec<u8>, Vec<u64>)>,
    published: Vec<u8>,
    answer: Option<u64>,
    refuses: bool,
}

impl Host for Recorder {
    fn call(
        &mut self,
        import: &Import<'_>,
        arguments: &[u64],
        memory: &mut [u8],
    ) -> Result<Option<u64>, HostTrap> {
        self.heard.push((import.name.to_vec(), arguments.to_vec()));
        if import.name == b"log" {
            return Ok(None);
        }
        if self.refuses {
            return Err(HostTrap(7));
        }
        let (at, length) = (arguments[0] as usize, arguments[1] as usize);
        self.published = memory[at..at + length].to_vec();
        memory[at] = b'J';
        Ok(self.answer)
    }
}

fn agent() -> Vec<u8> {
    wat::parse_str(AGENT).expect("the agent is valid")
}

fn function(module: &Module<'_>, name: &str) -> u32 {
    match module.export(name.as_bytes()) {
        Some(Export::Function(index)) => index,
        other => panic!("{name} is {other:?}"),
    }
}

fn refused(text: &str) -> Why {
    let bytes = wat::parse_str(text).expect("the text is well-formed");
    match Module::parse(&bytes) {
        Ok(_) => panic!("taken: {text:.200}"),
        Err(refused) => refused.why,
    }
}

#[test]
fn an_agent_meets_its_host() {
    let bytes = agent();
    let module = Module::parse(&bytes).expect("valid");
    let mut page = [0xee; PAGE_BYTES];
    let mut instance = Instance::new(&module, &mut page);
    let mut host = Recorder {
        answer: Some(1 << 40 | 5),
        ..Recorder::default()
    };
    let mut fuel = 1000;
    let handle = function(&module, "handle");
    let result = instance.invoke(handle, &[8, 5], &mut fuel, &mut host);
    assert_eq!(result, Ok(Some(5)), "an i32 is cut to its width");
    assert_eq!(host.published, b"Hello");
    assert_eq!(host.heard[0], (b"log".to_vec(), vec![5]));
    assert_eq!(&instance.memory()[7..14], b"\0Jello\0");
    assert_eq!(instance.global(b"count"), Some(1));
    assert_eq!(instance.global(b"MVA_STATE"), Some(1024));
    assert_eq!(instance.global(b"MVA_INBOX"), Some(4096));
    assert_eq!(instance.global(b"handle"), None);
    assert_eq!(1000 - fuel, 14, "one for each instruction, `end` too");
}

#[test]
fn a_host_can_end_a_call_and_call_again() {
    let bytes = agent();
    let module = Module::parse(&bytes).expect("valid");
    let mut page = [0; PAGE_BYTES];
    let mut instance = Instance::new(&module, &mut page);
    let handle = function(&module, "handle");
    let mut host = Recorder {
        refuses: true,
        ..Recorder::default()
    };
    let mut fuel = 1000;
    let mut call = |host: &mut Recorder, arguments: &[u64]| {
        let result = instance.invoke(handle, arguments, &mut fuel, host);
        (result, instance.global(b"count"))
    };
    let ended = Err(Trap::Host(HostTrap(7)));
    assert_eq!(call(&mut host, &[8, 5]), (ended, Some(1)));
    host.refuses = false;
    let silent = Err(Trap::Host(HostTrap::RESULT));
    assert_eq!(call(&mut host, &[8, 5]), (silent, Some(2)));
    host.answer = Some(3);
    assert_eq!(call(&mut host, &[8, 5]), (Ok(Some(3)), Some(3)));
    assert_eq!(call(&mut host, &[8]), (Err(Trap::Invoke), Some(3)));
}

#[test]
fn fuel_ends_what_does_not_end() {
    let bytes = agent();
    let module = Module::parse(&bytes).expect("valid");
    let mut page = [0; PAGE_BYTES];
    let mut instance = Instance::new(&module, &mut page);
    let mut fuel = 1_000_000;
    let spin = function(&module, "spin");
    let result = instance.invoke(spin, &[], &mut fuel, &mut Recorder::default());
    assert_eq!((result, fuel), (Err(Trap::OutOfFuel), 0));

    let wipe = function(&module, "wipe");
    let mut fuel = 5 + PAGE_BYTES as u64 / BULK_BYTES_PER_FUEL;
    let mut host = Recorder::default();
    let length = PAGE_BYTES as u64;
    assert_eq!(
        instance.invoke(wipe, &[length], &mut fuel, &mut host),
        Ok(None)
    );
    assert_eq!(fuel, 0);
    let mut fuel = 4 + PAGE_BYTES as u64 / BULK_BYTES_PER_FUEL - 1;
    let result = instance.invoke(wipe, &[length], &mut fuel, &mut host);
    assert_eq!(result, Err(Trap::OutOfFuel));
    let result = instance.invoke(wipe, &[length + 1], &mut 100, &mut host);
    assert_eq!(result, Err(Trap::OutOfBounds));
}

#[test]
fn a_trap_says_where() {
    let bytes = agent();
    let module = Module::parse(&bytes).expect("valid");
    let mut page = [0; PAGE_BYTES];
    let mut instance = Instance::new(&module, &mut page);
    let fall = function(&module, "fall");
    let result = instance.invoke(fall, &[], &mut 10, &mut Recorder::default());
    assert_eq!(result, Err(Trap::Unreachable));
    let place = instance.place() as usize;
    assert_eq!(bytes[place - 1..=place], [0x00, 0x0b], "unreachable, end");
    assert_eq!(module.export(b"memory"), Some(Export::Memory));
    assert_eq!(module.export(b"absent"), None);
    let result = instance.invoke(999, &[], &mut 10, &mut Recorder::default());
    assert_eq!(result, Err(Trap::Invoke));
}

#[test]
fn what_lies_outside_the_profile_is_refused() {
    for text in [
        "(module (func (param f32)))",
        "(module (func (result i64 i64) (i64.const 1) (i64.const 2)))",
        "(module (func (drop (f64.const 0))))",
        "(module (func) (start 0))",
        "(module (memory 1) (memory 1))",
        "(module (table 1 funcref) (table 1 funcref))",
        "(module (table 1 externref))",
        "(module (import \"env\" \"f\" (func)))",
        "(module (import \"mva1\" \"m\" (memory 1)))",
        "(module (memory 1) (data \"passive\"))",
        "(module (memory i64 1))",
        "(module (func (drop (ref.null func))))",
        "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
    ] {
        assert_eq!(refused(text), Why::Unsupported, "{text}");
    }
    assert_eq!(refused("(module (func (export \"\\c3\\a9\")))"), Why::Name);
}

#[test]
fn a_refusal_names_the_limit() {
    let times = |text: &str, count: usize| text.repeat(count);
    let body = |code: String| format!("(module (func {code}))");
    let exports: String = (0..=EXPORTS_MAX)
        .map(|nth| format!("(export \"{nth}\" (func 0))"))
        .collect();
    let types: String = (0..=TYPES_MAX)
        .map(|nth| format!("(type (func {}))", "(param i32)".repeat(nth)))
        .collect();
    let nested = times("(block ", NESTING_MAX) + &times(")", NESTING_MAX);
    let consts = times("i32.const 1 ", OPERANDS_MAX + 1) + &times("drop ", OPERANDS_MAX + 1);
    for (text, limit) in [
        (
            format!("(module (data \"{}\"))", times("x", MODULE_BYTES_MAX)),
            Limit::ModuleBytes,
        ),
        (format!("(module {types})"), Limit::Types),
        (
            format!("(module {})", times("(func)", FUNCTIONS_MAX + 1)),
            Limit::Functions,
        ),
        (
            format!(
                "(module {})",
                times("(global i32 (i32.const 1))", GLOBALS_MAX + 1)
            ),
            Limit::Globals,
        ),
        (format!("(module (func) {exports})"), Limit::Exports),
        (
            format!("(module (table {} funcref))", TABLE_MAX + 1),
            Limit::Table,
        ),
        ("(module (memory 2))".into(), Limit::Pages),
        (body(times("(block)", LABELS_MAX)), Limit::Labels),
        (body(times("(local i64)", LOCALS_MAX + 1)), Limit::Locals),
        (body(nested), Limit::Nesting),
        (body(consts), Limit::Operands),
    ] {
        assert_eq!(refused(&text), Why::Limit(limit), "{text:.60}");
    }
}

#[test]
fn a_module_at_its_limits_runs() {
    let deep = "(block ".repeat(NESTING_MAX - 1) + &")".repeat(NESTING_MAX - 1);
    let wide = "i32.const 1 ".repeat(OPERANDS_MAX) + &"i32.add ".repeat(OPERANDS_MAX - 1);
    let locals = "(local i64)".repeat(LOCALS_MAX);
    let text = format!(
        "(module (table {TABLE_MAX} funcref) {} (func (export \"f\") (result i32) {locals} {deep} {wide}))",
        "(func)".repeat(FUNCTIONS_MAX - 1),
    );
    let bytes = wat::parse_str(text).expect("well-formed");
    let module = Module::parse(&bytes).expect("valid");
    let mut page = [0; PAGE_BYTES];
    let mut instance = Instance::new(&module, &mut page);
    let index = function(&module, "f");
    let result = instance.invoke(index, &[], &mut 10_000, &mut Recorder::default());
    assert_eq!(result, Ok(Some(OPERANDS_MAX as u64)));
    assert!(instance.memory().is_empty());
}

#[test]
fn a_module_that_is_cut_is_refused_unless_a_section_ends_there() {
    let bytes = agent();
    let taken = (0..bytes.len()).filter(|end| Module::parse(&bytes[..*end]).is_ok());
    // After the header, types and imports, and before and after the data: functions need bodies.
    assert_eq!(taken.count(), 5);
}

#[test]
fn a_device_has_room() {
    let bytes = size_of::<Module<'_>>() + size_of::<Instance<'_>>();
    assert!(bytes <= 24 << 10, "{bytes}");
}
