//! The validator: whether a function's body is sound, and where its labels are.
//!
//! It is the algorithm of the specification's appendix "Validation Algorithm": a stack of operand
//! types and a stack of open blocks, one pass, with operands of any type in code that is never
//! reached. On the way it notes each label, so that a running instance finds the target of a branch
//! without a search.
//!
//! Not here: sections (`parser`), the types of plain instructions (`opcode`).

use crate::limits::{LOCALS_MAX, NESTING_MAX, OPERANDS_MAX};
use crate::list::List;
use crate::module::{Label, MUTABLE, ONE_RESULT, OUTERMOST};
use crate::opcode::{
    ACCESSES, ANY, BLOCK, BR, BR_IF, BR_TABLE, BULK, CALL, CALL_INDIRECT, COPY, DROP, ELSE, END,
    FILL, GLOBAL_GET, GLOBAL_SET, I32, I32_CONST, I64_CONST, IF, LAST_STORE, LOCAL_GET, LOCAL_SET,
    LOCAL_TEE, LOOP, MEMORY_GROW, MEMORY_SIZE, NONE, NOP, RETURN, SELECT, SHAPES, UNREACHABLE,
};
use crate::parser::Parser;
use crate::refused::{Limit, Why};

/// The state of the algorithm within one body.
#[repr(C)]
pub(crate) struct Validator {
    /// The most operands there were at one place.
    most: usize,
    operands: List<u8, OPERANDS_MAX>,
    blocks: List<Block, NESTING_MAX>,
    locals: List<u8, { LOCALS_MAX + 1 }>,
}

/// A block that is open.
#[derive(Clone, Copy)]
struct Block {
    /// The instruction that opened it: `block`, [`LOOP`], [`IF`], [`ELSE`]. Zero for a body.
    op: u8,
    result: u8,
    /// Whether the code at this place is never reached.
    dead: bool,
    label: u16,
    /// Operands that were there when it was opened: not its own.
    height: u16,
}

impl Validator {
    pub(crate) const EMPTY: Self = Self {
        locals: List::new(0),
        operands: List::new(0),
        most: 0,
        blocks: List::new(Block {
            op: 0,
            result: 0,
            dead: false,
            label: 0,
            height: 0,
        }),
    };
}

