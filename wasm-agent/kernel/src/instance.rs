//! An instance: a module at work on a page of memory.
//!
//! It runs the module's bytes as they are. Locals, operands and the frames of callers lie on one
//! stack of values; what validation proved is not checked again, and what it did not prove (bounds,
//! divisors, fuel, depth) is checked at each step. One unit of fuel is one instruction, or
//! [`BULK_BYTES_PER_FUEL`] bytes moved, so the same call takes the same fuel everywhere.
//!
//! Not here: whether the module is valid (`validator`), arithmetic (`numeric`), what imports do (the
//! host).

use crate::limits::{BULK_BYTES_PER_FUEL, GLOBALS_MAX, PAGE_BYTES, STACK_MAX};
use crate::module::{DATA, Export, Function, Module, ONE_RESULT, OUTERMOST};
use crate::numeric::{cut, extend, numeric};
use crate::opcode::{
    ACCESSES, BLOCK, BR, BR_IF, BR_TABLE, BULK, CALL, CALL_INDIRECT, COPY, DROP, ELSE, END,
    FIRST_LOAD, GLOBAL_GET, GLOBAL_SET, I32_CONST, I64_CONST, IF, LAST_STORE, LOCAL_GET, LOCAL_SET,
    LOCAL_TEE, LOOP, MEMORY_GROW, MEMORY_SIZE, NONE, NOP, RETURN, SELECT, SHAPES, SIGNED,
    UNREACHABLE,
};
use crate::reader::Reader;
use crate::trap::{HostTrap, Trap};

/// A function that the guest imports from module `mva1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Import<'a> {
    /// Its place among the imports of the module.
    pub index: u32,
    /// Its name: ASCII.
    pub name: &'a [u8],
}

/// What the guest's imports do.
pub trait Host {
    /// Runs `import`. An `i32` is in the lower half of its `u64`. The memory is empty if the guest
    /// has none.
    ///
    /// # Errors
    /// A [`HostTrap`] ends the guest's call.
    fn call(
        &mut self,
        import: &Import<'_>,
        arguments: &[u64],
        memory: &mut [u8],
    ) -> Result<Option<u64>, HostTrap>;
}

/// A module with its memory, globals and stack.
// What is used most lies first: there, its offset takes one byte of an instruction and not four.
#[repr(C)]
pub struct Instance<'a> {
    height: usize,
    code: Reader<'a>,
    frame: Frame,
    fuel: u64,
    module: &'a Module<'a>,
    page: &'a mut [u8; PAGE_BYTES],
    /// Bytes of the page that are memory: none or all.
    size: usize,
    /// The values of all active calls. Validation counted them for each function, and a call is
    /// only entered if they fit.
    stack: [u64; STACK_MAX],
    globals: [u64; GLOBALS_MAX],
}

/// What is known of a body that runs, besides where it is in its code.
#[derive(Clone, Copy)]
struct Frame {
    /// Its first local.
    base: u16,
    /// The label of the innermost block. [`OUTERMOST`] where no body runs.
    label: u16,
    /// The label that the next block has.
    next: u16,
}

const OUTSIDE: Frame = Frame {
    base: 0,
    label: OUTERMOST,
    next: 0,
};

impl<'a> Instance<'a> {
    /// An instance with fresh globals, on a page that is wiped and takes the module's data.
    pub fn new(module: &'a Module<'a>, page: &'a mut [u8; PAGE_BYTES]) -> Self {
        page.fill(0);
        let mut data = module.section(DATA);
        let mut left = data.number();
        while data.another(&mut left) {
            let (first, bytes) = module.data(&mut data);
            for (nth, byte) in bytes.iter().enumerate() {
                page[(first as usize + nth) % PAGE_BYTES] = *byte;
            }
        }
        Self {
            module,
            page,
            size: module.map.memory.0,
            globals: module.map.values,
            stack: [0; STACK_MAX],
            height: 0,
            code: Reader::new(module.bytes, 0),
            frame: OUTSIDE,
            fuel: 0,
        }
    }

