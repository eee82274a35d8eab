//! Seeds: small valid modules that between them use every instruction of the profile.
//!
//! Not here: how they are changed (`main`).

/// The seeds as modules.
pub(crate) fn all() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [LOOPS, MEMORY, CALLS, BRANCHES, BULK]
        .iter()
        .map(|text| wat::parse_str(text).expect("a seed is valid"))
        .collect();
    all.push(arithmetic("i32"));
    all.push(arithmetic("i64"));
    all
}

/// Each operation of a type as a function of its own.
fn arithmetic(of: &str) -> Vec<u8> {
    let unary = ["clz", "ctz", "popcnt", "eqz", "extend8_s", "extend16_s"];
    let binary = [
        "add", "sub", "mul", "div_s", "div_u", "rem_s", "rem_u", "and", "or", "xor", "shl",
        "shr_s", "shr_u", "rotl", "rotr", "eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s",
        "le_u", "ge_s", "ge_u",
    ];
    let gives = |op: &str| {
        let truth =
            ["eqz", "eq", "ne"].contains(&op) || ["lt", "gt", "le", "ge"].contains(&&op[..2]);
        if truth { "i32" } else { of }
    };
    let mut text = String::from("(module");
    for op in unary {
        text += &format!(
            "(func (export \"{op}\") (param {of}) (result {}) (local.get 0) ({of}.{op}))",
            gives(op)
        );
    }
    for op in binary {
        text += &format!(
            "(func (export \"{op}\") (param {of} {of}) (result {}) (local.get 0) (local.get 1) ({of}.{op}))",
            gives(op)
        );
    }
    if of == "i64" {
        text += "(func (export \"wrap\") (param i64) (result i32) (i32.wrap_i64 (local.get 0)))
            (func (export \"long\") (param i32) (result i64) (i64.extend_i32_s (local.get 0)))
            (func (export \"ulong\") (param i32) (result i64) (i64.extend_i32_u (local.get 0)))
            (func (export \"e32\") (param i64) (result i64) (i64.extend32_s (local.get 0)))";
    }
    text += ")";
    wat::parse_str(text).expect("a seed is valid")
}

const LOOPS: &str = r#"(module
  (memory (export "memory") 1 1)
  (global $n (export "n") (mut i32) (i32.const 3))
  (global $big (export "big") i64 (i64.const -5))
  (func (export "sum") (param i32) (result i32) (local i32 i32)
    (local.set 0 (i32.and (local.get 0) (i32.const 127)))
    (block
      (loop
        (br_if 1 (i32.gt_u (local.get 1) (local.get 0)))
        (local.set 2 (i32.add (local.get 2) (i32.mul (local.get 1) (local.get 1))))
        (local.set 1 (i32.add (local.get 1) (i32.const 1)))
        (br 0)))
    (local.get 2))
  (func (export "xorshift") (param i64 i32) (result i64)
    (local.set 1 (i32.rem_u (local.get 1) (i32.const 50)))
    (loop $l (result i64)
      (local.set 0 (i64.xor (local.get 0) (i64.shl (local.get 0) (i64.const 13))))
      (local.set 0 (i64.xor (local.get 0) (i64.shr_u (local.get 0) (i64.const 7))))
      (local.set 0 (i64.xor (local.get 0) (i64.rotl (local.get 0) (i64.const 17))))
      (br_if $l (local.tee 1 (i32.sub (local.get 1) (i32.const 1))))
      (global.set $n (i32.add (global.get $n) (local.get 1)))
      (i64.add (local.get 0) (global.get $big))))
  (func (export "collatz") (param i32) (result i32) (local i32)
    (local.set 0 (i32.or (i32.and (local.get 0) (i32.const 255)) (i32.const 1)))
    (loop $again
      (if (i32.ne (local.get 0) (i32.const 1))
        (then
          (local.set 1 (i32.add (local.get 1) (i32.const 1)))
          (if (i32.and (local.get 0) (i32.const 1))
            (then (local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 3)) (i32.const 1))))
            (else (local.set 0 (i32.shr_u (local.get 0) (i32.const 1)))))
          (br $again))))
    (i32.store (i32.const 16) (local.get 1))
    (local.get 1)))"#;

const MEMORY: &str = r#"(module
  (memory (export "memory") 0)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "size") (result i32) (memory.size))
  (func (export "store") (param i32 i64)
    (i64.store (local.get 0) (local.get 1))
    (i64.store32 offset=8 (local.get 0) (local.get 1))
    (i64.store16 offset=13 (local.get 0) (local.get 1))
    (i64.store8 offset=17 (local.get 0) (local.get 1))
    (i32.store offset=20 align=1 (local.get 0) (i32.wrap_i64 (local.get 1)))
    (i32.store16 offset=26 (local.get 0) (i32.wrap_i64 (local.get 1)))
    (i32.store8 offset=65000 (local.get 0) (i32.wrap_i64 (local.get 1))))
  (func (export "narrow") (param i32) (result i32)
    (i32.load (local.get 0))
    (i32.load8_s offset=1 (local.get 0)) (i32.add)
    (i32.load8_u offset=2 (local.get 0)) (i32.xor)
    (i32.load16_s offset=3 align=1 (local.get 0)) (i32.sub)
    (i32.load16_u offset=5 (local.get 0)) (i32.mul))
  (func (export "wide") (param i32) (result i64)
    (i64.load (local.get 0))
    (i64.load8_s offset=1 (local.get 0)) (i64.add)
    (i64.load8_u offset=2 (local.get 0)) (i64.xor)
    (i64.load16_s offset=3 (local.get 0)) (i64.sub)
    (i64.load16_u offset=5 (local.get 0)) (i64.mul)
    (i64.load32_s offset=9 (local.get 0)) (i64.add)
    (i64.load32_u offset=13 (local.get 0)) (i64.or)))"#;

