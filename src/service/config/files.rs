//! Files and folders that the configuration names.

use std::io;
use std::path::{Path, PathBuf};

use super::{Loader, below};
use crate::hub::options::ConnectionOptions;
use crate::service::exposure::Exposed;

impl Loader<'_> {
    /// Replaces variables in a path; false if that cannot be done.
    fn expand(&mut self, key: &[String], path: &mut PathBuf) -> bool {
        match self.environment.expand(&path.to_string_lossy()) {
            Ok(expanded) => *path = PathBuf::from(expanded),
            Err(message) => {
                self.problem(key, &message);
                return false;
            }
        }
        true
    }

    /// Sees that a file is there, and that one which is secret does not let everybody read it.
    fn named_file(&mut self, key: &[String], path: &Path, secret: bool) {
        if let Err(message) = readable(path) {
            self.problem(key, &format!("{}: {message}", path.display()));
        } else if secret {
            let exposed = Exposed::whole(path).filter(|exposed| !self.exposed.contains(exposed));
            self.exposed.extend(exposed);
        }
    }

    /// A folder that need not be there yet.
    pub(super) fn folder(&mut self, key: &[String], mut path: PathBuf) -> Option<PathBuf> {
        if !self.expand(key, &mut path) {
            return None;
        }
        if !path.is_absolute() {
            self.problem(key, &format!("found {:?}, expected a path that begins with /", path.display()));
            return None;
        }
        Some(path)
    }

    /// Replaces variables in the paths that options name and sees that the files are there.
    pub(super) fn named_files(&mut self, table: &[String], options: &mut ConnectionOptions) {
        for (option, path) in options.paths_mut() {
            let key = below(table, option);
            // An empty path is refused with the other options, with a better word.
            if path.as_os_str().is_empty() {
                continue;
            }
            // A server may bind its socket later.
            if self.expand(&key, path) && option != "unix_socket" {
                self.named_file(&key, path, matches!(option, "auth_file" | "tls.key_file"));
            }
        }
        for (number, step) in options.on_connect.iter_mut().flatten().enumerate() {
            let Some(path) = step.args_file.as_mut().filter(|path| !path.as_os_str().is_empty()) else {
                continue;
            };
            let key = below(table, &format!("on_connect[{number}].args_file"));
            if self.expand(&key, path) {
                self.named_file(&key, path, true);
            }
        }
        if let Some(program) = options.auth_command.as_mut().and_then(|argv| argv.first_mut()) {
            let key = below(table, "auth_command");
            match self.environment.expand(program) {
                Ok(expanded) => *program = expanded,
                Err(message) => return self.problem(&key, &message),
            }
            // A bare name is looked for when it is run, in the PATH of that time.
            if program.contains('/')
                && let Err(message) = executable(Path::new(program))
            {
                self.problem(&key, &format!("{program}: {message}"));
            }
        }
    }
}

fn readable(path: &Path) -> Result<(), String> {
    let cannot = |error| format!("cannot be read: {error}");
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is no regular file".to_owned());
    }
    std::fs::File::open(path).map(drop).map_err(cannot)
}

fn executable(path: &Path) -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot be run: {error}");
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is no regular file".to_owned());
    }
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(|error| cannot(error.into()))
}
