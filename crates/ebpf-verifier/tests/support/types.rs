//! The `function` lines of `-- env` sections: the program's types.

use std::collections::BTreeMap;

use ebpf_isa::{Program, SubprogInfo};

/// BTF under construction.
#[derive(Default)]
pub(super) struct Types {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
    /// Types by how they are written.
    ids: BTreeMap<String, u32>,
    /// By subprogram.
    functions: Vec<u32>,
}

/// Kinds of types, as `linux/btf.h` numbers them.
pub(super) const INT: u32 = 1;
pub(super) const PTR: u32 = 2;
pub(super) const ARRAY: u32 = 3;
pub(super) const STRUCT: u32 = 4;
pub(super) const UNION: u32 = 5;
pub(super) const ENUM: u32 = 6;
const FORWARD: u32 = 7;
pub(super) const TYPEDEF: u32 = 8;
pub(super) const CONST: u32 = 10;
pub(super) const FUNC: u32 = 12;
pub(super) const FUNC_PROTO: u32 = 13;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;

const SIGNED: u32 = 1 << 24;

/// Types of a map's key and value, of 4 and so many bytes, as BTF with these as its first two types.
/// The kernel asks for some where a map keeps storage of objects.
pub(crate) fn of_storage(value_size: u32) -> Option<Vec<u8>> {
    let mut types = Types::default();
    types.ty("u32")?;
    types.ty(&format!("struct:value:{value_size}"))?;
    types.bytes()
}

impl Types {
    /// The next function of the program: its linkage, what it returns, and what it is given.
    pub(super) fn function(
        &mut self,
        linkage: &str,
        result: &str,
        arguments: &[&str],
    ) -> Option<()> {
        let linkages = ["static", "global", "extern"];
        let linkage = linkages.iter().position(|&name| name == linkage)? as u32;
        let mut params = Vec::new();
        for (index, argument) in arguments.iter().enumerate() {
            let ty = self.ty(argument.split('@').next()?)?;
            params.extend([self.name(&format!("a{index}")), ty]);
        }
        let result = self.ty(result)?;
        let proto = self.add("", FUNC_PROTO, arguments.len() as u32, result, &params);
        let name = format!("f{}", self.functions.len());
        let function = self.add(&name, FUNC, linkage, proto, &[]);
        self.functions.push(function);
        for (index, argument) in (0..).zip(arguments) {
            for tag in argument.split('@').skip(1) {
                self.add(&format!("arg:{tag}"), DECL_TAG, 0, function, &[index]);
            }
        }
        Some(())
    }

    /// The type of a map's keys, as numbers or bytes.
    pub(super) fn key(&mut self, size: u32) -> Option<u32> {
        match size {
            4 => self.ty("u32"),
            _ => self.ty(&format!("[{size}]u8")),
        }
    }

    /// The type of a map's values: a structure with these fields, each with its place.
    pub(super) fn value(&mut self, size: u32, fields: &[(&str, u32)]) -> Option<u32> {
        let mut members = Vec::new();
        for (index, (field, off)) in fields.iter().enumerate() {
            let ty = match *field {
                "lock" => self.ty("struct:bpf_spin_lock:4"),
                "timer" => self.ty("struct:bpf_timer:16"),
                "wq" => self.ty("struct:bpf_wq:16"),
                _ => None,
            }?;
            members.extend([self.name(&format!("m{index}")), ty, off * 8]);
        }
        Some(self.add("value", STRUCT, fields.len() as u32, size, &members))
    }

    /// A type as it is written: `u32`, `*T`, `[N]T`, `struct:NAME:SIZE`, …
    fn ty(&mut self, text: &str) -> Option<u32> {
        if let Some(&id) = self.ids.get(text) {
            return Some(id);
        }
        let id = if let Some(target) = text.strip_prefix('*') {
            let target = self.ty(target)?;
            self.add("", PTR, 0, target, &[])
        } else if let Some((len, element)) = text.strip_prefix('[').and_then(|t| t.split_once(']'))
        {
            let words = [self.ty(element)?, self.ty("u32")?, len.parse().ok()?];
            self.add("", ARRAY, 0, 0, &words)
        } else if let Some((kind, rest)) = text.split_once(':') {
            self.named(kind, rest)?
        } else {
            self.number(text)?
        };
        self.ids.insert(text.to_owned(), id);
        Some(id)
    }

    /// `void`, or a number.
    fn number(&mut self, text: &str) -> Option<u32> {
        let (name, bytes, signed) = match text {
            "void" => return Some(0),
            "float" => return Some(self.add("float", FLOAT, 0, 4, &[])),
            "int" => ("int", 4, SIGNED),
            "wide" => ("__int128", 16, SIGNED),
            "u8" => ("u8", 1, 0),
            "u32" => ("u32", 4, 0),
            "u64" => ("u64", 8, 0),
            _ => return None,
        };
        Some(self.add(name, INT, 0, bytes, &[signed | (bytes * 8)]))
    }

    fn named(&mut self, kind: &str, rest: &str) -> Option<u32> {
        let (name, last) = rest.split_once(':').unwrap_or((rest, ""));
        Some(match kind {
            "struct" => self.add(name, STRUCT, 0, last.parse().ok()?, &[]),
            "union" => self.add(name, UNION, 0, last.parse().ok()?, &[]),
            "forward" => self.add(name, FORWARD, 0, 0, &[]),
            "enum" => {
                let value = [self.name(&format!("{name}_0")), 0];
                self.add(name, ENUM, 1, 4, &value)
            }
            "typedef" => {
                let target = self.ty(last)?;
                self.add(name, TYPEDEF, 0, target, &[])
            }
            "const" => {
                let target = self.ty(rest)?;
                self.add("", CONST, 0, target, &[])
            }
            _ => return None,
        })
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
