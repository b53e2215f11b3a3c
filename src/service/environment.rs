//! What the environment says to the configuration: variables, and whether the daemon is the system's or a user's.
//!
//! Everything that looks at a variable takes an [`Environment`], so that tests need not change the process's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A copy of the environment.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    root: bool,
}

impl Environment {
    /// That of this process. Bytes that are no UTF-8 are replaced.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        };
        Self {
            variables: std::env::vars_os().map(text).collect(),
            root: rustix::process::geteuid().is_root(),
        }
    }

    /// One of these variables, for root or for somebody else.
    pub fn new<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>, root: bool) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self { variables: variables.into_iter().map(owned).collect(), root }
    }

    /// A variable's value; an empty one counts as unset.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variables whose names begin with `prefix`, in order of their names.
    pub(super) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let named = self.variables.iter().filter(move |(name, _)| name.starts_with(prefix));
        named.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether systemd started this process as a service of the system rather than of a user. Only the process it
    /// started finds its own number in `SYSTEMD_EXEC_PID`; other variables of a service are inherited further.
    pub fn is_system_service(&self) -> bool {
        let managed = self.variable("SYSTEMD_EXEC_PID") == Some(std::process::id().to_string().as_str());
        managed && (self.root || self.variable("XDG_RUNTIME_DIR").is_none())
    }

    /// The configuration file that is read when none is named.
    pub fn default_file(&self) -> Option<PathBuf> {
        if self.root || self.is_system_service() {
            return Some(PathBuf::from("/etc/siod/siod.toml"));
        }
        let home = || self.variable("HOME").map(|home| Path::new(home).join(".config"));
        self.variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(home)
            .map(|folder| folder.join("siod/siod.toml"))
    }

    /// The socket when nothing names one.
    pub fn default_socket(&self) -> PathBuf {
        match self.variable("XDG_RUNTIME_DIR") {
            Some(folder) if !self.root => Path::new(folder).join("siod.sock"),
            _ => PathBuf::from("/run/siod/siod.sock"),
        }
    }

    /// `text` with every `${NAME}` replaced. A variable that is unset is an error that names it.
    pub(super) fn expand(&self, text: &str) -> Result<String, String> {
        let (mut expanded, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or("has a ${ without its }")?;
            let value =
                self.variable(name).ok_or_else(|| format!("the environment has no variable {name}"))?;
            expanded.push_str(before);
            expanded.push_str(value);
            rest = after;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let own = std::process::id().to_string();
        for (variables, root, file, socket) in [
            (&[][..], true, Some("/etc/siod/siod.toml"), "/run/siod/siod.sock"),
            (&[], false, None, "/run/siod/siod.sock"),
            (&[("HOME", "/h")], false, Some("/h/.config/siod/siod.toml"), "/run/siod/siod.sock"),
            (&[("XDG_RUNTIME_DIR", "/r")], true, Some("/etc/siod/siod.toml"), "/run/siod/siod.sock"),
            (
                &[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c"), ("XDG_RUNTIME_DIR", "/r")],
                false,
                Some("/c/siod/siod.toml"),
                "/r/siod.sock",
            ),
            (
                &[("HOME", "/"), ("SYSTEMD_EXEC_PID", own.as_str())],
                false,
                Some("/etc/siod/siod.toml"),
                "/run/siod/siod.sock",
            ),
        ] {
            let environment = Environment::new(variables.iter().copied(), root);
            assert_eq!(environment.default_file(), file.map(PathBuf::from), "{variables:?} {root}");
            assert_eq!(environment.default_socket(), PathBuf::from(socket), "{variables:?} {root}");
        }
    }

    #[test]
    fn system_services() {
        let own = std::process::id().to_string();
        for (variables, root, expected) in [
            (&[][..], true, false),
            (&[("SYSTEMD_EXEC_PID", own.as_str())], true, true),
            (&[("SYSTEMD_EXEC_PID", own.as_str())], false, true),
            (&[("SYSTEMD_EXEC_PID", own.as_str()), ("XDG_RUNTIME_DIR", "/r")], true, true),
            (&[("SYSTEMD_EXEC_PID", own.as_str()), ("XDG_RUNTIME_DIR", "/r")], false, false),
            (&[("SYSTEMD_EXEC_PID", "1")], true, false),
            (&[("INVOCATION_ID", "1"), ("NOTIFY_SOCKET", "/n")], true, false),
        ] {
            let environment = Environment::new(variables.iter().copied(), root);
            assert_eq!(environment.is_system_service(), expected, "{variables:?} {root}");
        }
    }

    #[test]
    fn expansion() {
        let environment = Environment::new([("DIR", "/run/creds"), ("N", "x"), ("EMPTY", "")], false);
        for (text, expected) in [
            ("/plain/$path", Ok("/plain/$path")),
            ("${DIR}/chat", Ok("/run/creds/chat")),
            ("${DIR}/${N}${N}", Ok("/run/creds/xx")),
            ("${NONE}/chat", Err("the environment has no variable NONE")),
            ("${EMPTY}/chat", Err("the environment has no variable EMPTY")),
            ("${DIR/chat", Err("has a ${ without its }")),
        ] {
            assert_eq!(environment.expand(text).as_deref().map_err(String::as_str), expected, "{text}");
        }
    }
}
