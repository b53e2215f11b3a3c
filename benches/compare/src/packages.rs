//! What the peers on Node and Python need, installed into the target folder.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The same packages, in the same folder, as for the tests.
const PACKAGE: &str = include_str!("../../../tests/node/package.json");
const LOCK: &str = include_str!("../../../tests/node/package-lock.json");

const REQUIREMENTS: &str = include_str!("../python/requirements.txt");

/// Of this package.
pub(crate) fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Of siod.
pub(crate) fn repository() -> &'static Path {
    folder().parent().and_then(Path::parent).unwrap_or(Path::new("."))
}

/// The folder that holds `node_modules`.
pub(crate) fn node(target: &Path) -> Result<PathBuf> {
    let folder = target.join(format!("siod-node-{:016x}", hash(&(PACKAGE, LOCK))));
    once(&folder, || {
        fs::write(folder.join("package.json"), PACKAGE)?;
        fs::write(folder.join("package-lock.json"), LOCK)?;
        let npm = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
        run(Command::new("npm").args(npm).current_dir(&folder))
    })
    .with_context(|| format!("Node's packages cannot be installed in {}", folder.display()))?;
    Ok(folder)
}

/// An interpreter that has python-socketio.
pub(crate) fn python(target: &Path) -> Result<PathBuf> {
    let folder = target.join(format!("siod-python-{:016x}", hash(&REQUIREMENTS)));
    let python = folder.join("bin/python");
    once(&folder, || {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        let requirements = self::folder().join("python/requirements.txt");
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(requirements))
    })?;
    Ok(python)
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// The marker is written last, so a folder that has it is complete. Whoever comes meanwhile waits.
fn once(folder: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    fs::create_dir_all(folder)?;
    let lock = File::create(folder.with_extension("lock"))?;
    // Tests that install into the same folder have their lock inside of it.
    let inner = File::create(folder.join("installing"))?;
    lock.lock()?;
    inner.lock()?;
    let marker = folder.join("complete");
    if !marker.exists() {
        install()?;
        fs::write(marker, "")?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{program} cannot be started"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed: {}", complaint.trim());
    Ok(())
}
