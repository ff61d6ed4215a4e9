//! The `function` lines of `-- env` sections: the program's types.

use ebpf_isa::{Program, SubprogInfo};

/// BTF under construction.
#[derive(Default)]
pub(super) struct Types {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
    /// By subprogram.
    functions: Vec<u32>,
}

/// Kinds of types, as `linux/btf.h` numbers them.
const INT: u32 = 1;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;

const SIGNED: u32 = 1 << 24;

impl Types {
    /// The next function of the program: its linkage, and what it returns.
    pub(super) fn function(&mut self, linkage: &str, result: &str) -> Option<()> {
        let linkage = ["static", "global"].iter().position(|&name| name == linkage)? as u32;
        let result = match result {
            "void" => 0,
            "int" => self.add("int", INT, 0, 4, &[SIGNED | 32]),
            "wide" => self.add("__int128", INT, 0, 16, &[SIGNED | 128]),
            _ => return None,
        };
        let proto = self.add("", FUNC_PROTO, 0, result, &[]);
        let name = format!("f{}", self.functions.len());
        let function = self.add(&name, FUNC, linkage, proto, &[]);
        self.functions.push(function);
        Some(())
    }

    fn add(&mut self, name: &str, kind: u32, vlen: u32, size: u32, rest: &[u32]) -> u32 {
        let name = self.name(name);
        let words = [name, kind << 24 | vlen, size].into_iter().chain(rest.iter().copied());
        self.types.extend(words.flat_map(u32::to_le_bytes));
        self.count += 1;
        self.count
    }

    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let start = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        start
    }

    /// The BTF, if there are any types.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        if self.count == 0 {
            return None;
        }
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        bytes.extend([24, 0, types, types, strings].into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(self.types.iter().chain(&self.strings));
        Some(bytes)
    }

    /// The program, its subprograms with their types.
    pub(super) fn apply(&self, program: Program) -> Result<Program, String> {
        if self.functions.is_empty() {
            return Ok(program);
        }
        if self.functions.len() != program.subprogs().len() {
            return Err("there are not as many `function` lines as functions".into());
        }
        let functions = program.subprogs().iter().zip(&self.functions);
        let infos = functions.map(|(subprog, &id)| {
            (subprog.start, SubprogInfo { btf_id: Some(id), ..subprog.info.clone() })
        });
        let infos = infos.collect();
        Program::new(program.slots().to_vec(), infos, program.lines().clone())
            .map_err(|error| error.to_string())
    }
}
