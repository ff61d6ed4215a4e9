//! The view of the workspace that rules look at: plain data, read once.

use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, TargetKind};

use crate::error::TaskError;

/// The platform whose dependencies count.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Directories, relative to the workspace, whose files are read.
const FILE_ROOTS: [&str; 4] = ["crates", "xtask", "benches", "fixtures"];

/// Endings of the files that are read.
const FILE_SUFFIXES: [&str; 2] = ["rs", "bpf"];

/// Manifests, dependencies and files of the workspace. Paths are relative to its root.
#[derive(Debug, Clone, Default)]
pub(super) struct Workspace {
    pub(super) packages: Vec<Package>,
    pub(super) externals: Vec<External>,
    pub(super) files: Vec<File>,
}

/// A package of the workspace.
#[derive(Debug, Clone, Default)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) manifest: File,
    /// Root files of its library and binaries.
    pub(super) roots: Vec<PathBuf>,
    /// The workspace packages it depends on.
    pub(super) arrows: Vec<Arrow>,
}

/// A dependency on another package of the workspace.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Arrow {
    pub(super) to: String,
    /// In tests, examples and benchmarks only.
    pub(super) dev: bool,
}

/// A package from elsewhere, direct or not.
#[derive(Debug, Clone)]
pub(super) struct External {
    pub(super) name: String,
    pub(super) licence: Option<String>,
}

/// A text file.
#[derive(Debug, Clone, Default)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Workspace {
    /// Reads the workspace this task was compiled in.
    pub(super) fn load() -> Result<Self, TaskError> {
        let root = ebpf_testkit::workspace_root();
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .other_options(["--filter-platform".to_string(), PLATFORM.to_string()])
            .exec()
            .map_err(|error| TaskError::Failed(format!("cargo metadata: {error}")))?;
        let mut files = Vec::new();
        for dir in FILE_ROOTS {
            read_files(root, &root.join(dir), &mut files)?;
        }
        files.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(Self { packages: packages(root, &metadata)?, externals: externals(&metadata), files })
    }

    /// The file of that path.
    pub(super) fn file(&self, path: &Path) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// All Rust files.
    pub(super) fn sources(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.has_suffix("rs"))
    }
}

impl File {
    fn read(root: &Path, path: &Path) -> Result<Self, TaskError> {
        let text = std::fs::read_to_string(path).map_err(|error| TaskError::file(path, error))?;
        Ok(Self { path: relative(root, path), text })
    }

    pub(super) fn has_suffix(&self, suffix: &str) -> bool {
        self.path.extension().is_some_and(|found| found == suffix)
    }

    /// The lines, numbered from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

fn relative(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_path_buf()
}

fn packages(root: &Path, metadata: &Metadata) -> Result<Vec<Package>, TaskError> {
    let members = metadata.workspace_packages();
    let is_member = |name: &str| members.iter().any(|member| member.name == name);
    let package = |package: &&cargo_metadata::Package| {
        let is_root = |target: &&cargo_metadata::Target| {
            target.is_kind(TargetKind::Lib) || target.is_kind(TargetKind::Bin)
        };
        let dependencies = package.dependencies.iter();
        let arrows = dependencies.filter(|dependency| is_member(&dependency.name));
        Ok(Package {
            name: package.name.to_string(),
            manifest: File::read(root, package.manifest_path.as_std_path())?,
            roots: package
                .targets
                .iter()
                .filter(is_root)
                .map(|target| relative(root, target.src_path.as_std_path()))
                .collect(),
            arrows: arrows
                .map(|dependency| Arrow {
                    to: dependency.name.clone(),
                    dev: dependency.kind == DependencyKind::Development,
                })
                .collect(),
        })
    };
    members.iter().map(package).collect()
}

fn externals(metadata: &Metadata) -> Vec<External> {
    let packages = metadata.packages.iter();
    packages
        .filter(|package| package.source.is_some())
        .map(|package| External {
            name: package.name.to_string(),
            licence: package.license.clone(),
        })
        .collect()
}

fn read_files(root: &Path, dir: &Path, files: &mut Vec<File>) -> Result<(), TaskError> {
    if !dir.is_dir() {
        return Ok(());
    }
    let told = |error| TaskError::file(dir, error);
    for entry in std::fs::read_dir(dir).map_err(told)? {
        let entry = entry.map_err(told)?;
        let path = entry.path();
        if entry.file_type().map_err(told)?.is_dir() {
            if entry.file_name() != "target" {
                read_files(root, &path, files)?;
            }
        } else if path.extension().is_some_and(|found| FILE_SUFFIXES.iter().any(|s| found == *s)) {
            files.push(File::read(root, &path)?);
        }
    }
    Ok(())
}

/// Hand-made workspaces for the tests of rules.
#[cfg(test)]
impl Workspace {
    /// With one file, the root of a package that is named for its directory.
    pub(super) fn of_file(path: &str, text: &str) -> Self {
        let name = path.split('/').nth(1).unwrap_or_default();
        Self {
            packages: vec![Package {
                name: name.to_string(),
                roots: vec![path.into()],
                ..Package::default()
            }],
            files: vec![File { path: path.into(), text: text.to_string() }],
            ..Self::default()
        }
    }

    /// With one package of that manifest.
    pub(super) fn of_manifest(text: &str) -> Self {
        Self {
            packages: vec![Package {
                name: "ebpf-isa".to_string(),
                manifest: File { path: "Cargo.toml".into(), text: text.to_string() },
                ..Package::default()
            }],
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_what_rules_look_at() {
        let workspace = Workspace::load().unwrap();
        let xtask = workspace.packages.iter().find(|package| package.name == "xtask").unwrap();
        assert_eq!(xtask.roots, [PathBuf::from("xtask/src/main.rs")]);
        assert!(xtask.manifest.text.contains("cargo_metadata"));
        let testkit = Arrow { to: "ebpf-testkit".into(), dev: false };
        assert!(xtask.arrows.contains(&testkit));
        let isa = workspace.packages.iter().find(|package| package.name == "ebpf-isa").unwrap();
        assert!(isa.arrows.contains(&Arrow { dev: true, ..testkit }));
        assert!(workspace.file(Path::new("xtask/src/tidy/workspace.rs")).is_some());
        assert!(workspace.externals.iter().any(|external| external.name == "thiserror"));
    }
}