    /// Calls the function of this index, and returns its result if it has one. An `i32` is in the
    /// lower half of its `u64`; the upper half of an argument is ignored then, and zero in a result.
    ///
    /// # Errors
    /// A [`Trap`]. What the guest wrote before it stays written.
    #[inline(never)]
    pub fn invoke(
        &mut self,
        function: u32,
        arguments: &[u64],
        fuel: &mut u64,
        host: &mut dyn Host,
    ) -> Result<Option<u64>, Trap> {
        let module = self.module;
        let index = function as usize;
        let of = module
            .map
            .types
            .get(module.map.functions.get(index).of.into());
        let parameters = module.parameters(of);
        if index >= module.map.functions.len() || arguments.len() != parameters.len() {
            return Err(Trap::Invoke);
        }
        self.height = 0;
        for (argument, parameter) in arguments.iter().zip(parameters) {
            self.push(cut(*argument, 0x80 - parameter));
        }
        self.frame = OUTSIDE;
        self.fuel = *fuel;
        let ended = self.run(index, host);
        *fuel = self.fuel;
        ended?;
        Ok((of.result != NONE).then(|| self.pop()))
    }

    /// The value of the global that is exported as `name`.
    pub fn global(&self, name: &[u8]) -> Option<u64> {
        match self.module.export(name)? {
            Export::Global(index) => self.globals.get(index as usize).copied(),
            _ => None,
        }
    }

    /// The memory as it is now.
    pub fn memory(&mut self) -> &mut [u8] {
        &mut self.page[..self.size.min(PAGE_BYTES)]
    }

    /// The byte of the module after the last instruction that ran: after a trap, where it happened.
    pub fn place(&self) -> u32 {
        self.code.at as u32
    }

    /// Runs a function, and all that it calls, until it returns.
    fn run(&mut self, mut called: usize, host: &mut dyn Host) -> Result<(), Trap> {
        loop {
            self.enter(called, host)?;
            if self.frame.label == OUTERMOST {
                return Ok(());
            }
            called = loop {
                self.spend(1)?;
                let op = self.code.byte();
                match op {
                    UNREACHABLE => return Err(Trap::Unreachable),
                    NOP => {}
                    BLOCK | LOOP | IF => self.open(op),
                    END => {
                        let label = self.module.map.labels.get(self.frame.label.into());
                        self.frame.label = label.around;
                        if label.around == OUTERMOST {
                            self.leave(label.height);
                            if self.frame.label == OUTERMOST {
                                return Ok(());
                            }
                        }
                    }
                    // `else` after the first arm, and `return`, are branches too.
                    ELSE => self.branch(0),
                    RETURN => self.branch(u32::MAX),
                    BR | BR_IF => {
                        let depth = self.code.number();
                        if op == BR || self.pop() != 0 {
                            self.branch(depth);
                        }
                    }
                    BR_TABLE => {
                        let last = self.code.number();
                        self.code.at += self.pop().min(last.into()) as usize;
                        let depth = self.code.byte();
                        self.branch(depth.into());
                    }
                    CALL => break self.code.number() as usize,
                    CALL_INDIRECT => break self.element()?,
                    DROP => {
                        self.pop();
                    }
                    SELECT => {
                        let lower = self.pop() != 0;
                        let upper = self.pop();
                        if !lower {
                            *self.top() = upper;
                        }
                    }
                    LOCAL_GET | LOCAL_SET | LOCAL_TEE => {
                        let local = self.code.number() as usize + usize::from(self.frame.base);
                        if op == LOCAL_GET {
                            let value = *self.at(local);
                            self.push(value);
                        } else {
                            *self.at(local) = *self.top();
                            self.height -= usize::from(op == LOCAL_SET);
                        }
                    }
                    GLOBAL_GET | GLOBAL_SET => {
                        let global = self.code.number() as usize % GLOBALS_MAX;
                        if op == GLOBAL_GET {
                            self.push(self.globals[global]);
                        } else {
                            self.globals[global] = self.pop();
                        }
                    }
                    FIRST_LOAD..=LAST_STORE => self.access(op)?,
                    MEMORY_SIZE | MEMORY_GROW => self.pages(op == MEMORY_GROW),
                    I32_CONST | I64_CONST => {
                        let value = self.code.literal(op & 3);
                        self.push(value);
                    }
                    BULK => self.bulk()?,
                    _ => {
                        let b = self.pop();
                        let mut a = 0;
                        if SHAPES[usize::from(op)] >> 4 != NONE {
                            a = self.pop();
                        }
                        self.push(numeric(op, a, b)?);
                    }
                }
            };
        }
    }

