//! What a consumer may do, as the rules are at this moment.

use tracing::warn;

use super::{Dispatcher, Method};
use crate::api::message::{Error, ErrorKind};
use crate::hub::options::ConnectionOptions;
use crate::hub::{self, Connection, Rights, Rules};

impl Dispatcher {
    pub(super) fn permit(&self, method: Method, name: &str) -> Result<(), Error> {
        let (has, needs) = (self.rights().role, method.role());
        if has >= needs {
            return Ok(());
        }
        let identity = self.consumer.identity();
        let complaint = "refused: above the consumer's role";
        if self.context.hub.takes_complaint(Some(identity.uid), complaint) {
            warn!(
                consumer = self.consumer.name(),
                uid = identity.uid,
                pid = identity.pid,
                method = name,
                "{complaint}"
            );
        }
        let (has, needs) = (has.name(), needs.name());
        let message = format!("the method {name} needs the role {needs}; this consumer has {has}");
        Err(Error::new(ErrorKind::Forbidden, message))
    }

    /// Whether this consumer may give a connection this name. Where it may not, it does not learn whether there is one.
    pub(super) fn permit_name(&self, name: &str) -> Result<(), Error> {
        if self.rights().reach(name) {
            return Ok(());
        }
        let identity = self.consumer.identity();
        let complaint = "refused: a name that the consumer may not use";
        if self.context.hub.takes_complaint(Some(identity.uid), complaint) {
            warn!(
                consumer = self.consumer.name(),
                uid = identity.uid,
                pid = identity.pid,
                name,
                "{complaint}"
            );
        }
        let message = format!("the daemon's access rules do not give this consumer the name {name:?}");
        Err(Error::new(ErrorKind::Forbidden, message))
    }

    /// Whether this consumer may use these options. With some of them the daemon would do for it what its own user may not.
    pub(super) fn permit_options(&self, rules: &Rules, options: &ConnectionOptions) -> Result<(), Error> {
        let identity = self.consumer.identity();
        let Some((option, does)) = options.uses_system().filter(|_| !rules.is_trusted(identity.uid)) else {
            return Ok(());
        };
        let complaint = "refused: an option that the consumer may not use";
        if self.context.hub.takes_complaint(Some(identity.uid), complaint) {
            warn!(
                consumer = self.consumer.name(),
                uid = identity.uid,
                pid = identity.pid,
                option,
                "{complaint}"
            );
        }
        let message = format!(
            "{option} {does} with the daemon's rights; in open only root and the daemon's own user may use it, \
             others have it put into the configuration"
        );
        Err(Error::new(ErrorKind::Forbidden, message))
    }

    pub(super) fn rights(&self) -> Rights {
        self.consumer.rights()
    }

    pub(super) fn connection(&self, name: &str) -> Result<Connection, Error> {
        Ok(self.context.hub.connection(name, &self.rights())?)
    }

    /// The turn to add or remove connections. A reload may have had the one before, and with it came other rules.
    pub(super) async fn turn(&self, method: Method, name: &str) -> Result<hub::Turn, Error> {
        let turn = self.context.hub.turn().await;
        self.permit(method, name)?;
        Ok(turn)
    }
}
