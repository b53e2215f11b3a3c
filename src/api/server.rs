//! The accept loop.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, debug_span, warn};

use super::dispatch::{Context, lock};
use super::peer;
use super::reload::Reloader;
use crate::hub::notice::Time;
use crate::hub::{Goodbye, Hub, Identity, Role};

/// How long accepting rests when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What consumers are served with.
#[derive(Clone, Debug)]
pub struct Server {
    context: Arc<Context>,
}

impl Server {
    /// `reloader` is asked by the method `reload`; consumers' tasks go to `tasks`.
    pub fn new(hub: Arc<Hub>, settings: super::Settings, reloader: Reloader, tasks: TaskTracker) -> Self {
        let (settings, config_error) = (Mutex::new(Arc::new(settings)), Mutex::default());
        let (started, started_at) = (Instant::now(), Time::now());
        let context = Context { hub, settings, config_error, reloader, started, started_at, tasks };
        Self { context: Arc::new(context) }
    }

    /// Serves with other settings from now on.
    pub fn set_settings(&self, settings: super::Settings) {
        *lock(&self.context.settings) = Arc::new(settings);
    }

    /// Why the configuration could not be loaded the last time, for `status`; none when it could.
    pub fn set_config_error(&self, error: Option<String>) {
        *lock(&self.context.config_error) = error;
    }

    /// Takes consumers until `stop`.
    pub async fn accept(self, listener: UnixListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => self.attach(stream),
                Err(error) => {
                    // Most likely no descriptor is left; those who are attached go on meanwhile.
                    warn!(%error, "a consumer could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn attach(&self, stream: UnixStream) {
        let context = &self.context;
        let identity = match identify(&stream) {
            Ok(identity) => identity,
            Err(error) => return debug!(%error, "a consumer was gone before it was asked who it is"),
        };
        let Some(consumer) = context.hub.attach(identity.clone(), context.settings().lag) else {
            let goodbye = if context.hub.is_ending() { Goodbye::Shutdown } else { Goodbye::TooManyConsumers };
            context.tasks.spawn(peer::turn_away(stream, goodbye));
            return;
        };
        let span =
            debug_span!("consumer", consumer = consumer.name(), uid = identity.uid, pid = identity.pid);
        let context = Arc::clone(context);
        let serve = async move {
            debug!("attached");
            peer::serve(stream, Arc::clone(&context), Arc::clone(&consumer)).await;
            context.hub.detach(&consumer).await;
            debug!("gone");
        };
        self.context.tasks.spawn(serve.instrument(span));
    }
}

/// Who is at the other end, and what the default rule lets it do: root and the daemon's own user everything, whoever
/// else can attach may listen and emit.
fn identify(stream: &UnixStream) -> io::Result<Identity> {
    let peer = stream.peer_cred()?;
    let (uid, own) = (peer.uid(), rustix::process::geteuid().as_raw());
    let role = if uid == 0 || uid == own { Role::Control } else { Role::Write };
    Ok(Identity { pid: peer.pid(), uid, gid: peer.gid(), role })
}
