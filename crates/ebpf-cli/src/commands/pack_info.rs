//! `ebpf pack-info`: the executable memory that compiled programs get here.

use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;

use clap::Args;
use ebpf_runtime::image::{CodeOffset, EntryPoint, Image, ImageParts, SourcePc};
use ebpf_runtime::pack::{
    ARENA_BYTES, CHUNK_BYTES, Capabilities, PAGE_BYTES, Pack, PackError, PackOptions, PackStats,
};
use ebpf_runtime::verifier::{KernelProfile, Options};
use ebpf_runtime::{Engine, LoadError, Loaded, Runtime};
use serde_json::json;

use crate::console::{Console, Status, one_line};
use crate::error::{CliError, InFile};
use crate::input::Input;

/// Arguments of `ebpf pack-info`.
#[derive(Debug, Args)]
pub(crate) struct PackInfoArgs {
    /// Also load all programs of this file that are accepted, and say where they lie
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What there is to say.
struct PackInfo<'a> {
    capabilities: &'a Capabilities,
    huge_pages: bool,
    stats: PackStats,
    /// Name and addresses.
    programs: Vec<(String, Range<u64>)>,
}

/// Prints what the system gives, and what the programs of a file take of it.
pub(crate) fn run(args: &PackInfoArgs, console: &mut Console) -> Result<Status, CliError> {
    let runtime = Runtime::new()?;
    let mut status = Status::Fine;
    let mut loaded = Vec::new();
    if let Some(path) = &args.file {
        let file = path.display().to_string();
        let input = Input::read(path, false, None).in_file(&file)?;
        status = load_all(&runtime, &file, &input, &mut loaded, console)?;
    }
    let programs = loaded
        .iter()
        .filter_map(|(name, loaded)| Some((name.clone(), Loaded::machine_code(loaded)?.addresses)));
    let info = PackInfo {
        capabilities: runtime.pack().capabilities(),
        huge_pages: has_huge_pages()?,
        stats: runtime.pack().stats(),
        programs: programs.collect(),
    };
    if args.json { info.print_json(console) } else { info.print(console) }?;
    Ok(status)
}

/// Loads what is accepted, and says what is not.
fn load_all(
    runtime: &Runtime,
    file: &str,
    input: &Input,
    loaded: &mut Vec<(String, Loaded)>,
    console: &mut Console,
) -> Result<Status, CliError> {
    let mut status = Status::Fine;
    for name in input.names(None).in_file(file)? {
        let subject = input.subject(name).in_file(file)?;
        let bindings = subject.bindings(&KernelProfile::default()).in_file(file)?;
        let name = subject.name().unwrap_or("-").to_owned();
        let options = Options::default();
        match runtime.load(subject.program(), bindings, &options, Engine::Jit) {
            Ok(program) => loaded.push((name, program)),
            Err(LoadError::Rejected(rejection)) => {
                console.complain(&format!("{file}: {name}: rejected: {}", rejection.message));
                status = Status::Refused;
            }
            Err(error) => return Err(error).in_file(file),
        }
    }
    Ok(status)
}

/// Whether huge pages can be had, found out by asking for some.
fn has_huge_pages() -> Result<bool, PackError> {
    let pack = Pack::new(PackOptions { huge_pages: true, ..PackOptions::default() })?;
    let entry = EntryPoint { offset: CodeOffset(0), pc: SourcePc(0), name: String::new() };
    let code = vec![0xcc; ARENA_BYTES / 2 + 1];
    let image = Image::new(ImageParts { code, entries: vec![entry], ..ImageParts::default() })
        .expect("an entry in some code is all that an image needs");
    let _placed = pack.place(&image, &|_| None)?;
    Ok(pack.stats().huge_arenas > 0)
}

impl PackInfo<'_> {
    fn print(&self, console: &mut Console) -> Result<(), CliError> {
        let (out, stats) = (&mut console.out, &self.stats);
        writeln!(out, "memory            {}", self.capabilities.backing)?;
        for (backing, error) in &self.capabilities.refused {
            writeln!(out, "refused           {backing}: {error}")?;
        }
        writeln!(out, "core barrier      {}", yes_or_no(self.capabilities.sync_core))?;
        writeln!(out, "huge pages        {}", yes_or_no(self.huge_pages))?;
        writeln!(out, "chunk             {CHUNK_BYTES} bytes")?;
        writeln!(out, "page              {PAGE_BYTES} bytes")?;
        writeln!(out, "arena             {} KiB", ARENA_BYTES / 1024)?;
        writeln!(out, "arenas            {}, {} huge", stats.arenas, stats.huge_arenas)?;
        writeln!(
            out,
            "committed         {} bytes in {} pages",
            stats.committed_bytes,
            stats.committed_bytes / PAGE_BYTES
        )?;
        writeln!(
            out,
            "used              {} bytes, {} of them wasted",
            stats.used_bytes,
            stats.wasted_bytes()
        )?;
        writeln!(out, "utilisation       {:.1} %", stats.utilisation() * 100.0)?;
        writeln!(out, "fragmentation     {:.1} %", stats.fragmentation() * 100.0)?;
        writeln!(out, "own account       {} bytes", stats.metadata_bytes)?;
        writeln!(out, "programs          {}", stats.programs)?;
        for (name, Range { start, end }) in &self.programs {
            let (len, name) = (end - start, one_line(name));
            writeln!(out, "{start:#014x}  {len:>6} bytes  {name}")?;
        }
        Ok(())
    }

    fn print_json(&self, console: &mut Console) -> Result<(), CliError> {
        let (stats, capabilities) = (&self.stats, self.capabilities);
        let refused = capabilities.refused.iter().map(|(backing, error)| {
            json!({ "backing": backing.to_string(), "error": error.to_string() })
        });
        let programs = self.programs.iter().map(|(name, Range { start, end })| {
            json!({ "name": name, "start": format!("{start:#x}"), "len": end - start })
        });
        let info = json!({
            "backing": capabilities.backing.to_string(),
            "refused": refused.collect::<Vec<_>>(),
            "sync_core": capabilities.sync_core,
            "huge_pages": self.huge_pages,
            "chunk_bytes": CHUNK_BYTES,
            "page_bytes": PAGE_BYTES,
            "arena_bytes": ARENA_BYTES,
            "arenas": stats.arenas,
            "huge_arenas": stats.huge_arenas,
            "reserved_bytes": stats.reserved_bytes,
            "committed_bytes": stats.committed_bytes,
            "used_bytes": stats.used_bytes,
            "wasted_bytes": stats.wasted_bytes(),
            "resting_bytes": stats.resting_bytes,
            "free_bytes": stats.free_bytes(),
            "metadata_bytes": stats.metadata_bytes,
            "utilisation": stats.utilisation(),
            "fragmentation": stats.fragmentation(),
            "programs": programs.collect::<Vec<_>>(),
        });
        writeln!(console.out, "{info}")?;
        Ok(())
    }
}

fn yes_or_no(it: bool) -> &'static str {
    if it { "yes" } else { "no" }
}
