//! The units and the packages, and what the installed package does under a systemd that is booted for it.
//!
//! What a test cannot do without a tool or without root it leaves out, and says so; with `SIOD_SYSTEMD_TEST=must` that
//! is a failure. `just systemd-test` runs all of it.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The repository.
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Tenths of a point that `systemd-analyze security` may find at most.
const EXPOSURE: &str = "--threshold=12";

#[test]
fn the_units_are_sound_and_expose_little() {
    if lacking("what systemd says to the units", &["systemd-analyze --version"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (kind, scope) in [("systemd", "--system"), ("systemd/user", "--user")] {
        let units: Vec<PathBuf> = ["siod.socket", "siod.service"].map(|unit| folder.path().join(unit)).into();
        for unit in &units {
            let name = unit.file_name().expect("it has a name");
            let text =
                std::fs::read_to_string(Path::new(HERE).join(kind).join(name)).expect("a unit of ours");
            // Where it will be is where it is not yet.
            let text = text.replace("/usr/bin/siod", env!("CARGO_BIN_EXE_siod"));
            std::fs::write(unit, text).expect("a file in the test's own folder");
        }
        let mut verify = Command::new("systemd-analyze");
        verify.args([scope, "verify", "--man=no"]).args(&units).env("XDG_RUNTIME_DIR", folder.path());
        assert_silent(&verify.output().expect("it starts"));
        if scope == "--system" {
            let mut security = Command::new("systemd-analyze");
            security.args(["security", "--offline=true", "--no-pager", EXPOSURE]).arg(&units[1]);
            assert_success(&security.output().expect("it starts"));
        }
    }
}

#[test]
fn the_deb_holds_what_belongs_to_it() {
    let Some(packages) = packages() else { return };
    let deb = packages.deb.as_path();
    let contents = text(&["dpkg-deb", "--contents"], deb);
    let mut files = BTreeMap::new();
    for line in contents.lines().filter(|line| !line.ends_with('/')) {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [mode, owner, .., path] = columns[..] else { panic!("{line}") };
        assert_eq!(owner, "0/0", "{line}");
        files.insert(path.trim_start_matches('.'), mode);
    }
    for path in COMMON.iter().chain(&[
        "/usr/share/man/man1/siod.1.gz",
        "/usr/share/zsh/vendor-completions/_siod",
        "/usr/share/doc/siod/copyright",
    ]) {
        let mode = files.get(path).unwrap_or_else(|| panic!("no {path} in {contents}"));
        let expected = match *path {
            "/usr/bin/siod" => "-rwxr-xr-x",
            "/etc/siod/siod.toml" => "-rw-r-----",
            _ => "-rw-r--r--",
        };
        assert_eq!(*mode, expected, "{path}");
    }
    let control = tempfile::tempdir().expect("a temporary folder");
    let mut extract = Command::new("dpkg-deb");
    assert_success(&extract.arg("--control").args([deb, control.path()]).output().expect("it starts"));
    let read = |name: &str| std::fs::read_to_string(control.path().join(name)).expect("it is in the package");
    assert_eq!(read("conffiles"), "/etc/siod/siod.toml\n");
    assert!(read("control").contains(&format!("Version: {}-1\n", env!("CARGO_PKG_VERSION"))));
    for script in ["postinst", "prerm", "postrm"] {
        assert_success(&Command::new("sh").arg("-n").arg(control.path().join(script)).output().expect("sh"));
    }
}

#[test]
fn the_rpm_holds_what_belongs_to_it() {
    if lacking("what is in the rpm", &["rpm --version"]) {
        return;
    }
    let Some(packages) = packages() else { return };
    // Path, size, time, digest, mode, owner, group, whether a configuration file, and more.
    let dump = text(&["rpm", "--query", "--package", "--dump"], &packages.rpm);
    let files: BTreeMap<&str, Vec<&str>> = dump
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(path, rest)| (path, rest.split(' ').collect()))
        .collect();
    for path in COMMON.iter().chain(&["/usr/share/man/man1/siod.1", "/usr/share/zsh/site-functions/_siod"]) {
        let columns = files.get(path).unwrap_or_else(|| panic!("no {path} in {dump}"));
        let (mode, configuration) = match *path {
            "/usr/bin/siod" => ("0100755", "0"),
            "/etc/siod/siod.toml" => ("0100640", "1"),
            _ => ("0100644", "0"),
        };
        assert_eq!(
            [columns[3], columns[4], columns[5], columns[6]],
            [mode, "root", "root", configuration],
            "{path}"
        );
    }
    let scripts = text(&["rpm", "--query", "--package", "--scripts"], &packages.rpm);
    for script in ["postinstall", "preuninstall", "postuninstall"] {
        assert!(scripts.contains(&format!("{script} scriptlet")), "{script} in {scripts}");
    }
}

/// Plays `inside::play` in a systemd that is booted over this machine's files.
#[test]
fn the_installed_package_under_a_booted_systemd() {
    let what = "the packages under a booted systemd";
    if !rustix::process::geteuid().is_root() {
        return leave_out(what, "it takes root");
    }
    // In some containers root may not do it.
    if lacking(what, &["systemd-nspawn --version", "unshare --mount true", "rpm --version"]) {
        return;
    }
    if Path::new("/usr/bin/siod").exists() || Path::new("/etc/siod").exists() {
        return leave_out(what, "a siod is installed on this machine");
    }
    let Some(packages) = packages() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let own = std::env::current_exe().expect("this test is a program");
    std::fs::copy(own, folder.path().join("test")).expect("room for a copy");
    for (package, name) in [(&packages.deb, "siod.deb"), (&packages.rpm, "siod.rpm")] {
        std::fs::copy(package, folder.path().join(name)).expect("room for a copy");
    }
    // As much of the repository as packaging/install takes.
    let source = folder.path().join("source");
    std::fs::create_dir_all(source.join("target/release")).expect("room for it");
    let mut copy = Command::new("cp");
    copy.current_dir(HERE).args(["-r", "packaging", "systemd", "config"]).arg(&source);
    assert_success(&copy.output().expect("it starts"));
    let binary = packages.deb.with_file_name("siod");
    std::fs::copy(binary, source.join("target/release/siod")).expect("room for a copy");
    let output = Command::new(Path::new(HERE).join("tests/systemd/boot.sh"))
        .arg(folder.path())
        .args(["/siod-test/test", "--ignored", "--exact", "inside::play", "--nocapture"])
        .output()
        .expect("it starts");
    let read = |name: &str| {
        std::fs::read(folder.path().join(name)).map(|text| String::from_utf8_lossy(&text).into_owned())
    };
    let log = read("log").unwrap_or_else(|error| format!("(none: {error})"));
    // Its closing line is not ours, and is not to be counted as such.
    for line in log.lines() {
        println!("| {line}");
    }
    if !output.status.success() || !log.contains("test result: ok. 1 passed") {
        let console = read("console").unwrap_or_default();
        panic!("it ended with {}\n{}\n{console}", output.status, String::from_utf8_lossy(&output.stderr));
    }
}

/// What both packages have.
const COMMON: &[&str] = &[
    "/usr/bin/siod",
    "/etc/siod/siod.toml",
    "/usr/lib/systemd/system/siod.socket",
    "/usr/lib/systemd/system/siod.service",
    "/usr/lib/systemd/user/siod.socket",
    "/usr/lib/systemd/user/siod.service",
    "/usr/lib/sysusers.d/siod.conf",
    "/usr/share/bash-completion/completions/siod",
    "/usr/share/fish/vendor_completions.d/siod.fish",
    "/usr/share/doc/siod/README.md",
    "/usr/share/doc/siod/api.md",
];

struct Packages {
    deb: PathBuf,
    rpm: PathBuf,
}

/// Made once, by the script that makes them for everybody, around the binary that is tested.
fn packages() -> Option<&'static Packages> {
    static MADE: OnceLock<Option<Packages>> = OnceLock::new();
    MADE.get_or_init(|| {
        let tools =
            ["cargo deb --version", "cargo generate-rpm --version", "dpkg-deb --version", "strip --version"];
        if lacking("the packages", &tools) {
            return None;
        }
        let mut build = Command::new(Path::new(HERE).join("packaging/build"));
        build.arg("--binary").arg(env!("CARGO_BIN_EXE_siod"));
        assert_success(&build.output().expect("it starts"));
        let made = |end: &str| {
            let folder = std::fs::read_dir(Path::new(HERE).join("target/packaging")).expect("it was made");
            let mut paths = folder.map(|entry| entry.expect("it can be read").path());
            paths.find(|path| path.to_string_lossy().ends_with(end)).expect("it was made")
        };
        Some(Packages { deb: made(".deb"), rpm: made(".rpm") })
    })
    .as_ref()
}

/// Whether one of these commands does not succeed; says so then.
fn lacking(what: &str, commands: &[&str]) -> bool {
    let fails = |command: &&&str| {
        let words: Vec<_> = command.split(' ').collect();
        !Command::new(words[0]).args(&words[1..]).output().is_ok_and(|output| output.status.success())
    };
    let lacking = commands.iter().find(fails);
    if let Some(command) = lacking {
        leave_out(what, &format!("`{command}` does not succeed"));
    }
    lacking.is_some()
}

fn leave_out(what: &str, why: &str) {
    assert!(std::env::var_os("SIOD_SYSTEMD_TEST").is_none_or(|must| must != "must"), "{what}: {why}");
    eprintln!("LEFT OUT: {what}: {why}");
}

fn text(command: &[&str], file: &Path) -> String {
    let output = Command::new(command[0]).args(&command[1..]).arg(file).output().expect("it starts");
    assert_success(&output);
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[track_caller]
fn assert_success(output: &Output) {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{error}", output.status);
}

/// It succeeds and has nothing to say on standard error.
#[track_caller]
fn assert_silent(output: &Output) {
    assert_success(output);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// What is played as root of the booted system. Nothing of this is for any other machine.
#[path = "systemd/inside.rs"]
mod inside;
