//! Files with secrets that every user of the machine can read.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::layers::{Key, shown};
use crate::secret::is_secret_name;

/// A file that has secrets in it and lets everybody read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exposed {
    file: PathBuf,
    mode: u32,
    /// The keys that hold secrets; none where the file is one as a whole.
    keys: Vec<String>,
}

impl Exposed {
    /// A file of the configuration with this in it.
    pub(super) fn configuration(file: &Path, metadata: &std::fs::Metadata, tree: &Value) -> Option<Self> {
        let mode = mode_for_all(file, metadata)?;
        let mut keys = Vec::new();
        for (name, options) in tree.get("connections").and_then(Value::as_object).into_iter().flatten() {
            find(&mut keys, &["connections".to_owned(), name.clone()], options);
        }
        if let Some(options) = tree.get("defaults") {
            find(&mut keys, &["defaults".to_owned()], options);
        }
        let keys: Vec<_> = keys.iter().map(|key| shown(key)).collect();
        (!keys.is_empty()).then(|| Self { file: file.to_owned(), mode, keys })
    }

    /// A file that `key` names and that is a secret as a whole.
    pub(super) fn whole(file: &Path) -> Option<Self> {
        let mode = mode_for_all(file, &std::fs::metadata(file).ok()?)?;
        Some(Self { file: file.to_owned(), mode, keys: Vec::new() })
    }

    /// What to say of it at every start.
    pub(super) fn warning(&self) -> String {
        let Self { file, mode, keys } = self;
        let (file, mode) = (file.display(), mode & 0o7777);
        match keys.as_slice() {
            [] => format!(
                "{file}: every user of this machine can read what only the server should know (mode {mode:04o}); chmod o= it"
            ),
            keys => format!(
                "{file}: every user of this machine can read what only the server should know (mode {mode:04o}): {}; \
                 chmod o= it, or put them into files of their own (auth_file, args_file)",
                keys.join(", ")
            ),
        }
    }
}

/// The file's mode if everybody can read it: it says so, and no folder above keeps others out.
fn mode_for_all(file: &Path, metadata: &std::fs::Metadata) -> Option<u32> {
    let open = |metadata: &std::fs::Metadata, bit: u32| metadata.mode() & bit != 0;
    let folders_open = || {
        let Ok(file) = file.canonicalize() else { return true };
        file.ancestors()
            .skip(1)
            .all(|folder| std::fs::metadata(folder).is_ok_and(|metadata| open(&metadata, 0o001)))
    };
    (open(metadata, 0o004) && folders_open()).then(|| metadata.mode())
}

/// The options of one connection, or those for all, that hold secrets.
fn find(keys: &mut Vec<Key>, at: &[String], options: &Value) {
    let mut add = |path: &[&str]| {
        let path = path.iter().map(|&part| part.to_owned());
        keys.push(at.iter().cloned().chain(path).collect());
    };
    let members = |option: &str| options.get(option).and_then(Value::as_object).into_iter().flatten();
    if options.get("auth").and_then(Value::as_object).is_some_and(|auth| !auth.is_empty()) {
        add(&["auth"]);
    }
    // A program's name alone is no secret; what it is called with can be one.
    let argv = options.get("auth_command").and_then(Value::as_array);
    if argv.is_some_and(|argv| argv.iter().skip(1).filter_map(Value::as_str).any(names_secret)) {
        add(&["auth_command"]);
    }
    for option in ["url", "proxy"] {
        if options.get(option).and_then(Value::as_str).is_some_and(url_has_secret) {
            add(&[option]);
        }
    }
    for option in ["extra_headers", "query"] {
        for (name, _) in members(option).filter(|(name, _)| is_secret_name(name)) {
            add(&[option, name]);
        }
    }
    let steps = options.get("on_connect").and_then(Value::as_array).into_iter().flatten();
    for (number, step) in steps.enumerate() {
        if step.get("args").and_then(Value::as_array).is_some_and(|args| !args.is_empty()) {
            add(&["on_connect", &format!("[{number}]"), "args"]);
        }
    }
}

/// `--password=…`, `token=…`, `me:…@host`
fn names_secret(argument: &str) -> bool {
    is_secret_name(argument) || url_has_secret(argument)
}

fn url_has_secret(url: &str) -> bool {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let authority = place.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(rest));
    let mut names = query.split('&').filter_map(|pair| Some(pair.split_once('=')?.0));
    authority.contains('@') || names.any(is_secret_name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_holds_a_secret() {
        for (options, expected) in [
            (json!({"url": "https://h/n?x=1", "auth_file": "/f", "auth": {}, "query": {"x": "1"}}), &[][..]),
            (json!({"auth": {"token": "x"}}), &["c.auth"]),
            (json!({"url": "https://me:pw@h/"}), &["c.url"]),
            (json!({"url": "https://h/?x=1&Token=abc"}), &["c.url"]),
            (json!({"url": "https://h/@room"}), &[]),
            (json!({"proxy": "socks5://me:pw@h"}), &["c.proxy"]),
            (json!({"proxy": "socks5://h"}), &[]),
            (
                json!({"extra_headers": {"Authorization": "x", "X-Api-Key": "x", "Cookie": "a=b", "User-Agent": "x"}}),
                &["c.extra_headers.Authorization", "c.extra_headers.Cookie", "c.extra_headers.X-Api-Key"],
            ),
            (json!({"query": {"token": "x", "room": "y"}}), &["c.query.token"]),
            (json!({"auth_command": ["/bin/token", "chat"]}), &[]),
            (json!({"auth_command": ["curl", "--password=x"]}), &["c.auth_command"]),
            (
                json!({"on_connect": [{"event": "a"}, {"event": "b", "args": ["x"]}, {"event": "c", "args_file": "/f"}]}),
                &["c.on_connect[1].args"],
            ),
        ] {
            let mut keys = Vec::new();
            find(&mut keys, &["c".to_owned()], &options);
            let keys: Vec<_> = keys.iter().map(|key| shown(key)).collect();
            assert_eq!(keys, expected, "{options}");
        }
    }
}
