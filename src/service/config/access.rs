//! `[[access]]`: rules as they are written, and what they mean.

use std::io;

use serde::Deserialize;

use super::{Loader, key};
use crate::hub::options;
use crate::hub::subscription::Pattern;
use crate::hub::{self, Rights, Rule, accounts};

/// Who may do what: a rule as it was written, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// The name of the user, whose number is in the rule.
    pub user: Option<String>,
    /// The name of the group, whose number is the first in the rule.
    pub group: Option<String>,
    /// With the numbers that the names had when the configuration was loaded.
    pub rule: Rule,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Access {
    user: Option<String>,
    uid: Option<u32>,
    group: Option<String>,
    gid: Option<u32>,
    role: Option<Role>,
    connections: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    None,
    Read,
    Write,
    Control,
}

impl Loader<'_> {
    pub(super) fn access(&mut self, rules: Vec<Access>) -> Vec<AccessRule> {
        let rules = rules.into_iter().enumerate();
        // A rule that is left out here is a problem, with which nothing is started.
        rules.filter_map(|(index, access)| self.access_rule(&format!("[{index}]"), access)).collect()
    }

    fn access_rule(&mut self, index: &str, access: Access) -> Option<AccessRule> {
        let at = |option| key(["access", index, option]);
        let Access { user, uid, group, gid, role, connections } = access;
        if user.is_none() && uid.is_none() && group.is_none() && gid.is_none() {
            self.problem(
                &key(["access", index]),
                "says nobody whom it is for; add user, uid, group or gid (several: all must fit)",
            );
        }
        let user_id =
            user.as_ref().and_then(|name| self.account(&at("user"), name, accounts::user, ("user", "uid")));
        let group_id = group
            .as_ref()
            .and_then(|name| self.account(&at("group"), name, accounts::group, ("group", "gid")));
        if let (Some(named), Some(uid)) = (user_id, uid)
            && named != uid
        {
            self.problem(&at("uid"), &format!("found {uid}, but user is {named}; keep one of uid and user"));
        }
        let Some(role) = role else {
            self.problem(&at("role"), "missing; expected \"none\", \"read\", \"write\" or \"control\"");
            return None;
        };
        if matches!(role, Role::None) && connections.is_some() {
            self.problem(
                &at("connections"),
                "says nothing where the role is none, which lets nobody attach at all; leave it out",
            );
        }
        let connections = connections.unwrap_or_else(|| vec!["*".to_owned()]);
        if connections.is_empty() {
            let message = "is empty; leave it out for every connection, or let the role be none";
            self.problem(&at("connections"), message);
        }
        for pattern in &connections {
            if let Err(message) = options::check_pattern(pattern) {
                self.problem(&at("connections"), &message);
            }
        }
        let rights = |role| Rights { role, connections: connections.into_iter().map(Pattern::new).collect() };
        let role = match role {
            Role::None => None,
            Role::Read => Some(hub::Role::Read),
            Role::Write => Some(hub::Role::Write),
            Role::Control => Some(hub::Role::Control),
        };
        let gids = group_id.into_iter().chain(gid).collect();
        Some(AccessRule { user, group, rule: Rule { uid: user_id.or(uid), gids, rights: role.map(rights) } })
    }

    /// The number of a user or a group by its name.
    fn account(
        &mut self,
        key: &[String],
        name: &str,
        look_up: fn(&str) -> io::Result<Option<u32>>,
        (kind, number): (&str, &str),
    ) -> Option<u32> {
        match look_up(name) {
            Ok(Some(found)) => return Some(found),
            Ok(None) => {
                let message =
                    format!("there is no {kind} {name:?} on this system; a number goes into {number}");
                self.problem(key, &message);
            }
            Err(error) => self.problem(key, &format!("the {kind} {name:?} cannot be looked up: {error}")),
        }
        None
    }
}