    #[inline(never)]
    fn spend(&mut self, fuel: u64) -> Result<(), Trap> {
        self.fuel = self.fuel.checked_sub(fuel).ok_or(Trap::OutOfFuel)?;
        Ok(())
    }

    #[inline(never)]
    fn open(&mut self, op: u8) {
        self.code.at += 1;
        self.frame.label = self.frame.next;
        self.frame.next += 1;
        if op == IF {
            let other = self.module.map.labels.get(self.frame.next.into());
            self.frame.next += 1;
            if self.pop() == 0 {
                self.code.at = other.at.into();
                self.frame.next = other.next;
            }
        }
    }

    #[inline(never)]
    fn branch(&mut self, depth: u32) {
        let labels = &self.module.map.labels;
        let mut label = labels.get(self.frame.label.into());
        for _ in 0..depth {
            if label.around == OUTERMOST {
                break;
            }
            self.frame.label = label.around;
            label = labels.get(label.around.into());
        }
        self.code.at = label.at.into();
        self.frame.next = label.next;
        self.unwind(label.height, label.height);
    }

    /// Takes the result, if a label of height `label` has one, down to `height` above the base.
    #[inline(never)]
    fn unwind(&mut self, label: u16, height: u16) {
        let result = *self.top();
        self.height = usize::from(self.frame.base) + usize::from(height & !ONE_RESULT);
        if label & ONE_RESULT != 0 {
            self.push(result);
        }
    }

    /// Starts a call: of the host at once, or of a body.
    fn enter(&mut self, called: usize, host: &mut dyn Host) -> Result<(), Trap> {
        let function = self.module.map.functions.get(called);
        let of = self.module.map.types.get(function.of.into());
        let base = self.height.wrapping_sub(of.parameters.into());
        if called < self.module.map.imports {
            return self.import(called, function, host);
        }
        if base + usize::from(function.values) > STACK_MAX {
            return Err(Trap::StackExhausted);
        }
        while self.height < base + usize::from(function.locals) {
            self.push(0);
        }
        let Frame {
            base: from,
            label,
            next,
        } = self.frame;
        let saved = u64::from(next) << 48 | u64::from(label) << 32 | u64::from(from) << 16;
        self.push(saved | self.code.at as u64 & 0xffff);
        self.code.at = function.at.into();
        self.frame = Frame {
            base: base as u16,
            label: function.label,
            next: function.label + 1,
        };
        Ok(())
    }

    /// Ends a call: its result is where its first argument was, and the caller goes on.
    fn leave(&mut self, label: u16) {
        let saved = usize::from(label & !ONE_RESULT) + usize::from(self.frame.base);
        let saved = *self.at(saved.wrapping_sub(1));
        self.unwind(label, 0);
        self.code.at = usize::from(saved as u16);
        self.frame = Frame {
            base: (saved >> 16) as u16,
            label: (saved >> 32) as u16,
            next: (saved >> 48) as u16,
        };
    }

    fn import(
        &mut self,
        called: usize,
        function: Function,
        host: &mut dyn Host,
    ) -> Result<(), Trap> {
        let of = self.module.map.types.get(function.of.into());
        let import = Import {
            index: called as u32,
            name: Reader::new(self.module.bytes, function.at.into()).name(),
        };
        let top = self.height.min(STACK_MAX);
        let base = top.saturating_sub(of.parameters.into());
        let memory = &mut self.page[..self.size.min(PAGE_BYTES)];
        let arguments = &self.stack[base..top];
        let result = host.call(&import, arguments, memory).map_err(Trap::Host)?;
        self.height = base;
        if result.is_some() != (of.result != NONE) {
            return Err(Trap::Host(HostTrap::RESULT));
        }
        if let Some(value) = result {
            self.push(cut(value, of.result));
        }
        Ok(())
    }

