//! The kernel's types that fixtures are judged against: `fixtures/kernel/linux-6.18.types`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use ebpf_btf::Btf;
use ebpf_testkit::workspace_root;
use ebpf_verifier::KernelTypes;

use super::types::{ARRAY, CONST, ENUM, FUNC, FUNC_PROTO, INT, PTR, STRUCT, TYPEDEF, UNION};

/// In the information of a structure: members have widths in bits.
const WIDTHS: u32 = 1 << 31;

/// The types, read once.
pub(crate) fn kernel_types() -> Result<Arc<KernelTypes>, String> {
    static TYPES: OnceLock<Result<Arc<KernelTypes>, String>> = OnceLock::new();
    let read = || {
        let path = workspace_root().join("fixtures/kernel/linux-6.18.types");
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let btf = Btf::parse(&Builder::read(&text)?.bytes()).map_err(|error| error.to_string())?;
        Ok(Arc::new(KernelTypes::new(btf)))
    };
    TYPES.get_or_init(read).clone()
}

/// BTF under construction: each type is its words.
#[derive(Default)]
struct Builder {
    types: Vec<Vec<u32>>,
    strings: Vec<u8>,
    /// Types by how they are written.
    ids: BTreeMap<String, u32>,
}

impl Builder {
    fn read(text: &str) -> Result<Self, String> {
        let mut builder = Self { strings: vec![0], ..Self::default() };
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines: Vec<(bool, Vec<&str>)> =
            lines.map(|line| (line.starts_with(' '), line.split_whitespace().collect())).collect();
        // Structures refer to one another, so all of them come first.
        for (_, words) in lines.iter().filter(|(is_member, _)| !is_member) {
            if let [kind @ ("struct" | "union"), name, _] = words[..] {
                let id = builder.add(Vec::new());
                builder.ids.insert(format!("{kind}:{name}"), id);
            }
        }
        let mut lines = lines.into_iter().peekable();
        while let Some((_, words)) = lines.next() {
            let unknown = || format!("line not understood: `{}`", words.join(" "));
            let mut members = Vec::new();
            while let Some((_, member)) = lines.next_if(|(is_member, _)| *is_member) {
                members.push(builder.member(&member).ok_or_else(unknown)?);
            }
            builder.line(&words, &members).ok_or_else(unknown)?;
        }
        Ok(builder)
    }

    fn line(&mut self, words: &[&str], members: &[[u32; 3]]) -> Option<()> {
        match *words {
            [kind @ ("struct" | "union"), name, size] => {
                let id = *self.ids.get(&format!("{kind}:{name}"))?;
                let kind = if kind == "struct" { STRUCT } else { UNION };
                let name = if name.contains('.') { 0 } else { self.name(name) };
                let info = WIDTHS | kind << 24 | members.len() as u32;
                let words = [name, info, size.parse().ok()?].into_iter();
                self.types[id as usize - 1] =
                    words.chain(members.iter().flatten().copied()).collect();
            }
            ["tracepoint", name, ref arguments @ ..] => {
                let own = ["*void"].iter().chain(arguments).copied();
                let proto = self.prototype(own, 0)?;
                let pointer = self.add(vec![0, PTR << 24, proto]);
                let name = self.name(&format!("btf_trace_{name}"));
                self.add(vec![name, TYPEDEF << 24, pointer]);
            }
            ["iterator", name, ref arguments @ ..] => {
                let result = self.ty("int")?;
                let proto = self.prototype(arguments.iter().copied(), result)?;
                let name = self.name(&format!("bpf_iter_{name}"));
                self.add(vec![name, FUNC << 24, proto]);
            }
            _ => return None,
        }
        Some(())
    }

    /// `OFFSET NAME TYPE`, the offset in bytes, or in bits with a width behind it.
    fn member(&mut self, words: &[&str]) -> Option<[u32; 3]> {
        let &[place, name, ty] = words else { return None };
        let place = match place.split_once(':') {
            Some((bit, width)) => bit.parse::<u32>().ok()? | width.parse::<u32>().ok()? << 24,
            None => place.parse::<u32>().ok()? * 8,
        };
        let name = if name == "-" { 0 } else { self.name(name) };
        Some([name, self.ty(ty)?, place])
    }

    fn prototype<'a>(
        &mut self,
        arguments: impl Iterator<Item = &'a str>,
        result: u32,
    ) -> Option<u32> {
        let arguments: Vec<u32> = arguments.map(|ty| self.ty(ty)).collect::<Option<_>>()?;
        let head = [0, FUNC_PROTO << 24 | arguments.len() as u32, result];
        let params = arguments.into_iter().flat_map(|ty| [0, ty]);
        Some(self.add(head.into_iter().chain(params).collect()))
    }

    /// A type as it is written: `u32`, `*T`, `[N]T`, `const:T`, `struct:NAME`, `enum:NAME`, `function`.
    fn ty(&mut self, text: &str) -> Option<u32> {
        if let Some(&id) = self.ids.get(text) {
            return Some(id);
        }
        let number = |bytes: u32, signed: u32| [INT << 24, bytes, (signed << 24) | (bytes * 8)];
        let words = match text {
            "void" => return Some(0),
            "function" => vec![0, FUNC_PROTO << 24, 0],
            "int" | "u8" | "u16" | "u32" | "u64" => {
                let words = match text {
                    "int" => number(4, 1),
                    _ => number(text[1..].parse::<u32>().ok()? / 8, 0),
                };
                [self.name(text)].into_iter().chain(words).collect()
            }
            _ if text.starts_with('*') => vec![0, PTR << 24, self.ty(&text[1..])?],
            _ if text.starts_with('[') => {
                let (len, element) = text[1..].split_once(']')?;
                vec![0, ARRAY << 24, 0, self.ty(element)?, self.ty("u32")?, len.parse().ok()?]
            }
            _ => match text.split_once(':')? {
                ("const", rest) => vec![0, CONST << 24, self.ty(rest)?],
                ("enum", name) => vec![self.name(name), ENUM << 24 | 1, 4, self.name("zero"), 0],
                _ => return None,
            },
        };
        let id = self.add(words);
        self.ids.insert(text.to_owned(), id);
        Some(id)
    }

    fn add(&mut self, words: Vec<u32>) -> u32 {
        self.types.push(words);
        self.types.len() as u32
    }

    fn name(&mut self, name: &str) -> u32 {
        let start = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        start
    }

    fn bytes(&self) -> Vec<u8> {
        let words = self.types.iter().flatten();
        let types: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        let (len, strings) = (types.len() as u32, self.strings.len() as u32);
        let head = [24, 0, len, len, strings].into_iter().flat_map(u32::to_le_bytes);
        [0x9f, 0xeb, 1, 0]
            .into_iter()
            .chain(head)
            .chain(types)
            .chain(self.strings.clone())
            .collect()
    }
}