impl Parser<'_> {
    /// Checks the next body up to its end, and notes what is known then of function `index`.
    pub(crate) fn validate(&mut self, index: usize) {
        let of = self.module.map.functions.get(index).of;
        let of = self.module.map.types.get(of.into());
        self.validator.locals.resize(0);
        self.validator.operands.resize(0);
        self.validator.blocks.resize(0);
        self.validator.most = 0;
        for parameter in self.module.parameters(of) {
            self.local(0x80 - parameter);
        }
        let mut groups = self.reader.number();
        while self.reader.another(&mut groups) {
            let mut count = self.reader.number();
            let of = self.reader.value_type();
            while self.reader.another(&mut count) {
                self.local(of);
            }
        }
        let locals = self.validator.locals.len();
        let function = self.module.map.functions.at(index);
        function.at = self.reader.at as u16;
        function.locals = locals as u8;
        function.label = self.module.map.labels.len() as u16;
        self.open(0, of.result, OUTERMOST);
        while self.validator.blocks.len() > 0 && self.reader.refused.is_none() {
            self.instruction();
        }
        let values = locals + 1 + self.validator.most;
        self.module.map.functions.at(index).values = values as u16;
    }

    #[inline(never)]
    fn local(&mut self, of: u8) {
        let room = self.validator.locals.push(of) && self.validator.locals.len() <= LOCALS_MAX;
        self.require(room, Why::Limit(Limit::Locals));
    }

    #[inline(never)]
    fn instruction(&mut self) {
        let op = self.reader.byte();
        match op {
            UNREACHABLE => self.unreachable(),
            NOP => {}
            BLOCK | LOOP | IF => {
                let result = self.reader.block_type();
                if op == IF {
                    self.pop(I32);
                }
                let around = self.validator.blocks.last().label;
                self.open(op, result, around);
            }
            ELSE => self.otherwise(),
            END => self.end(),
            BR | BR_IF => {
                if op == BR_IF {
                    self.pop(I32);
                }
                let depth = self.reader.number();
                let of = self.label(depth);
                self.pop(of);
                if op == BR_IF {
                    self.push(of);
                } else {
                    self.unreachable();
                }
            }
            BR_TABLE => self.branch_table(),
            RETURN => {
                let result = self.validator.blocks.get(0).result;
                self.pop(result);
                self.unreachable();
            }
            CALL => {
                let index = self.reader.number() as usize;
                self.require(index < self.module.map.functions.len(), Why::Index);
                let of = self.module.map.functions.get(index).of;
                self.call(of.into());
            }
            CALL_INDIRECT => {
                let of = self.reader.number() as usize;
                self.reader.zero();
                self.require(self.module.map.tables > 0, Why::Index);
                self.pop(I32);
                self.call(of);
            }
            DROP => {
                self.pop(ANY);
            }
            SELECT => {
                self.pop(I32);
                let upper = self.pop(ANY);
                let lower = self.pop(upper);
                self.push(if upper == ANY { lower } else { upper });
            }
            LOCAL_GET | LOCAL_SET | LOCAL_TEE => {
                let index = self.reader.number() as usize;
                self.require(index < self.validator.locals.len(), Why::Index);
                let of = self.validator.locals.get(index);
                if op != LOCAL_GET {
                    self.pop(of);
                }
                if op != LOCAL_SET {
                    self.push(of);
                }
            }
            GLOBAL_GET | GLOBAL_SET => {
                let index = self.reader.number() as usize;
                self.require(index < self.module.map.globals.len(), Why::Index);
                let global = self.module.map.globals.get(index);
                let of = global & 3;
                if op == GLOBAL_GET {
                    self.push(of);
                } else {
                    self.require(global & MUTABLE != 0, Why::Constant);
                    self.pop(of);
                }
            }
            MEMORY_SIZE | MEMORY_GROW => {
                self.needs_memory(1);
                if op == MEMORY_GROW {
                    self.pop(I32);
                }
                self.push(I32);
            }
            I32_CONST | I64_CONST => {
                self.reader.literal(op & 3);
                self.push(op & 3);
            }
            BULK => {
                let bulk = self.reader.byte();
                self.require(bulk == COPY || bulk == FILL, Why::Unsupported);
                self.needs_memory(if bulk == COPY { 2 } else { 1 });
                for _ in 0..3 {
                    self.pop(I32);
                }
            }
            _ => self.plain(op),
        }
    }

    fn plain(&mut self, op: u8) {
        let shape = SHAPES[usize::from(op)];
        self.require(shape != 0, Why::Unsupported);
        if op <= LAST_STORE {
            self.needs_memory(0);
            let access = ACCESSES[usize::from(op) % ACCESSES.len()];
            let alignment = self.reader.number();
            self.require(alignment <= u32::from(access & 3), Why::Alignment);
            self.reader.number();
        }
        self.pop(shape >> 2 & 3);
        self.pop(shape >> 4);
        self.push(shape & 3);
    }

    /// There is a memory; and its index stands here `times` times.
    #[inline(never)]
    fn needs_memory(&mut self, times: u8) {
        for _ in 0..times {
            self.reader.zero();
        }
        self.require(self.module.map.memories > 0, Why::Index);
    }

    fn branch_table(&mut self) {
        self.pop(I32);
        let mut left = self.reader.number();
        let mut last = ANY;
        loop {
            let more = self.reader.another(&mut left);
            // A depth in more than one byte is padded: an instance expects one byte for each.
            let depth = self.reader.byte();
            let of = self.label(depth.into());
            let alike = last == ANY || (last == NONE) == (of == NONE);
            self.require(alike, Why::Type);
            last = of;
            let found = self.pop(of);
            if !more {
                break;
            }
            self.push(found);
        }
        self.unreachable();
    }

    fn call(&mut self, of: usize) {
        self.require(of < self.module.map.types.len(), Why::Index);
        let of = self.module.map.types.get(of);
        for parameter in self.module.parameters(of).iter().rev() {
            self.pop(0x80 - parameter);
        }
        self.push(of.result);
    }

    /// Opens a block here, and gives it a label; an `if` a second one, for its other arm.
    fn open(&mut self, op: u8, result: u8, around: u16) {
        let operands = self.validator.operands.len();
        let mut height = (self.validator.locals.len() + 1 + operands) as u16;
        if op != LOOP && result != NONE {
            height |= ONE_RESULT;
        }
        let label = self.module.map.labels.len() as u16;
        let entry = Label {
            at: self.reader.at as u16,
            next: label + 1,
            around,
            height,
        };
        for _ in 0..=u8::from(op == IF) {
            let room = self.module.map.labels.push(entry);
            self.require(room, Why::Limit(Limit::Labels));
        }
        let room = self.validator.blocks.push(Block {
            op,
            result,
            dead: false,
            label,
            height: operands as u16,
        });
        self.require(room, Why::Limit(Limit::Nesting));
    }

    /// The innermost block, whose results and nothing else must be there; they are taken.
    #[inline(never)]
    fn finished(&mut self) -> Block {
        let block = *self.validator.blocks.last();
        self.pop(block.result);
        let height = self.validator.operands.len();
        self.require(height == block.height.into(), Why::Type);
        block
    }

    fn otherwise(&mut self) {
        let block = self.finished();
        self.require(block.op == IF, Why::Type);
        let open = self.validator.blocks.last();
        open.op = ELSE;
        open.dead = false;
        self.set_label(block.label + 1, self.reader.at);
    }

    fn end(&mut self) {
        let block = self.finished();
        let at = self.reader.at.wrapping_sub(1);
        if block.op == IF {
            // The other arm does nothing, so it has no result.
            self.require(block.result == NONE, Why::Type);
            self.set_label(block.label + 1, at);
        }
        if block.op != LOOP {
            self.set_label(block.label, at);
        }
        let around = self.validator.blocks.len() - 1;
        self.validator.blocks.resize(around);
        self.push(block.result);
    }

    /// A label is at this place.
    #[inline(never)]
    fn set_label(&mut self, label: u16, at: usize) {
        let next = self.module.map.labels.len() as u16;
        let label = self.module.map.labels.at(label.into());
        label.at = at as u16;
        label.next = next;
    }

    /// The type that a branch to the label of this depth takes.
    #[inline(never)]
    fn label(&mut self, depth: u32) -> u8 {
        let inner = self.validator.blocks.len().wrapping_sub(1);
        self.require(depth as usize <= inner, Why::Index);
        let block = self
            .validator
            .blocks
            .get(inner.wrapping_sub(depth as usize));
        if block.op == LOOP { NONE } else { block.result }
    }

    /// All operands of this block are gone, and any may be taken.
    fn unreachable(&mut self) {
        let block = self.validator.blocks.last();
        block.dead = true;
        let height = block.height.into();
        self.validator.operands.resize(height);
    }

    #[inline(never)]
    fn push(&mut self, of: u8) {
        if of != NONE {
            let room = self.validator.operands.push(of);
            self.require(room, Why::Limit(Limit::Operands));
            self.validator.most = self.validator.most.max(self.validator.operands.len());
        }
    }

    /// Takes an operand of type `of`, and returns the type that it has.
    #[inline(never)]
    fn pop(&mut self, of: u8) -> u8 {
        if of == NONE {
            return NONE;
        }
        let block = *self.validator.blocks.last();
        let height = self.validator.operands.len();
        if height <= block.height.into() {
            self.require(block.dead, Why::Type);
            return ANY;
        }
        let found = *self.validator.operands.last();
        self.validator.operands.resize(height - 1);
        self.require(found == of || found == ANY || of == ANY, Why::Type);
        found
    }
}
