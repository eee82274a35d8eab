//! Pruning: a script's module without its floats.
//!
//! Most scripts have a few functions on floats among many on integers, in one module. To keep the
//! many, types of floats become types of integers of the same width, and a body that has an
//! instruction on floats becomes `unreachable`.
//!
//! Not here: leaving out the assertions that need such a body (`main`).

use wast::core::{
    Expression, FuncKind, FunctionType, GlobalKind, InnerTypeKind, Instruction, MemoryKind,
    ModuleField, ModuleKind, ValType,
};
use wast::{QuoteWat, Wat};

/// What became of a module.
#[derive(Default, Clone, Copy)]
pub(crate) struct Pruned {
    /// A body or a constant was replaced.
    pub(crate) bodies: bool,
    /// It grows a memory that may have several pages.
    pub(crate) grows: bool,
}

/// Takes the floats out of a module.
pub(crate) fn prune(wat: &mut QuoteWat<'_>) -> Pruned {
    let mut pruned = Pruned::default();
    let QuoteWat::Wat(Wat::Module(module)) = wat else {
        return pruned;
    };
    let ModuleKind::Text(fields) = &mut module.kind else {
        return pruned;
    };
    let mut pages = 0;
    let mut grows = false;
    for field in fields {
        match field {
            ModuleField::Type(of) => {
                if let InnerTypeKind::Func(function) = &mut of.def.kind {
                    signature(function);
                }
            }
            ModuleField::Func(function) => {
                function.ty.inline.iter_mut().for_each(signature);
                let FuncKind::Inline { locals, expression } = &mut function.kind else {
                    continue;
                };
                locals.iter_mut().for_each(|local| value(&mut local.ty));
                let text = format!("{:?}", expression.instrs);
                grows |= text.contains("memory_grow");
                if ["F32", "F64", "f32", "f64", "ref_", "tys: Some"]
                    .iter()
                    .any(|outside| text.contains(outside))
                {
                    replace(expression, Instruction::unreachable);
                    pruned.bodies = true;
                }
            }
            ModuleField::Global(global) => {
                if let (ValType::F32 | ValType::F64, GlobalKind::Inline(constant)) =
                    (global.ty.ty, &mut global.kind)
                {
                    let wide = matches!(global.ty.ty, ValType::F64);
                    let zero = [Instruction::i32_const(0), Instruction::i64_const(0)];
                    let [narrow, long] = zero;
                    replace(constant, if wide { long } else { narrow });
                    pruned.bodies = true;
                }
                value(&mut global.ty.ty);
            }
            ModuleField::Memory(memory) => {
                if let MemoryKind::Normal(of) = &memory.kind {
                    pages = of.limits.max.unwrap_or(u64::MAX);
                }
            }
            _ => {}
        }
    }
    pruned.grows = grows && pages > 1;
    pruned
}

fn replace<'a>(expression: &mut Expression<'a>, instruction: Instruction<'a>) {
    expression.instrs = Box::new([instruction]);
    expression.branch_hints = Box::new([]);
    expression.instr_spans = None;
}

fn signature(function: &mut FunctionType<'_>) {
    function.params.iter_mut().for_each(|(_, _, of)| value(of));
    function.results.iter_mut().for_each(value);
}

fn value(of: &mut ValType<'_>) {
    match of {
        ValType::F32 => *of = ValType::I32,
        ValType::F64 => *of = ValType::I64,
        _ => {}
    }
}