    /// The function that `call_indirect` means. Types are equal if they look equal.
    fn element(&mut self) -> Result<usize, Trap> {
        let module = self.module;
        let wanted = module.map.types.get(self.code.number() as usize);
        self.code.at += 1;
        let index = self.pop() as usize;
        let function = module.map.table.get(index);
        if index >= module.map.table.len() || function == 0 {
            return Err(Trap::IndirectCall);
        }
        let function = usize::from(function - 1);
        let found = module
            .map
            .types
            .get(module.map.functions.get(function).of.into());
        if found.result != wanted.result || module.parameters(found) != module.parameters(wanted) {
            return Err(Trap::IndirectCall);
        }
        Ok(function)
    }

    fn access(&mut self, op: u8) -> Result<(), Trap> {
        let access = ACCESSES[usize::from(op) % ACCESSES.len()];
        let gives = SHAPES[usize::from(op)] & 3;
        self.code.number();
        let offset = u64::from(self.code.number());
        let mut value = 0;
        if gives == NONE {
            value = self.pop();
        }
        let first = self.pop() + offset;
        let bytes = 1 << (access & 3);
        if first + bytes > self.size as u64 {
            return Err(Trap::OutOfBounds);
        }
        for nth in 0..bytes as usize {
            // Below a page by what was checked.
            let byte = &mut self.page[(first as usize + nth) % PAGE_BYTES];
            if gives == NONE {
                *byte = value as u8;
            }
            value = value >> 8 | u64::from(*byte) << 56;
        }
        if gives == NONE {
            return Ok(());
        }
        value >>= 64 - 8 * bytes;
        if access & SIGNED != 0 {
            value = extend(value, 8 << (access & 3)) as u64;
        }
        self.push(cut(value, gives));
        Ok(())
    }

    /// `memory.size` and `memory.grow`: the pages there were.
    fn pages(&mut self, grow: bool) {
        self.code.at += 1;
        let mut pages = (self.size / PAGE_BYTES) as u64;
        if grow {
            let size = (pages + self.pop()) * PAGE_BYTES as u64;
            if size <= self.module.map.memory.1 as u64 {
                self.size = size as usize;
            } else {
                pages = u32::MAX.into();
            }
        }
        self.push(pages);
    }

    /// `memory.copy` and `memory.fill`.
    fn bulk(&mut self) -> Result<(), Trap> {
        let copies = self.code.byte() == COPY;
        self.code.at += 1 + usize::from(copies);
        let length = u64::from(self.pop() as u32);
        let from = u64::from(self.pop() as u32);
        let to = u64::from(self.pop() as u32);
        let size = self.size.min(PAGE_BYTES) as u64;
        if to + length > size || copies && from + length > size {
            return Err(Trap::OutOfBounds);
        }
        self.spend(length / BULK_BYTES_PER_FUEL)?;
        let (to, end) = (to as usize, (to + length) as usize);
        if copies {
            let (from, end) = (from as usize, (from + length) as usize);
            // It fits, as was checked; the minimum only spares a path for panic.
            self.page
                .copy_within(from..end, to.min(PAGE_BYTES - (end - from)));
        } else if let Some(bytes) = self.page.get_mut(to..end) {
            bytes.fill(from as u8);
        }
        Ok(())
    }

    fn at(&mut self, index: usize) -> &mut u64 {
        &mut self.stack[index % STACK_MAX]
    }

    fn top(&mut self) -> &mut u64 {
        self.at(self.height.wrapping_sub(1))
    }

    #[inline(never)]
    fn push(&mut self, value: u64) {
        *self.at(self.height) = value;
        self.height += 1;
    }

    #[inline(never)]
    fn pop(&mut self) -> u64 {
        let value = *self.top();
        self.height = self.height.wrapping_sub(1);
        value
    }
}