const CALLS: &str = r#"(module
  (type $binary (func (param i32 i32) (result i32)))
  (type $other (func (param i64) (result i64)))
  (import "mva1" "get" (func $get (param i32) (result i32)))
  (import "mva1" "now" (func $now (result i64)))
  (import "mva1" "put" (func $put (param i64 i32)))
  (memory (export "memory") 1 1)
  (global (export "calls") (mut i64) (i64.const 0))
  (table 8 funcref)
  (elem (i32.const 1) $add $subtract $twice $get)
  (func $add (type $binary) (i32.add (local.get 0) (local.get 1)))
  (func $subtract (type $binary) (i32.sub (local.get 0) (local.get 1)))
  (func $twice (type $other) (i64.add (local.get 0) (local.get 0)))
  (func $fac (export "fac") (param i64) (result i64)
    (if (result i64) (i64.le_u (local.get 0) (i64.const 1))
      (then (i64.const 1))
      (else (i64.mul (local.get 0) (call $fac (i64.sub (local.get 0) (i64.const 1)))))))
  (func $even (export "even") (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
    (call $odd (i32.sub (local.get 0) (i32.const 1))))
  (func $odd (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
    (call $even (i32.sub (local.get 0) (i32.const 1))))
  (func (export "indirect") (param i32 i32 i32) (result i32)
    (global.set 0 (i64.add (global.get 0) (i64.const 1)))
    (call_indirect (type $binary) (local.get 0) (local.get 1)
      (i32.rem_u (local.get 2) (i32.const 9))))
  (func (export "wide") (param i64 i32) (result i64)
    (call_indirect (type $other) (local.get 0) (local.get 1)))
  (func (export "host") (param i32) (result i64)
    (call $put (call $now) (call $get (local.get 0)))
    (i64.extend_i32_s (call $get (i32.wrap_i64 (call $now))))))"#;

const BRANCHES: &str = r#"(module
  (memory (export "memory") 1 1)
  (func (export "switch") (param i32) (result i32)
    (block $d (block $c (block $b (block $a
      (br_table $a $b $c $d $a (local.get 0)))
      (return (i32.const 10)))
      (i32.store8 (local.get 0) (i32.const 1))
      (return (i32.const 20)))
      (br $d))
    (i32.const 40))
  (func (export "value") (param i32 i64) (result i64)
    (i64.const 1)
    (block (result i64)
      (block (result i64)
        (i64.const 100)
        (i64.const 7)
        (local.get 1)
        (br_table 0 1 2 0 (i32.and (local.get 0) (i32.const 3))))
      (i64.add (i64.const 5))
      (br_if 0 (i32.const 2) (local.get 0))
      (i64.mul (i64.const 3)))
    (i64.sub))
  (func (export "nest") (param i32) (result i32) (local i64 i32)
    (loop $top (result i32)
      (local.set 2 (i32.add (local.get 2) (i32.const 1)))
      (if (result i32) (i32.lt_s (local.get 2) (i32.const 9))
        (then
          (block (result i32)
            (drop (br_if 0 (local.get 2) (i32.eq (local.get 0) (local.get 2))))
            (br $top)))
        (else (select (local.get 0) (local.get 2) (i32.lt_u (local.get 0) (i32.const 1)))))))
  (func (export "dead") (param i32) (result i32)
    (block (result i32)
      (i32.const 3)
      (br_if 0 (local.get 0))
      (return)
      (i32.add)
      (select)
      (drop)
      (unreachable)))
  (func (export "sel") (param i64 i64 i32) (result i64)
    (nop)
    (select (local.get 0) (local.get 1) (local.get 2))))"#;

const BULK: &str = r#"(module
  (memory (export "memory") 1 1)
  (global (export "MVA_STATE") i32 (i32.const 1024))
  (global $at (export "at") (mut i32) (i32.const 0))
  (data (i32.const 0) "the quick brown fox jumps over the lazy dog")
  (data (i32.const 65530) "\00\01\02\03\04\05")
  (func (export "copy") (param i32 i32 i32)
    (memory.copy (local.get 0) (local.get 1) (local.get 2)))
  (func (export "overlap") (param i32)
    (memory.copy (i32.const 4) (i32.const 0) (local.get 0))
    (memory.copy (i32.const 100) (i32.const 109) (local.get 0)))
  (func (export "fill") (param i32 i32 i32)
    (memory.fill (local.get 0) (local.get 1) (local.get 2))
    (global.set $at (i32.add (local.get 0) (local.get 2))))
  (func (export "both") (param i32 i32) (result i32)
    (memory.fill (i32.and (local.get 0) (i32.const 0xfff)) (local.get 1) (i32.const 300))
    (memory.copy (i32.const 2000) (i32.and (local.get 1) (i32.const 0xfff)) (i32.const 77))
    (i32.load (i32.const 2003))))"#;
