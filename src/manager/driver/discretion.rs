//! What a server or a proxy was told that nobody else may see, not even where they quote it.

use super::Driver;
use crate::engineio::Details;
use crate::manager::state::Key;
use crate::secret::Secrets;
use crate::socketio::{Step, StepArgs};

impl Driver {
    /// The server is about to be told this auth object. What it was told before is void, save what the script always
    /// says.
    pub(super) fn tell(&mut self, key: Key, auth: Option<&str>) {
        if let Some(client) = self.clients.get_mut(&key) {
            client.told = Secrets::default();
            client.told.add_strings(auth.unwrap_or_default());
            client.told.extend(&script_secrets(&client.settings.script));
        }
    }

    /// And this, which a file says.
    pub(super) fn tell_more(&mut self, key: Key, args: &str) {
        if let Some(client) = self.clients.get_mut(&key) {
            let mut secrets = Secrets::default();
            secrets.add_strings(args);
            client.told.extend(&secrets);
        }
    }

    /// All that the server or a proxy was told and nobody else may see.
    pub(super) fn told(&self) -> Secrets {
        let mut secrets = self.secrets.clone();
        self.clients.values().for_each(|client| secrets.extend(&client.told));
        secrets
    }

    /// A failure of a transport as it may be shown: a page that quotes what it was asked, for one, tells it to nobody. The
    /// message is always one of our own.
    pub(super) fn discreet(&self, details: Details) -> Details {
        let secrets = self.told();
        let mask = |text: &str| secrets.mask(text).into_owned();
        Details {
            description: details.description.as_deref().map(mask),
            hint: details.hint.map(|hint| mask(&hint).into()),
            ..details
        }
    }
}

/// What a script always says.
pub(super) fn script_secrets(script: &[Step]) -> Secrets {
    let mut secrets = Secrets::default();
    for step in script {
        if let StepArgs::Fixed(args) = &step.args {
            let mut array = Vec::new();
            args.write_array(&mut array);
            secrets.add_strings(&String::from_utf8_lossy(&array));
        }
    }
    secrets
}
