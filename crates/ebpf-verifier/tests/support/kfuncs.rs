//! The `kfunc` lines of `-- env` sections.

use std::collections::BTreeMap;
use std::sync::Arc;

use ebpf_verifier::{
    Environment, KfuncArg, KfuncProto, KfuncRet, Module, ObjectType, kernel_function,
};

/// The kernel functions of an environment.
#[derive(Default)]
pub(super) struct Kfuncs {
    by_module: BTreeMap<i16, Vec<KfuncProto>>,
    types: BTreeMap<String, ObjectType>,
}

impl Kfuncs {
    pub(super) fn parse(&mut self, index: &str, function: &[&str]) -> Option<()> {
        let (&[btf_id, name], mut words) = function.split_first_chunk()?;
        let btf_id = btf_id.parse().ok()?;
        let known = kernel_function(name, btf_id).filter(|_| words.is_empty());
        let new = || KfuncProto::new(btf_id, name.to_owned()).returns(KfuncRet::Void);
        let mut proto = known.unwrap_or_else(new);
        while let Some((word, rest)) = words.split_first() {
            words = rest;
            match *word {
                "->" => {
                    let (ret, rest) = words.split_first()?;
                    words = rest;
                    proto.ret = match ret.split_once('=') {
                        Some(("object", name)) => KfuncRet::Object(self.object(name)),
                        _ if *ret == "scalar" => KfuncRet::Scalar,
                        _ => return None,
                    };
                }
                "acquire" => proto.flags.acquire = true,
                "release" => proto.flags.release = true,
                "ret_null" => proto.flags.ret_null = true,
                "trusted_args" => proto.flags.trusted_args = true,
                arg => proto.args.push(self.argument(arg)?),
            }
        }
        self.by_module.entry(index.parse().ok()?).or_default().push(proto);
        Some(())
    }

    fn argument(&mut self, word: &str) -> Option<KfuncArg> {
        if let Some(word) = word.strip_suffix('?') {
            return Some(self.argument(word)?.or_null());
        }
        Some(match word.split_once('=') {
            Some(("mem", bytes)) => KfuncArg::memory(bytes.parse().ok()?),
            Some(("object", name)) => KfuncArg::object(&self.object(name)),
            _ => match word {
                "scalar" => KfuncArg::SCALAR,
                "ctx" => KfuncArg::CONTEXT,
                "buffer" => KfuncArg::BUFFER,
                "size" => KfuncArg::SIZE,
                _ => return None,
            },
        })
    }

    fn object(&mut self, name: &str) -> ObjectType {
        self.types.entry(name.to_owned()).or_insert_with(|| ObjectType::new(name)).clone()
    }

    pub(super) fn put_into(self, env: &mut Environment) -> Result<(), String> {
        for (index, functions) in self.by_module {
            let name = if index == 0 { Module::BASE.into() } else { format!("module{index}") };
            let module = Module::new(name, functions).map_err(|error| error.to_string())?;
            env.modules.insert(index, &Arc::new(module)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
