//! Filters of system calls, as a program type of our own: Linux knows them as classic programs only.

#![allow(unsafe_code, reason = "the context is handed to programs by its address")]

use std::any::TypeId;
use std::sync::Arc;

use ebpf_classic::Converted;
use ebpf_classic::seccomp::{DATA_LEN, SeccompData, SeccompFilter};
use ebpf_isa::Size;
use ebpf_isa::abi::{ExecEnv, Trap};
use ebpf_isa::uapi::{AttachType, ProgramType};
use ebpf_verifier::rules::{
    ContextField, FieldAccess, FieldKind, HelperSet, PacketAccess, TableRules,
};
use ebpf_verifier::{ContextAccessInsn, HostField, Options, RewriteError, RewriteHooks};

use crate::filter::FilterError;
use crate::kind::ProgramKind;
use crate::load::{Bindings, Runtime};
use crate::loaded::{Engine, Loaded};

/// `struct seccomp_data`, as the bytes that programs see.
#[repr(C, align(8))]
struct SeccompContext([u8; DATA_LEN as usize]);

/// Programs that judge system calls: their context is a `struct seccomp_data`, of which they read
/// aligned words of 32 bits. They call nothing.
#[must_use]
pub fn kind() -> ProgramKind {
    let word = |start: u16| ContextField {
        name: format!("word {start}").into(),
        start,
        end: start + 4,
        read: FieldAccess::Exactly(Size::W),
        write: FieldAccess::Never,
        kind: FieldKind::Scalar,
        only_for: &[],
    };
    ProgramKind {
        rules: Arc::new(TableRules {
            program_type: ProgramType::Unspec,
            attach_types: &[],
            // Of no meaning for a type of our own.
            default_attach: AttachType::CgroupInetIngress,
            context: (0..DATA_LEN as u16).step_by(4).map(word).collect(),
            helpers: Vec::new(),
            helper_set: HelperSet::Prototypes,
            packet: PacketAccess::None,
            exit: Vec::new(),
        }),
        attach_type: None,
        hooks: Arc::new(AsItIs),
        helpers: (&[]).into(),
        natives: (&[]).into(),
        layout: TypeId::of::<SeccompContext>(),
    }
}

/// The context is what programs see.
struct AsItIs;

impl RewriteHooks for AsItIs {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        let off = access.offset as i16;
        Ok(HostField::whole(access.offset, Size::W, off, Size::W))
    }
}

/// A filter of system calls, converted, verified and ready to run.
#[derive(Debug)]
pub struct SeccompProgram {
    converted: Converted,
    loaded: Loaded,
}

impl SeccompProgram {
    /// Converts a filter and loads it.
    ///
    /// # Errors
    /// It cannot be converted, or the engine does not take it.
    pub fn load(
        runtime: &Runtime,
        filter: &SeccompFilter,
        engine: Engine,
    ) -> Result<Self, FilterError> {
        let converted = filter.convert().map_err(Box::new)?;
        let bindings = Bindings::new(kind());
        let loaded = runtime.load(&converted.program, bindings, &Options::default(), engine)?;
        Ok(Self { converted, loaded })
    }

    /// The converted filter, with the one it was made of.
    #[must_use]
    pub fn converted(&self) -> &Converted {
        &self.converted
    }

    /// What was loaded.
    #[must_use]
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// The filter's value for a system call: [`Action::of`](ebpf_classic::seccomp::Action::of) says
    /// what it stands for.
    ///
    /// # Errors
    /// The trap that ended the run.
    pub fn run(&self, data: &SeccompData, env: &mut ExecEnv) -> Result<u32, Trap> {
        let mut context = SeccompContext(data.to_ne_bytes());
        // SAFETY: the program was loaded as one of this module's kind, whose context this is.
        let r0 = unsafe { self.loaded.run_with_context((&raw mut context).cast(), env) }?;
        Ok(r0 as u32)
    }
}
